"""Durable execution of phases, on DBOS."""

from bot.adapters.engine.dbos import DbosEngine
from bot.adapters.engine.ended import DbosEnded

__all__ = ["DbosEnded", "DbosEngine"]
