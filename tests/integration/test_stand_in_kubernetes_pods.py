"""Whole NATS clusters on the stand-in Kubernetes: configuration, names, volumes, ends, and an upgrade under load."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import nats.errors
import pytest
import yaml
from nats.aio.client import Client

from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader
from bot.lab.kubernetes import NatsManifest, Routes, StandInKubernetes
from bot.model.kubernetes import ConfigFile, Workload
from bot.settings.clusters import KubernetesSettings
from tests.integration.kubernetes_conformance import container, until, workload
from tests.integration.kubernetes_support import Raw
from tests.integration.stand_in_kubernetes import MERGE, app, becomes, hosts, status_of, the, uid, varz

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


async def test_a_changed_configuration_reaches_the_file_late_and_the_server_when_it_reloads(kube: StandInKubernetes):
    manifest = NatsManifest(replicas=2)
    kube.apply(manifest.manifests())
    await kube.wait_ready()
    before = (await varz(kube, "nats-0"))["config_digest"]
    kube.apply([NatsManifest(replicas=2, extra_conf="max_payload: 2MB").config_map()])
    settings = KubernetesSettings(kubeconfig=kube.kubeconfig(), namespace=kube.namespace)
    assert (await varz(kube, "nats-0"))["config_digest"] == before

    async def reloaded() -> bool:
        for pod in kube.pods():
            os.kill(kube.pod_pid(pod), signal.SIGHUP)
        await asyncio.sleep(0.2)
        return (await varz(kube, "nats-0"))["max_payload"] == 2 * 2**20

    await until("the reload", reloaded, 20)
    facts = await KubernetesApiReader(settings, SystemClock()).gather()
    assert isinstance(facts.workload, Workload)
    file = facts.workload.config_file
    assert isinstance(file, ConfigFile)
    assert (await varz(kube, "nats-0"))["config_digest"] in file.digests["nats-0"]


async def test_a_configuration_for_every_address_is_bound_to_the_pods_own(kube: StandInKubernetes):
    kube.apply(NatsManifest(replicas=2, bind_pod_address=False).manifests())
    await kube.wait_ready()
    for pod in kube.pods():
        found = await varz(kube, pod)
        assert found["host"] == found["cluster"]["addr"] == kube.pod_address(pod)


async def test_one_name_for_all_servers_resolves_to_each_of_them(kube: StandInKubernetes):
    kube.apply(NatsManifest(routes=Routes.HEADLESS, readiness=None, startup=None).manifests())
    await kube.wait_ready()
    await becomes("the hosts", lambda: "nats-headless" in hosts(kube, "nats-0"))
    lines = [line for line in hosts(kube, "nats-0").splitlines() if " nats-headless " in line]
    assert {line.split()[0] for line in lines} == {kube.pod_address(pod) for pod in kube.pods()}
    assert (await varz(kube, "nats-0"))["cluster"]["urls"] == ["nats-headless:6222"]


async def test_a_frozen_server_is_killed_after_its_grace_and_started_again(kube: StandInKubernetes):
    probe = {"httpGet": {"path": "/healthz", "port": "monitor"}, "periodSeconds": 1, "failureThreshold": 2}
    raw = workload(1, pod=container(livenessProbe=probe))
    raw["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    kube.apply([raw])
    await kube.wait_ready()
    os.kill(kube.pod_pid("nats-0"), signal.SIGSTOP)
    await becomes("a restart", lambda: status_of(kube, "nats-0")["restartCount"] == 1)
    ended = status_of(kube, "nats-0")["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    await kube.wait_ready()


async def test_a_kill_for_memory_says_so_and_the_second_waits(kube: StandInKubernetes):
    kube.apply([workload(1)])
    for crashes in (1, 2):
        await kube.wait_ready()
        kube.kill_pod("nats-0", oom=True)
        await becomes("a restart", lambda wanted=crashes: status_of(kube, "nats-0")["restartCount"] == wanted)
    ended = status_of(kube, "nats-0")["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    await kube.wait_ready()
    assert "Starting nats-server" in kube.pod_log("nats-0", previous=True)


async def test_a_claim_keeps_what_a_pod_has_stored_and_grows(kube: StandInKubernetes, http: httpx.AsyncClient):
    kube.apply(NatsManifest(replicas=1, grace=2).manifests())
    await kube.wait_ready()
    client = await app(kube)
    await client.jetstream().add_stream(name="ORDERS", subjects=["orders"])
    await client.jetstream().publish("orders", b"kept")
    await client.close()
    before = uid(kube, "nats-0")
    await http.delete("/api/v1/namespaces/nats/pods/nats-0")
    await becomes("another pod", lambda: uid(kube, "nats-0") != before)
    await kube.wait_ready()
    client = await app(kube)
    assert (await client.jetstream().get_msg("ORDERS", 1)).data == b"kept"
    await client.close()
    path = "/api/v1/namespaces/nats/persistentvolumeclaims/data-nats-0"
    smaller = {"spec": {"resources": {"requests": {"storage": "1Mi"}}}}
    assert (await http.patch(path, json=smaller, headers=MERGE)).status_code == 422
    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    assert (await http.patch(path, json=larger, headers=MERGE)).status_code == 200
    await becomes(
        "growth", lambda: the(kube, "PersistentVolumeClaim", "data-nats-0")["status"]["capacity"]["storage"] == "2Gi"
    )


async def test_a_claim_of_a_class_without_expansion_does_not_grow(kube: StandInKubernetes, http: httpx.AsyncClient):
    kind = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "fixed"},
        "provisioner": "x.example.com",
    }
    spec = {
        "storageClassName": "fixed",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    kube.apply([kind, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": spec}])
    await becomes("bound", lambda: the(kube, "PersistentVolumeClaim", "c")["status"]["phase"] == "Bound")
    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    answer = await http.patch("/api/v1/namespaces/nats/persistentvolumeclaims/c", json=larger, headers=MERGE)
    assert (answer.status_code, answer.json()["reason"]) == (403, "Forbidden")
    assert answer.json()["message"].endswith("the storageclass that provisions the pvc must support resize")


async def test_a_pod_becomes_a_lame_duck_before_it_ends(kube: StandInKubernetes, http: httpx.AsyncClient):
    kube.apply(NatsManifest(replicas=1, lame_duck_grace="1s", grace=20).manifests())
    await kube.wait_ready()
    before = uid(kube, "nats-0")
    told = asyncio.Event()

    async def lame() -> None:
        told.set()

    client = Client()
    await client.connect(
        f"nats://{kube.pod_address('nats-0')}:4222", user="app", password="app", lame_duck_mode_cb=lame
    )
    await http.delete("/api/v1/namespaces/nats/pods/nats-0")
    await asyncio.wait_for(told.wait(), 5)
    assert uid(kube, "nats-0") == before, "its clients have time to go"
    await becomes("another pod", lambda: uid(kube, "nats-0") != before)
    await client.close()


async def test_a_hook_that_cannot_be_run_is_told_and_the_pod_ends(kube: StandInKubernetes, http: httpx.AsyncClient):
    kube.apply([workload(1, pod=container(lifecycle={"preStop": {"exec": {"command": ["sleep", "60"]}}}))])
    await kube.wait_ready()
    before = uid(kube, "nats-0")
    await http.delete("/api/v1/namespaces/nats/pods/nats-0")
    await becomes("another pod", lambda: uid(kube, "nats-0") != before)
    events = (await http.get("/api/v1/namespaces/nats/events")).json()["items"]
    assert "FailedPreStopHook" in {event["reason"] for event in events}


async def test_a_spread_that_is_insisted_on_gives_each_node_one_pod(kube: StandInKubernetes, http: httpx.AsyncClient):
    node = "/api/v1/nodes/node-2"
    await http.patch(node, json={"spec": {"unschedulable": True}}, headers=MERGE)
    kube.apply(NatsManifest(readiness=None, startup=None, liveness=None).manifests())
    await becomes("two bound", lambda: sum("nodeName" in the(kube, "Pod", pod)["spec"] for pod in kube.pods()) == 2)
    await becomes("one not", lambda: any(unschedulable(kube, pod) for pod in kube.pods()))
    await http.patch(node, json={"spec": {"unschedulable": None}}, headers=MERGE)
    await becomes(
        "all bound",
        lambda: (
            {the(kube, "Pod", pod)["spec"].get("nodeName") for pod in kube.pods()} == {f"node-{i}" for i in range(3)}
        ),
    )


def unschedulable(kube: StandInKubernetes, pod: str) -> bool:
    conditions = the(kube, "Pod", pod)["status"].get("conditions") or []
    return any("topology spread" in condition.get("message", "") for condition in conditions)


async def test_a_pod_that_may_not_share_a_node_stays_pending_where_there_is_none(kube: StandInKubernetes):
    raw = workload(4)
    term = {"labelSelector": {"matchLabels": {"app": "nats"}}, "topologyKey": "kubernetes.io/hostname"}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    raw["spec"]["template"]["spec"]["affinity"] = apart
    kube.apply([raw])
    await becomes("three ready", lambda: the(kube, "StatefulSet", "nats")["status"].get("readyReplicas") == 3)
    pods = [pod for name in kube.pods() if (pod := kube.get("Pod", name))]
    assert sorted(pod["spec"].get("nodeName", "") for pod in pods) == ["", "node-0", "node-1", "node-2"]
    (pending,) = [pod for pod in pods if "nodeName" not in pod["spec"]]
    (condition,) = pending["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("PodScheduled", "Unschedulable")
    assert "didn't match pod affinity/anti-affinity" in condition["message"]


async def test_a_staged_upgrade_keeps_every_acknowledged_message(kube: StandInKubernetes):
    kube.apply(NatsManifest(version="2.10.26", lame_duck_grace="1s", grace=20).manifests())
    await kube.wait_ready()
    client = await app(kube, *kube.pods())
    stream = client.jetstream(timeout=2)

    async def made() -> bool:
        with suppress(nats.errors.Error):
            await stream.add_stream(name="ORDERS", subjects=["orders"], num_replicas=3)
            return True
        return False

    await until("the stream", made, 20)
    kept: list[int] = []
    over = asyncio.Event()

    async def publish() -> None:
        number = 0
        while not over.is_set():
            number += 1
            with suppress(nats.errors.Error):  # a leader that goes; only what was acknowledged counts
                await stream.publish("orders", str(number).encode())
                kept.append(number)
            await asyncio.sleep(0.02)

    publishing = asyncio.create_task(publish())
    image = {"spec": {"containers": [{"name": "nats", "image": "nats:2.11.11"}]}}
    for partition in (2, 1, 0):
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
        change: Raw = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "nats"}}
        kube.apply([change | {"spec": {"updateStrategy": strategy, "template": image}}])
        await kube.wait_ready()
        versions = [(await varz(kube, pod))["version"] for pod in ("nats-0", "nats-1", "nats-2")]
        assert versions == ["2.10.26"] * partition + ["2.11.11"] * (3 - partition)

        async def current() -> bool:
            with suppress(nats.errors.Error):
                cluster = (await stream.stream_info("ORDERS")).cluster
                return bool(cluster and cluster.leader and all(peer.current for peer in cluster.replicas or ()))
            return False

        await until("all replicas current", current, 30)
    over.set()
    await publishing
    found = {
        int((await stream.get_msg("ORDERS", sequence)).data or b"0")
        for sequence in range(1, (await stream.stream_info("ORDERS")).state.last_seq + 1)
    }
    await client.close()
    assert len(kept) > 50
    assert set(kept) <= found


async def test_no_runbook_finds_anything_wrong_with_the_default_manifest(kube: StandInKubernetes, tmp_path: Path):
    kube.apply(NatsManifest().manifests())
    await kube.wait_ready()
    servers = [f"nats://{kube.pod_address(pod)}:4222" for pod in kube.pods()]
    reader = {"user": "app", "password": {"env": "APP_PASSWORD"}}
    system = {"user": "sys", "password": {"env": "SYS_PASSWORD"}}
    cluster = {
        "name": "prod",
        "channel": "C0123456789",
        "nats": {"servers": servers, "system": system, "accounts": {"APP": {"reader": reader}}},
        "kubernetes": {"kubeconfig": str(kube.kubeconfig()), "namespace": "nats"},
    }
    settings = tmp_path / "natsmedic.yaml"
    settings.write_text(yaml.safe_dump({"database": {"url": "sqlite:///natsmedic.db"}, "clusters": [cluster]}))
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("natsmedic")), "--config", str(settings), "diagnose"),
        env={**os.environ, "APP_PASSWORD": "app", "SYS_PASSWORD": "sys"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
