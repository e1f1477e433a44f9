"""Slack: threads are drawn from the store, clicks go to the approval desk, people are looked up at the moment of use."""

from bot.adapters.slack.adapter import Office, SlackAdapter
from bot.adapters.slack.chat import ChatHealth
from bot.adapters.slack.directory import directory_of

__all__ = ["ChatHealth", "Office", "SlackAdapter", "directory_of"]
