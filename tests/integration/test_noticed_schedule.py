"""A schedule opens, folds and clears incidents on a real database; what the runbooks find is the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.errors import SettingsError, StoreBusy
from bot.flow.diagnosis import runbook_for
from bot.flow.notices import SCHEDULE
from bot.model import Diagnosis, ExecutionState, IncidentState, Severity, Verdict
from tests.integration import store_records as records
from tests.integration.noticed_support import CRITICAL, OK, WARNING, House, finding, house


async def test_a_bad_verdict_opens_an_incident_folds_repeats_and_clears_it(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        schedule = h.schedule()
        assert await h.pass_once(schedule) == []
        assert await h.pass_once(schedule, STREAMS=CRITICAL) == ["alert"]
        assert await h.pass_once(schedule) == []
        incident = (await h.incidents())["STREAMS"]
        assert (incident.source, incident.cluster, incident.firing_count) == (SCHEDULE, "prod", 2)
        assert incident.labels == {"cluster": "prod", "runbook": "STREAMS", "check": "STREAMS_FINE", "subject": "prod"}
        assert runbook_for(incident.title, h.runbooks()).code == "STREAMS"
        (reason,) = await h.pass_once(schedule, STREAMS=OK)
        assert reason.startswith("sender resolved")
        assert await h.pass_once(schedule) == []
        assert await h.states() == {"STREAMS": IncidentState.CLEARED}
        (reason,) = await h.pass_once(schedule, STREAMS=CRITICAL)
        assert reason.startswith("relapse")
        assert await h.states() == {"STREAMS": IncidentState.OPEN}


async def test_a_repaired_incident_is_closed_by_the_next_good_pass(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        schedule = h.schedule()
        await h.pass_once(schedule, STREAMS=CRITICAL)
        async with h.store.begin() as tx:
            incident = (await h.incidents())["STREAMS"]
            await tx.put(incident.model_copy(update={"state": IncidentState.VERIFIED}))
        assert await h.pass_once(schedule, STREAMS=OK) == []
        assert await h.states() == {"STREAMS": IncidentState.CLOSED}


async def test_a_restart_goes_on_with_what_is_open(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.pass_once(h.schedule(), STREAMS=CRITICAL)
    async with house(tmp_path, clock=h.clock) as h:
        schedule = h.schedule()
        assert await h.pass_once(schedule, STREAMS=CRITICAL) == []
        assert (await h.incidents())["STREAMS"].firing_count == 2
        await h.pass_once(schedule, STREAMS=OK)
        assert await h.states() == {"STREAMS": IncidentState.CLEARED}


async def test_an_unreadable_cluster_opens_one_incident_in_the_second_pass(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        schedule = h.schedule()
        h.unreadable = True
        assert await h.pass_once(schedule) == []
        h.unreadable = False
        assert await h.pass_once(schedule) == []
        h.unreadable = True
        assert await h.pass_once(schedule) == []
        assert await h.incidents() == {}
        assert await h.pass_once(schedule) == ["alert"]
        (incident,) = (await h.incidents()).values()
        assert incident.labels["check"] == "CLUSTER_READABLE"
        assert "no server answers" in incident.annotations["summary"]


async def test_a_changed_picture_is_diagnosed_again_in_the_same_thread(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        schedule = h.schedule("warning")
        await h.pass_once(schedule, STREAMS=WARNING)
        assert await h.pass_once(schedule) == [], "no diagnosis yet, so one is under way"
        await diagnosed(h, WARNING)
        assert await h.pass_once(schedule) == []
        (reason,) = await h.pass_once(schedule, STREAMS=CRITICAL)
        assert reason.startswith("changed")
        await diagnosed(h, CRITICAL)
        assert await h.pass_once(schedule) == []
        assert list(await h.states()) == ["STREAMS"]


async def diagnosed(h: House, severity: Severity) -> None:
    """Store what the thread shows."""
    incident = (await h.incidents())["STREAMS"]
    found = finding("STREAMS", severity)
    diagnosis = Diagnosis.model_validate(
        records.diagnosis(severity.value).model_dump()
        | {
            "incident_id": incident.id,
            "runbook": "STREAMS",
            "findings": (found,),
            "verdict": Verdict(severity=severity, root=found, sentence="Looked."),
        }
    )
    async with h.store.begin() as tx:
        await tx.put(diagnosis)
        await tx.put(incident.model_copy(update={"last_diagnosis": diagnosis.id}))


@pytest.mark.parametrize("state", [s for s in ExecutionState if not s.terminal])
async def test_no_pass_is_taken_while_a_repair_runs_on_the_cluster(tmp_path: Path, state: ExecutionState) -> None:
    async with house(tmp_path) as h:
        schedule = h.schedule()
        await executing(h, state)
        assert await h.pass_once(schedule, STREAMS=CRITICAL) == []
        assert h.gathered == 0
        await executing(h, ExecutionState.DONE)
        assert await h.pass_once(schedule, STREAMS=CRITICAL) == ["alert"]


async def test_a_repair_of_another_cluster_is_no_reason_to_wait(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await executing(h, ExecutionState.APPLYING, "stage")
        assert await h.pass_once(h.schedule(), STREAMS=CRITICAL) == ["alert"]


async def test_a_pass_during_which_a_repair_has_begun_says_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.during_gather = lambda: executing(h, ExecutionState.APPLYING)
        assert await h.pass_once(h.schedule(), STREAMS=CRITICAL) == []
        assert h.gathered == 1
        assert "STREAMS" not in await h.incidents()


async def executing(h: House, state: ExecutionState, name: str = "prod") -> None:
    """Store a repair in this state, of an incident that has nothing to do with the schedule."""
    async with h.store.begin() as tx:
        await tx.put(records.incident(state=IncidentState.CLOSED))
        await tx.put(records.diagnosis())
        await tx.put(records.proposal())
        await tx.put(records.execution(state=state).model_copy(update={"cluster": name}))


async def test_passes_start_every_so_often_however_long_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h:
        schedule, began = h.schedule(), h.clock.now()
        starts: list[float] = []
        takes = [0.0, 40.0, 299.0, 300.0, 650.0, 0.0]

        async def pass_once() -> None:
            starts.append((h.clock.now() - began).total_seconds())
            if not takes:
                raise SettingsError("the test is over")
            h.later(takes.pop(0))
            raise StoreBusy("an error of the database ends no schedule")

        monkeypatch.setattr(schedule, "pass_once", pass_once)
        with pytest.raises(SettingsError):
            await schedule.run()
        assert starts == [0, 300, 600, 900, 1_500, 2_400, 2_700]
