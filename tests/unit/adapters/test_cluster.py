"""Both sides of a cluster in one snapshot: read at once, judged together, and told apart when one is silent."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from bot.adapters.cluster import ClusterReaders, ClusterWriters
from bot.adapters.nats import NatsWriters
from bot.errors import ReadDenied, Unreachable, Unreadable, WriteDenied
from bot.model import Again, Endpoint, JsonObject, KubernetesFacts, Snapshot, SnapshotId, Unknown, UnknownReason
from bot.model.kubernetes import ONLY_KUBERNETES, Change, Kind, Listing, Rehearsal, creation
from tests.integration.store_records import NOW, FixedClock

DENIED = Unknown(reason=UnknownReason.DENIED, detail="The reader may not list pods.")
NEEDS = frozenset({Endpoint.VARZ})


def facts(*, workloads: int = 1) -> KubernetesFacts:
    items: tuple[JsonObject, ...] = ({"metadata": {"name": "nats"}},) * workloads
    return KubernetesFacts(
        "queues",
        NOW,
        (
            Listing(kind=Kind.STATEFUL_SET, verb="list", api="apps/v1", items=items),
            Listing(kind=Kind.POD, verb="list", api="v1", unknown=DENIED),
        ),
    )


def snapshot(name: str) -> Snapshot:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    return Snapshot(SnapshotId(name), "prod", at, "system account", (), ())


class Nats:
    """Readers whose first look is `first`; a second look, where it is asked for, is `second`."""

    cluster = "prod"
    api_timeout = 5.0

    def __init__(self, meeting: asyncio.Barrier | None = None, error: Exception | None = None) -> None:
        self.meeting = meeting
        self.error = error
        self.elsewhere = 0

    async def look_elsewhere(self) -> None:
        self.elsewhere += 1

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        assert needs == NEEDS
        if self.meeting:
            await self.meeting.wait()
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        wanted = await asyncio.to_thread(again, snapshot("first")) if again else None
        return snapshot("first" if wanted is None else "second")

    async def stream_info(self, account: str, stream: str) -> JsonObject | None:
        return {"account": account, "stream": stream}

    async def consumer_info(self, account: str, stream: str, consumer: str) -> JsonObject | None:
        return {"account": account, "stream": stream, "consumer": consumer}

    async def missing(self, account: str, stream: str = "") -> frozenset[str]:
        return frozenset({account, stream})

    async def closed_clients(self, server_id: str) -> Sequence[JsonObject]:
        return [{"server": server_id}]

    async def kubernetes_object(self, kind: Kind, name: str) -> JsonObject | None:
        raise AssertionError("NATS knows nothing of Kubernetes")

    async def rehearse(self, change: Change) -> Rehearsal:
        raise AssertionError("NATS knows nothing of Kubernetes")

    async def probe_delivery(self, snapshot: Snapshot, tell: Callable[[str], None]) -> Snapshot:
        tell("probing")
        return snapshot


class Kubernetes:
    def __init__(self, found: KubernetesFacts, meeting: asyncio.Barrier | None = None) -> None:
        self.found = found
        self.meeting = meeting
        self.ended = False

    async def gather(self) -> KubernetesFacts:
        try:
            if self.meeting:
                await self.meeting.wait()
            await asyncio.sleep(0)
            return self.found
        finally:
            self.ended = True

    async def object(self, kind: Kind, name: str) -> JsonObject | None:
        return {"kind": kind, "name": name}


def both(nats: Nats, kubernetes: Kubernetes) -> ClusterReaders:
    return ClusterReaders(nats, kubernetes, FixedClock())


async def test_both_sides_are_read_at_once():
    meeting = asyncio.Barrier(2)
    readers = both(Nats(meeting), Kubernetes(facts(), meeting))
    found = await asyncio.wait_for(readers.gather(NEEDS), 10)
    assert found.kubernetes == facts()
    assert found.unknown == (DENIED,), "what Kubernetes does not say is unknown of the whole cluster"


async def test_the_first_look_is_judged_with_kubernetes_in_it_and_returned_as_it_was_judged():
    judged: list[Snapshot] = []

    def judge(first: Snapshot) -> None:
        judged.append(first)

    found = await both(Nats(), Kubernetes(facts())).gather(NEEDS, again=judge)
    assert judged == [found]
    assert judged[0] is found
    assert found.kubernetes == facts()


async def test_a_second_look_has_the_same_facts():
    def judge(first: Snapshot) -> Again:
        assert first.kubernetes is not None
        return Again(NEEDS, 2, 0.0)

    found = await both(Nats(), Kubernetes(facts())).gather(NEEDS, again=judge)
    assert (found.id, found.kubernetes) == ("second", facts())


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Unreachable("no server"), UnknownReason.UNREACHABLE), (ReadDenied("no right"), UnknownReason.DENIED)],
)
async def test_where_no_server_answers_the_snapshot_holds_what_kubernetes_says(
    error: Unreadable, reason: UnknownReason
):
    found = await both(Nats(error=error), Kubernetes(facts())).gather(NEEDS)
    assert (found.via, found.cluster, found.servers, found.samples) == (ONLY_KUBERNETES, "prod", (), ())
    assert found.kubernetes == facts()
    assert found.unknown == (Unknown(reason=reason, detail=str(error)), DENIED)


async def test_where_kubernetes_knows_no_workload_either_nothing_could_be_read():
    with pytest.raises(Unreachable, match="no server"):
        await both(Nats(error=Unreachable("no server")), Kubernetes(facts(workloads=0))).gather(NEEDS)


async def test_an_error_that_is_none_of_the_world_ends_both_sides():
    kubernetes = Kubernetes(facts(), asyncio.Barrier(2))
    with pytest.raises(ValueError, match="a bug"):
        await both(Nats(error=ValueError("a bug")), kubernetes).gather(NEEDS)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert kubernetes.ended


async def test_a_look_that_is_given_up_leaves_no_judge_waiting():
    kubernetes = Kubernetes(facts(), asyncio.Barrier(2))
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def judge(first: Snapshot) -> None:
        del first

    class Watched(Nats):
        async def gather(
            self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
        ) -> Snapshot:
            assert again is not None
            judging = again

            def watched() -> None:
                try:
                    judging(snapshot("first"))
                finally:
                    loop.call_soon_threadsafe(ended.set)

            await asyncio.to_thread(watched)
            return snapshot("first")

    looking = asyncio.create_task(both(Watched(), kubernetes).gather(NEEDS, again=judge))
    await asyncio.sleep(0.05)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    await asyncio.wait_for(ended.wait(), 10)


async def test_single_facts_are_asked_of_nats():
    readers = both(Nats(), Kubernetes(facts()))
    assert (readers.cluster, readers.api_timeout) == ("prod", 5.0)
    assert await readers.stream_info("A", "S") == {"account": "A", "stream": "S"}
    assert await readers.consumer_info("A", "S", "C") == {"account": "A", "stream": "S", "consumer": "C"}
    assert await readers.missing("A", "S") == {"A", "S"}
    assert await readers.closed_clients("NAAA") == [{"server": "NAAA"}]
    told: list[str] = []
    probed = snapshot("first")
    assert await readers.probe_delivery(probed, told.append) is probed
    assert told == ["probing"]


class Applier:
    """Rehearses and writes, or may not even rehearse."""

    def __init__(self, *, denied: bool = False) -> None:
        self.denied = denied
        self.written: list[Change] = []

    async def rehearse(self, change: Change) -> Rehearsal:
        if self.denied:
            raise ReadDenied("The applier may not create poddisruptionbudgets.")
        return Rehearsal(before=change.before, after=change.after | {"defaulted": True}, by_server=True)

    async def write(self, change: Change) -> JsonObject:
        self.written.append(change)
        return change.after


BUDGET = creation(Kind.BUDGET, {"apiVersion": "policy/v1", "metadata": {"name": "nats", "uid": "u"}, "spec": {}})


async def test_the_side_of_nats_is_what_is_looked_at_from_elsewhere():
    nats = Nats()
    await ClusterReaders(nats, Kubernetes(facts()), FixedClock()).look_elsewhere()
    assert nats.elsewhere == 1


async def test_an_object_is_read_and_a_change_rehearsed_on_the_side_of_kubernetes():
    readers = ClusterReaders(Nats(), Kubernetes(facts()), FixedClock(), Applier())
    assert await readers.kubernetes_object(Kind.POD, "nats-0") == {"kind": "pods", "name": "nats-0"}
    assert (await readers.rehearse(BUDGET)).after["defaulted"] is True


@pytest.mark.parametrize("applier", [None, Applier(denied=True)])
async def test_a_change_that_nobody_may_rehearse_is_shown_as_it_would_be_sent(applier: Applier | None):
    seen = await ClusterReaders(Nats(), Kubernetes(facts()), FixedClock(), applier).rehearse(BUDGET)
    assert seen == Rehearsal(
        before={}, after={"apiVersion": "policy/v1", "metadata": {"name": "nats"}, "spec": {}}, by_server=False
    )


async def test_each_side_is_changed_by_its_own_writer():
    applier = Applier()
    writers = ClusterWriters(NatsWriters("prod", {}), applier)
    assert await writers.write_object(BUDGET) == BUDGET.after
    assert applier.written == [BUDGET]
    with pytest.raises(WriteDenied, match="system_writer"):
        await writers.reload_server("NAAA")
    for ask in (writers.kick_client, writers.warn_client):
        with pytest.raises(WriteDenied, match="system_writer"):
            await ask("NAAA", 1)
    with pytest.raises(WriteDenied, match="add `kubernetes"):
        await NatsWriters("prod", {}).write_object(BUDGET)
