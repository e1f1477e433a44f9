"""What natsmedic tells of itself: metrics, logs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from bot.settings.section import Secret, Section, Shape
from bot.settings.webhooks import ListenAddress

METRICS_LISTEN = "127.0.0.1:9464"
"""The port that OpenTelemetry gives to Prometheus exporters (its SDK configuration, OTEL_EXPORTER_PROMETHEUS_PORT); loopback alone."""

CollectorAddress = Annotated[
    str,
    Shape(
        r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?",
        "http://HOST:PORT or https://HOST:PORT, without user or password",
    ),
]


class MetricsSettings(Section):
    """`GET /metrics` on an address of its own, apart from the webhooks', which may be public."""

    listen: ListenAddress = METRICS_LISTEN
    """In a pod 0.0.0.0:9464, where a NetworkPolicy says who may connect."""
    bearer: Secret | None = None
    """A token that the scraper must show (`authorization` of Prometheus' scrape_config); without one, whoever can connect may read."""


class LogFormat(StrEnum):
    JSON = "json"
    """One object per line: `event` is a sentence, everything else is a field."""
    TEXT = "text"
    """For people."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogSettings(Section):
    """What `natsmedic serve` writes to stderr."""

    format: LogFormat | None = None
    """Where none is named: text on a terminal, JSON elsewhere."""
    level: LogLevel = LogLevel.INFO


class TraceSettings(Section):
    """OpenTelemetry traces; they need the extra `natsmedic[otel]`."""

    endpoint: CollectorAddress
    """Of an OTLP collector over HTTP, such as http://localhost:4318. Headers come from OTEL_EXPORTER_OTLP_HEADERS, as for every program."""
