"""Records an archive of the real peer: what `nats audit gather` (natscli 0.4 or newer) writes of a lab cluster, thinned out."""

import asyncio
import json
import shutil
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from bot.lab import drills
from bot.lab.config import SYS
from bot.lab.servers import LabCluster, LabError

FIXTURES: Final = Path(__file__).parent / "unit" / "adapters" / "archive" / "fixtures"
MANIFEST: Final = "capture/misc/manifest.json"
METADATA: Final = "capture/misc/audit_gather_metadata.json"
LOG: Final = "capture/misc/audit_gather_log.log"
UNREAD: Final = {
    *("exp_variables", "subs", "profile", "account_connections", "account_leafs", "account_subs"),
    *("account_jetstream_info", "account_info"),
}
"""Artifact types that natsmedic does not read."""


def peer_is_missing() -> str:
    """Why the peer can't be asked; empty where it can."""
    return "" if shutil.which("nats") else "there is no nats command (github.com/nats-io/natscli/nats, 0.4 or newer)"


async def peer(cluster: LabCluster, keep: Callable[..., Awaitable[None]]) -> None:
    """Write `audit_VERSION.zip` of an R3 and an R1 stream with a durable each, without what is not read, the user's name and the lab's folder."""
    del keep  # the peer writes its own archive
    client = await cluster.connect()
    for stream, replicas, consumer in (("ORDERS", 3, "worker"), ("SINGLE", 1, "only")):
        await drills.create_stream(client, stream, replicas)
        await drills.create_consumer(client, stream, consumer)
    await drills.publish(client, "ORDERS", 5)
    gathered = cluster.directory / "audit.zip"
    login = ("--no-context", "-s", cluster.urls[0], "--user", SYS.user, "--password", SYS.password)
    what = ("audit", "gather", "--no-server-profiles", "--no-progress", f"--output={gathered}")
    process = await asyncio.create_subprocess_exec("nats", *login, *what, env={"HOME": str(cluster.directory)})
    if await process.wait():
        raise LabError("nats audit gather failed")
    await client.close()
    _thin(gathered, FIXTURES / f"audit_{cluster.version(cluster.names[0])}.zip", str(cluster.directory))


def _thin(source: Path, target: Path, folder: str) -> None:
    with zipfile.ZipFile(source) as opened, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        manifest: dict[str, list[dict[str, str]]] = json.loads(opened.read(MANIFEST))
        kept = {path: tags for path, tags in manifest.items() if not UNREAD & {tag["Value"] for tag in tags}}
        kept.pop(LOG)
        for path in kept:
            value: Any = json.loads(opened.read(path).decode().replace(folder, "/lab"))
            if path == METADATA:
                value["user_name"] = "lab"
            out.writestr(path, json.dumps(value, separators=(",", ":")))
        out.writestr(MANIFEST, json.dumps(kept, indent=2))
