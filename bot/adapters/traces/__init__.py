"""OpenTelemetry traces, an extra (`natsmedic[otel]`). Imported only where the settings name a collector: the SDK takes a while to load."""

from bot.adapters.traces.export import exporting
from bot.adapters.traces.spans import SpanMeter, provider_for

__all__ = ["SpanMeter", "exporting", "provider_for"]
