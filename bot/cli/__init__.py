"""The `natsmedic` command. One file per command group; each only reads settings, asks the store or the bot, and draws."""

from bot.cli.root import app, main

__all__ = ["app", "main"]
