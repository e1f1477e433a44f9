"""Prometheus metrics: counted at commits and calls, and read from the store at a scrape."""

from bot.adapters.metrics.app import metrics_app
from bot.adapters.metrics.lag import LoopLag
from bot.adapters.metrics.meters import Meters
from bot.adapters.metrics.prometheus import PrometheusMeter
from bot.adapters.metrics.requests import MeteredRequests
from bot.adapters.metrics.standing import Standing, StoreCollector
from bot.adapters.metrics.words import Words

__all__ = [
    "LoopLag",
    "MeteredRequests",
    "Meters",
    "PrometheusMeter",
    "Standing",
    "StoreCollector",
    "Words",
    "metrics_app",
]
