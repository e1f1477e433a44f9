"""deploy/nats-permissions.conf as it stands, in real servers: a delivery probe needs its optional lines and nothing else."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

import bot
from bot.errors import Unreachable
from bot.lab.binaries import nats_server_binary
from bot.lab.config import HOST, free_ports
from bot.model import Endpoint, UnknownReason
from bot.settings import ClusterSettings
from tests.integration.nats_support import reading

PERMISSIONS = Path(bot.__file__).parents[1] / "deploy" / "nats-permissions.conf"
PROBE_LINE = re.compile(r'^(\s*)# ("_INBOX_[a-z-]+\.natsmedic\.probe\.>")$', re.MULTILINE)
PASSWORDS = {"NATS_SYS_PASSWORD": "one", "NATS_READER_PASSWORD": "two", "NATS_WRITER_PASSWORD": "three"}
PATIENCE = 20.0


@asynccontextmanager
async def servers(config: Path) -> AsyncGenerator[list[str]]:
    """Two servers with this configuration and a route between them."""
    binary = await nats_server_binary("2.11.11")
    ports = free_ports(4)
    routes = ",".join(f"nats://{HOST}:{port}" for port in ports[2:])
    async with AsyncExitStack() as running:
        for number in range(2):
            process = await asyncio.create_subprocess_exec(
                *(str(binary), "-c", str(config), "-n", f"n{number}", "-a", HOST, "-p", str(ports[number])),
                *("--cluster_name", "lab", "--cluster", f"nats://{HOST}:{ports[2 + number]}", "--routes", routes),
                *("-l", str(config.with_name(f"n{number}.log"))),
                env=PASSWORDS,
            )
            running.push_async_callback(process.wait)
            running.callback(process.kill)
        yield [f"nats://{HOST}:{port}" for port in ports[:2]]


def logins(urls: list[str]) -> ClusterSettings:
    """The users of the file under the reply prefixes that natsmedic derives from their names."""
    system = {"user": "natsmedic-sys", "password": PASSWORDS["NATS_SYS_PASSWORD"]}
    reader = {"user": "natsmedic-reader", "password": PASSWORDS["NATS_READER_PASSWORD"]}
    nats = {"servers": urls, "system": system, "accounts": {"APP": {"reader": reader}}, "timeout_seconds": 2.0}
    return ClusterSettings.model_validate({"name": "lab", "channel": "C0123456789", "nats": nats})


@pytest.mark.parametrize("allowed", [True, False])
async def test_the_optional_lines_are_what_a_probe_needs(tmp_path: Path, allowed: bool) -> None:
    text = PERMISSIONS.read_text(encoding="utf-8")
    uncommented, lines = PROBE_LINE.subn(r"\1\2", text)
    assert lines == 2
    config = tmp_path / "nats.conf"
    config.write_text(uncommented if allowed else text, encoding="utf-8")
    async with servers(config) as urls, reading(logins(urls)) as readers, asyncio.timeout(PATIENCE):
        while True:
            try:
                snapshot = await readers.gather(frozenset({Endpoint.VARZ}))
            except Unreachable:
                await asyncio.sleep(0.05)  # they are still starting
                continue
            if len(snapshot.servers) == 2:
                break
        snapshot = await readers.probe_delivery(snapshot, lambda _: None)
    assert {d.account for d in snapshot.deliveries} == {"SYS", "APP"}
    assert len(snapshot.deliveries) == 4
    if allowed:
        assert [d.received for d in snapshot.deliveries] == [20] * 4
    else:
        assert {d.unknown and d.unknown.reason for d in snapshot.deliveries} == {UnknownReason.DENIED}
