"""Records the `overload_*` fixtures from real servers: `python -m tests.unit.runbooks.record_overload` from the project's root.

Every file is what `NatsReaders.gather(RUNBOOK.needs, again=always(3, 0.7))` returned over the system account, made small:
the lab's folder is `/lab`, empty queues are left out of IPQUEUESZ (as servers do themselves without `all`), of the consumers that the flood lists `KEPT`
stay, and of the later rounds stays what a check compares over time (`Check.trend`).
- `overload_idle_<version>`: three servers, nothing on them
- `overload_flood_<version>`: drill api_flood (a listing loop that outruns the meta leader), and four MQTT devices on n0
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.unit.runbooks.record import FIXTURES, as_json

from bot.lab import overload_drills
from bot.lab.servers import LabCluster
from bot.model import Snapshot
from runbooks.overload import RUNBOOK
from tests.integration.nats_support import reading, settings_of
from tests.rounds import always

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
IDLE = "2.15.1"
DEVICES = 4
KEPT = 2
TREND = frozenset(endpoint for check in RUNBOOK.checks for endpoint in check.trend)


async def gathered(cluster: LabCluster) -> Snapshot:
    async with reading(settings_of(cluster, timeout=3.0)) as readers:
        return await readers.gather(RUNBOOK.needs, again=always(3, 0.7))


def small(raw: dict[str, Any]) -> dict[str, Any]:
    raw["samples"] = [s for s in raw["samples"] if s["round"] == 0 or s["endpoint"] in TREND]
    for sample in raw["samples"]:
        data = sample["data"] or {}
        if sample["endpoint"] == "IPQUEUESZ":
            sample["data"] = {name: row for name, row in data.items() if row != {"pending": 0}}
        for account in data.get("account_details") or [] if sample["endpoint"] == "JSZ" else []:
            for stream in account.get("stream_detail") or []:
                if stream["name"] == overload_drills.STREAM:
                    for key in ("consumer_detail", "consumer_raft_groups"):
                        stream[key] = (stream.get(key) or [])[:KEPT]
    return raw


async def keep(name: str, snapshot: Snapshot, folder: str) -> None:
    text = json.dumps(small(as_json(snapshot)), separators=(",", ":")).replace(folder, "/lab")
    (FIXTURES / f"overload_{name}.json").write_text(text + "\n")


async def main() -> None:
    for version in VERSIONS:
        with tempfile.TemporaryDirectory() as folder:
            async with LabCluster(Path(folder), version, mqtt=True) as cluster:
                if version == IDLE:
                    await keep(f"idle_{version}", await gathered(cluster), folder)
                async with (
                    overload_drills.mqtt_devices(cluster, {"n0": DEVICES}),
                    overload_drills.api_flood(cluster, backlog=3000, growth=800),
                ):
                    await keep(f"flood_{version}", await gathered(cluster), folder)


if __name__ == "__main__":
    asyncio.run(main())
