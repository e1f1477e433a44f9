"""Made-up worlds of incidents of every age and state, and which of them must go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from hypothesis import strategies as st
from sqlalchemy import text

from bot.adapters.database import SqlStore
from bot.adapters.database.convert import message_row
from bot.adapters.database.rows import DeliveredEventRow, DrawnRow, SnapshotRow, TargetLockRow, moment_text
from bot.model import (
    DeliveryId,
    ExecutionState,
    IncidentId,
    IncidentState,
    ProposalState,
    Silence,
    SlackUser,
    StormMember,
)
from bot.ports import Message, Stored
from bot.settings import RetentionSettings
from tests.integration.store_records import (
    NOW,
    alert,
    approval,
    delivery,
    diagnosis,
    draft,
    execution,
    incident,
    proposal,
)

RULES = RetentionSettings(incidents=100, snapshots=40, deliveries=60)
AGES = [0, 39, 40, 41, 59, 60, 61, 99, 100, 101, 500]
"""Days; at the very limit a thing is not too old yet."""

S = TypeVar("S", IncidentState, ProposalState, ExecutionState)


@dataclass(frozen=True)
class Case:
    """An incident of a made-up world, `storm` being the number of the one in whose message it is."""

    state: IncidentState
    age: int
    silenced: bool
    proposal: ProposalState | None
    run: ExecutionState | None
    holds: bool
    storm: int | None
    snapshot_age: int
    delivery_age: int
    shares: bool
    """Its alert came with the delivery of the one before."""

    @property
    def busy(self) -> bool:
        live = self.proposal is not None and not self.proposal.terminal
        unfinished = self.proposal is not None and self.run is not None and (not self.run.terminal or self.holds)
        return self.state is IncidentState.OPEN or live or unfinished

    @property
    def over(self) -> bool:
        return self.age > RULES.incidents and not self.busy and not self.silenced


def mostly(usual: S) -> st.SearchStrategy[S]:
    return st.one_of(st.just(usual), st.sampled_from(type(usual)))


@st.composite
def worlds(draw: st.DrawFn) -> list[Case]:
    """Up to forty incidents, most of which could go but for one thing or another; a database takes longer to make than to fill."""
    cases: list[Case] = []
    for _ in range(draw(st.integers(1, 40))):
        storms = [number for number, case in enumerate(cases) if case.storm is None]
        cases.append(
            Case(
                state=draw(mostly(IncidentState.CLOSED)),
                age=draw(st.sampled_from(AGES[-4:])),
                silenced=draw(st.integers(0, 5)) == 0,
                proposal=draw(st.one_of(st.none(), mostly(ProposalState.DONE))),
                run=draw(st.one_of(st.none(), mostly(ExecutionState.DONE))),
                holds=draw(st.integers(0, 5)) == 0,
                storm=draw(st.sampled_from([None, None, *storms])),
                snapshot_age=draw(st.sampled_from(AGES)),
                delivery_age=draw(st.sampled_from(AGES)),
                shares=draw(st.booleans()) and bool(cases),
            )
        )
    return cases


def gone(world: list[Case]) -> tuple[set[int], set[int], set[int]]:
    """Return which incidents, snapshots and deliveries must go, by number; what the SQL says in its own words is said here once more."""
    incidents = {
        number
        for number, case in enumerate(world)
        if case.over
        and not (case.storm is not None and world[case.storm].busy)
        and all(other.over for other in world if other.storm == number)
    }
    snapshots = {number for number, case in enumerate(world) if case.snapshot_age > RULES.snapshots and not case.busy}
    brought = {number: brought_by(world, number) for number in range(len(world))}
    deliveries = {
        number
        for number, case in enumerate(world)
        if not case.shares
        and case.delivery_age > RULES.deliveries
        and all(one in incidents for one, by in brought.items() if by == number)
    }
    return incidents, snapshots, deliveries


def brought_by(world: list[Case], number: int) -> int:
    while world[number].shares:
        number -= 1
    return number


async def build(store: SqlStore, world: list[Case]) -> None:
    async with store.begin() as tx:
        await tx.put_all([record for number, case in enumerate(world) for record in records(world, number, case)])
        await tx.audit(draft())
    async with store._database.write() as session:
        for number, case in enumerate(world):
            taken = moment_text(NOW - timedelta(days=case.snapshot_age))
            session.add(SnapshotRow(id=f"snap_{number}", cluster="prod", taken_at=taken, digest="d", archive=b"zip"))
            session.add(message_row(message(number)))
            session.add(DrawnRow(incident_id=f"inc_{number}", revision=1))
            if not case.shares:
                session.add(DeliveredEventRow(source="pd", event=f"event {number}", delivery_id=f"dlv_{number}"))
            if case.holds and case.run is not None:
                session.add(TargetLockRow(cluster=f"cluster {number}", execution_id=f"exec_{number}", fence=1))


def records(world: list[Case], number: int, case: Case) -> Iterator[Stored]:
    name, at = str(number), NOW - timedelta(days=case.age)
    who = SlackUser(team_id="T1", user_id="U1")
    silence = Silence(user=who, person="ana", reason="known", at=at, until=at) if case.silenced else None
    changed = {"updated_at": at, "silence": silence}
    yield incident(name, fingerprint=f"f{name}", state=case.state).model_copy(update=changed)
    if not case.shares:
        came = NOW - timedelta(days=case.delivery_age)
        yield delivery(name, processed=True).model_copy(update={"received_at": came})
    by = DeliveryId(f"dlv_{brought_by(world, number)}")
    yield alert(name, incident_id=f"inc_{name}").model_copy(update={"delivery_id": by})
    of_incident = {"incident_id": f"inc_{name}"}
    yield diagnosis(name).model_copy(update={**of_incident, "snapshot_id": f"snap_{name}", "charts": ()})
    if case.storm is not None:
        yield member(number, case.storm)
    if case.proposal is not None:
        yield proposal(name, state=case.proposal).model_copy(update=of_incident)
        yield approval(name).model_copy(update={"proposal_id": f"prop_{name}"})
        if case.run is not None:
            yield execution(name, state=case.run).model_copy(update={"proposal_id": f"prop_{name}"})


def member(number: int, storm: int) -> StormMember:
    return StormMember(
        id=IncidentId(f"inc_{number}"),
        storm=IncidentId(f"inc_{storm}"),
        cluster="prod",
        title="Consumer stuck",
        words="",
        page=False,
        own_thread=False,
        at=NOW,
    )


def message(number: int) -> Message:
    return Message(key=f"board:inc_{number}", incident_id=IncidentId(f"inc_{number}"), channel="C1", ts=f"{number}.1")


async def numbers(store: SqlStore, table: str) -> set[int]:
    async with store._database.read() as session:
        ids = await session.scalars(text(f"SELECT id FROM {table}"))
        return {int(one.rpartition("_")[2]) for one in ids}
