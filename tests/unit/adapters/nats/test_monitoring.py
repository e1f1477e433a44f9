"""The HTTP collector against answers that real servers do not give on request."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import respx

from bot.adapters.nats import monitoring
from bot.adapters.nats.monitoring import MonitoringCollector
from bot.errors import Unreachable
from bot.model import Endpoint, Snapshot, UnknownReason

URL = "http://n0:8222"
ALL = frozenset(Endpoint)


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        del seconds


@pytest.fixture
async def collector() -> AsyncGenerator[MonitoringCollector]:
    made = MonitoringCollector("lab", [URL], StoppedClock(), 2.0)
    yield made
    await made.aclose()


def serve(router: respx.Router, version: str = "2.11.11", **changes: Any) -> None:
    answers: dict[str, Any] = {
        "varz": {"server_id": "A", "server_name": "n0", "version": version, "cluster": {"name": "lab"}},
        "jsz": {"server_id": "A", "account_details": [{"id": "APP", "name": "APP"}]},
        "healthz": {"status": "ok"},
        "routez": {"server_id": "A", "server_name": "n0", "routes": []},
        "raftz": {"SYS": {"_meta_": {}}},
    }
    for name, answer in (answers | changes).items():
        response = answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)
        router.get(url__startswith=f"{URL}/{name}").mock(return_value=response)


def reason(snapshot: Snapshot, endpoint: Endpoint) -> UnknownReason | None:
    sample = snapshot.sample("n0", endpoint)
    assert sample is not None
    return sample.unknown.reason if sample.unknown else None


async def test_an_old_server_is_not_asked_for_a_full_health_check(collector: MonitoringCollector) -> None:
    with respx.mock(assert_all_called=False) as router:
        serve(router, version="2.10.24")
        snapshot = await collector.gather(ALL, 1, 0.0)
        asked = {call.request.url.path for call in router.calls}
    assert "/healthz" not in asked
    assert reason(snapshot, Endpoint.HEALTHZ) is UnknownReason.NOT_IN_VERSION
    assert reason(snapshot, Endpoint.JSZ) is None


async def test_an_unhealthy_answer_is_a_fact(collector: MonitoringCollector) -> None:
    with respx.mock as router:
        serve(router, healthz=httpx.Response(503, json={"status": "unavailable", "error": "group node missing"}))
        snapshot = await collector.gather(ALL, 1, 0.0)
    assert snapshot.data("n0", Endpoint.HEALTHZ) == {"status": "unavailable", "error": "group node missing"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(401), UnknownReason.DENIED),
        (httpx.Response(404), UnknownReason.NOT_IN_VERSION),
        (httpx.Response(302, headers={"location": "http://169.254.169.254/"}), UnknownReason.UNREADABLE),
        (httpx.Response(200, text="<html>"), UnknownReason.UNREADABLE),
        (httpx.Response(200, json=[1]), UnknownReason.UNREADABLE),
        (httpx.Response(200, json={"server_id": "ANOTHER"}), UnknownReason.UNREADABLE),
    ],
)
async def test_a_bad_answer_is_one_unknown_fact_and_no_redirect_is_followed(
    collector: MonitoringCollector, answer: httpx.Response, expected: UnknownReason
) -> None:
    with respx.mock as router:
        serve(router, routez=answer)
        snapshot = await collector.gather(ALL, 1, 0.0)
        assert {call.request.url.host for call in router.calls} == {"n0"}
    assert reason(snapshot, Endpoint.ROUTEZ) is expected
    assert [s.endpoint for s in snapshot.samples if s.unknown] == [Endpoint.ROUTEZ]


async def test_an_answer_without_end_is_cut_off(
    collector: MonitoringCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "MAX_ANSWER", 1000)
    with respx.mock as router:
        serve(router, routez=httpx.Response(200, content=b" " * 2000))
        snapshot = await collector.gather(ALL, 1, 0.0)
    assert reason(snapshot, Endpoint.ROUTEZ) is UnknownReason.UNREADABLE


async def test_raft_groups_stay_unknown_where_the_accounts_are(collector: MonitoringCollector) -> None:
    with respx.mock as router:
        serve(router, jsz=httpx.Response(500))
        snapshot = await collector.gather(ALL, 1, 0.0)
    assert reason(snapshot, Endpoint.JSZ) is UnknownReason.UNREADABLE
    assert reason(snapshot, Endpoint.RAFTZ) is UnknownReason.UNREADABLE


async def test_nobody_there_is_unreachable_and_names_the_address(collector: MonitoringCollector) -> None:
    with respx.mock as router:
        router.get(url__startswith=URL).mock(side_effect=httpx.ConnectError("refused"))
        with pytest.raises(Unreachable, match=r"http://n0:8222/varz"):
            await collector.gather(ALL, 1, 0.0)


async def test_pages_are_followed_until_one_is_not_full() -> None:
    collector = MonitoringCollector("lab", [URL], StoppedClock(), 2.0, page=2)

    def page(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        details = [{"id": f"A{n}", "name": f"A{n}"} for n in range(5)][offset : offset + 2]
        return httpx.Response(200, json={"server_id": "A", "account_details": details})

    with respx.mock(assert_all_called=False) as router:
        serve(router)
        router.get(url__startswith=f"{URL}/jsz").mock(side_effect=page)
        snapshot = await collector.gather(ALL, 1, 0.0)
    await collector.aclose()
    jsz, raftz = snapshot.data("n0", Endpoint.JSZ), snapshot.data("n0", Endpoint.RAFTZ)
    assert jsz is not None
    assert raftz is not None
    assert [a["id"] for a in jsz["account_details"]] == ["A0", "A1", "A2", "A3", "A4"]
    assert set(raftz) == {"SYS", "A0", "A1", "A2", "A3", "A4"}
