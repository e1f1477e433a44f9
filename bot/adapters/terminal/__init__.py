"""The terminal: who sits at it, and which person of the settings that is."""

from bot.adapters.terminal.directory import TerminalDirectory
from bot.adapters.terminal.operator import operator, operator_named

__all__ = ["TerminalDirectory", "operator", "operator_named"]
