"""deploy/nats-permissions.conf as it stands, in real servers: a delivery probe needs its optional lines and nothing else."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

import bot
from bot.errors import ApiRefused, NoResponders, OutcomeUnknown, ServerRefused, Unreachable
from bot.lab.binaries import nats_server_binary
from bot.lab.config import HOST, free_ports
from bot.model import TRIAL_STREAM, Endpoint, Snapshot, UnknownReason
from bot.model.groups import meta_standing
from bot.ports import Readers
from bot.settings import ClusterSettings
from tests.integration.nats_support import connected, reading

PERMISSIONS = Path(bot.__file__).parents[1] / "deploy" / "nats-permissions.conf"
PROBE_LINE = re.compile(r'^(\s*)# ("_INBOX_[a-z-]+\.natsmedic\.probe\.>")$', re.MULTILINE)
PASSWORDS = {
    "NATS_SYS_PASSWORD": "one",
    "NATS_READER_PASSWORD": "two",
    "NATS_WRITER_PASSWORD": "three",
    "NATS_SYS_WRITER_PASSWORD": "four",
}
PATIENCE = 20.0


@asynccontextmanager
async def servers(config: Path, *, jetstream: bool = False) -> AsyncGenerator[list[str]]:
    """Two servers with this configuration and a route between them."""
    binary = await nats_server_binary("2.11.11")
    ports = free_ports(4)
    routes = ", ".join(f"nats://{HOST}:{port}" for port in ports[2:])
    async with AsyncExitStack() as running:
        for number in range(2):
            # All in files: a server takes no reload that would change an option of its command line.
            own = config.with_name(f"n{number}.conf")
            cluster = f"cluster {{ name: lab, listen: {HOST}:{ports[2 + number]}, routes: [{routes}] }}"
            listen = f"server_name: n{number}\nlisten: {HOST}:{ports[number]}\nlog_file: {own.with_suffix('.log')}"
            store = f'jetstream {{ store_dir: "{own.with_suffix("")}" }}' if jetstream else ""
            own.write_text(f"{listen}\n{cluster}\n{store}\ninclude {config.name}\n", encoding="utf-8")
            process = await asyncio.create_subprocess_exec(str(binary), "-c", str(own), env=PASSWORDS)
            running.push_async_callback(process.wait)
            running.callback(process.kill)
        yield [f"nats://{HOST}:{port}" for port in ports[:2]]


def logins(urls: list[str]) -> ClusterSettings:
    """The users of the file under the reply prefixes that natsmedic derives from their names."""
    system = {"user": "natsmedic-sys", "password": PASSWORDS["NATS_SYS_PASSWORD"]}
    reader = {"user": "natsmedic-reader", "password": PASSWORDS["NATS_READER_PASSWORD"]}
    system_writer = {"user": "natsmedic-sys-writer", "password": PASSWORDS["NATS_SYS_WRITER_PASSWORD"]}
    writer = {"user": "natsmedic-writer", "password": PASSWORDS["NATS_WRITER_PASSWORD"]}
    account = {"reader": reader, "writer": writer}
    nats = {"servers": urls, "system": system, "accounts": {"APP": account}, "timeout_seconds": 2.0}
    nats |= {"system_writer": system_writer}
    return ClusterSettings.model_validate({"name": "lab", "channel": "C0123456789", "nats": nats})


async def until_both_answer(readers: Readers) -> Snapshot:
    while True:
        try:
            snapshot = await readers.gather(frozenset({Endpoint.VARZ}))
        except Unreachable:
            await asyncio.sleep(0.05)  # they are still starting
            continue
        if len(snapshot.servers) == 2:
            return snapshot


@pytest.mark.parametrize("allowed", [True, False])
async def test_the_optional_lines_are_what_a_probe_needs(tmp_path: Path, allowed: bool) -> None:
    text = PERMISSIONS.read_text(encoding="utf-8")
    uncommented, lines = PROBE_LINE.subn(r"\1\2", text)
    assert lines == 2
    config = tmp_path / "nats.conf"
    config.write_text(uncommented if allowed else text, encoding="utf-8")
    async with servers(config) as urls, reading(logins(urls)) as readers, asyncio.timeout(PATIENCE):
        snapshot = await until_both_answer(readers)
        snapshot = await readers.probe_delivery(snapshot, lambda _: None)
    assert {d.account for d in snapshot.deliveries} == {"SYS", "APP"}
    assert len(snapshot.deliveries) == 4
    if allowed:
        assert [d.received for d in snapshot.deliveries] == [20] * 4
    else:
        assert {d.unknown and d.unknown.reason for d in snapshot.deliveries} == {UnknownReason.DENIED}


async def test_the_system_writer_reloads_servers_lets_clients_go_and_may_do_nothing_else(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(PERMISSIONS.read_text(encoding="utf-8"), encoding="utf-8")
    async with servers(config) as urls, connected(logins(urls)) as (readers, writers), asyncio.timeout(PATIENCE):
        snapshot = await until_both_answer(readers)
        loaded = {s.name: loaded_at(snapshot, s.name) for s in snapshot.servers}
        for server in snapshot.servers:
            await writers.reload_server(server.id)
        snapshot = await readers.gather(frozenset({Endpoint.VARZ}))
        assert all(loaded_at(snapshot, name) > moment for name, moment in loaded.items())
        with pytest.raises(NoResponders):
            await writers.reload_server("NOBODY")
        for ask in (writers.kick_client, writers.warn_client):
            with pytest.raises(ServerRefused, match="no such client"):
                await ask(snapshot.servers[0].id, 10**9)
        client = Client()
        login: dict[str, Any] = {"user": "natsmedic-sys-writer", "password": PASSWORDS["NATS_SYS_WRITER_PASSWORD"]}
        denied: list[str] = []

        async def on_error(error: Exception) -> None:
            denied.append(str(error))

        await client.connect(urls[0], error_cb=on_error, inbox_prefix="_INBOX_natsmedic-sys-writer", **login)
        for verb in ("PROFILEZ", "VARZ", "CONNZ"):
            await client.publish(f"$SYS.REQ.SERVER.{snapshot.servers[0].id}.{verb}", b"{}")
        for call in ("META.RESCUE", "ACCOUNT.PURGE.APP"):
            await client.publish(f"$JS.API.{call}", b"")
        await client.flush()
        while len(denied) < 5:  # the client tells its callback after it has read the answer to the flush
            await asyncio.sleep(0.01)
        await client.close()
    assert len(denied) == 5


async def test_the_writers_may_ask_for_everything_that_actions_ask_for(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(PERMISSIONS.read_text(encoding="utf-8"), encoding="utf-8")
    asked = servers(config, jetstream=True)
    async with asked as urls, connected(logins(urls)) as (readers, writers), asyncio.timeout(2 * PATIENCE):
        await until_both_answer(readers)
        while meta_standing(await readers.gather(frozenset({Endpoint.JSZ}))).leader is None:
            await asyncio.sleep(0.05)
        nobody = ("APP", "NONE", "nobody")
        # Asked for what is not there, a server refuses; the version does not know CONSUMER.RESET and says nothing. What may not be asked for is denied.
        for ask in (
            writers.step_down_stream("APP", "NONE"),
            writers.step_down_consumer(*nobody),
            writers.remove_stream_peer("APP", "NONE", "n1"),
            writers.pause_consumer(*nobody),
            writers.unpin_consumer(*nobody, "group"),
            writers.reset_consumer(*nobody),
            writers.remove_server("nobody"),
            writers.remove_server("", "NOBODY01"),
            writers.step_down_meta("nobody"),
        ):
            with pytest.raises((ApiRefused, OutcomeUnknown)):
                await ask


def loaded_at(snapshot: Snapshot, server: str) -> str:
    """When the server loaded its file."""
    return str((snapshot.data(server, Endpoint.VARZ) or {})["config_load_time"])


async def test_the_writer_of_an_account_may_update_a_stream_and_create_and_delete_none_but_the_trial(
    tmp_path: Path,
) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(PERMISSIONS.read_text(encoding="utf-8"), encoding="utf-8")
    async with servers(config) as urls, asyncio.timeout(PATIENCE):
        client = Client()
        login: dict[str, Any] = {"user": "natsmedic-writer", "password": PASSWORDS["NATS_WRITER_PASSWORD"]}
        denied: list[str] = []

        async def on_error(error: Exception) -> None:
            denied.append(str(error))

        await client.connect(urls[0], error_cb=on_error, inbox_prefix="_INBOX_natsmedic-writer", **login)
        for verb in ("CREATE", "DELETE", "PURGE", "UPDATE"):
            await client.publish(f"$JS.API.STREAM.{verb}.ORDERS", b"{}")
        for verb in ("CREATE", "DELETE"):
            await client.publish(f"$JS.API.STREAM.{verb}.{TRIAL_STREAM}", b"{}")
        await client.flush()
        while len(denied) < 3:  # the client tells its callback after it has read the answer to the flush
            await asyncio.sleep(0.01)
        await client.close()
    told = "\n".join(denied).lower()
    assert TRIAL_STREAM not in told
    assert [verb for verb in ("create", "delete", "purge", "update") if f"stream.{verb}" in told] == [
        "create",
        "delete",
        "purge",
    ]
