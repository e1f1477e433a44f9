"""Taking an incident, silencing it, letting it speak again: who may, what is recorded, and that it ends by itself. On a real database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from bot.flow.cases import SILENCES, CaseDesk
from bot.flow.sweep import Sweeper
from bot.model import Incident, IncidentId, IncidentState, Person, RiskClass, SlackUser
from bot.ports import Clock
from bot.settings import GroupSettings, PolicySettings, ThreadSettings
from tests.integration.test_intake import House, alert, house

RULES = PolicySettings(
    groups={"operators": GroupSettings(users=("U1", "U2"))}, approvers={RiskClass.LOW: ("operators",)}
)
SECOND = timedelta(seconds=1)


class Everyone:
    """U1 and U2 are operators, U3 is a member, U9 a guest."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        del fresh
        return Person(
            user=user,
            key=f"person-{user.user_id}",
            human=True,
            active=True,
            guest=user.user_id == "U9",
            home_workspace=user.team_id == "T1",
            groups=frozenset({"operators"} if user.user_id in {"U1", "U2"} else ()),
            looked_up_at=self._clock.now(),
        )


@dataclass
class Desk:
    """An incident and who may do what with it."""

    house: House
    cases: CaseDesk
    id: IncidentId

    async def incident(self) -> Incident:
        found = await self.house.store.get(Incident, self.id)
        assert found is not None
        return found

    async def silence(self, user: str = "U1", lasts: str = "1h", reason: str = "upgrade") -> bool:
        return (await self.cases.silence(who(user), self.id, lasts, reason)).accepted

    async def sweep(self) -> None:
        house = self.house
        await Sweeper(
            store=house.store,
            engine=house.quiet,
            clock=house.clock,
            chat=house.quiet,
            threads=ThreadSettings(),
            rules=PolicySettings(),
        ).sweep()

    async def audited(self, kind: str) -> list[str]:
        return [row.sentence for row in await self.house.store.audit_entries() if row.kind == kind]


def who(user: str, team: str = "T1") -> SlackUser:
    return SlackUser(team_id=team, user_id=user)


@asynccontextmanager
async def desk(folder: Path) -> AsyncGenerator[Desk]:
    async with house(folder) as h:
        await h.deliver(alert())
        (incident,) = await h.incidents()
        cases = CaseDesk(
            store=h.store, directory=Everyone(h.clock), rules=RULES, engine=h.quiet, clock=h.clock, chat=h.quiet
        )
        yield Desk(h, cases, incident.id)


async def test_any_member_takes_an_incident_and_the_next_takes_it_over(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        assert (await d.cases.take(who("U3"), d.id)).accepted
        assert (await d.cases.take(who("U1"), d.id)).accepted
        holder = (await d.incident()).holder
        assert holder is not None
        assert holder.person == "person-U1"
        assert await d.audited("incident.taken") == ["person-U3 takes it.", "person-U1 takes it over from person-U3."]


async def test_who_holds_it_already_is_told_and_nothing_changes(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.cases.take(who("U1"), d.id)
        before = await d.incident()
        answer = await d.cases.take(who("U1"), d.id)
        assert (answer.accepted, answer.sentence) == (False, "You hold this incident already.")
        assert await d.incident() == before


@pytest.mark.parametrize(
    ("user", "gesture", "because"),
    [
        (who("U9"), "take", "Guests"),
        (who("U1", "T2"), "take", "members of this workspace"),
        (who("U3"), "silence", "none of the groups"),
        (who("U3"), "end", "none of the groups"),
        (who("U9"), "open", "Guests"),
    ],
)
async def test_who_may_not_is_refused_and_that_is_a_row(
    tmp_path: Path, user: SlackUser, gesture: str, because: str
) -> None:
    async with desk(tmp_path) as d:
        before = await d.incident()
        if gesture == "take":
            answer = await d.cases.take(user, d.id)
        elif gesture == "silence":
            assert not (await d.cases.may_silence(user, d.id)).accepted
            answer = await d.cases.silence(user, d.id, "1h", "why not")
        elif gesture == "open":
            answer = await d.cases.open_thread(user, d.id, d.id)
        else:
            answer = await d.cases.end_silence(user, d.id)
        assert not answer.accepted
        assert because in answer.sentence
        assert because in (await d.audited("click.refused"))[-1]
        assert await d.incident() == before


@pytest.mark.parametrize(("lasts", "reason", "fields"), [("1h", " ", {"reason"}), ("9h", "x", {"lasts"})])
async def test_a_silence_needs_a_known_duration_and_a_reason(
    tmp_path: Path, lasts: str, reason: str, fields: set[str]
) -> None:
    async with desk(tmp_path) as d:
        answer = await d.cases.silence(who("U1"), d.id, lasts, reason)
        assert set(answer.errors) == fields
        assert (await d.incident()).silence is None


@pytest.mark.parametrize("lasts", list(SILENCES))
async def test_a_silence_ends_by_itself_at_its_time_and_not_a_second_before(tmp_path: Path, lasts: str) -> None:
    async with desk(tmp_path) as d:
        assert await d.silence(lasts=lasts)
        for wait, holds in ((SILENCES[lasts] - SECOND, True), (SECOND, False), (SECOND, False)):
            d.house.clock.time += wait
            await d.sweep()
            assert ((await d.incident()).silence is not None) is holds
        assert await d.audited("silence.over") == [
            "The silence of person-U1 is over; alerts that came in meanwhile: 0."
        ]


async def test_alerts_of_a_silenced_incident_are_stored_and_counted(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.silence()
        for _ in range(3):
            await d.house.deliver(alert())
        incident = await d.incident()
        assert incident.silence is not None
        assert (incident.silence.muted, incident.firing_count) == (3, 4)
        assert len(await d.house.store.alerts(d.id)) == 4


async def test_a_silenced_alert_that_comes_back_late_opens_no_new_thread(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.silence(lasts="1d")
        await d.house.deliver(alert("resolved"))
        d.house.clock.time += timedelta(hours=23)
        await d.house.deliver(alert(starts="2026-11-22T02:00:00Z"))
        assert [one.id for one in await d.house.incidents()] == [d.id]


async def test_the_silence_of_a_closed_incident_ends_by_itself_too(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.silence()
        async with d.house.store.begin() as tx:
            await tx.put((await d.incident()).to(IncidentState.CLOSED, d.house.clock.now()))
        d.house.clock.time += timedelta(hours=1)
        await d.sweep()
        assert (await d.incident()).silence is None


async def test_a_silence_can_be_ended_early_once_and_bears_both_names(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.silence("U1")
        assert not await d.silence("U2")
        assert (await d.cases.end_silence(who("U2"), d.id)).accepted
        assert not (await d.cases.end_silence(who("U2"), d.id)).accepted
        (ended,) = (await d.incident()).silences
        assert (ended.person, ended.ended_by) == ("person-U1", "person-U2")
        assert (await d.audited("click.refused")) == [
            "This incident is silenced already.",
            "This incident is not silenced.",
        ]


@pytest.mark.parametrize("gesture", ["take", "silence"])
async def test_a_closed_incident_is_neither_taken_nor_silenced(tmp_path: Path, gesture: str) -> None:
    async with desk(tmp_path) as d:
        async with d.house.store.begin() as tx:
            await tx.put((await d.incident()).to(IncidentState.CLOSED, d.house.clock.now()))
        if gesture == "take":
            answer = await d.cases.take(who("U1"), d.id)
        else:
            answer = await d.cases.silence(who("U1"), d.id, "1h", "x")
        assert (answer.accepted, answer.sentence) == (False, "This incident is closed.")


async def test_an_unknown_incident_is_refused(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        assert not (await d.cases.take(who("U1"), IncidentId("inc_none"))).accepted
        assert len(await d.audited("click.refused")) == 1
