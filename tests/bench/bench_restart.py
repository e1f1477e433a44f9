"""A restart with 100,000 incidents stored, and what the bot costs at rest then: `python -m tests.bench.bench_restart [--incidents N] [--idle S] [--postgres]`.

The same bot, beside a real nats-server and the stand-in Slack, is started on a database that holds one incident and on the same database after N incidents were
put into it with their deliveries, alerts, messages, diagnoses and audit rows, every tenth with a proposal and its execution, and the engine with a finished
workflow for each. One in a hundred is not closed. Each start is timed until `/readyz` answers 200 and until the first webhook gets its 202; at rest memory
and CPU are read; what the bot asks the database for is asked in this process, too, and App Home, `/nats incidents` and `natsmedic incidents list` are waited
for. Empty and full are one run, so a shared machine shows in both. Prints each limit with what was seen; the exit code is 1 where one is not met.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
from sqlalchemy import Connection, MetaData, Table, create_engine, inspect, make_url, select, text

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.database.convert import message_row, row_of
from bot.adapters.database.rows import Row
from bot.lab.postgres import running_postgres
from bot.lab.servers import LabCluster
from bot.lab.whole import ADA, CHANNEL, WholeBot, lab_slack
from bot.model import (
    Alert,
    AlertId,
    AlertState,
    AuditLine,
    Delivery,
    DeliveryId,
    Diagnosis,
    DiagnosisId,
    Execution,
    ExecutionId,
    ExecutionState,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    Severity,
    Subject,
    Verdict,
)
from bot.ports import Message, Stored
from tests.bench.bench_storm import alert, cpu, memory, payload

VERSION: Final = "2.12.8"
TOGETHER: Final = 2_000
"""Incidents of one transaction while the database is filled."""
OPEN_EVERY: Final = 100
PROPOSED_EVERY: Final = 10
SPREAD: Final = timedelta(days=365)
"""Over which the incidents were opened."""
LOOK_SECONDS: Final = 0.02
ASKED: Final = 5
"""Times that each question is asked; the least counts, which a shared machine disturbs least."""

RESTART_SECONDS: Final = 5.0
MEMORY_MIB: Final = 512.0
AT_REST: Final = 1.5
"""CPU at rest with all of it stored, against CPU at rest with nothing stored."""
ANSWER_SECONDS: Final = 3.0
"""In which Slack wants an answer to a command (reference/chatops.md)."""


@dataclass
class Seen:
    """One start and the time after it; seconds, MiB, and milliseconds by question."""

    ready: float = 0.0
    accepted: float = 0.0
    work: float = 0.0
    """CPU until then: what a start costs, however busy the machine is."""
    cpu: float = 0.0
    memory: float = 0.0
    home: float = 0.0
    command: float = 0.0
    listed: float = 0.0
    asked: dict[str, float] = field(default_factory=dict[str, float])


# --- what is stored ---------------------------------------------------------------------------------------------------------------


def case_of(number: int, total: int, now: datetime) -> list[Stored]:
    """Return everything of one incident, as alerts of a year leave it."""
    began = now - SPREAD + SPREAD * (number / total)
    ended = began + timedelta(minutes=10)
    closed = number % OPEN_EVERY != 0
    labels = {k: str(v) for k, v in alert("lab", number)["labels"].items()}
    incident = IncidentId(f"inc_{number:026d}")
    delivery, diagnosis = DeliveryId(f"dlv_{number:026d}"), DiagnosisId(f"diag_{number:026d}")
    subject = Subject(cluster="lab", account="APP", stream=labels["stream"])
    verdict = Verdict(severity=Severity.WARNING, root=None, sentence=f"Stream {labels['stream']} has a problem.")
    found: list[Stored] = [
        Delivery(
            id=delivery, source="alertmanager", received_at=began, body=payload("lab", [number]), processed_at=began
        ),
        Incident(
            id=incident,
            cluster="lab",
            source="alertmanager",
            fingerprint=f"{number:016x}",
            starts_at=began,
            opened_at=began,
            updated_at=ended,
            state=IncidentState.CLOSED if closed else IncidentState.OPEN,
            title=labels["alertname"],
            channel=CHANNEL,
            labels=labels,
            annotations={"description": "x" * 200},
            last_diagnosis=diagnosis,
            revision=4,
            settled_at=ended if closed else None,
        ),
        Alert(
            id=AlertId(f"alr_{number:026d}"),
            delivery_id=delivery,
            incident_id=incident,
            source="alertmanager",
            fingerprint=f"{number:016x}",
            state=AlertState.FIRING,
            name=labels["alertname"],
            labels=labels,
            annotations={"description": "x" * 200},
            starts_at=began,
            ends_at=None,
            received_at=began,
        ),
        Diagnosis(
            id=diagnosis,
            incident_id=incident,
            runbook="STUCK_CONSUMER",
            snapshot_id=None,
            started_at=began,
            ended_at=began,
            verdict=verdict,
            findings=(),
            reason="alert",
        ),
    ]
    if number % PROPOSED_EVERY == 1:
        found += _repair(number, incident, diagnosis, subject, began, ended)
    return found


def _repair(
    number: int, incident: IncidentId, diagnosis: DiagnosisId, subject: Subject, began: datetime, ended: datetime
) -> list[Stored]:
    proposal = ProposalId(f"prop_{number:026d}")
    return [
        Proposal(
            id=proposal,
            incident_id=incident,
            diagnosis_id=diagnosis,
            cluster="lab",
            subject=subject,
            title="Recreate the consumer",
            why="It has no leader, and a new one gets one. " * 20,
            risk=RiskClass.DESTRUCTIVE,
            stages=(),
            world={"consumer.leader": None},
            state=ProposalState.DONE,
            button=f"btn_{number:026d}",
            created_at=began,
            expires_at=ended,
        ),
        Execution(
            id=ExecutionId(f"exec_{number:026d}"),
            proposal_id=proposal,
            incident_id=incident,
            cluster="lab",
            state=ExecutionState.DONE,
            stages=(),
            started_at=began,
            ended_at=ended,
        ),
    ]


def _chunks(count: int) -> Iterator[range]:
    return (range(first, min(first + TOGETHER, count)) for first in range(0, count, TOGETHER))


def audit_of(head: AuditLine, incidents: Sequence[IncidentId], at: datetime) -> Iterator[AuditLine]:
    """Two rows of each incident, chained to what is there."""
    for incident in incidents:
        for kind, sentence in (("alert.firing", "An alert is firing."), ("diagnosis.done", "A stream has a problem.")):
            line = AuditLine(
                seq=head.seq + 1,
                at=f"{at:%Y-%m-%dT%H:%M:%S}Z",
                kind=kind,
                actor="bot",
                incident_id=incident,
                subject=incident,
                sentence=sentence,
                data="{}",
                previous=head.hash,
                hash="",
            )
            head = line._replace(hash=line.computed_hash())
            yield head


async def fill(url: str, incidents: int) -> None:
    """Put everything into the database of a bot that has run once and is stopped: the store's own rows, in a few large transactions."""
    now = datetime.now(UTC)
    async with SqlStore.open(url, SystemClock(), read_only=True) as store:
        (head,) = await store.newest_audit_lines(limit=1)
    engine = create_engine(_sync(url))
    for numbers in _chunks(incidents):
        ids = [IncidentId(f"inc_{number:026d}") for number in numbers]
        with engine.begin() as connection:
            _insert(connection, (row_of(one) for number in numbers for one in case_of(number, incidents, now)))
            lines = list(audit_of(head, ids, now))
            connection.execute(Row.metadata.tables["audit"].insert(), [line._asdict() for line in lines])
            _drawn(connection, ids)
        head = lines[-1]
    with engine.begin() as connection:
        _finish_workflows(connection, incidents)
        if url.startswith("postgresql"):
            connection.execute(text("ANALYZE"))  # as its own daemon does after so many rows; for SQLite nobody does
    engine.dispose()


def _insert(connection: Connection, rows: Iterable[Row]) -> None:
    by_table: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_table.setdefault(str(row.__tablename__), []).append(row.model_dump())
    for table, values in by_table.items():
        connection.execute(Row.metadata.tables[table].insert(), values)


def _sync(url: str) -> str:
    return (
        make_url(url)
        .set(drivername="postgresql+psycopg" if url.startswith("postgresql") else "sqlite")
        .render_as_string(hide_password=False)
    )


def _drawn(connection: Connection, incidents: Sequence[IncidentId]) -> None:
    tables = Row.metadata.tables
    messages = [
        Message(key=f"{kind}:{one}", incident_id=one, channel=CHANNEL, ts=f"17{one[-9:]}.{place:06d}", digest="0" * 64)
        for one in incidents
        for place, kind in enumerate(("board", "diagnosis", "report"))
    ]
    connection.execute(tables["messages"].insert(), [message_row(message).model_dump() for message in messages])
    connection.execute(tables["drawn"].insert(), [{"incident_id": one, "revision": 4} for one in incidents])


def _finish_workflows(connection: Connection, incidents: int) -> None:
    """Copy the engine's rows of the one diagnosis that has run."""
    schema = "dbos" if inspect(connection).has_schema("dbos") else None
    for name in ("workflow_status", "operation_outputs"):
        table = Table(name, MetaData(schema=schema), autoload_with=connection)
        row: dict[str, Any] = dict(connection.execute(select(table).limit(1)).mappings().one())
        for numbers in _chunks(incidents):
            copies = [row | {"workflow_uuid": f"diagnosis:inc_{number:026d}/alert"} for number in numbers]
            connection.execute(table.insert(), copies)


# --- what is measured -------------------------------------------------------------------------------------------------------------


async def start(bot: WholeBot, number: int) -> tuple[float, float]:
    """Start the bot; return the seconds until it is ready, and until it takes a webhook."""
    headers = {"Authorization": f"Bearer {bot.secret}", "Content-Type": "application/json"}
    began = time.perf_counter()
    starting = asyncio.create_task(bot.start())
    async with aiohttp.ClientSession() as session:

        async def ready() -> bool:
            async with session.get(f"{bot.url}/readyz") as answer:
                return answer.status == 200

        async def taken() -> bool:
            body = payload(bot.cluster.name, [10**9 + number])
            async with session.post(f"{bot.url}/webhooks/alertmanager", data=body, headers=headers) as answer:
                return answer.status == 202

        seconds = [await _until(question, began, starting) for question in (ready, taken)]
    await starting
    return seconds[0], seconds[1]


async def _until(question: Callable[[], Awaitable[bool]], began: float, starting: asyncio.Task[None]) -> float:
    while True:
        try:
            if await question():
                return time.perf_counter() - began
        except aiohttp.ClientConnectionError:
            if starting.done():
                await starting
        await asyncio.sleep(LOOK_SECONDS)


async def questions(url: str) -> dict[str, float]:
    """Return the milliseconds of what the bot asks the database for, at rest and when somebody looks."""
    since = datetime.now(UTC) - timedelta(days=2)
    async with SqlStore.open(url, SystemClock(), read_only=True) as store:
        asked: dict[str, Callable[[], Awaitable[object]]] = {
            "behind, the first look": store.behind,
            "behind, every second": store.behind,
            "waiting": lambda: store.waiting(100),
            "storms": lambda: store.incidents(open_only=True, source="natsmedic/storm"),
            "undiagnosed": store.undiagnosed,
            "silenced": store.silenced,
            "unfinished": store.unfinished_executions,
            "proposals": lambda: store.proposals(active_only=True),
            "tally": store.tally,
            "open, for Home": lambda: store.incidents(open_only=True, threads_only=True, limit=10),
            "count of open": store.count_open,
            "newest 100": store.incidents,
            "last repairs": lambda: store.runs(10),
        }
        times: dict[str, float] = {}
        for name, question in asked.items():
            runs = 1 if "first" in name else ASKED
            times[name] = min([await _milliseconds(question) for _ in range(runs)])
    async with SqlStore.open(url, SystemClock()) as store:
        limits = [await _milliseconds(lambda: store.runs_since("lab", since)) for _ in range(ASKED)]
        times["limits, at a click"] = min(limits)
    return times


async def _milliseconds(question: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await question()
    return (time.perf_counter() - began) * 1000


async def looked_at(bot: WholeBot, seen: Seen) -> None:
    """Wait for App Home, for a command of Slack, and for one of the terminal."""
    homes = len(bot.slack.calls("views.publish"))
    began = time.perf_counter()
    bot.slack.person.open_home(ADA)
    await bot.wait(lambda: len(bot.slack.calls("views.publish")) > homes, 30, "no Home was published")
    seen.home = time.perf_counter() - began
    said = len(bot.slack.ephemerals(ADA))
    began = time.perf_counter()
    await bot.slack.person.slash(ADA, CHANNEL, "/nats incidents")
    await bot.wait(lambda: len(bot.slack.ephemerals(ADA)) > said, 30, "the command was not answered")
    seen.command = time.perf_counter() - began
    began = time.perf_counter()
    code, output = await bot.command("incidents", "list", "--open")
    seen.listed = time.perf_counter() - began
    if code != 0:
        raise RuntimeError(output)


async def threads(bot: WholeBot, number: int) -> None:
    """Wait for so many threads."""
    await bot.wait(lambda: len(bot.slack.messages(CHANNEL)) >= number, 60, "the alert has no thread")


async def restarted(bot: WholeBot, url: str, number: int, idle: float) -> Seen:
    """Start the bot, look at it at rest and at work, stop it, and ask the database itself."""
    seen = Seen()
    seen.ready, seen.accepted = await start(bot, number)
    seen.work = cpu(bot)
    await bot.slack.connected()
    await threads(bot, number + 1)
    await asyncio.sleep(5)  # until the diagnosis is drawn and its pages are warm
    before = cpu(bot)
    await asyncio.sleep(idle)
    seen.cpu = (cpu(bot) - before) / idle * 60
    seen.memory = memory(bot, "VmRSS")
    await looked_at(bot, seen)
    await bot.stop()
    seen.asked = await questions(url)
    return seen


async def run(arguments: argparse.Namespace) -> bool:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-restart-")))
        url = f"sqlite:///{folder / 'bot' / 'natsmedic.db'}"
        if arguments.postgres:
            server = stack.enter_context(running_postgres(fsync=True))
            url = stack.enter_context(server.database("natsmedic"))
        cluster = await stack.enter_async_context(LabCluster(folder / "nats", VERSION))
        slack = await stack.enter_async_context(lab_slack())
        bot = await stack.enter_async_context(WholeBot(folder / "bot", cluster, slack, {"database": {"url": url}}))
        await start(bot, 0)  # makes the tables, and the pages of the programs warm
        await threads(bot, 1)
        await asyncio.sleep(3)
        await bot.stop()
        empty = await restarted(bot, url, 1, arguments.idle)
        began = time.perf_counter()
        await fill(url, arguments.incidents)
        print(f"filled with {arguments.incidents:,} incidents in {time.perf_counter() - began:.0f} s")
        full = await restarted(bot, url, 2, arguments.idle)
        return report(empty, full)


def report(empty: Seen, full: Seen) -> bool:
    for name, was in empty.asked.items():
        print(f"  {name:24} {was:8.1f} ms empty {full.asked[name]:8.1f} ms full")
    for name in ("ready", "accepted", "work", "home", "command", "listed"):
        was, now = getattr(empty, name), getattr(full, name)
        print(f"  {name:24} {was:8.2f} s  empty {now:8.2f} s  full   {now / was:.2f} times")
    print(f"  memory                   {empty.memory:8.0f} MiB empty {full.memory:6.0f} MiB full")
    print(f"  CPU seconds a minute     {empty.cpu:8.2f} empty {full.cpu:8.2f} full   {full.cpu / empty.cpu:.2f} times")
    limits = [
        ("ready after a restart, s", full.ready, RESTART_SECONDS),
        ("CPU of a restart, s", full.work, RESTART_SECONDS),
        ("CPU of a restart, times empty", full.work / empty.work, AT_REST),
        ("first webhook taken, s", full.accepted, RESTART_SECONDS),
        ("memory at rest, MiB", full.memory, MEMORY_MIB),
        ("CPU at rest, times that empty", full.cpu / empty.cpu, AT_REST),
        ("/nats incidents, s", full.command, ANSWER_SECONDS),
        ("App Home, s", full.home, ANSWER_SECONDS),
    ]
    for name, value, limit in limits:
        print(f"{'met   ' if value <= limit else 'MISSED'} {name:32} {value:8.2f}   limit {limit:g}")
    return all(value <= limit for _, value, limit in limits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--incidents", type=int, default=100_000)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds of rest that are measured")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    return 0 if asyncio.run(run(parser.parse_args())) else 1


if __name__ == "__main__":
    sys.exit(main())
