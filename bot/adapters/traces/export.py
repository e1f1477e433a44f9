"""Where spans go: an OTLP collector over HTTP, from a thread of the SDK's own, which waits for nobody and drops what it cannot send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bot.adapters.traces.spans import SpanMeter, provider_for
from bot.settings import TraceSettings

SEND_SECONDS: Final = 3.0
"""For a batch of spans, tries included; so long a bot that stops waits for a collector that is away."""
TRACES_PATH: Final = "/v1/traces"
"""Of OTLP over HTTP (opentelemetry.io/docs/specs/otlp, OTLP/HTTP Request)."""


@asynccontextmanager
async def exporting(settings: TraceSettings, version: str) -> AsyncGenerator[SpanMeter]:
    """Send spans while the block runs, the last ones at its end."""
    provider: TracerProvider = provider_for(version)
    exporter = OTLPSpanExporter(endpoint=settings.endpoint.rstrip("/") + TRACES_PATH, timeout=SEND_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield SpanMeter(provider)
    finally:
        await asyncio.to_thread(provider.shutdown)
