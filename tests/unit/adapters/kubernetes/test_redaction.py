"""No planted secret survives in an object, and what a diagnosis needs stays."""

import json
from typing import Any

import pytest

from bot.adapters.kubernetes.redaction import clean
from bot.model.kubernetes import Container, Kind, Pod
from bot.model.nats_conf import REDACTED

Raw = dict[str, Any]
CANARY = "c4n4ry"
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
"""The example seed of the nkeys documentation."""


def pod(**container: Any) -> Raw:
    return {"metadata": {"name": "nats-0"}, "spec": {"containers": [{"name": "nats", **container}]}}


def template(raw: Raw) -> Raw:
    return {"metadata": {}, "spec": {"template": {"metadata": raw.pop("metadata"), **raw}}}


PODS = [
    pod(env=[{"name": "TOKEN", "value": CANARY}]),
    pod(env=[{"name": "URL", "value": f"nats://u:{CANARY}@h"}]),
    pod(args=["--pass", CANARY]),
    pod(args=[f"--auth={CANARY}"]),
    pod(args=["--routes", f"nats://u:{CANARY}@h:6222"]),
    pod(command=["sh", "-c", f"nats-server --user u --pass {CANARY} -c /x"]),
    pod(lifecycle={"preStop": {"exec": {"command": ["nats", "--creds", f"/x/{CANARY}", "x"]}}}),
    pod(readinessProbe={"httpGet": {"httpHeaders": [{"name": "Authorization", "value": CANARY}]}}),
    pod(livenessProbe={"exec": {"command": ["nats", "--password", CANARY, "rtt"]}}),
    {"metadata": {"annotations": {"vault.hashicorp.com/agent-inject": CANARY}}, "spec": {"containers": []}},
    {"metadata": {}, "spec": {"initContainers": [{"env": [{"name": "X", "value": CANARY}]}]}},
    {"metadata": {}, "spec": {"ephemeralContainers": [{"env": [{"name": "X", "value": CANARY}]}]}},
]
APPLIED = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"data": {"nats.conf": CANARY}})}

OBJECTS: list[tuple[Kind, Raw]] = [
    *((Kind.POD, raw) for raw in PODS),
    *((Kind.STATEFUL_SET, template(json.loads(json.dumps(raw)))) for raw in PODS),
    *((Kind.REVISION, {"metadata": {}, "data": template(json.loads(json.dumps(raw)))}) for raw in PODS),
    (Kind.CONFIG_MAP, {"metadata": {"annotations": APPLIED}, "data": {"nats.conf": CANARY}}),
    (Kind.CONFIG_MAP, {"metadata": {}, "binaryData": {"x": CANARY}}),
    (Kind.SECRET, {"metadata": {}, "data": {"x": CANARY}, "stringData": {"y": CANARY}}),
    (Kind.STORAGE_CLASS, {"metadata": {}, "parameters": {"restuserkey": CANARY, "adminPassword": CANARY}}),
    (Kind.VOLUME, {"metadata": {}, "spec": {"csi": {"volumeAttributes": {"token": CANARY}}}}),
    (Kind.VOLUME, {"metadata": {}, "spec": {"flexVolume": {"options": {"secretValue": CANARY}}}}),
    (Kind.EVENT, {"metadata": {}, "message": f"dial nats://u:{CANARY}@h failed"}),
    (
        Kind.STREAM,
        {"metadata": {"annotations": {"x": CANARY}}, "spec": {"token": CANARY, "servers": [f"nats://{CANARY}@h"]}},
    ),
    (Kind.SERVICE, {"metadata": {"annotations": APPLIED}}),
]


@pytest.mark.parametrize(("kind", "raw"), OBJECTS)
def test_no_planted_secret_stays(kind: Kind, raw: Raw):
    assert CANARY in json.dumps(raw)
    assert CANARY not in json.dumps(clean(kind, raw))


def test_an_nkey_seed_goes_wherever_it_stands():
    assert SEED not in json.dumps(clean(Kind.POD, pod(args=["run", SEED])))


@pytest.mark.parametrize(("kind", "raw"), OBJECTS)
def test_cleaning_twice_changes_nothing_and_the_original_stays(kind: Kind, raw: Raw):
    before = json.dumps(raw)
    once = clean(kind, raw)
    assert clean(kind, once) == once
    assert json.dumps(raw) == before


def test_what_a_diagnosis_needs_stays():
    env = [
        {"name": "GOMEMLIMIT", "value": "100MiB"},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {"name": "EMPTY", "value": ""},
        {"name": "OTHER", "value": "x"},
    ]
    probe = {"httpGet": {"path": "/healthz?js-server-only=true", "port": "monitor"}}
    raw = pod(
        image="nats:2.10.26",
        args=["--config", "/c/nats.conf"],
        env=env,
        readinessProbe=probe,
        resources={"limits": {"cpu": "1"}},
    )
    raw["metadata"]["annotations"] = {"meta.helm.sh/release-name": "nats", "checksum/config": "ab", "other": "x"}
    cleaned = Pod(clean(Kind.POD, raw))
    container = cleaned.pod_spec.container("nats")
    assert isinstance(container, Container)
    assert container.readiness is not None
    assert (container.config_path, container.readiness.path) == ("/c/nats.conf", "/healthz?js-server-only=true")
    assert {name: (v.value, v.source) for name, v in container.environment.items()} == {
        "GOMEMLIMIT": ("100MiB", "value"),
        "POD_NAME": (None, "fieldRef metadata.name"),
        "PW": (None, "secretKeyRef login/password"),
        "EMPTY": ("", "value"),
        "OTHER": (REDACTED, "value"),
    }
    assert dict(cleaned.annotations) == {
        "meta.helm.sh/release-name": "nats",
        "checksum/config": "ab",
        "other": REDACTED,
    }


def test_names_of_secrets_in_parameters_are_names():
    parameters = {
        "csi.storage.k8s.io/provisioner-secret-name": "x",
        "csi.storage.k8s.io/provisioner-secret-namespace": "y",
        "server": "nfs",
    }
    assert clean(Kind.STORAGE_CLASS, {"metadata": {}, "parameters": parameters})["parameters"] == parameters


def test_the_images_of_a_node_stay_out():
    raw = {"metadata": {}, "status": {"images": [{"names": ["x"]}], "capacity": {"cpu": "2"}}}
    assert clean(Kind.NODE, raw)["status"] == {"capacity": {"cpu": "2"}}
