"""Durable execution of phases, on DBOS."""

from bot.adapters.engine.dbos import DbosEngine

__all__ = ["DbosEngine"]
