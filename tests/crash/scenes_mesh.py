"""Scenes of the actions that change which servers there are and how they reach each other."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import nats
from nats.aio.client import Client

from bot.actions.kubernetes_scale_out import ScaleOut
from bot.actions.mesh_repair import compose_routes
from bot.actions.nats_reload import Reload
from bot.actions.scale import compose_scale_out
from bot.lab.http import http_client
from bot.lab.jetstream import ApiRefused, request
from bot.lab.kubernetes.manifests import CLAIM, CLIENT_PORT, MONITOR_PORT
from bot.model import JsonObject
from tests.crash.kubernetes_lab import CONFIG_DELAY, SERVERS, KubernetesLab
from tests.crash.scene import Lab, Scene, Situation, Where, until

CONFIG_MAP = "nats-config"
LOADED = "Reloaded: cluster routes"
"""What a server logs for each reload that changed its routes (`routesOption.Apply` in server/reload.go)."""
LOAD = "SERVER."
"""How the request to load nats.conf begins at the door; nothing else that goes through it in these scenes does."""
NEW_SERVER = f"nats-{SERVERS}"
NO_MEMBER = 10044
"""JSClusterServerNotMemberErr (server/errors.json)."""
RELOADS = ("nats.reload",) * SERVERS


@dataclass(frozen=True)
class Routes:
    """The list of routes is completed, and every server loads it."""

    name: str = "complete the routes"
    kinds: Sequence[str] = ("kubernetes.routes", *(Reload.kind for _ in range(SERVERS)))
    where: Where = Where.KUBERNETES
    share: int = 1

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        del number
        assert isinstance(lab, KubernetesLab)
        await lab.whole()
        await configured(lab, SERVERS - 1)
        before = conf_of(lab)
        stages = compose_routes(*await lab.look()).stages
        order = [str(params["server"]) for kind, params in stages if kind == Reload.kind]
        conf = f"PATCH configmaps/{CONFIG_MAP}"
        since, loads = len(lab.kube.writes), {server: loaded(lab, server) for server in order}

        def effects() -> list[str]:
            """A file is written, and then loaded by one server after the other; what came second belongs to the way back."""
            written = lab.written(since)
            counted = {server: loaded(lab, server) - loads[server] for server in order}
            rounds = range(max(len(written), *counted.values()))
            found: list[str] = []
            for n in rounds:
                found += [*written[n : n + 1], *(f"{server} loads" for server in order if counted[server] > n)]
            return found

        async def problem() -> str:
            short = [server for server in order if len(await routes_of(lab, server)) != SERVERS]
            return f"{', '.join(short)} runs without the whole list" if short else ""

        async def untouched() -> str:
            return "" if conf_of(lab) == before else "nats.conf differs from before"

        async with lab.counted() as proxy:
            try:
                yield Situation(
                    cluster=lab.settings(proxy),
                    door=proxy,
                    stages=stages,
                    expected=[[conf], *([f"{server} loads"] for server in order)],
                    effects=effects,
                    problem=problem,
                    untouched=untouched,
                    lose=lambda what: proxy.lose.update([LOAD]) if what.endswith(" loads") else lab.lose(what),
                    back=[[conf, *(f"{server} loads" for server in order[:done])] for done in range(len(order) + 1)],
                )
            finally:
                lab.kube.faults.clear()
                await configured(lab, SERVERS)


@dataclass(frozen=True)
class Scale:
    """The cluster gets a fourth server, whose route the others have already."""

    name: str = "add a server"
    kinds: Sequence[str] = (ScaleOut.kind,)
    where: Where = Where.KUBERNETES
    share: int = 1

    @asynccontextmanager
    async def open(self, lab: Lab, number: int) -> AsyncGenerator[Situation]:
        del number
        assert isinstance(lab, KubernetesLab)
        await lab.whole()
        await configured(lab, SERVERS + 1)
        before = lab.object("StatefulSet")
        stages = compose_scale_out(*await lab.look(), SERVERS + 1).stages
        since = len(lab.kube.writes)

        def replicas() -> int:
            return int(lab.object("StatefulSet")["spec"]["replicas"])

        async def problem() -> str:
            return "" if replicas() == SERVERS + 1 else f"it asks for {replicas()} pods"

        async def untouched() -> str:
            return "" if replicas() == SERVERS else f"it asks for {replicas()} pods"

        async with lab.counted() as proxy:
            try:
                yield Situation(
                    cluster=lab.settings(proxy),
                    door=proxy,
                    stages=stages,
                    expected=[["PATCH statefulsets/nats"]],
                    back=[["PATCH statefulsets/nats"]],
                    effects=lambda: lab.written(since),
                    problem=problem,
                    untouched=untouched,
                    lose=lab.lose,
                )
            finally:
                lab.kube.faults.clear()
                await _without_the_new_one(lab, before)


async def configured(lab: KubernetesLab, routes: int) -> None:
    """Give every server so many routes, and see that it runs with them."""
    text = replace(lab.manifest, route_pods=routes).conf()
    raw = lab.object("ConfigMap", CONFIG_MAP)
    raw["data"]["nats.conf"] = text
    raw["metadata"].pop("annotations", None)
    await lab.put("ConfigMap", raw)

    async def run_with_them() -> bool:
        short = [pod for pod in lab.kube.pods() if len(await routes_of(lab, pod)) != routes]
        for pod in short:
            os.kill(lab.kube.pod_pid(pod), signal.SIGHUP)
        await asyncio.sleep(2 * CONFIG_DELAY if short else 0)
        return not short

    await until(f"{routes} routes of every server", run_with_them)


def conf_of(lab: KubernetesLab) -> str:
    return str(lab.object("ConfigMap", CONFIG_MAP)["data"]["nats.conf"])


async def routes_of(lab: KubernetesLab, pod: str) -> Sequence[str]:
    """The routes that a server says it runs with."""
    async with http_client() as http:
        answer = await http.get(f"http://{lab.kube.pod_address(pod)}:{MONITOR_PORT}/varz")
    cluster: JsonObject = answer.json()["cluster"]
    return cluster.get("urls") or ()


def loaded(lab: KubernetesLab, pod: str) -> int:
    """How often a server has taken other routes than it had."""
    return lab.kube.pod_log(pod).count(LOADED)


async def _without_the_new_one(lab: KubernetesLab, before: JsonObject) -> None:
    """Take the new server away, out of the meta group too, with all that it stored."""
    await lab.put("StatefulSet", before)

    async def gone() -> bool:
        return NEW_SERVER not in lab.kube.pods()

    await until(f"the end of {NEW_SERVER}", gone, 90.0)
    url = f"nats://{lab.kube.pod_address('nats-0')}:{CLIENT_PORT}"
    client = await nats.connect(url, user="sys", password="sys")

    try:
        if lab.kube.get("PersistentVolumeClaim", f"{CLAIM}-{NEW_SERVER}") is not None:
            await _counted_out(lab, client)
            await lab.delete(f"/api/v1/namespaces/{lab.kube.namespace}/persistentvolumeclaims/{CLAIM}-{NEW_SERVER}")
    finally:
        await client.close()
    await configured(lab, SERVERS)


async def _counted_out(lab: KubernetesLab, client: Client) -> None:
    snapshot, _ = await lab.look()
    if any(NEW_SERVER in str(raw) for raw in snapshot.servers):
        return
    lab.spent = True  # for five minutes its servers let no server of this name join again (reference/nats.md 1.D)
    try:
        await request(client, "SERVER.REMOVE", {"peer": NEW_SERVER})
    except ApiRefused as refused:
        if refused.code != NO_MEMBER:  # it never joined where the way back came before that
            raise


SCENES: Sequence[Scene] = (Routes(), Scale())
