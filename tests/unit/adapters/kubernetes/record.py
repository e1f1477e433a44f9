"""Records the fixtures of this folder from a real cluster: `python -m tests.unit.adapters.kubernetes.record NAMESPACE NAME` from the project's root, with KUBECONFIG set.

Everything the reader asks is kept as it was answered, under the namespace `queues`, without the paths of the cluster's host.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from bot.adapters.kubernetes.api import Api
from bot.adapters.kubernetes.reader import Look
from bot.settings.clusters import KubernetesSettings
from tests.integration.store_records import NOW
from tests.unit.adapters.kubernetes.recorded import FIXTURES, Response

IDENTITIES = {"machineID", "systemUUID", "bootID"}


class RecordingClient(ApiClient):
    """Remembers what was answered."""

    kept: dict[str, Any]

    async def call_api(self, method: str, url: str, *rest: Any, **more: Any) -> Any:
        answer = await super().call_api(method, url, *rest, **more)
        text = await answer.response.read()
        path = url.removeprefix(self.configuration.host).partition("?")[0]
        self.kept[path] = {"status": answer.status, "body": json.loads(text)}
        return SimpleNamespace(response=Response(answer.status, text))


def without_traces_of_the_host(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_traces_of_the_host(item) for key, item in value.items() if key not in IDENTITIES}
    if isinstance(value, list):
        return [without_traces_of_the_host(item) for item in value]
    return re.sub(r"/var/tmp/[^\"]*", "/volume", value) if isinstance(value, str) else value


async def record(namespace: str, name: str) -> None:
    configuration = Configuration()
    await load_kube_config(os.environ["KUBECONFIG"], client_configuration=configuration, persist_config=False)
    async with RecordingClient(configuration) as client:
        client.kept = {}
        settings = KubernetesSettings(namespace=namespace, read_config_secret=True)
        await Look(Api(client, 30), settings, NOW).run()
    text = json.dumps(without_traces_of_the_host(client.kept), separators=(",", ":"), sort_keys=True)
    text = re.sub(rf"\b{namespace}\b", "queues", text)
    await asyncio.to_thread((FIXTURES / f"{name}.json").write_text, text + "\n")


if __name__ == "__main__":
    Path(FIXTURES).mkdir(exist_ok=True)
    asyncio.run(record(sys.argv[1], sys.argv[2]))
