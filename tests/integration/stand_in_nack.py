"""What NACK's controller does with Consumers, in its two ways, on a stand-in Kubernetes: nack internal/controller/consumer_controller.go (its control
loop, which looks at every resource again and again) and controllers/jetstream/consumer.go (the older way, which looks when the spec has changed).
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import httpx
from nats.aio.client import Client

from bot.lab.http import http_client
from bot.lab.jetstream import ApiRefused, request
from bot.lab.kubernetes import StandInKubernetes
from tests.integration.kubernetes_support import Raw

API = "/apis/jetstream.nats.io/v1beta2"
MERGE = {"Content-Type": "application/merge-patch+json"}
LOOK_EVERY = 0.5
NOT_FOUND = 10014
_FIELDS = {
    "description": "description",
    "ackPolicy": "ack_policy",
    "optStartSeq": "opt_start_seq",
    "replicas": "num_replicas",
}
_POLICIES = {
    "byStartSequence": "by_start_sequence",
    "lastPerSubject": "last_per_subject",
    "byStartTime": "by_start_time",
}


def config_of(spec: Raw) -> Raw:
    """`consumerSpecToConfig`, of the fields that the tests use."""
    name = spec["durableName"]
    wanted = {"name": name, "durable_name": name} | {
        theirs: spec[ours] for ours, theirs in _FIELDS.items() if spec.get(ours)
    }
    policy = spec.get("deliverPolicy") or "all"
    return wanted | {"deliver_policy": _POLICIES.get(policy, policy)}


class StandInNack:
    """One controller. `did` says what it did, `errors` what JetStream refused."""

    def __init__(self, http: httpx.AsyncClient, client: Client, *, control_loop: bool) -> None:
        self._http = http
        self._client = client
        self._control_loop = control_loop
        self._seen: dict[str, Raw] = {}
        self.did: list[str] = []
        self.errors: list[str] = []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            answer = await self._http.get(f"{API}/consumers")
            for resource in answer.json()["items"]:
                await self._look(resource)
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self, resource: Raw) -> None:
        meta, spec = resource["metadata"], resource["spec"]
        key = f"{meta['namespace']}/{meta['name']}"
        if not self._control_loop and self._seen.get(key) == spec:
            return
        self._seen[key] = spec
        status: Raw = {"observedGeneration": meta["generation"], "conditions": [{"type": "Ready", "status": "True"}]}
        observed = resource.get("status", {}).get("observedGeneration")
        try:
            await self._reconcile(spec, changed=observed != meta["generation"])
        except ApiRefused as refused:
            self.errors.append(str(refused))
            ready = {"type": "Ready", "status": "False", "reason": "Errored", "message": str(refused)}
            status = {"observedGeneration": observed, "conditions": [ready]}
        if status != resource.get("status"):
            path = f"{API}/namespaces/{meta['namespace']}/consumers/{meta['name']}/status"
            (await self._http.patch(path, json={"status": status}, headers=MERGE)).raise_for_status()

    async def _reconcile(self, spec: Raw, *, changed: bool) -> None:
        stream, name = spec["streamName"], spec["durableName"]
        try:
            there = await request(self._client, f"CONSUMER.INFO.{stream}.{name}")
        except ApiRefused as refused:
            if refused.code != NOT_FOUND:
                raise
            there = None
        if there is None:
            body: Raw = {"stream_name": stream, "action": "create", "config": config_of(spec)}
        elif changed and not spec.get("preventUpdate"):
            body = {"stream_name": stream, "action": "update", "config": there["config"] | config_of(spec)}
        else:
            return
        await request(self._client, f"CONSUMER.CREATE.{stream}.{name}", body)
        self.did.append(f"{body['action']} {name}")


@asynccontextmanager
async def nack_runs(
    kube: StandInKubernetes, client: Client, *, control_loop: bool
) -> AsyncGenerator[tuple[httpx.AsyncClient, StandInNack]]:
    """NACK, and an administrator's way to its resources."""
    headers = {"Authorization": f"Bearer {kube.token}"}
    async with http_client(10.0, base_url=kube.url, headers=headers) as http:
        nack = StandInNack(http, client, control_loop=control_loop)
        running = asyncio.create_task(nack.run())
        try:
            yield http, nack
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
