"""The deployment runbook on a real cluster: badly deployed, well deployed, and with a liveness probe that kills a server for one sick stream."""

import time
from dataclasses import replace

import pytest
from nats.aio.client import Client

from bot.flow.examination import examine
from bot.lab import drills
from bot.lab.jetstream import request, section
from bot.model import Finding, Focus, KubernetesFacts, Severity, Snapshot
from bot.model.kubernetes import Kind, Listing
from runbooks.deployment import RUNBOOK
from runbooks.readiness import RUNBOOK as READINESS
from tests.integration.deployment_scene import (
    EXPLICIT,
    IN_PEACE,
    LABELS,
    OVERRIDES,
    SMALL,
    Scene,
    around,
    by_check,
    conf,
    container,
    open_scene,
    probe,
    sick,
    stateful_set,
)
from tests.integration.kubernetes_support import IMAGE, NEWER_IMAGE, Raw, rolled_out, storage_class, until

pytestmark = pytest.mark.kubernetes

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


def badly(namespace: str) -> Raw:
    """Incident families A to C: one name, no disk, no resources, no rules, and the strict probe of 2.10."""
    readiness = probe("/healthz?js-server-only=true", 2, 3)
    return stateful_set(
        namespace,
        container(IMAGE, readinessProbe=readiness),
        pod={"terminationGracePeriodSeconds": 5},
        spec={},
        volumes=[{"name": "data", "emptyDir": {}}],
    )


async def test_a_badly_deployed_cluster_has_every_finding():
    async with open_scene() as scene:
        for raw in (*around(scene.namespace, conf("nats://nats-headless:6222")), badly(scene.namespace)):
            await scene.cluster.create(raw)
        await rolled_out(scene.cluster, scene.namespace)
        async with scene.client() as client:
            await drills.create_stream(client, "ONCE", 1)

        async def all_answer() -> bool:
            return len((await scene.judged())[0].servers) == 3

        # Routes by one name: the servers find each other by chance and gossip.
        await until("the three servers to know each other", all_answer)
        _, judged = await scene.judged()
        found = by_check(judged)
        assert sick(judged) == {
            *("DEPLOY_ROUTES", "DEPLOY_STORAGE", "DEPLOY_SPREAD", "DEPLOY_PLACEMENT", "DEPLOY_BUDGET"),
            *("DEPLOY_PROBES", "DEPLOY_RESOURCES", "DEPLOY_SHUTDOWN", "DEPLOY_RELOAD"),
        }, [f"{f.check} {f.severity}: {f.sentence}" for f in judged.findings if f.severity is not Severity.OK]
        (routes,), (storage,), (placement,) = (found[f"DEPLOY_{c}"] for c in ("ROUTES", "STORAGE", "PLACEMENT"))
        assert "by one name (nats-headless)" in routes.sentence
        assert (storage.severity, storage.evidence["streams with one replica"]) == (CRITICAL, ["APP > ONCE"])
        assert "carries nats-0, nats-1, nats-2" in placement.sentence
        readiness = next(f for f in found["DEPLOY_PROBES"] if "readiness" in f.sentence)
        assert "js-server-only=true on 2.10.26 is too strict" in readiness.sentence
        assert set(readiness.evidence["now"].values()) == {"passes"}
        assert all(proposed.draft.guidance and not proposed.draft.stages for proposed in judged.proposed)
        assert {"Name every pod in cluster.routes and reload", "Let one pod go at a time"} <= {
            proposed.draft.title for proposed in judged.proposed
        }


def well(namespace: str, storage: str) -> Raw:
    """As a well-built cluster of the official chart; a checksum rolls the pods, since the testbed has no image of the reloader."""
    made = container(
        NEWER_IMAGE,
        startupProbe=probe("/healthz", 2, 150),
        readinessProbe=probe("/healthz?js-server-only=true", 2, 3),
        livenessProbe=probe("/healthz?js-enabled-only=true", 30, 3, delay=10),
        resources={"requests": SMALL, "limits": SMALL},
        lifecycle={"preStop": {"exec": {"command": ["nats-server", "-sl=ldm=/var/run/nats/nats.pid"]}}},
    )
    made["env"].append({"name": "GOMEMLIMIT", "value": "100MiB"})
    made["volumeMounts"].append({"name": "pid", "mountPath": "/var/run/nats"})
    spread = {
        "topologyKey": "kubernetes.io/hostname",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": LABELS},
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "storageClassName": storage,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "512Mi"}},
        },
    }
    raw = stateful_set(
        namespace,
        made,
        pod={"terminationGracePeriodSeconds": 60, "topologySpreadConstraints": [spread]},
        spec={"volumeClaimTemplates": [claim]},
        volumes=[{"name": "pid", "emptyDir": {}}],
    )
    raw["spec"]["template"]["metadata"]["annotations"] = {"checksum/config": "1"}
    return raw


async def budget(scene: Scene) -> None:
    _, groups = await scene.cluster.call("GET", "/apis/policy")
    metadata = {"name": "nats", "namespace": scene.namespace}
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}
    api = groups["versions"][0]["groupVersion"]
    await scene.cluster.create({"apiVersion": api, "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec})


def on_three_nodes(snapshot: Snapshot) -> Snapshot:
    """The same snapshot as if the one node of the testbed were three: nothing else can tell how many machines there are."""
    facts = snapshot.kubernetes
    assert facts is not None
    changed: list[Listing] = []
    for listing in facts.listings:
        items = listing.items or ()
        if listing.kind is Kind.POD:
            items = tuple(
                raw | {"spec": raw["spec"] | {"nodeName": f"machine-{raw['metadata']['name'][-1]}"}} for raw in items
            )
        if listing.kind is Kind.NODE:
            items = tuple(
                raw | {"metadata": raw["metadata"] | {"name": f"machine-{n}"}} for raw in items for n in range(3)
            )
        changed.append(listing.model_copy(update={"items": items}) if listing.items is not None else listing)
    moved = KubernetesFacts(facts.namespace, facts.taken_at, tuple(changed), facts.config_files, facts.version)
    return replace(snapshot, kubernetes=moved)


async def test_a_well_deployed_cluster_is_clean_but_for_its_one_node_and_a_changed_file_is_seen():
    async with open_scene() as scene:
        text = conf(EXPLICIT, IN_PEACE)
        for raw in around(scene.namespace, text):
            await scene.cluster.create(raw)
        await budget(scene)
        await scene.cluster.create(well(scene.namespace, await storage_class(scene.cluster)))
        await rolled_out(scene.cluster, scene.namespace)
        async with scene.client() as client:
            await drills.create_stream(client, "ORDERS", 3)
        snapshot, judged = await scene.judged(overrides=OVERRIDES)
        told = [f"{f.check} {f.severity}: {f.sentence}" for f in judged.findings]
        assert sick(judged) == {"DEPLOY_PLACEMENT"}, told
        (placement,) = by_check(judged)["DEPLOY_PLACEMENT"]
        assert "the meta group (0 of 3 servers would be left) and 1 stream (APP > ORDERS)" in placement.sentence
        apart = examine(on_three_nodes(snapshot), RUNBOOK, RUNBOOK.values(OVERRIDES), Focus())
        assert {f.severity for f in apart.findings} == {Severity.OK}
        assert (apart.verdict.severity, apart.proposed) == (Severity.OK, ())
        await scene.cluster.patch(
            "ConfigMap", "nats-config", scene.namespace, {"data": {"nats.conf": text + "max_payload: 2MB\n"}}
        )
        _, fresh = await scene.judged(overrides=OVERRIDES)
        (on_its_way,) = by_check(fresh)["DEPLOY_CONFIG"]
        assert on_its_way.severity is Severity.OK
        assert "is on its way to nats-0, nats-1, nats-2" in on_its_way.sentence
        _, late = await scene.judged(overrides=OVERRIDES | {"arrival": 0.0})
        (not_loaded,) = by_check(late)["DEPLOY_CONFIG"]
        assert not_loaded.severity is WARNING
        assert "config_digest is another one" in not_loaded.sentence


async def test_a_volume_on_nfs_is_found_before_it_is_ever_mounted():
    async with open_scene() as scene:
        name = f"nfs-{scene.namespace}"
        claim = {
            "metadata": {"name": "data"},
            "spec": {
                "storageClassName": name,
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Mi"}},
            },
        }
        await scene.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "storageClassName": name,
                    "accessModes": ["ReadWriteOnce"],
                    "capacity": {"storage": "1Mi"},
                    "persistentVolumeReclaimPolicy": "Retain",
                    "nfs": {"server": "filer.invalid", "path": "/nats"},
                },
            }
        )
        raw = stateful_set(
            scene.namespace,
            container(NEWER_IMAGE),
            # No node has this label, so nothing is ever mounted.
            pod={"nodeSelector": {"natsmedic.test/none": "such"}},
            spec={"replicas": 1, "volumeClaimTemplates": [claim]},
            volumes=[],
        )
        for one in (*around(scene.namespace, conf(EXPLICIT)), raw):
            await scene.cluster.create(one)

        async def bound() -> bool:
            status, found = await scene.cluster.call(
                "GET", f"/api/v1/namespaces/{scene.namespace}/persistentvolumeclaims/data-nats-0"
            )
            return status == 200 and found["status"].get("phase") == "Bound" and bool(await scene.pods())

        await until("the claim", bound, 30)
        snapshot = await scene.only_kubernetes()
        findings = {c.code: c.examine(snapshot, RUNBOOK.values(), Focus()) for c in RUNBOOK.checks}
        (storage,) = [f for f in findings["DEPLOY_STORAGE"] if f.severity is WARNING]
        assert "network file system: claim data-nats-0 (nfs)" in storage.sentence
        (pod,) = findings["DEPLOY_PODS"]
        assert pod.severity is CRITICAL
        assert "Pod nats-0 finds no node" in pod.sentence


def impatient(namespace: str) -> Raw:
    """The Bitnami chart's liveness probe, in a hurry, and one pod whose server may run few Raft groups: it lacks nodes of some (drills.md 3.3)."""
    start = (
        "case $POD_NAME in *-1) export HA=3;; *) export HA=100;; esac; "
        "exec nats-server --config /etc/nats-config/nats.conf"
    )
    made = container(
        NEWER_IMAGE,
        command=["sh", "-c"],
        args=[start],
        readinessProbe=probe("/", 2, 3),
        livenessProbe=probe("/healthz", 3, 5, delay=25),
    )
    return stateful_set(
        namespace, made, pod={"terminationGracePeriodSeconds": 2}, spec={}, volumes=[{"name": "data", "emptyDir": {}}]
    )


async def one_consumer_too_many(client: Client) -> None:
    """A stream with four consumers that is scaled to a server which may run three Raft groups."""
    while True:
        await drills.create_stream(client, "ORDERS", 1)
        if section(await request(client, "STREAM.INFO.ORDERS"), "cluster")["leader"] != "nats-1":
            break
        await request(client, "STREAM.DELETE.ORDERS")
    for number in range(4):
        await drills.create_consumer(client, "ORDERS", f"worker-{number}")
    config = section(await request(client, "STREAM.INFO.ORDERS"), "config")
    await request(client, "STREAM.UPDATE.ORDERS", config | {"num_replicas": 3})


async def seen(scene: Scene, words: str, seconds: float = 60) -> Finding:
    """What DEPLOY_PROBE_KILLS finds, as soon as it says these words."""
    end = time.monotonic() + seconds
    while True:
        _, judged = await scene.judged()
        told = by_check(judged)["DEPLOY_PROBE_KILLS"]
        if said := next((finding for finding in told if words in finding.sentence), None):
            return said
        if time.monotonic() > end:
            raise TimeoutError(f"{words!r} was not said in {seconds:.0f} s, but: {[f.sentence for f in told]}")


async def test_a_liveness_probe_that_kills_a_server_for_one_sick_stream_is_the_root():
    async with open_scene() as scene:
        text = conf(EXPLICIT, limits=", limits: { max_ha_assets: $HA }")
        for raw in (*around(scene.namespace, text), impatient(scene.namespace)):
            await scene.cluster.create(raw)
        await rolled_out(scene.cluster, scene.namespace)
        async with scene.client() as client:
            await one_consumer_too_many(client)
        failing = await seen(scene, "group node missing")
        assert failing.subject.server == "nats-1"
        assert failing.severity in {WARNING, CRITICAL}
        killing = await seen(scene, "kills the server of pod nats-1", 120)
        assert killing.cause
        assert killing.evidence["event"].startswith("Container nats failed liveness probe")
        _, judged = await scene.judged(READINESS)
        assert judged.verdict.root is not None
        assert judged.verdict.root.check == "DEPLOY_PROBE_KILLS"
        assert judged.proposed[0].draft.title == "Keep the liveness probe from killing servers that catch up"
