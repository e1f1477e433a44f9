"""Records the fixtures of the unit tests from real servers: `python -m tests.record [--version V ...] [SCENARIO ...]` from the project's root.

A recording is a snapshot as product code writes and reads it (`bot.bootstrap.archive_of`, `snapshot_of_archive`): every endpoint, every round. Only the lab's
folder in it is replaced, and the whole archive is packed with xz, which finds what three servers say alike. The scenarios stand in `tests/scenarios.py`;
without a name all are recorded, without `--version` each on its own versions.
"""

import argparse
import asyncio
import io
import logging
import lzma
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import orjson
from nats.js.errors import NoStreamResponseError

from bot.adapters.archive import content_digest
from bot.adapters.archive.content import Content, content_of, snapshot_of
from bot.bootstrap import archive_of, snapshot_of_archive
from bot.lab.config import APP
from bot.lab.servers import LabCluster, LabError
from bot.model import Snapshot
from tests.integration.nats_support import credentials, reading, settings_of
from tests.rounds import always
from tests.scenarios import SCENARIOS, Scenario
from tests.unit.snapshots import recording

TIMEOUT: Final = 2.0
"""Seconds a silent server is waited for; a lab's servers answer in milliseconds."""

LAB: Final = "/lab"
"""Stands for the folder that the lab ran in."""


async def record(name: str, scenario: Scenario, version: str) -> None:
    """Bring a scenario about on one version and keep what its cluster looks like at the moments that it names."""
    with tempfile.TemporaryDirectory() as folder:
        async with LabCluster(
            Path(folder), version, scenario.size, max_ha_assets=scenario.max_ha_assets, mqtt=scenario.mqtt
        ) as cluster:

            async def keep(suffix: str = "") -> None:
                write(await gather(cluster, scenario), f"{name}{suffix}_{version}", str(cluster.directory))

            await scenario.make(cluster, keep)


async def gather(cluster: LabCluster, scenario: Scenario) -> Snapshot:
    """Return everything that natsmedic can read of the cluster."""
    urls = [cluster.monitor_url(server) for server in cluster.names]
    source: dict[str, Any] = {"system": None, "monitoring": urls} if scenario.over_http else {}
    if scenario.probed:
        source["accounts"] = {APP.account: {"reader": credentials(APP)}}
    async with reading(settings_of(cluster, timeout=TIMEOUT, **source)) as readers:
        snapshot = await readers.gather(scenario.endpoints, again=always(scenario.rounds, scenario.interval))
        if scenario.probed:
            snapshot = await readers.probe_delivery(snapshot, lambda _: None)
    if scenario.trim is None:
        return snapshot
    raw = content_of(snapshot).document()
    scenario.trim(raw)
    return snapshot_of(Content.model_validate(raw))


def write(snapshot: Snapshot, name: str, folder: str) -> None:
    """Write a recording. Raises `ValueError` where it is read back as something else than what was gathered."""
    archive = archive_of(snapshot)
    if content_digest(snapshot_of_archive(archive)) != content_digest(snapshot):
        raise ValueError(f"{name} does not survive its own archive")
    packed, plain = recording(name), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as out:
        for entry in source.infolist():
            text = source.read(entry).decode().replace(folder, LAB)
            out.writestr(zipfile.ZipInfo(entry.filename, entry.date_time), orjson.dumps(orjson.loads(text)))
    packed.write_bytes(lzma.compress(plain.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{packed.name}: {packed.stat().st_size / 1024:.1f} KiB")


def main(wanted: argparse.Namespace) -> None:
    """Record what is asked for, one cluster after another."""
    for name in wanted.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        if reason := scenario.hindrance():
            print(f"{name} stays as it is: {reason}")
            continue
        for version in wanted.version or scenario.versions:
            try:
                asyncio.run(record(name, scenario, version))
            except (LabError, TimeoutError, NoStreamResponseError) as missed:
                # As with tests, a lab that misses a deadline gets a second run.
                print(f"{name} on {version} once more: {missed}")
                asyncio.run(record(name, scenario, version))


def arguments() -> argparse.Namespace:
    """Return what stands on the command line."""
    listed = "\n".join(
        f"  {name:<18}{scenario.about} ({', '.join(scenario.versions)})" for name, scenario in SCENARIOS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m tests.record",
        description=f"Records snapshots of real clusters for the unit tests.\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="append", help="of nats-server; may be given several times, else each scenario's own"
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all where none is named")
    wanted = parser.parse_args()
    if unknown := sorted(set(wanted.scenarios) - SCENARIOS.keys()):
        parser.error(f"there is no scenario {', '.join(unknown)}")
    return wanted


if __name__ == "__main__":
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # a client whose server a drill kills says so at length
    main(arguments())
