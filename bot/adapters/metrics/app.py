"""`GET /metrics`: on an address of its own, for whoever scrapes and nobody else."""

from __future__ import annotations

import hmac
from typing import Final, cast

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bot.adapters.metrics.standing import StoreCollector
from bot.settings import MetricsSettings

METRICS_PATH: Final = "/metrics"
OPENMETRICS: Final = "application/openmetrics-text"


def metrics_app(settings: MetricsSettings, registry: CollectorRegistry, collector: StoreCollector) -> Starlette:
    """Return the app. It answers in the format that is asked for: OpenMetrics, or Prometheus' text."""

    async def metrics(request: Request) -> Response:
        if not _may_read(settings, request):
            return PlainTextResponse(
                "The Authorization header does not carry metrics.bearer.\n",
                status_code=401,
                headers={"WWW-Authenticate": 'Bearer realm="natsmedic"'},
            )
        await collector.refresh()
        # The library's own choice reads the versions that a client writes, and raises where they are none.
        if OPENMETRICS in request.headers.get("accept", ""):
            body, content_type = _openmetrics(registry), openmetrics.CONTENT_TYPE_LATEST
        else:
            body, content_type = exposition.generate_latest(registry), exposition.CONTENT_TYPE_PLAIN_0_0_4
        return Response(body, headers={"Content-Type": content_type})

    return Starlette(routes=[Route(METRICS_PATH, metrics, methods=["GET"])])


def _openmetrics(registry: CollectorRegistry) -> bytes:
    # The library annotates half of it.
    return cast("bytes", openmetrics.generate_latest(registry))  # pyright: ignore[reportUnknownMemberType]


def _may_read(settings: MetricsSettings, request: Request) -> bool:
    """Compare in constant time (reference/safety.md B16). Several headers are one too many."""
    if settings.bearer is None:
        return True
    given = request.headers.getlist("authorization")
    wanted = f"Bearer {settings.bearer.get_secret_value()}"
    return len(given) == 1 and hmac.compare_digest(given[0].encode("latin-1"), wanted.encode())
