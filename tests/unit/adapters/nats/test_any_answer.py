"""Whatever servers answer, and whatever comes back instead of an answer: `gather` gives a snapshot or raises `Unreadable`, and nothing else."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import respx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.adapters.nats.monitoring import QUERIES, MonitoringCollector
from bot.errors import Unreadable
from bot.model import TRENDS, Endpoint, Snapshot
from tests.exhaustive import examples
from tests.rounds import always
from tests.unit.adapters.nats import test_collector
from tests.unit.adapters.nats.test_collector import Cluster, Server, StoppedClock
from tests.unit.junk import JUNK, spoiled
from tests.unit.snapshots import Raw, answers, raw_of

SERVERS = ("n0", "n1")
RECORDING = "kinds_2.15.1"
OVER_HTTP = [*(e for e in QUERIES if e is not Endpoint.SUBSZ), Endpoint.ACCOUNTZ, Endpoint.RAFTZ]

CALM = settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

NO_JSON = st.sampled_from(
    [b"", b"{", b"null", b"[{}]", b"7", b'"text"', b"\xff\xfe", b"<html>", b'{"a":' * 3000, b"[" * 3000, b"{}garbage"]
)
"""Bytes that are no JSON object, or one so deep that a parser gives up."""


READ = frozenset(Endpoint) - {Endpoint.SUBSZ}
"""What a recording holds."""


def as_json(value: Any) -> bytes:
    """JSON as a careless server writes it: NaN and lone surrogates go out as they are."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def lies(draw: st.DrawFn, truth: Raw) -> bytes:
    """What a server says instead of the truth."""
    kind = draw(st.sampled_from(["spoiled", "spoiled", "spoiled", "junk", "no json"]))
    if kind == "no json":
        return draw(NO_JSON)
    if kind == "junk":
        return as_json(draw(st.dictionaries(st.sampled_from([*truth, "x"]), JUNK, max_size=4)))
    for _ in range(draw(st.integers(1, 3))):
        draw(spoiled(truth))
    return as_json(truth)


def whole(snapshot: Snapshot) -> None:
    """Every server that is expected has an answer to each question, or the reason why there is none."""
    for server in snapshot.expected:
        for endpoint in READ:
            for n in range(snapshot.rounds if endpoint in TRENDS else 1):
                sample = snapshot.sample(server, endpoint, n)
                assert sample is not None
                assert (sample.data is None) is (sample.unknown is not None)


@dataclass
class Recorded(Server):
    """A server that says what a real one said, but for its lies, by endpoint."""

    truth: Mapping[str, Raw] = field(default_factory=dict[str, Raw])
    lies: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    def reply(self, endpoint: str, body: dict[str, Any], peers: list[str]) -> bytes:
        if endpoint in self.lies:
            return self.lies[endpoint]
        return super().reply(endpoint, body, peers) if endpoint == "PING" else as_json(self.truth[endpoint])


def envelope(server: str, endpoint: str, answer: Raw) -> Raw:
    """The answer as it comes over the system account."""
    header = {"name": server, "id": f"ID{server}", "ver": "2.15.1", "cluster": "lab", "host": "h"}
    return {"server": header, "statsz" if endpoint in {"STATSZ", "PING"} else "data": answer}


@CALM
@given(st.data())
def test_no_answer_over_the_system_account_breaks_the_collector(data: st.DataObject) -> None:
    raw, servers = raw_of(RECORDING), list[Server]()
    for name in SERVERS:
        truth = {e.value: envelope(name, e, answers(raw, e, name, 0)[0]) for e in READ}
        lied = data.draw(st.sets(st.sampled_from([*truth, "PING"]), min_size=1, max_size=4))
        said = {
            e: data.draw(lies(envelope(name, e, truth["STATSZ"]["statsz"]) if e == "PING" else truth[e]))
            for e in sorted(lied)
        }
        servers.append(Recorded(name, "2.15.1", truth=truth, lies=said))

    async def run() -> None:
        try:
            whole(await Cluster(servers, timeout=0.02).collect(rounds=2, needs=READ))
        except Unreadable:
            pass
        finally:
            heard = await asyncio.gather(*test_collector.tasks, return_exceptions=True)
            test_collector.tasks.clear()
        assert [error for error in heard if error is not None] == []

    asyncio.run(run())


@CALM
@given(st.data())
def test_no_answer_over_http_breaks_the_collector(data: st.DataObject) -> None:
    raw = raw_of(RECORDING)
    with respx.mock(assert_all_called=False) as router:
        for name in SERVERS:
            lied = data.draw(st.sets(st.sampled_from(OVER_HTTP), min_size=1, max_size=4))
            for endpoint in OVER_HTTP:
                truth = answers(raw, endpoint, name, 0)[0]
                said = data.draw(lies(truth)) if endpoint in lied else as_json(truth)
                status = (
                    data.draw(st.sampled_from([200, 200, 200, 204, 301, 401, 404, 500, 503]))
                    if endpoint in lied
                    else 200
                )
                response = httpx.Response(status, content=said)
                router.get(url__startswith=f"http://{name}:8222/{endpoint.lower()}").mock(return_value=response)

        async def run() -> None:
            collector = MonitoringCollector("lab", [f"http://{n}:8222" for n in SERVERS], StoppedClock(), 2.0)
            try:
                whole(await collector.gather(READ, always(2)))
            except Unreadable:
                pass
            finally:
                await collector.aclose()

        asyncio.run(run())
