"""Where calls are measured: every method of a port, however it ends, and nothing of it changes."""

from __future__ import annotations

import asyncio
from datetime import datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot.adapters.metrics import LoopLag, MeteredRequests, Meters, PrometheusMeter, Words
from bot.adapters.metrics.lag import EVERY_SECONDS, REMEMBERED
from bot.adapters.timed import timed
from bot.errors import (
    ApiRefused,
    NotInVersion,
    NotSent,
    OutcomeUnknown,
    ReadTimedOut,
    Refused,
    StoreBusy,
    StoreConflict,
    StoreError,
    Unreachable,
    Unreadable,
    VerbDenied,
    WriteDenied,
)
from bot.flow.examination import unreadable
from bot.model import Incident
from bot.ports import UNMETERED, Call, Commit, End, System, end_of


class Heard:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.commits = 0
        self.threads: list[tuple[Incident, datetime]] = []

    def committed(self, commit: Commit) -> None:
        self.commits += 1

    def called(self, call: Call) -> None:
        self.calls.append(call)

    def shown(self, incident: Incident, at: datetime) -> None:
        self.threads.append((incident, at))


class Broken(Heard):
    def committed(self, commit: Commit) -> None:
        raise ZeroDivisionError


class Port:
    cluster = "prod"

    async def ask(self, name: str, *, often: int = 1) -> str:
        return name * often

    async def fail(self) -> None:
        raise ReadTimedOut("Nobody answered.")

    def plain(self) -> int:
        return 1


def ticking() -> float:
    ticking.now += 0.25  # pyright: ignore[reportFunctionMemberAccess]
    return ticking.now  # pyright: ignore[reportFunctionMemberAccess]


ticking.now = 0.0  # pyright: ignore[reportFunctionMemberAccess]


async def test_each_asynchronous_method_of_a_port_is_one_call_under_its_name() -> None:
    heard = Heard()
    port = timed(Port(), System.NATS, heard, "prod", seconds=ticking)
    assert await port.ask("a", often=2) == "aa"
    with pytest.raises(ReadTimedOut):
        await port.fail()
    assert heard.calls == [
        Call(System.NATS, "ask", End.OK, 0.25, "prod"),
        Call(System.NATS, "fail", End.TIMED_OUT, 0.25, "prod"),
    ]


async def test_what_is_no_call_passes_unmeasured() -> None:
    heard = Heard()
    port = timed(Port(), System.NATS, heard, "prod")
    assert (port.cluster, port.plain()) == ("prod", 1)
    with pytest.raises(AttributeError):
        port.missing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue, reportUnusedExpression]
    assert heard.calls == []


def test_where_nothing_is_measured_the_port_stays_itself() -> None:
    port = Port()
    assert timed(port, System.NATS, UNMETERED, "prod") is port
    assert timed(None, System.NATS, Heard(), "prod") is None


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, End.OK),
        (VerbDenied("get", "pods", "", None), End.DENIED),
        (WriteDenied(""), End.DENIED),
        (ReadTimedOut(""), End.TIMED_OUT),
        (TimeoutError(), End.TIMED_OUT),
        (Unreachable(""), End.UNREACHABLE),
        (NotSent(""), End.UNREACHABLE),
        (NotInVersion(""), End.NOT_IN_VERSION),
        (Unreadable(""), End.UNREADABLE),
        (OutcomeUnknown(""), End.UNKNOWN),
        (ApiRefused(400, 10014, ""), End.NOT_APPLIED),
        (Refused(""), End.REFUSED),
        (StoreBusy(""), End.BUSY),
        (StoreConflict(""), End.CONFLICT),
        (StoreError(""), End.FAILED),
        (asyncio.CancelledError(), End.CANCELLED),
        (KeyError(), End.FAILED),
    ],
)
def test_every_error_is_one_end(error: BaseException | None, end: End) -> None:
    assert end_of(error) is end


def test_a_meter_that_fails_is_noticed_by_nobody_but_the_log() -> None:
    heard = Heard()
    Meters(Broken(), heard).committed(Commit((), ()))
    assert heard.commits == 1


async def test_the_worst_lag_of_the_last_minute_is_told() -> None:
    gauge, now = Gauge("lag", "Lag.", registry=CollectorRegistry()), [0.0]
    late = [0.0, 0.75] + [0.0] * REMEMBERED

    async def sleep(seconds: float) -> None:
        now[0] += seconds + late.pop(0)

    lag = LoopLag(gauge, seconds=lambda: now[0], sleep=sleep)
    await lag.look()
    assert gauge._value.get() == 0
    for _ in range(REMEMBERED):
        await lag.look()
        assert gauge._value.get() == pytest.approx(0.75)
    await lag.look()
    assert gauge._value.get() == 0
    assert now[0] == pytest.approx((REMEMBERED + 2) * EVERY_SECONDS + 0.75)


async def test_requests_are_counted_by_declared_route_and_status() -> None:
    registry = CollectorRegistry()

    async def hook(_request: Request) -> Response:
        return Response(status_code=202)

    async def breaks(_request: Request) -> Response:
        raise ZeroDivisionError

    app = Starlette(routes=[Route("/webhooks/am", hook, methods=["POST"]), Route("/readyz", breaks)])
    app.add_middleware(MeteredRequests, meter=PrometheusMeter(registry, Words()), routes={"/webhooks/am", "/readyz"})
    outside = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=outside, base_url="http://bot") as client:
        await client.post("/webhooks/am")
        await client.get("/readyz")
        for path in ("/webhooks/xx", "/.env", "/webhooks/am/x"):
            await client.get(path)
    counted = {
        (route, status): registry.get_sample_value("natsmedic_http_requests_total", {"route": route, "status": status})
        for route, status in (("/webhooks/am", "202"), ("/readyz", "500"), ("other", "404"))
    }
    assert counted == {("/webhooks/am", "202"): 1, ("/readyz", "500"): 1, ("other", "404"): 3}


def test_the_finding_of_a_cluster_that_cannot_be_read_is_a_known_word() -> None:
    words = Words.of((), (), ())
    assert words.check(unreadable("prod", Unreadable("")).check) == "CLUSTER_READABLE"
    assert words.check("prod") == "other"
