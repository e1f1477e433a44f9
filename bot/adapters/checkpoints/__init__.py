"""Checkpoints of the audit chain in a file: one line of JSON each, oldest first."""

from bot.adapters.checkpoints.file import FileSink, newest_of

__all__ = ["FileSink", "newest_of"]
