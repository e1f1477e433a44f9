"""Many alerts at once: everything is stored, few threads are made, and it ends by itself. On a real database with the real Alertmanager parser."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from bot.adapters.webhooks import parse_alertmanager
from bot.flow.cases import CaseDesk
from bot.flow.intake import Intake
from bot.flow.storm import LINES_DIAGNOSED, Storms
from bot.flow.sweep import Sweeper
from bot.model import STORM, Incident, IncidentId, IncidentState, JsonObject
from bot.settings import PolicySettings, ThreadSettings
from tests.integration.test_cases import RULES, Everyone, who
from tests.integration.test_intake import House, alert, cluster, house

THREADS = ThreadSettings(storm_incidents=3, storm_pages=2)
SECOND = timedelta(seconds=1)


@dataclass
class Weather:
    """An intake whose storms begin at the fourth incident."""

    house: House
    intake: Intake

    async def rain(self, *numbers: int, state: str = "firing", starts: int = 0, **labels: str) -> None:
        """So many alerts in one delivery."""
        begin = f"2026-11-21T03:{starts:02d}:00Z"
        self.house.intake = self.intake
        await self.house.deliver(*(drop(number, state, begin, **labels) for number in numbers))

    async def storm(self) -> Incident | None:
        found = [one for one in await self.house.store.incidents() if one.source == STORM]
        return found[0] if found else None

    async def threads(self) -> list[str]:
        """Fingerprints of the incidents with a thread of their own."""
        found = await self.house.store.incidents(threads_only=True, limit=1_000)
        return sorted(one.fingerprint for one in found if one.source != STORM)

    async def hidden(self) -> list[str]:
        shown = await self.threads()
        found = await self.house.store.incidents(limit=1_000)
        return sorted(one.fingerprint for one in found if one.source != STORM and one.fingerprint not in shown)

    async def sweep(self) -> None:
        h = self.house
        await Sweeper(
            store=h.store, engine=h.quiet, clock=h.clock, chat=h.quiet, threads=THREADS, rules=PolicySettings()
        ).sweep()

    def diagnosed(self) -> int:
        return len(set(self.house.diagnoses()))


def drop(number: int, state: str, begin: str, **labels: str) -> JsonObject:
    return alert(state, f"f{number:03d}", begin, stream=f"S{number}", **labels)


@asynccontextmanager
async def weather(folder: Path) -> AsyncGenerator[Weather]:
    async with house(folder) as h:
        intake = Intake(
            store=h.store,
            engine=h.quiet,
            clock=h.clock,
            chat=h.quiet,
            clusters=(cluster("prod", cluster="prod"), cluster("test", cluster="test")),
            parsers={"alertmanager": parse_alertmanager},
            max_queue=100,
            threads=THREADS,
        )
        yield Weather(h, intake)


@pytest.mark.parametrize(("count", "storms"), [(2, False), (3, False), (4, True)])
async def test_more_than_the_set_number_of_incidents_in_the_window_is_a_storm(
    tmp_path: Path, count: int, storms: bool
) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(count))
        assert (await w.storm() is not None) is storms
        assert len(await w.threads()) == min(count, 3)


@pytest.mark.parametrize(("gap", "storms"), [(60, True), (61, False)])
async def test_incidents_before_the_window_do_not_count(tmp_path: Path, gap: int, storms: bool) -> None:
    async with weather(tmp_path) as w:
        await w.rain(0, 1, 2)
        w.house.clock.time += SECOND * gap
        await w.rain(3)
        assert (await w.storm() is not None) is storms


async def test_channels_have_storms_of_their_own(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(0, 1, 2, 3)
        await w.rain(10, 11, cluster="test")
        assert await w.hidden() == ["f003"]


async def test_everything_that_falls_into_a_storm_is_stored_and_counted_in_its_table(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(3))
        w.house.clock.time += SECOND
        await w.rain(*range(3, 23))
        await w.rain(23, alertname="Other")
        storm = await w.storm()
        assert storm is not None
        incidents = [one for one in await w.house.store.incidents(limit=1_000) if one.source != STORM]
        assert len(incidents) == 24
        assert [len(await w.house.store.alerts(one.id)) for one in incidents] == [1] * 24
        big, small = await w.house.store.storm_lines(storm.id)
        assert (big.cluster, big.title, big.count, big.firing, big.page) == ("prod", "NatsConsumerStuck", 20, 20, False)
        assert (small.title, small.count, big.first) == ("Other", 1, w.house.clock.now())
        assert await w.house.store.behind() != []
        drawn = {incident for incident, _ in await w.house.store.behind()}
        assert len(drawn) == 4


async def test_page_worthy_incidents_get_threads_up_to_their_number_and_then_stand_first(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(5))
        await w.rain(50, 51, 52, severity="Critical", alertname="Down")
        storm = await w.storm()
        assert storm is not None
        assert await w.threads() == ["f000", "f001", "f002", "f050", "f051"]
        first = (await w.house.store.storm_lines(storm.id))[0]
        assert (first.title, first.count, first.page) == ("Down", 3, True)
        assert (await w.house.store.rolled_up(storm.id, 9))[0].title == "Down"


async def test_a_flood_of_page_worthy_alerts_is_a_storm_too(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(30), severity="page")
        assert len(await w.threads()) == 3 + 2


async def test_only_the_first_incident_of_a_kind_is_diagnosed_and_not_of_every_kind(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(10))
        assert w.diagnosed() == 3 + 1
        for number in range(LINES_DIAGNOSED + 5):
            await w.rain(100 + number, alertname=f"Kind{number}")
        assert w.diagnosed() == 3 + LINES_DIAGNOSED
        await w.sweep()
        assert w.diagnosed() == 3 + LINES_DIAGNOSED


async def test_a_critical_verdict_brings_an_incident_a_thread_of_its_own_up_to_their_number(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(7))
        storms = Storms(THREADS, w.house.clock)
        for fingerprint in await w.hidden():
            async with w.house.store.begin() as tx:
                incident = await tx.open_incident("alertmanager", fingerprint)
                assert incident is not None
                await tx.put(await storms.raised(tx, incident))
        assert await w.threads() == ["f000", "f001", "f002", "f003", "f004"]


async def test_a_storm_is_over_once_nothing_has_joined_it_for_the_window_and_says_so(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(5))
        w.house.clock.time += SECOND * 59
        await w.sweep()
        storm = await w.storm()
        assert storm is not None
        assert storm.state is IncidentState.OPEN
        w.house.clock.time += SECOND
        await w.sweep()
        storm = await w.storm()
        assert storm is not None
        assert storm.state is IncidentState.CLOSED
        rows = [row.sentence for row in await w.house.store.audit_entries() if row.kind == "storm.over"]
        assert rows == ["The storm is over: 2 incidents of 1 kinds."]
        w.house.clock.time += SECOND
        await w.rain(99)
        assert await w.hidden() == ["f003", "f004"]


async def test_what_is_resolved_is_no_longer_counted_as_open_even_after_the_storm(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(6))
        w.house.clock.time += SECOND * 60
        await w.sweep()
        storm = await w.storm()
        assert storm is not None
        await w.rain(3, 4, state="resolved")
        (line,) = await w.house.store.storm_lines(storm.id)
        assert (line.count, line.firing) == (3, 1)
        after = await w.storm()
        assert after is not None
        assert after.revision > storm.revision


async def test_an_incident_of_a_past_storm_that_comes_back_alone_gets_a_thread(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(5))
        w.house.clock.time += SECOND * 61
        await w.sweep()
        await w.rain(4, state="resolved")
        await w.rain(4, starts=30)
        assert await w.hidden() == ["f003"]
        assert "f004" in await w.threads()


async def test_an_incident_with_a_thread_keeps_it_in_a_storm(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        await w.rain(*range(9))
        await w.rain(0, state="resolved")
        await w.rain(0, starts=30)
        assert "f000" in await w.threads()


async def test_anybody_opens_an_incident_of_a_storm_as_a_thread_and_it_is_diagnosed(tmp_path: Path) -> None:
    async with weather(tmp_path) as w:
        h = w.house
        await w.rain(*range(6))
        storm = await w.storm()
        assert storm is not None
        cases = CaseDesk(
            store=h.store, directory=Everyone(h.clock), rules=RULES, engine=h.quiet, clock=h.clock, chat=h.quiet
        )
        diagnosed = {key.partition("/")[0] for key in h.diagnoses()}
        wanted = next(one.id for one in await h.store.rolled_up(storm.id, 9) if one.id not in diagnosed)
        before = w.diagnosed()
        assert not (await cases.open_thread(who("U9"), wanted, storm.id)).accepted
        assert not (await cases.open_thread(who("U3"), wanted, IncidentId("inc_other"))).accepted
        assert (await cases.open_thread(who("U3"), wanted, storm.id)).accepted
        assert not (await cases.open_thread(who("U3"), wanted, storm.id)).accepted
        assert len(await w.threads()) == 4
        assert w.diagnosed() == before + 1
        assert [row.kind for row in await h.store.audit_entries()].count("click.refused") == 3
