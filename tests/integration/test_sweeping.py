"""What the sweeper ends, reminds of, calls and starts: at its exact moment, once, and never what somebody else decided meanwhile."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from bot.adapters.database import SqlStore
from bot.errors import StoreError
from bot.flow.sweep import SWEEP_SECONDS, Sweeper
from bot.model import (
    STORM,
    ExecutionState,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    ProposalState,
    Silence,
    SlackUser,
    StormMember,
)
from bot.policy import WITHOUT_CODE
from bot.ports import Phase
from bot.settings import PolicySettings, ThreadSettings
from bot.settings.policy import FactorSettings
from tests.integration import store_records as records
from tests.integration.store_records import NOW
from tests.unit.policy import matters

INSTANT = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
LATE = "Nobody with the authority approved it in time."
CALLS = PolicySettings.model_validate(
    {
        "groups": {name: {"users": ["U1"]} for name in ("operators", "owners", "leads")},
        "approvers": {"destructive": ["operators", "owners"]},
        "escalation": {"destructive": ["leads"]},
    }
)
WAITING = records.proposal().model_copy(update={"stages": matters.proposal().stages})
REMINDED = WAITING.model_copy(update={"reminded_at": NOW + 5 * MINUTE})


@dataclass
class House:
    store: SqlStore
    clock: records.FixedClock
    started: list[tuple[Phase, str]] = field(default_factory=list[tuple[Phase, str]])
    nudged: list[str] = field(default_factory=list[str])
    rules: PolicySettings = CALLS

    @property
    def sweeper(self) -> Sweeper:
        return Sweeper(
            store=self.store,
            engine=cast("Any", self),
            clock=self.clock,
            chat=cast("Any", self),
            threads=ThreadSettings(),
            rules=self.rules,
        )

    async def start(self, phase: Phase, key: str) -> None:
        self.started.append((phase, key))

    def nudge(self, incident: str) -> None:
        self.nudged.append(incident)

    async def put(self, *made: Any) -> None:
        async with self.store.begin() as tx:
            for record in made:
                await tx.put(record)

    async def at(self, after: timedelta) -> Proposal:
        """Sweep so long after the proposal was made, and return it."""
        self.clock.time = NOW + after
        await self.sweeper.sweep()
        return await self.proposal()

    async def proposal(self) -> Proposal:
        found = await self.store.get(Proposal, WAITING.id)
        assert found is not None
        return found

    async def revision(self) -> int:
        found = await self.store.get(Incident, "inc_1")
        assert found is not None
        return found.revision

    async def rows(self) -> list[tuple[object, ...]]:
        found = await self.store.audit_entries()
        return [(r.kind, r.actor, r.incident_id, r.subject, r.sentence, r.data) for r in found]


@asynccontextmanager
async def house(folder: Path, *made: Any) -> AsyncGenerator[House]:
    clock = records.FixedClock()
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        h = House(store, clock)
        await h.put(records.incident().model_copy(update={"last_diagnosis": "dia_1"}), records.diagnosis(), *made)
        yield h


async def test_what_nobody_decided_expires_at_its_very_moment(tmp_path: Path) -> None:
    async with house(tmp_path, REMINDED) as h:
        h.clock.time = NOW + 10 * MINUTE - INSTANT
        await Sweeper(
            store=h.store, engine=cast("Any", h), clock=h.clock, chat=cast("Any", h), threads=ThreadSettings(),
            rules=PolicySettings(),
        ).sweep()  # fmt: skip
        assert (await h.proposal(), h.nudged) == (REMINDED, [])
        over = await h.at(10 * MINUTE)
        assert over == REMINDED.model_copy(update={"state": ProposalState.EXPIRED, "state_reason": LATE})
        assert await h.rows() == [("proposal.expired", "bot", "inc_1", "prop_1", LATE, {})]
        assert (await h.at(11 * MINUTE), h.nudged) == (over, ["inc_1"])


async def test_a_waiting_one_is_reminded_of_at_half_of_its_time_and_once(tmp_path: Path) -> None:
    async with house(tmp_path, WAITING) as h:
        assert (await h.at(5 * MINUTE - INSTANT), h.nudged) == (WAITING, [])
        revision = await h.revision()
        assert await h.at(5 * MINUTE) == REMINDED
        assert (await h.at(6 * MINUTE), h.nudged) == (REMINDED, ["inc_1"])
        assert (await h.revision() - revision, await h.rows()) == (1, [])


async def test_the_next_group_is_called_at_its_moment_on_record(tmp_path: Path) -> None:
    async with house(tmp_path, REMINDED) as h:
        assert (await h.at(7.5 * MINUTE - INSTANT), h.nudged) == (REMINDED, [])
        revision = await h.revision()
        called = await h.at(7.5 * MINUTE)
        assert [(one.group, one.stands_for, one.at) for one in called.escalations] == [
            ("leads", "operators", NOW + 7.5 * MINUTE)
        ]
        assert called.model_copy(update={"escalations": ()}) == REMINDED
        sentence = "Nobody of operators decided in time; leads is called and may approve in its place."
        data = {"group": "leads", "stands_for": "operators"}
        assert await h.rows() == [("proposal.escalated", "bot", "inc_1", "prop_1", sentence, data)]
        assert (await h.at(8 * MINUTE), h.nudged, await h.revision() - revision) == (called, ["inc_1"], 1)


async def test_a_called_group_stands_for_one_that_has_not_approved(tmp_path: Path) -> None:
    async with house(tmp_path, REMINDED) as h:
        who = matters.person("ada", "operators")
        given = matters.approval(REMINDED, who).model_copy(update={"at": NOW})
        await h.put(given)
        (call,) = (await h.at(7.5 * MINUTE)).escalations
        assert call.stands_for == "owners"


async def test_what_does_not_wait_is_neither_reminded_of_nor_called_for_and_does_not_expire(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for state in set(ProposalState) - {ProposalState.PENDING}:
            for made, after in ((WAITING, 6), (REMINDED, 8), (REMINDED, 11)):
                other = made.model_copy(update={"state": state})
                await h.put(other)
                assert await h.at(after * MINUTE) == other
        assert h.nudged == []


async def test_what_somebody_decided_since_the_sweeper_looked_stays_decided(tmp_path: Path) -> None:
    seen: list[Proposal] = []

    async def stale(**given: Any) -> list[Proposal]:
        assert given == {"active_only": True}
        return seen

    async with house(tmp_path) as h:
        h.store.proposals = cast("Any", stale)
        for made, after in ((WAITING, 6), (REMINDED, 8), (REMINDED, 11)):
            seen = [made, made.model_copy(update={"id": "prop_gone"})]
            decided = made.model_copy(update={"state": ProposalState.DENIED, "state_reason": "Denied by ada: no"})
            await h.put(decided)
            assert await h.at(after * MINUTE) == decided
            assert await h.store.get(Proposal, "prop_gone") is None
        assert (h.nudged, await h.rows()) == ([], [])


async def test_what_does_not_wait_hides_nothing_that_does(tmp_path: Path) -> None:
    async with house(tmp_path, WAITING) as h:

        async def both(**given: Any) -> list[Proposal]:
            return [WAITING.model_copy(update={"id": "prop_0", "state": ProposalState.APPROVED}), WAITING]

        h.store.proposals = cast("Any", both)
        assert await h.at(5 * MINUTE) == REMINDED


async def test_what_expires_hides_nothing_that_waits(tmp_path: Path) -> None:
    other = WAITING.model_copy(update={"id": "prop_2", "button": "btn_2", "expires_at": NOW + 60 * MINUTE})
    async with house(tmp_path, WAITING, other) as h:
        assert (await h.at(30 * MINUTE)).state is ProposalState.EXPIRED
        waiting = await h.store.get(Proposal, "prop_2")
        assert waiting is not None
        assert waiting.reminded_at == NOW + 30 * MINUTE


async def test_an_approval_without_the_code_that_is_asked_for_now_is_voided_once(tmp_path: Path) -> None:
    given = matters.approval(REMINDED, matters.person("ada", "operators")).model_copy(update={"at": NOW})
    async with house(tmp_path, REMINDED, given) as h:
        h.rules = CALLS.model_copy(update={"second_factor": FactorSettings(secrets={})})
        await h.at(6 * MINUTE)
        await h.at(7 * MINUTE)
        assert await h.store.approvals(WAITING.id) == [given.model_copy(update={"void": WITHOUT_CODE})]
        assert ([row[0] for row in await h.rows()], h.nudged) == (["approval.void"], ["inc_1"])


async def test_what_is_only_a_part_of_a_storm_is_not_diagnosed(tmp_path: Path) -> None:
    member = StormMember(
        id=IncidentId("inc_2"), storm=IncidentId("inc_9"), cluster="prod", title="t", words="", page=False,
        own_thread=False, at=NOW,
    )  # fmt: skip
    async with house(tmp_path) as h:
        storm = records.incident("9", fingerprint="C1").model_copy(update={"source": STORM})
        await h.put(storm, records.incident("2", fingerprint="f2"), member)
        await h.sweeper.sweep()
        assert h.started == []
        await h.put(member.model_copy(update={"own_thread": True}))
        await h.sweeper.sweep()
        assert h.started == [(Phase.DIAGNOSIS, "inc_2/alert")]


async def test_a_call_that_another_sweeper_made_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    async with house(tmp_path, REMINDED) as h:
        called = await h.at(7.5 * MINUTE)

        async def stale(**given: Any) -> list[Proposal]:
            return [REMINDED]

        h.store.proposals = cast("Any", stale)
        assert await h.at(8 * MINUTE) == called
        assert (h.nudged, len(await h.rows())) == (["inc_1"], 1)


async def test_what_a_crash_interrupted_is_started_again_and_what_ended_is_not(tmp_path: Path) -> None:
    running, done = records.execution(), records.execution("2", state=ExecutionState.DONE)
    other = records.proposal("2", state=ProposalState.DONE)
    done = done.model_copy(update={"proposal_id": other.id})
    applying = WAITING.model_copy(update={"state": ProposalState.APPLYING})
    async with house(tmp_path, applying, other, running, done) as h:
        await h.sweeper.sweep()
        assert h.started == [(Phase.EXECUTION, "exec_1")]


async def test_only_an_incident_of_a_known_cluster_without_a_diagnosis_is_diagnosed(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.put(
            records.incident("2", fingerprint="f2"),
            records.incident("3", fingerprint="f3").model_copy(update={"cluster": None}),
            records.incident("4", fingerprint="f4", state=IncidentState.CLOSED),
        )
        await h.sweeper.sweep()
        assert h.started == [(Phase.DIAGNOSIS, "inc_2/alert")]


async def test_a_storm_that_nothing_joins_any_more_ends_and_is_never_diagnosed(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        storm = records.incident("9", fingerprint="C1").model_copy(update={"source": STORM})
        await h.put(storm)
        await h.sweeper.sweep()
        assert (h.started, h.nudged) == ([], [])
        h.clock.time = NOW + timedelta(seconds=ThreadSettings().storm_window)
        await h.sweeper.sweep()
        await h.sweeper.sweep()
        found = await h.store.get(Incident, "inc_9")
        assert found is not None
        assert (found.state, h.started, h.nudged) == (IncidentState.CLOSED, [], ["inc_9"])


async def test_a_hundred_storms_that_are_over_hide_none_that_goes_on(tmp_path: Path) -> None:
    storm = records.incident("9", fingerprint="C1").model_copy(update={"source": STORM})
    later = storm.model_copy(update={"opened_at": NOW + MINUTE, "state": IncidentState.CLOSED})
    over = [later.model_copy(update={"id": f"inc_over{n}", "fingerprint": f"C{n}"}) for n in range(2, 102)]
    async with house(tmp_path, storm, *over) as h:
        h.clock.time = NOW + timedelta(seconds=ThreadSettings().storm_window)
        await h.sweeper.sweep()
        assert h.nudged == ["inc_9"]


async def test_a_silence_ends_at_its_very_moment_on_record(tmp_path: Path) -> None:
    silence = Silence(
        user=SlackUser(team_id="T1", user_id="U1"),
        person="ada",
        reason="r",
        at=NOW,
        until=NOW + 10 * MINUTE,
        muted=3,
    )
    async with house(tmp_path) as h:
        quiet = records.incident().model_copy(update={"last_diagnosis": "dia_1", "silence": silence})
        await h.put(quiet)
        h.clock.time = NOW + 10 * MINUTE - INSTANT
        await h.sweeper.sweep()
        assert (await h.rows(), h.nudged) == ([], [])
        h.clock.time = NOW + 10 * MINUTE
        await h.sweeper.sweep()
        await h.sweeper.sweep()
        assert await h.store.get(Incident, "inc_1") == quiet.let_speak(NOW + 10 * MINUTE)
        sentence = "The silence of ada is over; alerts that came in meanwhile: 3."
        assert await h.rows() == [("silence.over", "bot", "inc_1", "inc_1", sentence, {})]
        assert h.nudged == ["inc_1"]


async def test_a_silence_that_was_made_longer_since_the_sweeper_looked_goes_on(tmp_path: Path) -> None:
    short = Silence(user=SlackUser(team_id="T1", user_id="U1"), person="ada", reason="r", at=NOW, until=NOW + MINUTE)
    incident = records.incident().model_copy(update={"last_diagnosis": "dia_1", "silence": short})
    for now in (incident.model_copy(update={"silence": None}), incident.model_copy(update={"silence": short.model_copy(update={"until": NOW + 9 * MINUTE})})):  # fmt: skip
        folder = tmp_path / str(now.silence is None)
        folder.mkdir()
        async with house(folder) as h:
            await h.put(now)

            async def stale() -> list[Incident]:
                loud = incident.model_copy(update={"silence": None})
                return [loud, incident, incident.model_copy(update={"id": "inc_gone"})]

            h.store.silenced = cast("Any", stale)
            h.clock.time = NOW + MINUTE
            await h.sweeper.sweep()
            assert (await h.store.get(Incident, "inc_1"), await h.rows(), h.nudged) == (now, [], [])


class Enough(Exception):
    """The test has seen what it came for."""


async def test_a_database_that_fails_is_swept_again_later(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        sweeper, naps, swept = h.sweeper, list[float](), 0
        assert sweeper.swept_at is None
        real = sweeper.sweep

        async def sweep() -> None:
            nonlocal swept
            swept += 1
            if swept == 1:
                raise StoreError("The disk is full.")
            await real()

        async def nap(seconds: float) -> None:
            naps.append(seconds)
            h.clock.time += timedelta(seconds=seconds)
            if swept == 2:
                raise Enough
            assert sweeper.swept_at is None

        sweeper.sweep = cast("Any", sweep)
        h.clock.sleep = nap
        with capture_logs() as told, pytest.raises(Enough):
            await sweeper.run()
        assert told == [{"event": "sweep postponed", "error": "The disk is full.", "log_level": "warning"}]
        assert (naps, sweeper.swept_at) == ([SWEEP_SECONDS] * 2, NOW + timedelta(seconds=SWEEP_SECONDS))
