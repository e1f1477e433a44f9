"""What the reader makes of answers that a real API server gave (1.20.2), and of answers that it may give."""

import copy
import json
from typing import Any

import aiohttp
import pytest

from bot.adapters.kubernetes import api
from bot.model import Unknown, UnknownReason
from bot.model.kubernetes import Kind, OwnerKind
from bot.model.nats_conf import NatsConf
from tests.unit.adapters.kubernetes.recorded import (
    FORBIDDEN,
    NO_SUCH_API,
    PATHS,
    Answers,
    Raw,
    RecordedClient,
    first,
    gathered,
    recording,
    the_workload,
)

GOT = {Kind.CONFIG_MAP, Kind.NODE, Kind.VOLUME, Kind.STORAGE_CLASS}


@pytest.fixture
def healthy() -> Answers:
    return recording("healthy")


async def test_a_healthy_cluster_is_read_completely(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    facts = await gathered(monkeypatch, healthy)
    workload = the_workload(facts)
    assert facts.unknown == ()
    assert facts.version == "v1.20.2"
    assert workload.nats.readiness is not None
    assert workload.nats.readiness.path == "/healthz?js-server-only=true"
    assert isinstance(workload.pods, tuple)
    assert [(pod.name, pod.ready, pod.qos) for pod in workload.pods] == [
        (f"nats-{i}", True, "BestEffort") for i in range(3)
    ]
    assert workload.budgets == ()
    assert isinstance(workload.store_claims, tuple)
    assert [claim.name for claim in workload.store_claims] == [f"data-nats-{i}" for i in range(3)]
    assert isinstance(workload.conf, NatsConf)
    assert (workload.conf.accounts, facts.stream_resources, facts.consumer_resources) == (("SYS", "APP"), (), ())


async def test_a_pod_that_ran_out_of_memory_says_so(monkeypatch: pytest.MonkeyPatch):
    facts = await gathered(monkeypatch, recording("trouble"))
    workload = the_workload(facts)
    assert isinstance(workload.pods, tuple)
    status = workload.pods[0].statuses["nats"]
    assert status.last_termination is not None
    assert (status.last_termination.oom_killed, status.last_termination.exit_code) == (True, 137)
    assert status.restarts > 0
    assert isinstance(workload.budgets, tuple)
    assert [budget.max_unavailable for budget in workload.budgets] == [1]
    assert [owner.kind for owner in workload.owners] == [OwnerKind.HELM]
    assert isinstance(workload.events, tuple)
    assert "BackOff" in {event.reason for event in workload.events}
    assert "c4n4ry" not in json.dumps([listing.model_dump(mode="json") for listing in facts.listings])


@pytest.mark.parametrize("kind", PATHS)
async def test_a_denied_kind_is_unknown_with_verb_resource_and_place(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers, kind: Kind
):
    healthy[PATHS[kind]] = FORBIDDEN
    facts = await gathered(monkeypatch, healthy)
    found = facts.of(kind)
    verb = "get" if kind in GOT else "list"
    place = "in the whole cluster" if kind in {Kind.NODE, Kind.VOLUME, Kind.STORAGE_CLASS} else "in namespace queues"
    assert isinstance(found, Unknown)
    assert found.reason is UnknownReason.DENIED
    assert found.detail.startswith(f"The reader may not {verb} {kind}")
    assert place in found.detail
    assert facts.unknown == (found,)
    listing = facts.listing(kind)
    assert listing is not None
    assert kind is Kind.STATEFUL_SET or (listing.verb, listing.items) == (verb, None)


async def test_what_depends_on_an_unknown_kind_is_unknown_for_the_same_reason(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    healthy[PATHS[Kind.STATEFUL_SET]] = FORBIDDEN
    healthy[PATHS[Kind.CLAIM]] = FORBIDDEN
    facts = await gathered(monkeypatch, healthy)
    assert facts.workload == facts.of(Kind.POD) == facts.of(Kind.NODE) == facts.of(Kind.STATEFUL_SET)
    assert facts.of(Kind.VOLUME) == facts.of(Kind.STORAGE_CLASS) == facts.of(Kind.CLAIM)
    assert len(facts.unknown) == 2


async def test_without_the_stateful_set_nobody_knows_what_belongs_to_it(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    healthy[PATHS[Kind.STATEFUL_SET]] = FORBIDDEN
    facts = await gathered(monkeypatch, healthy)
    for kind in (Kind.POD, Kind.REVISION, Kind.CLAIM, Kind.ENDPOINTS, Kind.ENDPOINT_SLICE, Kind.EVENT):
        assert facts.of(kind) == facts.workload, kind
    assert isinstance(facts.of(Kind.BUDGET), tuple)


async def test_without_the_services_the_pods_behind_them_are_still_known(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    healthy[PATHS[Kind.SERVICE]] = FORBIDDEN
    workload = the_workload(await gathered(monkeypatch, healthy))
    backends = workload.backends("nats")
    assert isinstance(backends, tuple)
    assert {backend.pod for backend in backends} == {"nats-0", "nats-1", "nats-2"}
    assert isinstance(workload.headless, Unknown)


def served(answers: Answers, group: str, *versions: str) -> None:
    groups = [g for g in answers["/apis"][1]["groups"] if g["name"] != group]
    if versions:
        groups.append({"name": group, "versions": [{"groupVersion": f"{group}/{version}"} for version in versions]})
    answers["/apis"][1]["groups"] = groups


async def test_the_newest_version_that_is_served_is_asked(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    served(healthy, "policy", "v1beta1", "v1")
    healthy["/apis/policy/v1/namespaces/queues/poddisruptionbudgets"] = healthy[PATHS[Kind.BUDGET]]
    facts = await gathered(monkeypatch, healthy)
    listing = facts.listing(Kind.BUDGET)
    assert listing is not None
    assert listing.api == "policy/v1"


async def test_an_api_that_is_not_there_is_unknown_by_its_name(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    served(healthy, "policy")
    found = (await gathered(monkeypatch, healthy)).of(Kind.BUDGET)
    assert isinstance(found, Unknown)
    assert found.reason is UnknownReason.NOT_IN_VERSION
    assert "policy/v1 and policy/v1beta1" in found.detail


async def test_where_the_server_does_not_list_its_apis_the_newest_are_tried(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    healthy["/apis"] = FORBIDDEN
    for path in (
        "/apis/policy/v1/namespaces/queues/poddisruptionbudgets",
        "/apis/discovery.k8s.io/v1/namespaces/queues/endpointslices",
        "/apis/jetstream.nats.io/v1beta2/streams",
        "/apis/jetstream.nats.io/v1beta2/consumers",
    ):
        healthy[path] = NO_SUCH_API
    facts = await gathered(monkeypatch, healthy)
    reasons = {facts.of(kind).reason for kind in (Kind.BUDGET, Kind.ENDPOINT_SLICE)}  # pyright: ignore[reportAttributeAccessIssue]
    assert reasons == {UnknownReason.NOT_IN_VERSION}
    assert facts.stream_resources == facts.consumer_resources == ()


async def test_nacks_resources_are_read_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    served(healthy, "jetstream.nats.io", "v1beta2")
    root = "/apis/jetstream.nats.io/v1beta2"
    spec = {"name": "ORDERS", "servers": ["nats://u:c4n4ry@n:4222"], "password": "c4n4ry"}
    stream = {"metadata": {"name": "orders", "namespace": "shop"}, "spec": spec}
    healthy[f"{root}/streams"] = (
        200,
        {"apiVersion": "jetstream.nats.io/v1beta2", "kind": "StreamList", "items": [stream]},
    )
    healthy[f"{root}/consumers"] = FORBIDDEN
    facts = await gathered(monkeypatch, healthy)
    assert isinstance(facts.stream_resources, tuple)
    assert [(r.kind, r.namespace, r.stream) for r in facts.stream_resources] == [("Stream", "shop", "ORDERS")]
    assert "c4n4ry" not in json.dumps([r.raw for r in facts.stream_resources])
    assert isinstance(facts.consumer_resources, Unknown)
    assert "may not list consumers.jetstream.nats.io in the whole cluster" in facts.consumer_resources.detail


async def test_an_object_that_is_gone_is_no_unknown(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    healthy[PATHS[Kind.NODE]] = (404, {"kind": "Status", "reason": "NotFound", "details": {"name": "node-1"}})
    facts = await gathered(monkeypatch, healthy)
    workload = the_workload(facts)
    assert isinstance(workload.pods, tuple)
    assert workload.node_of(workload.pods[0]) is None
    assert facts.unknown == ()


async def test_a_stateful_set_is_got_by_name_listed_by_labels_or_found_by_its_looks(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    nats = first(healthy, Kind.STATEFUL_SET)
    other: Raw = {
        "metadata": {"name": "shop", "labels": {"app": "x"}},
        "spec": {"template": {"spec": {"containers": []}}},
    }
    healthy[PATHS[Kind.STATEFUL_SET]][1]["items"].append(other)
    healthy[f"{PATHS[Kind.STATEFUL_SET]}/nats"] = (200, nats)
    assert the_workload(await gathered(monkeypatch, healthy)).name == "nats"
    assert the_workload(await gathered(monkeypatch, healthy, statefulset="nats")).name == "nats"
    assert the_workload(await gathered(monkeypatch, healthy, selector="app=x")).name == "shop"
    nats["metadata"]["labels"] = nats["spec"]["template"]["metadata"]["labels"] = {}
    assert the_workload(await gathered(monkeypatch, healthy)).name == "nats", "by its image"


async def test_what_has_nothing_to_do_with_nats_stays_out(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    def add(kind: Kind, **change: Any) -> None:
        other = copy.deepcopy(first(healthy, kind))
        other["metadata"] |= {"name": "shop-0", "labels": {}, "ownerReferences": []}
        healthy[PATHS[kind]][1]["items"].append(other | change)

    for kind in (Kind.POD, Kind.REVISION, Kind.CLAIM, Kind.ENDPOINTS, Kind.ENDPOINT_SLICE):
        add(kind)
    add(Kind.EVENT, involvedObject={"kind": "Pod", "name": "shop-0"})
    add(Kind.EVENT, involvedObject={"kind": "Node", "name": "node-1"})
    add(Kind.EVENT, involvedObject={"kind": "PersistentVolumeClaim", "name": "data-nats-7"}, reason="Provisioning")
    add(Kind.CLAIM, spec={"volumeName": "pv-of-the-shop", "storageClassName": "class-of-the-shop"})
    client = RecordedClient(healthy)
    facts = await gathered(monkeypatch, healthy, client=client)
    assert not any("of-the-shop" in url for url in client.asked)
    raw = json.dumps([listing.model_dump(mode="json") for listing in facts.listings if listing.kind is not Kind.EVENT])
    assert "shop-0" not in raw
    events = the_workload(facts).events
    assert isinstance(events, tuple)
    assert {event.object_kind for event in events} >= {"Pod", "PersistentVolumeClaim", "StatefulSet"}
    assert not {event.object_name for event in events} & {"shop-0", "node-1"}


async def test_lists_are_read_page_by_page_with_the_same_result(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    client = RecordedClient(healthy)
    paged = await gathered(monkeypatch, healthy, page=2, client=client)
    assert paged.listings == (await gathered(monkeypatch, healthy)).listings
    assert sum(url.startswith(PATHS[Kind.POD]) for url in client.asked) == 2


class Expiring(RecordedClient):
    """Its tokens for the next page expire so many times."""

    expirations = 0

    async def call_api(self, method: str, url: str, headers: Any, *body: Any, **rest: Any) -> Any:
        if "continue=" in url and self.expirations:
            self.expirations -= 1
            answers, self.answers = self.answers, {url.partition("?")[0]: (410, {"reason": "Expired"})}
            try:
                return await super().call_api(method, url, headers, *body, **rest)
            finally:
                self.answers = answers
        return await super().call_api(method, url, headers, *body, **rest)


@pytest.mark.parametrize(("expirations", "known"), [(1, True), (2, False)])
async def test_a_list_whose_pages_expire_is_begun_anew_once(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers, expirations: int, known: bool
):
    only_pods: Answers = {path: answer for path, answer in healthy.items() if not path.endswith("/events")}
    only_pods[PATHS[Kind.EVENT]] = (200, {"items": []})
    client = Expiring(only_pods)
    client.expirations = expirations
    facts = await gathered(monkeypatch, only_pods, page=2, client=client)
    kinds = {listing.kind for listing in facts.listings if listing.unknown is not None}
    # Several lists have more than one page; the first to turn one meets the expiry.
    assert (kinds == set()) is known


async def test_more_objects_than_are_read_are_unknown_and_never_a_part(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    monkeypatch.setattr(api, "MAX_PAGES", 2)
    found = (await gathered(monkeypatch, healthy, page=1)).of(Kind.POD)
    assert isinstance(found, Unknown)
    assert "more than 2 objects to `list pods in namespace queues`" in found.detail


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        ((401, {"message": "Unauthorized"}), UnknownReason.DENIED, "does not know the reader's credentials"),
        ((429, {"message": "too many requests"}), UnknownReason.UNREADABLE, "with 429: too many requests"),
        ((500, {"message": "etcdserver: no leader"}), UnknownReason.UNREADABLE, "with 500: etcdserver: no leader"),
        ((503, b"<html>upstream</html>"), UnknownReason.UNREADABLE, "with 503: nothing more"),
        ((504, {"message": "Timeout"}), UnknownReason.TIMED_OUT, "gave up on"),
        ((200, b"not JSON"), UnknownReason.UNREADABLE, "is not a JSON object"),
        ((200, b"[]"), UnknownReason.UNREADABLE, "is not a JSON object"),
        ((500, {"message": "x" * 5000}), UnknownReason.UNREADABLE, "xxx…"),
        ((500, {"message": "a\n\tb"}), UnknownReason.UNREADABLE, ": a b."),
    ],
)
async def test_a_bad_answer_is_unknown_with_what_was_said(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers, answer: tuple[int, Any], reason: UnknownReason, words: str
):
    healthy[PATHS[Kind.EVENT]] = answer
    facts = await gathered(monkeypatch, healthy)
    found = facts.of(Kind.EVENT)
    assert isinstance(found, Unknown)
    assert found.reason is reason
    assert words in found.detail
    assert len(found.detail) < 400
    assert facts.unknown == (found,)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), UnknownReason.TIMED_OUT),
        (aiohttp.ServerDisconnectedError(), UnknownReason.UNREACHABLE),
        (ConnectionResetError("reset"), UnknownReason.UNREACHABLE),
    ],
)
async def test_no_answer_is_unknown_and_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers, error: Exception, reason: UnknownReason
):
    def fail(path: str) -> None:
        if path == PATHS[Kind.SERVICE]:
            raise error

    client = RecordedClient(healthy)
    client.fail = fail
    found = (await gathered(monkeypatch, healthy, client=client)).of(Kind.SERVICE)
    assert isinstance(found, Unknown)
    assert found.reason is reason
    assert sum(url.startswith(PATHS[Kind.SERVICE]) for url in client.asked) == 1


async def test_an_answer_that_is_too_large_is_unknown(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    monkeypatch.setattr(api, "MAX_BYTES", 20_000)
    facts = await gathered(monkeypatch, healthy)
    found = facts.of(Kind.EVENT)
    assert isinstance(found, Unknown)
    assert "larger than what is read" in found.detail
    assert not isinstance(facts.of(Kind.SERVICE), Unknown)


async def test_an_object_nested_without_end_is_unknown_and_harms_nothing_else(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    deep: Raw = {}
    for _ in range(900):
        deep = {"x": deep}
    healthy[PATHS[Kind.SERVICE]][1]["items"].append({"metadata": {"name": "deep"}, "spec": deep})
    facts = await gathered(monkeypatch, healthy)
    found = facts.of(Kind.SERVICE)
    assert isinstance(found, Unknown)
    assert "nested too deeply" in found.detail
    assert facts.unknown == (found,)
