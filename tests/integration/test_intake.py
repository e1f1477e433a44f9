"""Deliveries become incidents: folded, never lost, never doubled. On a real database with the real Alertmanager parser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.adapters.webhooks import parse_alertmanager
from bot.errors import BadInput
from bot.flow.inbox import QueueFull
from bot.flow.intake import Intake
from bot.flow.sweep import Sweeper
from bot.model import Incident, IncidentState, JsonObject, Proposal, ProposalState
from bot.ports import Phase
from bot.settings import ClusterSettings, Credentials, NatsSettings, PolicySettings, ThreadSettings
from tests.integration import store_records as records
from tests.integration.execution_house import Quiet
from tests.unit.policy import matters


def cluster(name: str, **match: str) -> ClusterSettings:
    login = Credentials.model_validate({"user": "u", "password": "p"})
    nats = NatsSettings(servers=("nats://127.0.0.1:4222",), system=login)
    return ClusterSettings.model_validate(
        {"name": name, "channel": f"C0{name.upper()}", "nats": nats} | ({"match": match} if match else {})
    )


def body(*alerts: JsonObject, truncated: int = 0) -> str:
    return json.dumps(
        {"version": "4", "groupKey": "g", "truncatedAlerts": truncated, "status": "firing", "alerts": alerts}
    )


def alert(
    state: str = "firing", fingerprint: str = "f1", starts: str = "2026-11-21T03:00:00Z", **labels: str
) -> JsonObject:
    return {
        "status": state,
        "labels": {"alertname": "NatsConsumerStuck", "cluster": "prod"} | labels,
        "annotations": {},
        "startsAt": starts,
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    }


@dataclass
class House:
    store: SqlStore
    quiet: Quiet
    clock: records.FixedClock
    intake: Intake

    async def deliver(self, *alerts: JsonObject, truncated: int = 0) -> None:
        await self.intake.accept("alertmanager", body(*alerts, truncated=truncated))
        await self.intake.drain()

    async def incidents(self) -> list[Incident]:
        return list(await self.store.incidents())

    def diagnoses(self) -> list[str]:
        return [key for phase, key in self.quiet.started if phase is Phase.DIAGNOSIS]


@asynccontextmanager
async def house(folder: Path, *clusters: ClusterSettings, max_queue: int = 100) -> AsyncGenerator[House]:
    clock, quiet = records.FixedClock(), Quiet()
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        intake = Intake(
            store=store,
            engine=quiet,
            clock=clock,
            chat=quiet,
            clusters=clusters or (cluster("prod"),),
            parsers={"alertmanager": parse_alertmanager},
            max_queue=max_queue,
            threads=ThreadSettings(),
        )
        yield House(store, quiet, clock, intake)


async def test_a_firing_alert_opens_one_incident_and_one_diagnosis(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert(), truncated=3)
        (incident,) = await h.incidents()
        assert (incident.cluster, incident.channel, incident.state) == ("prod", "C0PROD", IncidentState.OPEN)
        assert incident.truncated == 3
        assert h.diagnoses() == [f"{incident.id}/alert"]


async def test_repeats_fold_into_the_open_incident(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for _ in range(4):
            await h.deliver(alert())
        (incident,) = await h.incidents()
        assert incident.firing_count == 4
        assert len(await h.store.alerts(incident.id)) == 4
        assert h.diagnoses() == [f"{incident.id}/alert"]


async def test_a_pair_of_alertmanagers_that_deliver_at_once_give_one_incident(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await asyncio.gather(*(h.deliver(alert()) for _ in range(10)))
        (incident,) = await h.incidents()
        assert incident.firing_count == 10


async def test_a_delivery_that_is_processed_twice_counts_once(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.intake.accept("alertmanager", body(alert()))
        await asyncio.gather(h.intake.drain(), h.intake.drain())
        await h.intake.drain()
        (incident,) = await h.incidents()
        assert incident.firing_count == 1


async def test_resolved_is_cleared_by_the_sender_and_never_verified_by_it(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert())
        (incident,) = await h.incidents()
        await waiting(h, incident)
        await h.deliver(alert("resolved"))
        (cleared,) = await h.incidents()
        assert cleared.state is IncidentState.CLEARED
        assert any(key.startswith(f"{incident.id}/sender resolved") for key in h.diagnoses()), (
            "the bot looks for itself"
        )
        proposal = await h.store.get(Proposal, "prop_9")
        assert proposal is not None
        assert proposal.state is ProposalState.WITHDRAWN
        assert cleared.revision > incident.revision + 1, (
            "every change of the thread raises the revision, none lowers it"
        )


async def waiting(h: House, incident: Incident) -> None:
    """Store a proposal of this incident that waits for approval."""
    async with h.store.begin() as tx:
        await tx.put(records.diagnosis("9").model_copy(update={"incident_id": incident.id}))
        await tx.put(
            records.proposal("9").model_copy(
                update={"incident_id": incident.id, "diagnosis_id": records.diagnosis("9").id}
            )
        )


async def test_resolved_of_an_alert_that_never_fired_here_opens_nothing_and_is_recorded(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert("resolved"))
        assert await h.incidents() == []
        assert [row.kind for row in await h.store.audit_entries()] == ["alert.resolved"]


async def test_firing_again_after_resolved_is_a_relapse_of_the_same_incident(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert())
        await h.deliver(alert("resolved"))
        await h.deliver(alert(starts="2026-11-21T04:00:00Z"))
        (incident,) = await h.incidents()
        assert incident.state is IncidentState.OPEN
        assert any("relapse" in key for key in h.diagnoses())


async def test_a_late_copy_of_firing_does_not_reopen_what_was_resolved(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert())
        await h.deliver(alert("resolved"))
        await h.deliver(alert())
        (incident,) = await h.incidents()
        assert incident.state is IncidentState.CLEARED


async def test_an_alert_of_no_configured_cluster_gets_a_thread_that_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, cluster("prod"), cluster("stage")) as h:
        await h.deliver(alert(cluster="moon"))
        (incident,) = await h.incidents()
        assert incident.cluster is None
        assert incident.note is not None
        assert "prod, stage" in incident.note


async def test_labels_choose_the_cluster(tmp_path: Path) -> None:
    async with house(tmp_path, cluster("prod"), cluster("stage", env="staging")) as h:
        await h.deliver(alert(), alert(fingerprint="f2", cluster="x", env="staging"))
        assert {i.cluster for i in await h.incidents()} == {"prod", "stage"}


async def test_beyond_the_cap_the_sender_is_asked_to_retry_and_nothing_is_stored(tmp_path: Path) -> None:
    async with house(tmp_path, max_queue=2) as h:
        for _ in range(2):
            await h.intake.accept("alertmanager", body(alert()))
        with pytest.raises(QueueFull):
            await h.intake.accept("alertmanager", body(alert()))
        assert await h.store.count_unprocessed() == 2


async def test_an_unreadable_body_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        with pytest.raises(BadInput):
            await h.intake.accept("alertmanager", '{"version": "3"}')
        assert await h.store.count_unprocessed() == 0


async def test_the_sweeper_starts_what_a_crash_left_behind(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        async with h.store.begin() as tx:
            await tx.put(records.incident())
        sweeper = Sweeper(
            store=h.store, engine=h.quiet, clock=h.clock, chat=h.quiet, threads=ThreadSettings(), rules=PolicySettings()
        )
        await sweeper.sweep()
        assert (Phase.DIAGNOSIS, "inc_1/alert") in h.quiet.started


async def test_a_waiting_proposal_is_reminded_of_once_at_half_time_and_then_expires(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert())
        (incident,) = await h.incidents()
        await waiting(h, incident)
        sweeper = Sweeper(
            store=h.store, engine=h.quiet, clock=h.clock, chat=h.quiet, threads=ThreadSettings(), rules=PolicySettings()
        )
        seen: list[tuple[ProposalState, bool]] = []
        for _ in range(11):
            await sweeper.sweep()
            found = await h.store.get(Proposal, "prop_9")
            assert found is not None
            seen.append((found.state, found.reminded_at is not None))
            h.clock.time += timedelta(minutes=1)
        assert seen[:5] == [(ProposalState.PENDING, False)] * 5
        assert seen[5:10] == [(ProposalState.PENDING, True)] * 5
        assert seen[10] == (ProposalState.EXPIRED, True)


async def test_every_further_group_is_called_once_in_its_turn_however_often_sweepers_start(tmp_path: Path) -> None:
    calls = PolicySettings.model_validate(
        {
            "groups": {name: {"users": ["U1"]} for name in ("operators", "owners", "leads", "heads")},
            "approvers": {risk: ["operators", "owners"] for risk in ("low", "medium", "destructive")},
            "escalation": {risk: ["leads", "heads"] for risk in ("low", "medium", "destructive")},
        }
    )
    async with house(tmp_path) as h:
        await h.deliver(alert())
        (incident,) = await h.incidents()
        await waiting(h, incident)
        async with h.store.begin() as tx:
            waits = await tx.get(Proposal, "prop_9")
            assert waits is not None
            await tx.put(waits.model_copy(update={"stages": matters.proposal().stages}))
        seen: list[int] = []
        for minutes in (5.0, 0.0, 2.4, 0.1, 0.0, 1.2, 0.1, 0.0, 0.5):
            h.clock.time += timedelta(minutes=minutes)
            # A sweeper of its own each time, as after a restart.
            sweeper = Sweeper(
                store=h.store, engine=h.quiet, clock=h.clock, chat=h.quiet, threads=ThreadSettings(), rules=calls
            )
            await sweeper.sweep()
            found = await h.store.get(Proposal, "prop_9")
            assert found is not None
            seen.append(len(found.escalations))
        assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        rows = [line.entry() for line in await h.store.newest_audit_lines(limit=50)]
        told = sorted(str(row.data["group"]) for row in rows if row.kind == "proposal.escalated")
        assert told == ["heads", "leads"]


async def test_an_alert_that_fires_again_soon_after_it_was_over_goes_on_in_its_incident(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert())
        await h.deliver(alert("resolved"))
        h.clock.time += timedelta(hours=4)
        await h.deliver(alert(starts="2026-11-21T09:00:00Z"))
        (incident,) = await h.incidents()
        assert incident.state is IncidentState.OPEN
        assert [(r.number, r.after) for r in incident.relapses] == [(1, IncidentState.CLEARED)]


async def test_an_alert_that_was_over_for_longer_opens_an_incident_that_names_the_old_one(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert())
        await h.deliver(alert("resolved"))
        h.clock.time += timedelta(hours=4, seconds=1)
        await h.deliver(alert(starts="2026-11-21T09:00:00Z"))
        new, old = await h.incidents()
        assert old.state is IncidentState.CLOSED
        assert (new.previous, new.relapses) == (old.id, ())


@pytest.mark.parametrize("skew", [-600, 600])
async def test_a_sender_whose_clock_is_wrong_opens_and_clears_one_incident(tmp_path: Path, skew: int) -> None:
    async with house(tmp_path) as h:
        starts = (h.clock.now() + timedelta(seconds=skew)).isoformat()
        for state in ("firing", "firing", "resolved", "firing"):
            await h.deliver(alert(state, starts=starts))
        (incident,) = await h.incidents()
        assert (incident.firing_count, incident.state) == (3, IncidentState.CLEARED), "the last is a late copy"


async def test_a_clock_that_is_set_back_between_firing_and_resolved_loses_neither(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.deliver(alert())
        h.clock.time -= timedelta(minutes=10)
        await h.deliver(alert("resolved"))
        await h.deliver(alert(starts="2026-11-21T04:00:00Z"))
        (incident,) = await h.incidents()
        assert (incident.state, len(incident.relapses)) == (IncidentState.OPEN, 1)
