"""A consumer that NACK keeps is repaired by its owner's hands: the proposal's own files and commands, on real servers and a stand-in Kubernetes with NACK."""

import asyncio
import shlex
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from nats.aio.client import Client

from bot.adapters.clock import SystemClock
from bot.adapters.cluster import ClusterReaders
from bot.adapters.kubernetes import KubernetesApiReader
from bot.flow.examination import examine
from bot.lab import drills
from bot.lab.http import http_client
from bot.lab.jetstream import request
from bot.lab.kubernetes import StandInKubernetes
from bot.lab.servers import LabCluster
from bot.model import Finding, Focus, Severity, Unknown
from bot.ports import Readers
from bot.runbook import Draft
from bot.settings.clusters import KubernetesSettings
from runbooks.stuck_consumer import GROUP_CHECKS, RUNBOOK
from tests.integration.kubernetes_objects import nack_definition
from tests.integration.kubernetes_support import READER_FILE, Raw, until
from tests.integration.nats_support import connected, settings_of
from tests.integration.stand_in_nack import API, MERGE, nack_runs
from tests.rounds import always

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

VERSION = "2.11.11"
FOCUS = Focus(account="APP", stream="ORDERS", consumer="worker")
QUICK = RUNBOOK.values({"settle": 2.0})
"""The damage of the drill is there before anybody looks."""


def consumer() -> Raw:
    spec = {"streamName": "ORDERS", "durableName": "worker", "ackPolicy": "explicit", "deliverPolicy": "all"}
    return {
        "apiVersion": "jetstream.nats.io/v1beta2",
        "kind": "Consumer",
        "metadata": {"name": "orders-worker", "namespace": "nats"},
        "spec": spec,
    }


def installed(kube: StandInKubernetes) -> None:
    kube.apply([nack_definition("streams", "Stream"), nack_definition("consumers", "Consumer"), consumer()])


async def converged(kube: StandInKubernetes) -> None:
    """NACK has seen this generation long ago: it does not send it again."""
    async with http_client(base_url=kube.url, headers={"Authorization": f"Bearer {kube.token}"} | MERGE) as http:
        path = f"{API}/namespaces/nats/consumers/orders-worker/status"
        (await http.patch(path, json={"status": {"observedGeneration": 1}})).raise_for_status()


def reader_of(kube: StandInKubernetes, file: str) -> KubernetesApiReader:
    """A reader with the roles that this text ships."""
    kube.apply([raw for raw in yaml.safe_load_all(file.replace("namespace: natsmedic", "namespace: nats")) if raw])
    kubeconfig = kube.kubeconfig(token=kube.account_token("natsmedic-reader"))
    return KubernetesApiReader(KubernetesSettings(kubeconfig=kubeconfig, namespace="nats"), SystemClock())


@asynccontextmanager
async def broken(tmp_path: Path) -> AsyncGenerator[tuple[LabCluster, Client, StandInKubernetes, Readers]]:
    """`group node missing` on n1 (drills.md 3.3), its cause gone; NACK is installed and has made the consumer."""
    async with (
        LabCluster(tmp_path / "nats", VERSION, max_ha_assets={"n1": 4}) as cluster,
        StandInKubernetes(tmp_path / "kubernetes") as kube,
        connected(settings_of(cluster)) as (readers, _),
    ):
        installed(kube)
        await converged(kube)
        drill = await drills.ghost_split(cluster)
        await drills.remove_decoys(cluster, drill)
        client = await cluster.connect()
        try:
            yield (
                cluster,
                client,
                kube,
                ClusterReaders(readers, reader_of(kube, READER_FILE.read_text()), SystemClock()),
            )
        finally:
            await client.close()


async def judged(readers: Readers) -> tuple[list[Finding], list[Draft]]:
    seen = examine(await readers.gather(RUNBOOK.needs, again=always(2, 2.5)), RUNBOOK, QUICK, FOCUS)
    return list(seen.findings), [proposed.draft for proposed in seen.proposed]


def recreation(drafts_made: list[Draft]) -> Draft:
    found = [draft for draft in drafts_made if "at its position" in draft.title]
    assert len(found) == 1, [(draft.title, draft.guidance) for draft in drafts_made]
    return found[0]


async def follow(http: httpx.AsyncClient, client: Client, draft: Draft) -> None:
    """Do what the proposal says, to the letter."""
    files = {patch.name: patch.text for patch in draft.patches}
    for line in draft.guidance:
        for words in filter(None, map(command_in, (line, line.rpartition(": ")[2]))):
            match words:
                case ["kubectl", "patch", plural, name, "-n", namespace, "--type=merge", change]:
                    text = files[change.partition("=")[2]]
                    path = f"{API}/namespaces/{namespace}/{plural.partition('.')[0]}/{name}"
                    answer = await http.patch(path, json=yaml.safe_load(text), headers=MERGE)
                    answer.raise_for_status()
                    await asyncio.sleep(1.5)
                case ["nats", "consumer", "rm", stream, name, "--force"]:
                    await request(client, f"CONSUMER.DELETE.{stream}.{name}")
                case _:
                    continue
            break


def command_in(line: str) -> list[str] | None:
    try:
        return shlex.split(line.partition("   ")[0])
    except ValueError:
        return None


async def position(client: Client) -> int:
    return (await request(client, "CONSUMER.INFO.ORDERS.worker"))["ack_floor"]["stream_seq"]


@pytest.mark.parametrize("control_loop", [True, False], ids=["control loop", "the older way"])
async def test_the_owners_way_recreates_the_consumer_at_its_position(tmp_path: Path, control_loop: bool):
    async with (
        broken(tmp_path) as (_, client, kube, readers),
        nack_runs(kube, client, control_loop=control_loop) as (http, nack),
    ):
        _, offered = await judged(readers)
        draft = recreation(offered)
        assert draft.stages == ()
        assert "NACK's resource nats/orders-worker" in draft.title
        await follow(http, client, draft)

        async def created() -> bool:
            return "create worker" in nack.did

        await until("NACK to create the consumer", created, 10)
        info = await request(client, "CONSUMER.INFO.ORDERS.worker")
        assert (info["config"]["deliver_policy"], info["config"]["opt_start_seq"]) == ("by_start_sequence", 51)
        assert nack.errors == []

        async def healthy() -> bool:
            found, _ = await judged(readers)
            return {f.severity for f in found if f.check in GROUP_CHECKS} == {Severity.OK}

        await until("every member to have its node", healthy, 30)
        taken = await drills.fetch(client, "ORDERS", "worker", 200)
        assert min(taken) == 51
        assert len(taken) == 150


async def test_a_new_start_without_the_held_update_is_what_jetstream_refuses(tmp_path: Path):
    async with (
        LabCluster(tmp_path / "nats", VERSION) as cluster,
        StandInKubernetes(tmp_path / "kubernetes") as kube,
    ):
        client = await cluster.connect()
        try:
            await drills.create_stream(client, "ORDERS", 3)
            installed(kube)
            async with nack_runs(kube, client, control_loop=True) as (http, nack):

                async def created() -> bool:
                    return nack.did == ["create worker"]

                await until("the consumer", created, 10)
                change = {"spec": {"deliverPolicy": "byStartSequence", "optStartSeq": 51}}
                path = f"{API}/namespaces/nats/consumers/orders-worker"
                (await http.patch(path, json=change, headers=MERGE)).raise_for_status()

                async def refused() -> bool:
                    return any("10012" in error for error in nack.errors)

                await until("JetStream's refusal", refused, 10)
        finally:
            await client.close()


async def test_without_the_right_to_list_them_the_repair_is_refused_and_names_it(tmp_path: Path):
    async with broken(tmp_path) as (cluster, _, kube, _readers), connected(settings_of(cluster)) as (nats, _):
        mine = "  - { apiGroups: [jetstream.nats.io], resources: [streams, consumers], verbs: [list] }\n"
        roles = READER_FILE.read_text()
        assert mine in roles
        readers = ClusterReaders(nats, reader_of(kube, roles.replace(mine, "")), SystemClock())
        _, offered = await judged(readers)
        draft = recreation(offered)
        assert (draft.stages, draft.patches) == ((), ())
        missing = "no role grants it `list` on `consumers.jetstream.nats.io`"
        assert any(missing in line for line in draft.guidance)


async def test_the_shipped_reader_lists_nacks_resources_and_may_not_change_them(kube: StandInKubernetes):
    reader = reader_of(kube, READER_FILE.read_text())
    assert (await reader.gather()).consumer_resources == ()
    installed(kube)
    facts = await reader.gather()
    assert not isinstance(facts.consumer_resources, Unknown)
    assert [(r.name, r.consumer) for r in facts.consumer_resources] == [("orders-worker", "worker")]
    headers = {"Authorization": f"Bearer {kube.account_token('natsmedic-reader')}"} | MERGE
    async with http_client(base_url=kube.url, headers=headers) as http:
        path = f"{API}/namespaces/nats/consumers/orders-worker"
        assert (await http.patch(path, json={"spec": {}})).status_code == 403


async def test_the_stand_in_serves_them_once_they_are_defined_and_takes_no_strategic_patch(
    kube: StandInKubernetes, http: httpx.AsyncClient
):
    path = f"{API}/namespaces/nats/consumers/orders-worker"
    assert (await http.get(path)).status_code == 404
    assert (await http.get("/apis/jetstream.nats.io/v1beta2")).status_code == 404
    installed(kube)
    names = {r["name"] for r in (await http.get("/apis/jetstream.nats.io/v1beta2")).json()["resources"]}
    assert {"streams", "streams/status", "consumers", "consumers/status"} == names
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    assert (await http.patch(path, json={"spec": {}}, headers=strategic)).status_code == 415
    made = (await http.patch(path, json={"spec": {"optStartSeq": 5}}, headers=MERGE)).json()
    assert (made["metadata"]["generation"], made["spec"]["optStartSeq"]) == (2, 5)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
async def test_kubectl_takes_the_patch_file_as_it_is(tmp_path: Path):
    async with StandInKubernetes(tmp_path / "kubernetes", open_door=True) as kube:
        await _patched_by_kubectl(tmp_path, kube)


async def _patched_by_kubectl(tmp_path: Path, kube: StandInKubernetes) -> None:
    installed(kube)
    (tmp_path / "worker-position.yaml").write_text(
        "spec:\n  preventUpdate: true\n  optStartTime: null\n  optStartSeq: 51\n"
    )
    line = (
        "kubectl patch consumers.jetstream.nats.io orders-worker -n nats --type=merge --patch-file=worker-position.yaml"
    )
    ran = await asyncio.create_subprocess_exec(
        *shlex.split(line), cwd=tmp_path, env={"KUBECONFIG": str(kube.kubeconfig()), "PATH": "/usr/bin:/usr/local/bin"}
    )
    assert await ran.wait() == 0
    made = kube.get("Consumer", "orders-worker", api_version="jetstream.nats.io/v1beta2")
    assert made is not None
    assert made["spec"] == consumer()["spec"] | {"preventUpdate": True, "optStartSeq": 51}
