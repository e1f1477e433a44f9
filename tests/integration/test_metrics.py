"""What is measured of a real database's commits, and what a scraper reads. Labels are words of ours, whatever a sender writes."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from pydantic import SecretStr
from sqlalchemy import Select
from sqlalchemy.dialects import postgresql

from bot.adapters.database import SqlStore
from bot.adapters.database.tally import INCIDENTS, PROPOSALS
from bot.adapters.metrics import Meters, PrometheusMeter, Standing, StoreCollector, Words, metrics_app
from bot.adapters.metrics.words import MOST_REASONS
from bot.adapters.webhooks import parse_alertmanager
from bot.errors import StoreError
from bot.flow.intake import Intake
from bot.flow.sweep import Sweeper
from bot.model import (
    AuditDraft,
    ExecutionState,
    Finding,
    IncidentState,
    JsonObject,
    Layer,
    OperationId,
    Preview,
    Proposal,
    ProposalState,
    RiskClass,
    Severity,
    Stage,
    StageRun,
    StageState,
    Subject,
)
from bot.ports import Stored
from bot.settings import MetricsSettings, PolicySettings, ThreadSettings
from tests.integration import store_records as records
from tests.integration.execution_house import Quiet
from tests.integration.test_intake import alert, body, cluster

KNOWN = {"sources": {"am"}, "runbooks": {"E"}, "checks": {"SPLIT"}, "actions": {"act"}}
HOSTILE = (
    '"} 1\nfake_metric{a="',
    "{{ $labels }}",
    "\u202e<!channel>",
    "'; DROP TABLE incidents; --",
    "x" * 5000,
    "",
    "\x00",
)


@dataclass
class House:
    store: SqlStore
    registry: CollectorRegistry
    meter: PrometheusMeter
    clock: records.FixedClock
    collector: StoreCollector
    places: list[JsonObject] = field(default_factory=list[JsonObject])
    swept_at: datetime | None = None

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"natsmedic_{name}", labels) or 0.0

    def series(self) -> int:
        return sum(len(family.samples) for family in self.registry.collect())

    async def put(self, *written: Stored) -> None:
        async with self.store.begin() as tx:
            for record in written:
                await tx.put(record)

    async def refresh(self) -> None:
        self.clock.time += timedelta(seconds=5)
        await self.collector.refresh()


@asynccontextmanager
async def house(folder: Path) -> AsyncGenerator[House]:
    clock, registry = records.FixedClock(), CollectorRegistry(auto_describe=True)
    meter = PrometheusMeter(registry, Words(**KNOWN))
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock, meter=Meters(meter)) as store:
        standing = Standing(lambda: made.places, lambda: made.swept_at)
        made = House(store, registry, meter, clock, StoreCollector(store, clock, standing))
        registry.register(made.collector)
        yield made


def intake(running: House) -> Intake:
    quiet = Quiet()
    return Intake(
        store=running.store,
        engine=quiet,
        clock=running.clock,
        chat=quiet,
        clusters=(cluster("prod", cluster="prod"), cluster("test", cluster="test")),
        parsers={"am": parse_alertmanager},
        max_queue=10_000,
        threads=ThreadSettings(),
    )


async def deliver(to: Intake, *alerts: JsonObject) -> None:
    await to.accept("am", body(*alerts))
    await to.fold()


def run(state: StageState, index: int = 0) -> StageRun:
    return StageRun(index=index, state=state, operation_id=OperationId(f"op_{index}"))


def stage(kind: str) -> Stage:
    return Stage(kind=kind, params={}, risk=RiskClass.LOW, preview=Preview(summary="s", blast_radius="b", way_back="w"))


async def test_alerts_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        door = intake(running)
        await deliver(door, alert())
        await deliver(door, alert())
        await deliver(door, alert("resolved"), alert("resolved", "never seen"))
        counted = {
            what: running.value("alerts_total", source="am", outcome=what) for what in ("opened", "folded", "resolved")
        }
        assert counted == {"opened": 1, "folded": 1, "resolved": 1}
        assert running.value("alerts_total", source="am", outcome="unmatched") == 1
        assert running.value("deliveries_total", source="am") == 3
        assert running.value("incidents_entered_total", state="open") == 1
        assert running.value("incidents_entered_total", state="cleared") == 1
        await deliver(door, alert(starts="2026-11-21T07:59:00Z"))
        assert running.value("alerts_total", source="am", outcome="reopened") == 1


async def test_of_two_alerts_of_one_incident_that_share_a_transaction_one_has_opened_it(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        door = intake(running)
        for _ in range(2):
            await door.accept("am", body(alert()))
        await door.fold()
        counted = [running.value("alerts_total", source="am", outcome=what) for what in ("opened", "folded")]
        assert counted == [1, 1]


async def test_what_was_rolled_back_is_not_counted(tmp_path: Path) -> None:
    async with house(tmp_path) as running:

        async def fails(**_: object) -> None:
            async with running.store.begin() as tx:
                await tx.put(records.incident())
                raise StoreError("No.")

        with pytest.raises(StoreError):
            await fails()
        assert running.value("incidents_entered_total", state="open") == 0
        assert running.value("calls_total", system="database", cluster="", operation="write", outcome="failed") == 1
        await running.put(records.incident())
        assert running.value("incidents_entered_total", state="open") == 1
        assert running.value("calls_total", system="database", cluster="", operation="write", outcome="ok") == 1
        assert running.value("call_seconds_count", system="database", cluster="", operation="write") == 2


async def test_a_record_that_was_edited_by_hand_is_written_over_and_only_not_counted(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.put(records.proposal(), records.diagnosis(), records.incident())
        with closing(sqlite3.connect(tmp_path / "n.db")) as by_hand, by_hand:
            by_hand.execute("UPDATE proposals SET body = '{}'")
        denied = records.proposal(state=ProposalState.DENIED)
        await running.put(denied)
        assert await running.store.get(Proposal, denied.id) == denied
        assert running.value("proposals_entered_total", state="denied", risk="destructive") == 0


async def test_a_record_that_is_written_twice_in_one_transaction_has_changed_once(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        first = records.incident()
        await running.put(
            first, first.to(IncidentState.CLEARED, records.NOW), first.to(IncidentState.VERIFIED, records.NOW)
        )
        assert running.value("incidents_entered_total", state="verified") == 1
        assert running.value("incidents_entered_total", state="open") == 0
        await running.put(first.to(IncidentState.VERIFIED, records.NOW))
        assert running.value("incidents_entered_total", state="verified") == 1


async def test_times_are_measured_from_the_alert_to_verdict_approval_and_verified_repair(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        opened = records.incident()
        late = records.diagnosis().model_copy(update={"ended_at": records.NOW + timedelta(seconds=4)})
        async with running.store.begin() as tx:
            await tx.put(opened)
            await tx.put(late)
            await tx.put(records.proposal())
        assert running.value("alert_to_verdict_seconds_sum") == pytest.approx(4)
        begun = records.execution().model_copy(update={"started_at": records.NOW + timedelta(seconds=50)})
        async with running.store.begin() as tx:
            await tx.put(records.approval())
            await tx.touch(opened.id)
            await tx.put(begun)
        assert running.value("alert_to_approval_seconds_sum") == pytest.approx(50)
        assert running.value("approvals_total", decision="approve") == 1
        after = late.model_copy(
            update={"id": "dia_2", "reason": "after execution", "ended_at": records.NOW + timedelta(seconds=90)}
        )
        async with running.store.begin() as tx:
            await tx.put(after)
            await tx.put(opened.to(IncidentState.VERIFIED, records.NOW))
        assert running.value("alert_to_verified_seconds_sum") == pytest.approx(90)
        assert running.value("alert_to_verdict_seconds_count") == 1


async def test_an_execution_is_counted_when_it_ends_with_each_of_its_actions(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        stages = (stage("act"), stage("unheard of"), stage("act"))
        offered = records.proposal(state=ProposalState.APPLYING).model_copy(update={"stages": stages})
        runs = (run(StageState.VERIFIED), run(StageState.FAILED, 1), run(StageState.WAITING, 2))
        begun = records.execution(state=ExecutionState.APPLYING).model_copy(update={"stages": runs})
        async with running.store.begin() as tx:
            for record in (records.incident(), records.diagnosis(), offered, begun):
                await tx.put(record)
        assert running.value("executions_total", outcome="failed") == 0
        ended = begun.model_copy(
            update={"state": ExecutionState.FAILED, "stages": (*runs[:2], run(StageState.SKIPPED, 2))}
        )
        await running.put(ended, offered.model_copy(update={"state": ProposalState.FAILED}))
        await running.put(ended)
        assert running.value("executions_total", outcome="failed") == 1
        assert running.value("actions_total", action="act", outcome="verified") == 1
        assert running.value("actions_total", action="other", outcome="failed") == 1
        assert running.value("proposals_entered_total", state="failed", risk="destructive") == 1


async def test_refusals_are_counted_by_reason_and_a_form_with_two_mistakes_has_two(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        async with running.store.begin() as tx:
            for kind, code in (
                ("click.refused", "no_reason, wrong_typed_name"),
                ("command.refused", "guest"),
                ("x", "guest"),
            ):
                await tx.audit(AuditDraft(kind=kind, actor="a", sentence="s", data={"code": code}))
        reasons = ("no_reason", "wrong_typed_name", "guest")
        assert [running.value("refusals_total", reason=one) for one in reasons] == [1, 1, 1]


async def test_hostile_names_make_no_series(tmp_path: Path) -> None:
    """Alerts, findings and refusals full of strange words: the number of series stays what it was with one of each."""
    async with house(tmp_path) as running:
        door = intake(running)

        async def all_of(words: str, number: int) -> None:
            await deliver(
                door, alert("firing", f"f{number}", alertname=words, stream=words, cluster=words, severity=words)
            )
            finding = Finding(
                check=words,
                layer=Layer.STREAMS,
                subject=Subject(cluster=words),
                severity=Severity.WARNING,
                sentence=words,
            )
            strange = records.diagnosis(f"{number}").model_copy(update={"runbook": words, "findings": (finding,)})
            async with running.store.begin() as tx:
                await tx.put(records.incident(fingerprint="mine"))
                await tx.put(strange)
                await tx.audit(
                    AuditDraft(kind="click.refused", actor=words, sentence=words, data={"code": f"A {words}"})
                )

        await all_of("first", 0)
        before = running.series()
        for number, words in enumerate(HOSTILE * 5, start=1):
            await all_of(f"{words}{number}" if number > len(HOSTILE) else words, number)
        assert running.series() == before
        text = await scrape(running)
        families = list(plain(text))
        assert all(family.name.startswith("natsmedic_") for family in families)
        assert not any("DROP" in value for f in families for s in f.samples for value in s.labels.values())


async def test_words_of_refusals_are_bounded(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        async with running.store.begin() as tx:
            for number in range(MOST_REASONS + 40):
                code = "r" + "".join(chr(ord("a") + int(digit)) for digit in str(number))
                await tx.audit(AuditDraft(kind="click.refused", actor="a", sentence="s", data={"code": code}))
        assert running.value("refusals_total", reason="other") == 40


async def test_the_store_is_counted_by_state_severity_and_risk(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        judged = records.incident().model_copy(update={"last_diagnosis": "dia_1"})
        async with running.store.begin() as tx:
            await tx.put(judged)
            await tx.put(records.incident("2", fingerprint="f2"))
            await tx.put(records.incident("3", fingerprint="f3", state=IncidentState.CLOSED))
            await tx.put(records.diagnosis())
            await tx.put(records.proposal())
            await tx.put(records.proposal("2", state=ProposalState.DENIED))
            await tx.put(records.execution(state=ExecutionState.NEEDS_HUMAN))
            assert await tx.take_lock("prod", "exec_1") == 1
            await tx.put(records.delivery())
            await tx.put(records.delivery("2", processed=True))
            await tx.audit(records.draft())
        running.clock.time += timedelta(seconds=25)
        await running.refresh()
        assert running.value("open_incidents", state="open", severity="unknown") == 1
        assert running.value("open_incidents", state="open", severity="") == 1
        assert running.value("open_incidents", state="closed", severity="") == 0
        assert running.value("active_proposals", state="pending", risk="destructive") == 1
        assert running.value("active_proposals", state="denied", risk="destructive") == 0
        assert running.value("locks_held", state="needs_human") == 1
        assert running.value("deliveries_waiting") == 1
        assert running.value("deliveries_waiting_oldest_seconds") == pytest.approx(30)
        assert running.value("chat_behind") == 3
        assert running.value("chat_behind_oldest_seconds") == pytest.approx(30)
        assert running.value("audit_rows") == 1
        assert running.value("store_readable") == 1


async def test_one_count_of_the_store_answers_for_five_seconds(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.refresh()
        await running.put(records.incident())
        await running.collector.refresh()
        assert running.value("open_incidents", state="open", severity="") == 0
        running.clock.time += timedelta(seconds=4.9)
        await running.collector.refresh()
        assert running.value("open_incidents", state="open", severity="") == 0
        running.clock.time += timedelta(seconds=0.1)
        await running.collector.refresh()
        assert running.value("open_incidents", state="open", severity="") == 1


async def test_a_store_that_cannot_be_read_is_said_and_its_numbers_are_left_out(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.put(records.incident())
        await running.refresh()

        async def no() -> None:
            raise StoreError("locked")

        running.collector._tallies.tally = no  # pyright: ignore[reportAttributeAccessIssue]
        await running.refresh()
        assert running.registry.get_sample_value("natsmedic_store_readable") == 0
        assert running.registry.get_sample_value("natsmedic_audit_rows") is None


async def test_checkpoints_and_sweeps_have_an_age(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        async with running.store.begin() as tx:
            for _ in range(7):
                await tx.audit(records.draft())
        running.places[:] = [
            {"place": "file", "row": 5, "age_seconds": 70, "problem": None},
            {"place": "channel", "row": None, "age_seconds": None, "problem": "no"},
        ]
        running.swept_at = records.NOW
        await running.refresh()
        assert running.value("checkpoint_age_seconds", place="file") == 70
        assert running.registry.get_sample_value("natsmedic_checkpoint_age_seconds", {"place": "channel"}) is None
        assert [running.value("checkpoint_rows_behind", place=p) for p in ("file", "channel")] == [2, 7]
        assert [running.value("checkpoint_failing", place=p) for p in ("file", "channel")] == [0, 1]
        assert running.value("sweep_age_seconds") == 5
        assert running.value("leads") == 1


async def test_a_thread_is_measured_from_the_episode_that_it_shows(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        running.meter.shown(records.incident(), records.NOW + timedelta(seconds=3))
        assert running.value("alert_to_thread_seconds_sum") == pytest.approx(3)
        assert running.value("alert_to_thread_seconds_bucket", le="5.0") == 1
        assert running.value("alert_to_thread_seconds_bucket", le="1.0") == 0


async def scrape(
    running: House, accept: str = "text/plain", bearer: str | None = None, secret: str | None = None
) -> str:
    answer = await asked(running, accept, [f"Bearer {bearer}"] if bearer else [], secret)
    assert answer.status_code == 200
    return answer.text


async def asked(running: House, accept: str, authorizations: list[str], secret: str | None) -> httpx.Response:
    settings = MetricsSettings(bearer=SecretStr(secret) if secret else None)
    app = metrics_app(settings, running.registry, running.collector)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bot") as client:
        told = [(b"accept", accept), *((b"authorization", one) for one in authorizations)]
        headers = [(name, value.encode("latin-1")) for name, value in told]
        return await client.get("/metrics", headers=headers)


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0,text/plain",
        "application/openmetrics-text;version=none",
    ],
)
async def test_a_scraper_that_wants_openmetrics_gets_it(tmp_path: Path, accept: str) -> None:
    async with house(tmp_path) as running:
        await deliver(intake(running), alert())
        text = await scrape(running, accept)
        assert text.endswith("# EOF\n")
        assert "natsmedic_alerts" in {family.name for family in openmetrics(text)}


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=x", "\xff"])
async def test_everybody_else_gets_plain_text(tmp_path: Path, accept: str) -> None:
    async with house(tmp_path) as running:
        assert "natsmedic_store_readable" in {family.name for family in plain(await scrape(running, accept))}


async def test_without_the_token_nobody_reads_the_metrics(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        for given in ([], ["Bearer wrong"], ["Bearer tok", "Bearer tok"], ["Basic tok"], ["Bearer tok\xe9"]):
            answer = await asked(running, "text/plain", given, "tok")
            assert answer.status_code == 401
            assert "natsmedic_" not in answer.text
        assert "natsmedic_store_readable" in await scrape(running, bearer="tok", secret="tok")


@pytest.mark.parametrize("query", [INCIDENTS, PROPOSALS])
def test_what_is_grouped_by_has_no_parameters_which_postgresql_takes_for_different_ones(
    query: Select[str, str, int],
) -> None:
    text = str(query.compile(dialect=postgresql.dialect()))
    grouped, chosen = text.split("GROUP BY ")[1], text.split(" \nFROM", maxsplit=1)[0]
    expression = grouped.partition(", ")[2].strip()
    assert "#>>" in expression
    assert expression in chosen
    assert "%(" not in expression


async def test_only_a_sweep_that_came_to_its_end_is_one(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        quiet = Quiet()
        sweeper = Sweeper(
            store=running.store,
            engine=quiet,
            clock=running.clock,
            chat=quiet,
            threads=ThreadSettings(),
            rules=PolicySettings(),
        )
        ended: list[datetime | None] = []

        async def sleep(seconds: float) -> None:
            ended.append(sweeper.swept_at)
            running.clock.time += timedelta(seconds=5)
            running.store.incidents = fails  # pyright: ignore[reportAttributeAccessIssue]
            if len(ended) == 3:
                raise InterruptedError

        async def fails(**_: object) -> None:
            raise StoreError("locked")

        running.clock.sleep = sleep
        with pytest.raises(InterruptedError):
            await sweeper.run()
        assert ended == [records.NOW] * 3
