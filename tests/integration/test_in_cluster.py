"""The bot as a pod of a real Kubernetes, from the manifests of deploy/, beside the NATS that it repairs; approved in the stand-in Slack on the host.

It needs an image of natsmedic on the nodes, which `NATSMEDIC_BOT_IMAGE` names. What differs from the manifests, besides names, is listed in `_changed`.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from bot.lab.mesh_drills import pump
from bot.lab.process import LabError
from bot.lab.slack import Message, StandInSlack
from bot.lab.whole import ADA, CHANNEL, BotProcess, lab_slack
from tests.integration.kubernetes_nats import objects as nats_objects
from tests.integration.kubernetes_support import (
    DEPLOY,
    IMAGE,
    PULL_POLICY,
    Cluster,
    Raw,
    give_volumes_back,
    new_namespace,
    open_cluster,
    rolled_out,
    storage_class,
    until,
)

BOT_IMAGE = os.environ.get("NATSMEDIC_BOT_IMAGE", "")

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not BOT_IMAGE, reason="NATSMEDIC_BOT_IMAGE names no image of natsmedic that the nodes have"),
]

SECRET = "in-cluster-alertmanager-secret"
SKIPPED = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
"""Which Kubernetes has from 1.30 on."""
OFFER, ENDED = "Name every pod in cluster.routes and reload", "Done and verified: "
CONTAINERS = 2
"""The bot, and its way to Slack."""
CONF = """
server_name: $POD_NAME
port: 4222
http_port: 8222
jetstream { store_dir: "/data", max_memory_store: 64Mi, max_file_store: 256Mi }
cluster { name: nats, port: 6222, routes = [ "nats://nats-headless:6222" ] }
accounts {
  SYS: { users: [ { user: sys, password: sys } ] }
  APP: { jetstream: enabled, users: [ { user: app, password: app } ] }
}
system_account: SYS
"""
FORWARD = """
import asyncio, sys
host, port = sys.argv[1], int(sys.argv[2])
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
async def took(reader, writer):
    other = await asyncio.open_connection(host, port)
    await asyncio.gather(pump(reader, other[1]), pump(other[0], writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(took, "127.0.0.1", port) as server:
        await server.serve_forever()
asyncio.run(main())
"""
"""Slack's stand-in listens on the host's loopback address only, and the bot talks to it without TLS only on its own."""


@asynccontextmanager
async def led_to_loopback(address: str, port: int) -> AsyncGenerator[None]:
    """Lead what pods send to this port of the node's address to the host's loopback address, where nobody listens there already."""

    async def took(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, other[1]), pump(other[0], writer))

    with suppress(OSError):
        _, writer = await asyncio.open_connection(address, port)
        writer.close()
        yield
        return
    async with await asyncio.start_server(took, address, port):
        yield


@dataclass
class Installed:
    """natsmedic and NATS, each in a namespace of its own."""

    cluster: Cluster
    slack: StandInSlack
    own: str
    nats: str

    async def pods(self) -> list[Raw]:
        _, found = await self.cluster.call("GET", f"/api/v1/namespaces/{self.own}/pods")
        return [raw for raw in found["items"] if not raw["metadata"].get("deletionTimestamp")]

    async def pod(self) -> Raw:
        (pod,) = await self.pods()
        return pod

    async def ready(self) -> bool:
        found = [status for pod in await self.pods() for status in pod["status"].get("containerStatuses", [])]
        return len(found) == CONTAINERS and all(status["ready"] for status in found)

    async def alert(self, name: str) -> httpx.Response:
        labels = {"alertname": name, "cluster": "prod", "severity": "critical"}
        alert = {
            "status": "firing",
            "labels": labels,
            "annotations": {},
            "startsAt": "2026-11-21T03:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "f1a2b3c4d5e6f708",
        }
        body = {"version": "4", "groupKey": "{}", "status": "firing", "receiver": "natsmedic", "alerts": [alert]}
        async with httpx.AsyncClient() as client:
            address = (await self.pod())["status"]["podIP"]
            return await client.post(
                f"http://{address}:8080/webhooks/alertmanager", json=body, headers={"Authorization": f"Bearer {SECRET}"}
            )

    async def wait(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Wait, and show the channel where it does not come true."""

        async def held() -> bool:
            return holds()

        try:
            await until(what, held, seconds)
        except TimeoutError as error:
            raise LabError(f"{error}\n{self.slack.render_text(CHANNEL)}") from error

    def offer(self, words: str) -> Message | None:
        """The message that offers what has these words, with its button."""
        found = (
            m
            for m in self.slack.messages(CHANNEL)
            if words in json.dumps(m.blocks) and "approve" in json.dumps(m.blocks)
        )
        return next(found, None)


def settings(slack: StandInSlack, nats: str, directory: Path) -> Raw:
    """What the lab's bot is told, with what a pod needs instead."""

    class Servers:
        name = "prod"
        urls = (f"nats://nats-headless.{nats}.svc.cluster.local:4222",)

    told = BotProcess(directory, Servers(), slack).settings()
    app, sys = {"user": "app", "password": "app"}, {"user": "sys", "password": "sys"}
    told["clusters"][0]["nats"] = {
        "servers": list(Servers.urls),
        "system": sys,
        "system_writer": sys,
        "accounts": {"APP": {"reader": app, "writer": app}},
    }
    token = "/var/run/natsmedic/applier/token"
    told["clusters"][0]["kubernetes"] = {
        "in_cluster": True,
        "namespace": nats,
        "statefulset": "nats",
        "applier": {"token_file": token},
    }
    told["database"] = {"url": "sqlite:////data/natsmedic.db"}
    told["webhooks"] = {"listen": "0.0.0.0:8080", "sources": {"alertmanager": {"bearer": SECRET}}}
    return told


def _changed(raw: Raw, own: str, nats: str, told: Raw, forwarded: tuple[str, int]) -> Raw:
    """A manifest for this test: names, settings, the image; no volume claim, as the testbed's volumes are its node's own folders, which fsGroup does not
    touch; and beside the bot a container that leads to Slack.
    """
    text = json.dumps(raw).replace('"namespace": "natsmedic"', f'"namespace": "{own}"')
    made: Raw = json.loads(text.replace('"namespace": "nats"', f'"namespace": "{nats}"'))
    if made["kind"].startswith("Cluster"):
        made["metadata"]["name"] += f"-{own}"
        if "roleRef" in made:
            made["roleRef"]["name"] += f"-{own}"
    if made["kind"] == "ConfigMap":
        made["data"]["natsmedic.yaml"] = yaml.safe_dump(told)
    if made["kind"] == "PodDisruptionBudget":
        made["apiVersion"] = "policy/v1beta1"
    if made["kind"] == "Deployment":
        pod = made["spec"]["template"]["spec"]
        of_ours = {"image": BOT_IMAGE, "imagePullPolicy": PULL_POLICY, "envFrom": []}
        pod["initContainers"] = [one | of_ours for one in pod["initContainers"]]
        bot = pod["containers"][0] | of_ours
        way = {
            "name": "way-to-slack",
            "image": BOT_IMAGE,
            "imagePullPolicy": PULL_POLICY,
            "command": ["/usr/local/bin/python3.11", "-c", FORWARD, forwarded[0], str(forwarded[1])],
            "securityContext": bot["securityContext"],
        }
        pod["containers"] = [bot, way]
        pod["volumes"] = [v for v in pod["volumes"] if v["name"] != "data"] + [{"name": "data", "emptyDir": {}}]
    return made


@asynccontextmanager
async def installed(tmp_path: Path) -> AsyncGenerator[Installed]:
    async with open_cluster() as cluster, lab_slack() as slack:
        own, nats = await new_namespace(cluster, "natsmedic-pod"), await new_namespace(cluster, "natsmedic-nats")
        _, nodes = await cluster.call("GET", "/api/v1/nodes")
        node = next(a["address"] for a in nodes["items"][0]["status"]["addresses"] if a["type"] == "InternalIP")
        port = int(slack.api_url.rsplit(":", 1)[1].split("/")[0])
        _, api = await cluster.call("GET", "/api/v1/namespaces/default/endpoints/kubernetes")
        (subset,) = api["subsets"]
        try:
            # The testbed's API server listens on its host's loopback address alone.
            async with (
                led_to_loopback(node, port),
                led_to_loopback(subset["addresses"][0]["ip"], subset["ports"][0]["port"]),
            ):
                for raw in nats_objects(nats, IMAGE, 3, CONF, await storage_class(cluster)):
                    await cluster.create(raw)
                await rolled_out(cluster, nats)
                told = settings(slack, nats, tmp_path)
                text = (DEPLOY / "manifests" / "natsmedic-approve.yaml").read_text(encoding="utf-8")
                for raw in yaml.safe_load_all(text):
                    if raw and raw["kind"] not in SKIPPED | {"PersistentVolumeClaim"}:
                        await cluster.create(_changed(raw, own, nats, told, (node, port)))
                made = Installed(cluster, slack, own, nats)
                await until("the bot's pod to be ready", made.ready, 90)
                yield made
        finally:
            await cluster.delete("Namespace", own)
            await give_volumes_back(cluster, nats)


async def test_a_bot_in_the_cluster_repairs_the_routes_of_the_nats_beside_it_once_a_person_approved(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path) as there:
        assert (await there.alert("KubeStatefulSetReplicasMismatch")).status_code == 202
        await there.wait("the offer of explicit routes", lambda: there.offer(OFFER) is not None, 90)
        offer = there.offer(OFFER)
        assert offer is not None
        assert (await there.slack.person.click(ADA, CHANNEL, offer.ts, "approve")).ok
        await there.wait("the form", lambda: there.slack.open_view(ADA) is not None, 15)
        assert (await there.slack.person.submit(ADA, {"reason": "one name for all is a lottery"})).ok
        await there.wait("the repair's end", lambda: ENDED in there.slack.render_text(CHANNEL), 300)
        changed = await there.cluster.get("ConfigMap", "nats-config", there.nats)
        assert [f"nats-{n}.nats-headless:6222" in changed["data"]["nats.conf"] for n in range(3)] == [True] * 3
        assert {entry["manager"] for entry in changed["metadata"]["managedFields"]} >= {"natsmedic"}
        statuses = (await there.pod())["status"]["containerStatuses"]
        assert [status["restartCount"] for status in statuses] == [0, 0]
