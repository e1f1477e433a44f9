"""Typed views over single Kubernetes objects: units, defaults, selectors, who owns them and who wrote their fields."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bot.model.kubernetes import (
    Budget,
    Container,
    Image,
    Object,
    OwnerKind,
    Probe,
    ProbeKind,
    Service,
    Volume,
    matches,
    owners_of,
    quantity,
)

Raw = dict[str, Any]
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def named(name: str, **more: Any) -> Raw:
    return {"metadata": {"name": name, "namespace": "queues", **more.pop("metadata", {})}, **more}


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
