"""The bot beside a cluster in the stand-in Kubernetes, with the ServiceAccounts and roles that deploy/ ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from bot.lab.config import SYSWRITER
from bot.lab.kubernetes import StandInKubernetes
from bot.lab.kubernetes.front import ServiceFront
from bot.lab.whole import BotProcess, lab_slack, login
from bot.model import Json, JsonObject, part, parts

NAMESPACE, NAME = "nats", "nats"
DEPLOY: Final = Path(__file__).parents[2] / "deploy"


class KubernetesBot(BotProcess):
    """The bot beside a cluster in Kubernetes: with the ServiceAccounts and roles of deploy/, and the system account's writer for reloads."""

    def __init__(self, directory: Path, kube: StandInKubernetes, front: ServiceFront) -> None:
        super().__init__(directory, _Servers(NAME, (f"nats://127.0.0.1:{front.port}",)), lab_slack())
        grant(kube)
        reader = kube.kubeconfig(directory / "reader.kubeconfig", kube.account_token("natsmedic-reader"))
        applier = kube.kubeconfig(directory / "applier.kubeconfig", kube.account_token("natsmedic-applier"))
        self._kubernetes: JsonObject = {
            "kubeconfig": str(reader),
            "namespace": NAMESPACE,
            "statefulset": NAME,
            "applier": {"kubeconfig": str(applier)},
        }

    def settings(self) -> JsonObject:
        """Return the config with the Kubernetes side in it."""
        written = super().settings()
        cluster = parts(written, "clusters")[0]
        nats: Json = part(cluster, "nats") | {"system_writer": login(SYSWRITER)}
        whole: Json = cluster | {"nats": nats, "kubernetes": self._kubernetes}
        kept: Json = {"checkpoints": [{"file": "checkpoints.jsonl"}]}
        return written | {"clusters": [whole], "audit": kept}


@dataclass(frozen=True)
class _Servers:
    """What a bot must know of servers that somebody else runs."""

    name: str
    urls: tuple[str, ...]


def grant(kube: StandInKubernetes) -> None:
    """Apply the roles that deploy/ ships; the bot's own namespace is that of the servers here."""
    for file in ("kubernetes-reader.yaml", "kubernetes-applier.yaml"):
        text = (DEPLOY / file).read_text(encoding="utf-8").replace("namespace: natsmedic", f"namespace: {NAMESPACE}")
        kube.apply(list(yaml.safe_load_all(text)))
