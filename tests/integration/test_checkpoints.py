"""Checkpoints of the audit chain in a real database, a real file and a real stream; and a database that is older than they are."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError

import bot
from bot.adapters.checkpoints import FileSink, newest_of
from bot.adapters.database import SqlStore
from bot.adapters.nats.checkpoints import StreamSink
from bot.adapters.nats.connection import Connection, RequestFailed, Why
from bot.adapters.nats.login import Login
from bot.errors import ApiRefused, BadInput, NotApplied, Unreadable
from bot.flow.checkpoints import RETRY_SECONDS, Checkpointer, acknowledge
from bot.flow.lifetime import started, stopped
from bot.lab.binaries import nats_server_binary
from bot.lab.config import HOST, free_ports
from bot.limits import Limits, Stop
from bot.model import Checkpoint
from bot.settings import LimitSettings
from tests.integration.store_records import FixedClock, draft

pytestmark = pytest.mark.timeout(60)

CHECKPOINTS = Path(bot.__file__).parents[1] / "deploy" / "nats-checkpoints.conf"


class Place:
    """A place outside that can be away."""

    name = "a place"

    def __init__(self) -> None:
        self.kept: list[Checkpoint] = []
        self.away = False

    async def newest(self) -> Checkpoint | None:
        if self.away:
            raise Unreadable("It is away.")
        return self.kept[-1] if self.kept else None

    async def keep(self, checkpoint: Checkpoint) -> None:
        if self.away:
            raise NotApplied("It is away.")
        self.kept.append(checkpoint)


class House:
    """A store, its clock and one place."""

    def __init__(self, store: SqlStore, clock: FixedClock, place: Place) -> None:
        self.store, self.clock, self.place = store, clock, place
        self.checkpointer = self.made()

    def made(self) -> Checkpointer:
        return Checkpointer([self.place], store=self.store, clock=self.clock, every_seconds=60, every_rows=100)

    async def add(self, rows: int) -> None:
        async with self.store.begin() as tx:
            for number in range(rows):
                await tx.audit(draft(f"{number}"))

    async def later(self, seconds: float) -> None:
        self.clock.time += timedelta(seconds=seconds)
        await self.checkpointer.sweep()

    async def ruling(self) -> Stop:
        async with self.store.begin() as tx:
            return (await Limits(LimitSettings(), self.clock).stage(tx, "prod", "consumer.delete")).stop

    async def kinds(self) -> list[str]:
        return [row.kind for row in await self.store.audit_lines() if row.kind != draft().kind]


@asynccontextmanager
async def house(path: Path, place: Place | None = None) -> AsyncGenerator[House]:
    clock = FixedClock()
    async with SqlStore.open(f"sqlite:///{path}", clock) as store:
        yield House(store, clock, place or Place())


@pytest.mark.parametrize(("rows", "seconds", "kept"), [(99, 59, 1), (99, 60, 2), (100, 1, 2), (0, 3600, 1)])
async def test_the_head_is_kept_every_minute_or_every_hundred_rows(
    tmp_path: Path, rows: int, seconds: int, kept: int
) -> None:
    async with house(tmp_path / "db") as h:
        await h.add(1)
        await h.checkpointer.begin()
        await h.later(0)
        await h.add(rows)
        await h.later(seconds)
        assert len(h.place.kept) == kept
        newest = (await h.store.audit_lines())[-1]
        assert (h.place.kept[-1].seq == newest.seq) is (kept == 2 or rows == 0)


async def test_a_place_that_fails_is_told_once_tried_again_and_holds_nothing_up(tmp_path: Path) -> None:
    async with house(tmp_path / "db") as h:
        await h.add(1)
        await h.checkpointer.begin()
        h.place.away = True
        for _ in range(5):
            await h.later(RETRY_SECONDS)
        assert h.checkpointer.problems == ("No checkpoint of the audit log is kept in a place: It is away.",)
        assert await h.kinds() == ["checkpoint.failed"]
        h.place.away = False
        await h.later(RETRY_SECONDS)
        assert h.checkpointer.problems == ()
        assert h.place.kept[-1].seq == 2
        assert await h.kinds() == ["checkpoint.failed", "checkpoint.recovered"]
        assert await h.ruling() is Stop.NONE


async def test_the_standing_of_a_place_has_the_age_of_its_newest_checkpoint_and_what_is_wrong(tmp_path: Path) -> None:
    async with house(tmp_path / "db") as h:
        assert h.checkpointer.standing() == [{"place": "a place", "row": None, "age_seconds": None, "problem": None}]
        await h.add(1)
        await h.checkpointer.begin()
        await h.later(0)
        h.clock.time += timedelta(seconds=59)
        assert h.checkpointer.standing() == [{"place": "a place", "row": 1, "age_seconds": 59, "problem": None}]
        await h.add(1)
        h.place.away = True
        await h.later(1)
        away = "No checkpoint of the audit log is kept in a place: It is away."
        assert h.checkpointer.standing() == [{"place": "a place", "row": 1, "age_seconds": 60, "problem": away}]


async def restored(folder: Path) -> Place:
    """A database of 10 rows, of which only 4 are in the backup that is put back."""
    place = Place()
    async with house(folder / "db", place) as h:
        await h.add(4)
    shutil.copy(folder / "db", folder / "backup")
    async with house(folder / "db", place) as h:
        await h.add(6)
        await h.checkpointer.begin()
        await h.later(0)
    (folder / "db-wal").unlink(missing_ok=True)
    (folder / "db-shm").unlink(missing_ok=True)
    shutil.copy(folder / "backup", folder / "db")
    return place


async def test_a_restored_database_changes_nothing_until_a_person_acknowledges_the_gap(tmp_path: Path) -> None:
    place = await restored(tmp_path)
    async with house(tmp_path / "db", place) as h:
        await h.checkpointer.begin()
        assert await h.ruling() is Stop.AUDIT_GAP
        await h.later(3600)
        assert [one.seq for one in place.kept] == [10], "the newest checkpoint outside stays what it was"
        with pytest.raises(BadInput, match="A reason is needed"):
            await acknowledge(h.store, "ada", " ")
    async with house(tmp_path / "db", place) as h:
        assert await h.ruling() is Stop.AUDIT_GAP, "also after a restart"
        assert "row 10" in await acknowledge(h.store, "ada", "restored after a disk failure")
        assert await h.ruling() is Stop.NONE
        row = (await h.store.audit_lines())[-1]
        assert (row.kind, row.actor) == ("audit.acknowledged", "ada")
        assert place.kept[0].hash in row.data
        with pytest.raises(BadInput, match="nothing to acknowledge"):
            await acknowledge(h.store, "ada", "again")
        await h.checkpointer.begin()
        assert await h.ruling() is Stop.NONE, "what was acknowledged is not found again"
        await h.later(60)
        assert place.kept[-1].seq == row.seq


async def test_a_place_that_answers_late_is_compared_before_anything_is_kept_there(tmp_path: Path) -> None:
    place = await restored(tmp_path)
    place.away = True
    async with house(tmp_path / "db", place) as h:
        await h.checkpointer.begin()
        assert await h.ruling() is Stop.NONE
        place.away = False
        await h.later(RETRY_SECONDS)
        assert await h.ruling() is Stop.AUDIT_GAP
        assert [one.seq for one in place.kept] == [10]


async def test_another_row_in_the_place_of_the_checkpoint_is_a_gap_as_well(tmp_path: Path) -> None:
    async with house(tmp_path / "db") as h:
        await h.add(3)
        h.place.kept.append(Checkpoint(seq=2, hash="f" * 64))
        await h.checkpointer.begin()
        assert await h.ruling() is Stop.AUDIT_GAP


async def test_a_file_keeps_what_was_kept_through_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    sink = FileSink(path)
    assert await sink.newest() is None
    for seq in (1, 2):
        await sink.keep(Checkpoint(seq=seq, hash=f"{seq}" * 64))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"at":nu')
    assert newest_of(path).seq == 2
    await sink.keep(Checkpoint(seq=3, hash="3" * 64))
    found = await sink.newest()
    assert found == Checkpoint(seq=3, hash="3" * 64)
    path.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(Unreadable, match="not a checkpoint"):
        await sink.newest()
    with pytest.raises(NotApplied, match="cannot be appended"):
        await FileSink(tmp_path / "absent" / "file").keep(Checkpoint(seq=1, hash="1" * 64))


@pytest.fixture
async def url(tmp_path: Path) -> AsyncGenerator[str]:
    binary = await nats_server_binary("2.11.11")
    (port,) = free_ports(1)
    config = tmp_path / "nats.conf"
    config.write_text(f'listen: {HOST}:{port}\njetstream {{ store_dir: "{tmp_path / "js"}" }}\n', encoding="utf-8")
    async with AsyncExitStack() as running:
        process = await asyncio.create_subprocess_exec(
            str(binary), "-c", str(config), stderr=asyncio.subprocess.DEVNULL
        )
        running.push_async_callback(process.wait)
        running.callback(process.kill)
        yield f"nats://{HOST}:{port}"


async def admin(url: str) -> Client:
    while True:
        try:
            return await nats.connect(url, allow_reconnect=False)
        except (NatsError, OSError):
            await asyncio.sleep(0.05)  # it is still starting


async def test_a_stream_takes_checkpoints_from_one_writer_and_only_where_nothing_can_be_taken_away(url: str) -> None:
    client = await admin(url)
    js = client.jetstream()
    await js.add_stream(name="SOFT", subjects=["soft"], deny_delete=True)
    await js.add_stream(name="AUDIT", subjects=["audit.head"], deny_delete=True, deny_purge=True)
    await client.close()
    login = Login(inbox_prefix="_INBOX_natsmedic")
    connections = [Connection([url], login, "keeper", 5.0) for _ in range(3)]
    one, other, soft = (
        StreamSink(connections[0], "AUDIT", "audit.head"),
        StreamSink(connections[1], "AUDIT", "audit.head"),
        StreamSink(connections[2], "SOFT", "soft"),
    )
    try:
        with pytest.raises(Unreadable, match="lacks deny_purge"):
            await soft.keep(Checkpoint(seq=1, hash="1" * 64))
        assert await one.newest() is None
        assert await other.newest() is None
        for seq in (1, 2):
            await one.keep(Checkpoint(seq=seq, hash=f"{seq}" * 64))
        with pytest.raises(ApiRefused, match="wrong last sequence"):
            await other.keep(Checkpoint(seq=9, hash="9" * 64))
        assert await other.newest() == Checkpoint(seq=2, hash="2" * 64)
    finally:
        for sink in (one, other, soft):
            await sink.aclose()


async def test_the_keeper_of_the_deploy_folder_keeps_and_reads_heads_and_may_do_nothing_else(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = tmp_path / "nats.conf"
    store = f'jetstream {{ store_dir: "{tmp_path / "js"}" }}'
    shutil.copy(CHECKPOINTS, tmp_path)
    accounts = f"accounts {{ include {CHECKPOINTS.name} }}"
    config.write_text(f"listen: {HOST}:{port}\n{store}\n{accounts}\n", encoding="utf-8")
    passwords = {"NATS_AUDIT_OWNER_PASSWORD": "one", "NATS_KEEPER_PASSWORD": "two"}
    stream = "NATSMEDIC_AUDIT"
    head = Checkpoint(seq=1, hash="1" * 64)
    async with AsyncExitStack() as running:
        process = await asyncio.create_subprocess_exec(
            str(await nats_server_binary("2.11.11")),
            "-c",
            str(config),
            env=passwords,
            stderr=asyncio.subprocess.DEVNULL,
        )
        running.push_async_callback(process.wait)
        running.callback(process.kill)
        owner = await admin(f"nats://audit-owner:one@{HOST}:{port}")
        running.push_async_callback(owner.close)
        js = owner.jetstream()
        await js.add_stream(name=stream, subjects=["natsmedic.audit.head"], deny_delete=True, deny_purge=True)
        login = Login(inbox_prefix="_INBOX_natsmedic-keeper", user="natsmedic-keeper", password="two")
        keeper = Connection([f"nats://{HOST}:{port}"], login, "keeper", 5.0)
        sink = StreamSink(keeper, stream, "natsmedic.audit.head")
        running.push_async_callback(sink.aclose)
        assert await sink.newest() is None
        await sink.keep(head)
        for forbidden in (
            f"$JS.API.STREAM.DELETE.{stream}",
            f"$JS.API.STREAM.PURGE.{stream}",
            f"$JS.API.STREAM.UPDATE.{stream}",
            f"$JS.API.STREAM.MSG.DELETE.{stream}",
            "$JS.API.STREAM.CREATE.OTHER",
            "$JS.API.STREAM.INFO.OTHER",
            "natsmedic.audit.other",
        ):
            with pytest.raises(RequestFailed) as refused:
                await keeper.request(forbidden)
            assert refused.value.why is Why.DENIED, forbidden
        assert await sink.newest() == head
        assert (await js.stream_info(stream)).state.messages == 1


async def test_starts_stops_crashes_and_changed_settings_are_on_record(tmp_path: Path) -> None:
    async with house(tmp_path / "db") as h:
        await started(h.store, "1.0", "observe", {"policy": "a", "limits": "b"})
        await stopped(h.store, "1.0")
        await started(h.store, "1.1", "approve", {"policy": "c", "limits": "b"})
        await started(h.store, "1.1", "approve", {"policy": "c", "limits": "b"})
        rows = await h.store.audit_entries()
        assert [row.kind for row in rows] == [
            "bot.started",
            "bot.stopped",
            "bot.started",
            "settings.changed",
            "bot.started",
        ]
        assert [row.data["crashed"] for row in rows if row.kind == "bot.started"] == [False, False, True]
        assert rows[3].data == {"sections": {"policy": {"before": "a", "after": "c"}}}
