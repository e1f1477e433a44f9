"""Typed views over raw Kubernetes objects: units, defaults, how objects find each other, who owns them."""

from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from bot.model import Unknown, UnknownReason
from bot.model.kubernetes import (
    Budget,
    ConfigFile,
    Container,
    Image,
    Kind,
    KubernetesFacts,
    Listing,
    Node,
    Object,
    OwnerKind,
    PersistentVolume,
    Pod,
    Probe,
    ProbeKind,
    Service,
    Volume,
    Workload,
    matches,
    owners_of,
    quantity,
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


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("250m", 0.25),
        ("2", 2.0),
        ("1.5", 1.5),
        ("128Mi", 128 * 2**20),
        ("8Gi", 8 * 2**30),
        ("1G", 1e9),
        ("1e3", 1000.0),
        ("100k", 1e5),
        ("1E", 1e18),
        ("500u", 0.0005),
        (3, 3.0),
        ("", None),
        ("8GB", None),
        (True, None),
        (None, None),
    ],
)
def test_quantities_are_those_of_the_api(text: object, number: float | None):
    assert quantity(text) == (None if number is None else pytest.approx(number))


def test_a_probe_without_numbers_has_the_defaults_of_the_api():
    probe = Probe({"httpGet": {"port": 8222}})
    assert (probe.kind, probe.path, probe.endpoint, probe.port) == (ProbeKind.HTTP, "/", "/", 8222)
    numbers = (probe.initial_delay, probe.period, probe.timeout, probe.success_threshold, probe.failure_threshold)
    assert numbers == (0, 10, 1, 1, 3)
    assert probe.patience == 30


def test_path_and_parameters_of_a_probe_are_apart():
    probe = Probe({"httpGet": {"path": "/healthz?js-enabled-only=true&x", "port": "monitor"}, "periodSeconds": 5})
    assert (probe.endpoint, dict(probe.parameters)) == ("/healthz", {"js-enabled-only": "true", "x": ""})
    assert Container({"ports": [{"name": "monitor", "containerPort": 8222}]}).port_number(probe.port) == 8222


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ({"tcpSocket": {"port": 1}}, ProbeKind.TCP),
        ({"exec": {"command": ["x"]}}, ProbeKind.EXEC),
        ({"grpc": {"port": 1}}, ProbeKind.GRPC),
        ({"new": {}}, ProbeKind.OTHER),
    ],
)
def test_other_probes_have_no_path(raw: Raw, kind: ProbeKind):
    assert (Probe(raw).kind, Probe(raw).path) == (kind, "")


@pytest.mark.parametrize(
    ("reference", "repository", "tag", "digest"),
    [
        ("nats", "nats", "", ""),
        ("nats:2.10.26-alpine", "nats", "2.10.26-alpine", ""),
        ("host:5000/library/nats:2.11", "host:5000/library/nats", "2.11", ""),
        ("host:5000/nats", "host:5000/nats", "", ""),
        ("nats:2.11@sha256:ab", "nats", "2.11", "sha256:ab"),
    ],
)
def test_an_image_is_taken_apart(reference: str, repository: str, tag: str, digest: str):
    image = Image(reference)
    assert (image.repository, image.tag, image.digest, image.base_name) == (repository, tag, digest, "nats")


@pytest.mark.parametrize(
    ("env", "limit"),
    [
        ({"value": "7GiB"}, 7 * 2**30),
        ({"value": "750MiB"}, 750 * 2**20),
        ({"value": "1048576"}, 2**20),
        ({"value": "off"}, None),
        ({"value": "[redacted]"}, None),
        ({"valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}, 2**30),
        ({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, None),
    ],
)
def test_gomemlimit_is_read_in_gos_units(env: Raw, limit: int | None):
    container = Container(
        {
            "env": [{"name": "GOMEMLIMIT", **env}],
            "resources": {"limits": {"memory": "1Gi"}},
        }
    )
    assert container.gomemlimit == limit


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"args": ["--config", "/etc/nats-config/nats.conf"]}, "/etc/nats-config/nats.conf"),
        ({"command": ["nats-server", "-c", "/a/b.conf", "-js"]}, "/a/b.conf"),
        ({"args": ["-config=/a/./b.conf"]}, "/a/b.conf"),
        ({"command": ["sh", "-c", "exec nats-server -c /a/b.conf"]}, "/a/b.conf"),
        ({"command": ["nats-server", "-js"]}, None),
        ({"args": ["--port", "4222"]}, None),
        ({}, "/etc/nats/nats-server.conf"),
        ({"volumeMounts": [{"name": "c", "mountPath": "/nats-server.conf", "subPath": "x"}]}, "/nats-server.conf"),
    ],
)
def test_the_path_of_nats_conf_is_in_the_command_line_or_the_images_own(raw: Raw, path: str | None):
    assert Container(raw).config_path == path


def test_the_deepest_mount_is_the_one_that_a_path_lies_on():
    mounts = [{"name": "root", "mountPath": "/data"}, {"name": "js", "mountPath": "/data/jetstream", "subPath": "js"}]
    container = Container({"volumeMounts": mounts})
    below, beside, outside = (container.mount_of(p) for p in ("/data/jetstream/x", "/data/jetstream2", "/other"))
    assert below is not None
    assert beside is not None
    assert (below.volume, below.live, beside.volume, beside.live, outside) == ("js", False, "root", True, None)


def test_sources_of_volumes_with_keys_say_which_key_is_which_file():
    projected = Volume(
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "c", "items": [{"key": "k", "path": "nats.conf"}]}},
                    {"secret": {"name": "s"}},
                    {"serviceAccountToken": {"path": "token"}},
                ]
            },
        }
    )
    listed, whole = projected.keyed
    assert (listed.name, listed.key_of("nats.conf"), listed.key_of("k")) == ("c", "k", None)
    assert (whole.name, whole.key_of("auth.conf"), whole.key_of("sub/auth.conf")) == ("s", "auth.conf", None)
    assert [source.name for source in Volume({"name": "v", "secret": {"secretName": "x"}}).keyed] == ["x"]
    assert Volume({"name": "v", "emptyDir": {}}).keyed == ()


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "nats"}}, True),
        ({"matchLabels": {"app": "nats", "tier": "x"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["nats", "y"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["nats"]}]}, False),
        ({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["nats"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}, False),
    ],
)
def test_label_selectors_select_as_the_api_does(selector: Raw, selected: bool):
    assert matches(selector, {"app": "nats"}) is selected


@pytest.mark.parametrize(
    ("api", "spec", "selects"),
    [
        ("policy/v1", {"selector": {}}, True),
        ("policy/v1beta1", {"selector": {}}, False),
        ("policy/v1", {}, False),
        ("policy/v1beta1", {"selector": {"matchLabels": {"app": "nats"}}}, True),
        ("policy/v1", {"selector": {"matchLabels": {"app": "other"}}}, False),
    ],
)
def test_an_empty_selector_of_a_budget_depends_on_its_version(api: str, spec: Raw, selects: bool):
    assert Budget({"apiVersion": api, "spec": spec}).selects({"app": "nats"}) is selects


def test_a_service_without_selector_selects_nothing():
    assert not Service({"spec": {"clusterIP": "None"}}).selects({"app": "nats"})


FIELDS = {
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:template": {"f:spec": {"f:containers": {'k:{"name":"nats"}': {"f:image": {}, "f:env": {}}}}},
    }
}


@pytest.mark.parametrize(
    ("path", "managed"),
    [
        ((), True),
        (("spec", "replicas"), True),
        (("spec", "selector", "matchLabels", "app"), True),
        (("spec", "template", "spec", "containers", {"name": "nats"}, "image"), True),
        (("spec", "template", "spec", "containers", {"name": "nats"}, "readinessProbe"), False),
        (("spec", "template", "spec", "containers", {"name": "reloader"}, "image"), False),
        (("spec", "serviceName"), False),
    ],
)
def test_the_managers_of_a_field_are_those_that_wrote_it_or_the_whole_around_it(path: Any, managed: bool):
    entry = {"manager": "helm", "operation": "Apply", "time": "2026-11-26T00:00:00Z", "fieldsV1": FIELDS}
    managers = Object(named("nats", metadata={"managedFields": [entry]})).managers(*path)
    assert [(m.name, m.operation, m.at) for m in managers] == ([("helm", "Apply", NOW)] if managed else [])


@pytest.mark.parametrize(
    ("metadata", "owners"),
    [
        ({}, []),
        (
            {"annotations": {"meta.helm.sh/release-name": "n", "meta.helm.sh/release-namespace": "q"}},
            [(OwnerKind.HELM, "n", "q")],
        ),
        (
            {"labels": {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "n"}},
            [(OwnerKind.HELM, "n", "")],
        ),
        (
            {"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/StatefulSet:queues/nats"}},
            [(OwnerKind.ARGO_CD, "shop", "")],
        ),
        (
            {"annotations": {"argocd.argoproj.io/tracking-id": "team_shop:apps/StatefulSet:queues/nats"}},
            [(OwnerKind.ARGO_CD, "shop", "team")],
        ),
        ({"labels": {"argocd.argoproj.io/instance": "shop"}}, [(OwnerKind.ARGO_CD, "shop", "")]),
        (
            {
                "labels": {
                    "helm.toolkit.fluxcd.io/name": "nats",
                    "helm.toolkit.fluxcd.io/namespace": "flux",
                    "app.kubernetes.io/managed-by": "Helm",
                },
                "annotations": {"meta.helm.sh/release-name": "n"},
            },
            [(OwnerKind.FLUX_HELM, "nats", "flux"), (OwnerKind.HELM, "n", "")],
        ),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "k"}}, [(OwnerKind.FLUX_KUSTOMIZE, "k", "")]),
        (
            {"ownerReferences": [{"kind": "NatsCluster", "name": "prod", "uid": "u", "controller": True}]},
            [(OwnerKind.OPERATOR, "NatsCluster prod", "queues")],
        ),
        ({"ownerReferences": [{"kind": "X", "name": "y", "uid": "u"}]}, []),
        ({"labels": {"app.kubernetes.io/instance": "nats"}}, []),
    ],
)
def test_owners_are_found_by_their_markers_the_outermost_first(metadata: Raw, owners: list[tuple[OwnerKind, str, str]]):
    found = owners_of(Object(named("nats", metadata=metadata)))
    assert [(owner.kind, owner.name, owner.namespace) for owner in found] == owners


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
