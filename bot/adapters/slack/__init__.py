"""Slack: threads are drawn from the store, clicks go to the approval desk, people are looked up at the moment of use."""

from bot.adapters.slack.adapter import Office, SlackAdapter
from bot.adapters.slack.chat import ChatHealth

__all__ = ["ChatHealth", "Office", "SlackAdapter"]
