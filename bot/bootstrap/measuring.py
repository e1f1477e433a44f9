"""What a serving bot measures of itself, and where it can be read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Route

from bot.adapters.metrics import (
    LoopLag,
    MeteredRequests,
    Meters,
    PrometheusMeter,
    Standing,
    StoreCollector,
    Words,
    metrics_app,
)
from bot.adapters.webhooks import serving
from bot.bootstrap.auditing import running_version
from bot.errors import SettingsError
from bot.ports import UNMETERED, Clock, Meter, Tallies
from bot.registry import Registry
from bot.settings import MetricsSettings, Settings


@dataclass(frozen=True)
class _Prometheus:
    settings: MetricsSettings
    registry: CollectorRegistry
    meter: PrometheusMeter


@asynccontextmanager
async def measured(settings: Settings, found: Registry) -> AsyncGenerator[Measuring]:
    """Measure while the block runs. Raises `SettingsError` where traces are wanted and the extra is not installed."""
    if settings.traces is None:
        yield Measuring(settings, found)
        return
    try:
        from bot.adapters.traces import exporting  # noqa: PLC0415  an extra, and slow to import
    except ImportError as error:
        raise SettingsError(
            f"traces needs the OpenTelemetry SDK, and {error.name} is not installed: pip install 'natsmedic[otel]', or remove traces."
        ) from error
    async with exporting(settings.traces, running_version()) as spans:
        yield Measuring(settings, found, spans)


class Measuring:
    """All of it; nothing where the settings have neither `metrics` nor `traces`."""

    def __init__(self, settings: Settings, found: Registry, spans: Meter | None = None) -> None:
        self._prometheus: _Prometheus | None = None
        self.meter: Meter = UNMETERED if spans is None else Meters(spans)
        if settings.metrics is not None:
            registry = CollectorRegistry(auto_describe=True)
            meter = PrometheusMeter(registry, Words.of(settings.webhooks.sources, found.runbooks, found.actions))
            meter.built(running_version(), settings.mode)
            self._prometheus = _Prometheus(settings.metrics, registry, meter)
            self.meter = Meters(meter) if spans is None else Meters(meter, spans)

    @property
    def parts(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What must run for ever beside the bot, by name."""
        return {} if self._prometheus is None else {"loop lag": LoopLag(self._prometheus.meter.families.loop_lag).run}

    def watch(self, app: Starlette) -> None:
        """Measure the requests of an app that does not serve yet."""
        if self._prometheus is not None:
            routes = frozenset(route.path for route in app.routes if isinstance(route, Route))
            app.add_middleware(MeteredRequests, meter=self._prometheus.meter, routes=routes)

    @asynccontextmanager
    async def exposed(self, tallies: Tallies, clock: Clock, standing: Standing) -> AsyncGenerator[None]:
        """Serve `GET /metrics` while the block runs. Raises `SettingsError` where its address can't be used."""
        if self._prometheus is None:
            yield
            return
        collector = StoreCollector(tallies, clock, standing)
        self._prometheus.registry.register(collector)
        app = metrics_app(self._prometheus.settings, self._prometheus.registry, collector)
        async with serving(app, self._prometheus.settings.listen, key="metrics.listen"):
            yield
