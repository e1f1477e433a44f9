"""How the objects around a StatefulSet are found from there, and what stays unknown."""

from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from bot.model import Unknown, UnknownReason
from bot.model.kubernetes import (
    ConfigFile,
    Container,
    Kind,
    KubernetesFacts,
    Listing,
    Node,
    PersistentVolume,
    Pod,
    Service,
    Workload,
    known_environment,
)
from bot.model.nats_conf import NatsConf, Route, Variable

Raw = dict[str, Any]
T = TypeVar("T")
NOW = datetime(2026, 11, 26, tzinfo=UTC)
DENIED = Unknown(reason=UnknownReason.DENIED, detail="The reader may not list pods.")


def facts(config_files: tuple[ConfigFile, ...] = (), **objects: list[Raw] | Unknown) -> KubernetesFacts:
    """Facts of a namespace; kinds that are not given were read and are not there."""
    listings: list[Listing] = []
    for kind in Kind:
        found = objects.get(kind.name.lower(), [])
        items, unknown = (None, found) if isinstance(found, Unknown) else (tuple(found), None)
        listings.append(Listing(kind=kind, verb="list", api="v1", namespace="queues", items=items, unknown=unknown))
    return KubernetesFacts("queues", NOW, tuple(listings), config_files)


def named(name: str, **more: Any) -> Raw:
    return {"metadata": {"name": name, "namespace": "queues", **more.pop("metadata", {})}, **more}


def stateful_set(name: str = "nats", container: Raw | None = None, **spec: Any) -> Raw:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container or {"name": "nats"}], "volumes": spec.pop("volumes", [])},
    }
    made = {"serviceName": "nats-headless", "selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return named(name, metadata={"uid": f"uid-{name}", "generation": 1}, spec=made)


def owned(name: str, by: str = "nats", **more: Any) -> Raw:
    owner = {"kind": "StatefulSet", "name": by, "uid": f"uid-{by}", "controller": True}
    return named(name, metadata={"ownerReferences": [owner], "labels": {"app": by}}, **more)


def only(found: KubernetesFacts) -> Workload:
    assert isinstance(found.workload, Workload), found.workload
    return found.workload


def known(found: tuple[T, ...] | Unknown | None) -> tuple[T, ...]:
    assert isinstance(found, tuple), found
    return found


def test_what_could_not_be_read_is_unknown_in_every_view_of_it():
    workload = only(facts(stateful_set=[stateful_set()], pod=DENIED, budget=DENIED, claim=DENIED, node=DENIED))
    assert workload.pods == workload.budgets == workload.claims("data") == DENIED
    assert workload.node_of(Pod(named("nats-0"))) == DENIED
    assert workload.services == ()


def test_a_kind_that_was_not_asked_for_is_unknown_too():
    found = KubernetesFacts("queues", NOW, ()).of(Kind.POD)
    assert isinstance(found, Unknown)
    assert found.detail == "pods of queues were not read"


def test_the_workload_is_unknown_where_there_is_none_or_more_than_one():
    none = facts().workload
    two = facts(stateful_set=[stateful_set("a"), stateful_set("b")]).workload
    denied = facts(stateful_set=DENIED).workload
    assert isinstance(none, Unknown)
    assert isinstance(two, Unknown)
    assert "has none: name it" in none.detail
    assert "has a, b: name it" in two.detail
    assert denied == DENIED


def test_pods_are_the_workloads_own_in_the_order_of_their_ordinals():
    pods = [owned("nats-10"), owned("nats-2"), owned("other-0", by="other"), named("nats-3")]
    workload = only(facts(stateful_set=[stateful_set()], pod=pods))
    assert [(pod.name, pod.ordinal) for pod in known(workload.pods)] == [("nats-2", 2), ("nats-10", 10)]


def test_backends_come_from_slices_and_else_from_endpoints():
    address = {"addresses": ["10.0.0.1"], "conditions": {"ready": False}, "targetRef": {"name": "nats-0"}}
    unsaid = {"addresses": ["10.0.0.2"], "targetRef": {"name": "nats-1"}}
    labels = {"labels": {"kubernetes.io/service-name": "nats"}}
    slices = [named("nats-x", metadata=labels, endpoints=[address, unsaid]), named("y", endpoints=[address])]
    subset = {
        "addresses": [{"ip": "10.0.0.2", "targetRef": {"name": "nats-1"}}],
        "notReadyAddresses": [{"ip": "10.0.0.1", "targetRef": {"name": "nats-0"}}],
    }
    endpoints = [named("nats", subsets=[subset]), named("z", subsets=[subset])]
    both = only(facts(stateful_set=[stateful_set()], endpoint_slice=slices, endpoints=endpoints)).backends("nats")
    blind = only(facts(stateful_set=[stateful_set()], endpoint_slice=DENIED, endpoints=endpoints)).backends("nats")
    neither = only(facts(stateful_set=[stateful_set()], endpoint_slice=DENIED, endpoints=DENIED)).backends("nats")
    seen = {(b.pod, b.ip, b.ready) for b in known(both)}
    assert seen == {(b.pod, b.ip, b.ready) for b in known(blind)}
    assert seen == {("nats-0", "10.0.0.1", False), ("nats-1", "10.0.0.2", True)}
    assert neither == DENIED


def test_a_headless_service_that_is_not_there_is_none_and_not_unknown():
    assert only(facts(stateful_set=[stateful_set()])).headless is None
    there = only(facts(stateful_set=[stateful_set()], service=[named("nats-headless", spec={})])).headless
    assert isinstance(there, Service)
    assert not there.headless


def config(text: str | None, path: str = "/c/nats.conf", **more: Any) -> ConfigFile:
    return ConfigFile(
        kind=Kind.CONFIG_MAP, name="c", key=path.rpartition("/")[2], path=path, live=True, text=text, **more
    )


STORE = (
    "jetstream { store_dir: /data/js }\nserver_name: $POD_NAME\ninclude auth.conf\ncluster { routes: [nats://a:1] }\n"
)
NATS: Raw = {
    "name": "nats",
    "args": ["-c", "/c/nats.conf"],
    "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
}


def test_nats_conf_is_read_with_its_includes_and_for_each_pod():
    files = (config(STORE), config("accounts { A {} }", path="/c/auth.conf"))
    workload = only(facts(files, stateful_set=[stateful_set(container=NATS)], pod=[owned("nats-0", spec={})]))
    general, own = workload.conf, workload.conf_of(known(workload.pods)[0])
    assert isinstance(general, NatsConf)
    assert isinstance(own, NatsConf)
    assert general.cluster is not None
    assert (general.server_name, own.server_name) == (Variable("POD_NAME"), "nats-0")
    assert (general.accounts, general.cluster.routes) == (("A",), (Route("a", 1),))


def test_a_redacted_value_is_no_known_value():
    container = {**NATS, "env": [{"name": "POD_NAME", "value": "[redacted]"}]}
    conf = only(facts((config("server_name: $POD_NAME"),), stateful_set=[stateful_set(container=container)])).conf
    assert isinstance(conf, NatsConf)
    assert conf.server_name == Variable("POD_NAME")


ENVIRONMENT = [
    ("plain", [("A", "x"), ("B", "$(A)-y")], "x-y"),
    ("twice", [("A", "x"), ("B", "$(A)$(A)")], "xx"),
    ("escaped", [("A", "x"), ("B", "$$(A)")], "$(A)"),
    ("of nothing", [("B", "$(A)")], "$(A)"),
    ("of a later one", [("B", "$(A)"), ("A", "x")], "$(A)"),
    ("no reference", [("A", "x"), ("B", "$A $ (A)")], "$A $ (A)"),
    ("redacted", [("A", "[redacted]"), ("B", "$(A)-y")], None),
]


@pytest.mark.parametrize(("pairs", "value"), [row[1:] for row in ENVIRONMENT], ids=[row[0] for row in ENVIRONMENT])
def test_a_variable_may_refer_to_those_before_it(pairs: list[tuple[str, str]], value: str | None):
    container = Container({"env": [{"name": name, "value": text} for name, text in pairs]})
    assert known_environment(container).get("B") == value


def test_the_official_charts_server_name_is_the_pods():
    env = [*NATS["env"], {"name": "SERVER_NAME", "value": "$(POD_NAME)"}]
    container = Container({"env": env})
    assert known_environment(container, Pod(named("nats-1")))["SERVER_NAME"] == "nats-1"
    assert "SERVER_NAME" not in known_environment(container), "a template has no name yet"


def test_an_unknown_configuration_says_why():
    denied = facts((config(None, unknown=DENIED),), stateful_set=[stateful_set(container=NATS)])
    nowhere = facts(stateful_set=[stateful_set(container=NATS)])
    broken = facts((config("a: ["),), stateful_set=[stateful_set(container=NATS)])
    without = facts(stateful_set=[stateful_set(container={"name": "nats", "args": ["-js"]})])
    assert only(denied).conf == DENIED
    assert denied.unknown == (DENIED,)
    for found, words in (
        (nowhere, "lies on no ConfigMap or Secret"),
        (broken, "/c/nats.conf can't be parsed: the configuration, line 1"),
        (without, "starts nats-server without a file"),
    ):
        conf = only(found).conf
        assert isinstance(conf, Unknown)
        assert words in conf.detail


def test_the_store_lies_on_the_claims_of_a_template():
    claims = [named(f"data-nats-{i}", spec={"storageClassName": "fast", "volumeName": f"pv-{i}"}) for i in (1, 0)]
    claims += [named("data-nats-old"), named("data-natsx-0")]
    template = {"metadata": {"name": "data"}}
    raw = stateful_set(container=NATS, volumeClaimTemplates=[template])
    volumes = [named("pv-0", spec={"csi": {"driver": "efs.csi.aws.com"}}), named("pv-1", spec={"nfs": {"server": "x"}})]
    classes = [named("fast", provisioner="p", allowVolumeExpansion=True)]
    workload = only(facts((config(STORE),), stateful_set=[raw], claim=claims, volume=volumes, storage_class=classes))
    found = known(workload.store_claims)
    assert [claim.name for claim in found] == ["data-nats-0", "data-nats-1"]
    first, second = (workload.volume_of(claim) for claim in found)
    storage = workload.class_of(found[0])
    assert isinstance(first, PersistentVolume)
    assert isinstance(second, PersistentVolume)
    assert storage is not None
    assert not isinstance(storage, Unknown)
    assert (first.source, first.driver, second.source, storage.expandable) == ("csi", "efs.csi.aws.com", "nfs", True)


def test_a_store_on_an_empty_dir_lies_on_no_claim():
    raw = stateful_set(container=NATS, volumes=[{"name": "data", "emptyDir": {}}])
    workload = only(facts((config(STORE),), stateful_set=[raw]))
    mount = workload.store_mount
    assert mount is not None
    assert not isinstance(mount, Unknown)
    assert workload.store_claims is None
    assert workload.volumes[mount.volume].source == "emptyDir"


def test_the_nats_container_is_found_among_sidecars():
    exporter = {"name": "exporter", "image": "natsio/prometheus-nats-exporter:1"}
    reloader = {"name": "reloader", "image": "natsio/nats-server-config-reloader:0.16"}
    raw = stateful_set()
    containers = raw["spec"]["template"]["spec"]["containers"]
    containers[:] = [exporter, reloader, {"name": "server", "image": "registry/nats:2.11"}]
    workload = only(facts(stateful_set=[raw]))
    assert workload.nats.name == "server"
    assert workload.reloader is not None
    assert workload.reloader.name == "reloader"
    containers[:] = [exporter, {"name": "nats", "image": "own/build:1"}]
    assert (only(facts(stateful_set=[raw])).nats.name, only(facts(stateful_set=[raw])).reloader) == ("nats", None)


def test_placement_rules_are_read():
    raw = stateful_set()
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "nats"}}}
    raw["spec"]["template"]["spec"] |= {
        "topologySpreadConstraints": [{"topologyKey": "host", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}],
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "host"}],
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}],
            }
        },
    }
    workload = only(facts(stateful_set=[raw]))
    assert [(s.topology_key, s.max_skew, s.required) for s in workload.spread] == [("host", 2, True)]
    assert [(a.topology_key, a.required) for a in workload.anti_affinity] == [("host", True), ("zone", False)]


def test_a_status_counts_only_for_the_generation_it_has_seen():
    behind = stateful_set() | {"status": {"observedGeneration": 0, "readyReplicas": 3}}
    seen = stateful_set() | {"status": {"observedGeneration": 1}}
    assert [only(facts(stateful_set=[raw])).observed for raw in (behind, seen)] == [False, True]


def test_what_the_kubelet_says_of_a_container_is_read():
    ended = {
        "reason": "OOMKilled",
        "exitCode": 137,
        "startedAt": "2026-11-26T00:00:00Z",
        "finishedAt": "2026-11-26T00:00:05Z",
    }
    waiting = {
        "name": "nats",
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
    }
    raw = owned("nats-0", status={"containerStatuses": [waiting | {"lastState": {"terminated": ended}}]})
    status = Pod(raw).statuses["nats"]
    assert (status.state, status.waiting_reason, status.restarts) == ("waiting", "CrashLoopBackOff", 4)
    assert status.last_termination is not None
    assert (status.last_termination.oom_killed, status.last_termination.exit_code) == (True, 137)
    assert status.last_termination.finished_at == datetime(2026, 11, 26, 0, 0, 5, tzinfo=UTC)
    assert (status.termination, Pod(raw).ready, Pod(raw).restarts) == (None, False, 4)
    assert Pod(owned("nats-1")).statuses == {}


def test_pressure_and_readiness_of_a_node_are_read():
    conditions = [
        {"type": "Ready", "status": "Unknown"},
        {"type": "MemoryPressure", "status": "True"},
        {"type": "DiskPressure", "status": "False"},
    ]
    node = Node(
        named("n", metadata={"labels": {"topology.kubernetes.io/zone": "a"}}, status={"conditions": conditions})
    )
    assert (node.ready, node.pressures, node.zone, node.host, node.schedulable) == (
        False,
        ("MemoryPressure",),
        "a",
        "n",
        True,
    )


def test_revisions_and_events_come_in_order():
    revisions = [owned("nats-b", revision=2), owned("nats-a", revision=1), owned("x", by="other", revision=3)]
    events = [
        named("late", lastTimestamp="2026-11-26T00:00:02Z", count=3, reason="Unhealthy"),
        named("early", eventTime="2026-11-26T00:00:01.5Z", series={"count": 7}),
        named("unknown time"),
    ]
    workload = only(facts(stateful_set=[stateful_set()], revision=revisions, event=events))
    assert [revision.name for revision in known(workload.revisions)] == ["nats-a", "nats-b"]
    assert [(e.name, e.count) for e in known(workload.events)] == [("unknown time", 1), ("early", 7), ("late", 3)]
