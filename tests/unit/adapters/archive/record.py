"""Records the fixtures of this folder with the real peer: `python -m tests.unit.adapters.archive.record NATS [VERSION]` from the project's root, NATS being the
`nats` command (0.4 or newer; `github.com/nats-io/natscli/nats`).

`audit_VERSION.zip` is what `nats audit gather` wrote of three lab servers with an R3 and an R1 stream and a durable on each, without the files that natsmedic
does not read, the user's name and the folder of the lab.
"""

import asyncio
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from bot.lab import drills
from bot.lab.config import SYS
from bot.lab.servers import LabCluster

FIXTURES = Path(__file__).parent / "fixtures"
MANIFEST = "capture/misc/manifest.json"
METADATA = "capture/misc/audit_gather_metadata.json"
UNREAD = {
    *("exp_variables", "subs", "profile", "account_connections", "account_leafs", "account_subs"),
    *("account_jetstream_info", "account_info"),
}


async def gather(nats: str, version: str, folder: Path) -> Path:
    target = folder / "audit.zip"
    async with LabCluster(folder / "lab", version) as cluster:
        client = await cluster.connect()
        for stream, replicas, consumer in (("ORDERS", 3, "worker"), ("SINGLE", 1, "only")):
            await drills.create_stream(client, stream, replicas)
            await drills.create_consumer(client, stream, consumer)
        await drills.publish(client, "ORDERS", 5)
        login = ("--no-context", "-s", cluster.urls[0], "--user", SYS.user, "--password", SYS.password)
        what = ("audit", "gather", "--no-server-profiles", "--no-progress", f"--output={target}")
        process = await asyncio.create_subprocess_exec(nats, *login, *what, env={"HOME": str(folder)})
        if await process.wait():
            raise SystemExit("nats audit gather failed")
        await client.close()
    return target


def thin(source: Path, target: Path, folder: str) -> None:
    with zipfile.ZipFile(source) as opened, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        manifest: dict[str, list[dict[str, str]]] = json.loads(opened.read(MANIFEST))
        kept = {path: tags for path, tags in manifest.items() if not UNREAD & {tag["Value"] for tag in tags}}
        kept.pop("capture/misc/audit_gather_log.log")
        for path in kept:
            value: Any = json.loads(opened.read(path).decode().replace(folder, "/lab"))
            if path == METADATA:
                value["user_name"] = "lab"
            out.writestr(path, json.dumps(value, separators=(",", ":")))
        out.writestr(MANIFEST, json.dumps(kept, indent=2))


async def main(nats: str, version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        thin(await gather(nats, version, Path(folder)), FIXTURES / f"audit_{version}.zip", folder)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "2.11.11"))
