"""A flood of deliveries: few alerts per transaction, page-worthy ones first, nothing lost at a crash, the cost of an alert constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine as SqlEngine
from sqlalchemy.ext.asyncio import AsyncSession

from bot.adapters.database import SqlStore
from bot.adapters.webhooks import parse_alertmanager
from bot.errors import StoreLost
from bot.flow.folding import Folder
from bot.flow.intake import ASIDE, TOGETHER, Intake
from bot.model import STORM, IncidentState, JsonObject
from bot.ports import Phase
from bot.settings import ThreadSettings
from tests.integration import store_records as records
from tests.integration.execution_house import Quiet
from tests.integration.test_intake import alert, body, cluster


class Flood:
    """An intake, what it has started, and a clock that stands still unless a test moves it."""

    def __init__(self, store: SqlStore, clock: records.FixedClock) -> None:
        self.store = store
        self.clock = clock
        self.quiet = Quiet()
        self.intake = self.restarted()

    def restarted(self) -> Intake:
        """A process that knows nothing but the database."""
        return Intake(
            store=self.store,
            engine=self.quiet,
            clock=self.clock,
            chat=self.quiet,
            clusters=(cluster("prod"),),
            parsers={"am": parse_alertmanager, "alertmanager": parse_alertmanager},
            max_queue=10_000,
            threads=ThreadSettings(),
        )

    async def send(self, *alerts: JsonObject) -> None:
        self.clock.time += ASIDE / 1_000
        await self.intake.accept("alertmanager", body(*alerts))

    async def opened(self) -> list[str]:
        """Fingerprints of the incidents there are."""
        found = await self.store.incidents(limit=10_000)
        return sorted(one.fingerprint for one in found if one.source != STORM)


@asynccontextmanager
async def flood(folder: Path) -> AsyncGenerator[Flood]:
    clock = records.FixedClock()
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        yield Flood(store, clock)


def drop(number: int, state: str = "firing", **labels: str) -> JsonObject:
    return alert(state, f"f{number:04d}", stream=f"S{number}", **labels)


async def test_a_large_delivery_is_folded_a_few_alerts_at_a_time(tmp_path: Path) -> None:
    async with flood(tmp_path) as f:
        await f.send(*(drop(n) for n in range(2 * TOGETHER + 1)))
        counts: list[int] = []
        while await f.intake.fold():
            counts.append(len(await f.opened()))
        assert counts == [TOGETHER, 2 * TOGETHER, 2 * TOGETHER + 1]
        assert await f.store.count_unprocessed() == 0


async def test_small_deliveries_are_folded_together(tmp_path: Path) -> None:
    async with flood(tmp_path) as f:
        for n in range(TOGETHER + 1):
            await f.send(drop(n))
        await f.intake.fold()
        assert len(await f.opened()) == TOGETHER
        await f.intake.fold()
        assert await f.opened() == [f"f{n:04d}" for n in range(TOGETHER + 1)]
        assert await f.intake.fold() == 0


async def test_after_a_crash_in_the_middle_of_a_delivery_no_alert_is_lost_and_none_counts_twice(tmp_path: Path) -> None:
    async with flood(tmp_path) as f:
        await f.send(*(drop(n) for n in range(2 * TOGETHER)))
        await f.intake.fold()
        await f.restarted().drain()
        incidents = [one for one in await f.store.incidents(limit=1_000) if one.source != STORM]
        assert Counter(one.firing_count for one in incidents) == {1: 2 * TOGETHER}
        alerts = [len(await f.store.alerts(one.id)) for one in incidents]
        assert alerts == [1] * 2 * TOGETHER


async def test_page_worthy_alerts_stand_before_every_other_that_waits(tmp_path: Path) -> None:
    async with flood(tmp_path) as f:
        for n in range(2 * TOGETHER):
            await f.send(drop(n))
        await f.send(drop(900), drop(901, severity="critical"))
        await f.send(drop(902, severity="page"))
        await f.intake.fold()
        assert {"f0901", "f0902"} < set(await f.opened())
        assert len(await f.opened()) == TOGETHER
        await f.intake.drain()
        assert len(await f.opened()) == 2 * TOGETHER + 3


async def test_what_one_alert_says_is_folded_in_the_order_in_which_it_came(tmp_path: Path) -> None:
    async with flood(tmp_path) as f:
        await f.send(drop(1), drop(2, severity="critical"))
        await f.send(drop(1, "resolved"), drop(2, "resolved", severity="critical"), drop(3, severity="critical"))
        await f.intake.drain()
        states = {one.fingerprint: one.state for one in await f.store.incidents() if one.source != STORM}
        assert states == {
            "f0001": IncidentState.CLEARED,
            "f0002": IncidentState.CLEARED,
            "f0003": IncidentState.OPEN,
        }


async def test_a_diagnosis_that_could_not_be_started_is_started_later_and_its_delivery_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    async def start(phase: Phase, key: str) -> None:
        raise Killed(f"{phase} {key}")

    async with flood(tmp_path) as f:
        await f.send(drop(1))
        with monkeypatch.context() as patched:
            patched.setattr(f.quiet, "start", start)
            with pytest.raises(Killed):
                await f.intake.drain()
        assert await f.store.count_unprocessed() == 1
        await f.restarted().drain()
        (incident,) = await f.store.incidents()
        assert f.quiet.started == [(Phase.DIAGNOSIS, f"{incident.id}/alert")]
        assert incident.firing_count == 1
        assert await f.store.count_unprocessed() == 0


async def test_a_delivery_that_breaks_the_intake_keeps_no_other_waiting_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = Folder.fold

    async def breaks(self: Folder, sheet: object, delivery: object, incoming: object, parsed: object) -> list[str]:
        if getattr(incoming, "fingerprint", "") == "f0002":
            raise RuntimeError("a defect")
        return await fold(self, sheet, delivery, incoming, parsed)  # pyright: ignore[reportArgumentType]

    async with flood(tmp_path) as f:
        for n in range(4):
            await f.send(drop(n))
        with monkeypatch.context() as patched:
            patched.setattr(Folder, "fold", breaks)
            await f.intake.drain()
        assert await f.opened() == ["f0000", "f0001", "f0003"]
        assert await f.intake.fold() == 0, "it is put aside"
        f.clock.time += ASIDE
        await f.intake.drain()
        assert await f.store.count_unprocessed() == 0
        assert len(await f.opened()) == 4


async def test_a_database_that_is_away_puts_no_delivery_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(_: AsyncSession) -> None:
        raise StoreLost("The connection broke.")

    async with flood(tmp_path) as f:
        for n in range(4):
            await f.send(drop(n))
        with monkeypatch.context() as patched:
            patched.setattr(AsyncSession, "commit", lost)
            with pytest.raises(StoreLost):
                await f.intake.fold()
        assert await f.intake.fold() == 4, "as soon as it is back"


async def test_an_unreadable_delivery_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    async with flood(tmp_path) as f:
        async with f.store.begin() as tx:
            await tx.put(records.delivery("bad").model_copy(update={"pages": 3}))
        await f.send(drop(1))
        await f.intake.drain()
        assert await f.opened() == ["f0001"]
        kinds = [entry.kind for entry in await f.store.audit_entries()]
        assert kinds.count("delivery.unreadable") == 1
        assert await f.store.count_unprocessed() == 0


async def test_resolving_a_storm_clears_everything_and_its_table(tmp_path: Path) -> None:
    async with flood(tmp_path) as f:
        await f.send(*(drop(n) for n in range(60)))
        await f.send(*(drop(n, "resolved") for n in range(60)))
        await f.intake.drain()
        found = [one for one in await f.store.incidents(limit=100) if one.source != STORM]
        assert Counter(one.state for one in found) == {IncidentState.CLEARED: 60}
        (storm,) = [one for one in await f.store.incidents(limit=100) if one.source == STORM]
        assert [line.firing for line in await f.store.storm_lines(storm.id)] == [0]
        assert storm.firing_count == 55


async def test_an_alert_costs_no_statement_of_its_own_however_many_incidents_there_are(tmp_path: Path) -> None:
    said: list[str] = []

    def heard(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        said.append(statement)

    async with flood(tmp_path) as f:
        await f.send(*(drop(n) for n in range(TOGETHER)))
        await f.intake.drain()
        costs: list[int] = []
        event.listen(SqlEngine, "before_cursor_execute", heard)
        try:
            for first, count, each in ((100, 5, 5), (200, TOGETHER, TOGETHER), (1_000, TOGETHER, 1)):
                for start in range(first, first + count, each):
                    await f.send(*(drop(n) for n in range(start, start + each)))
                said.clear()
                await f.intake.fold()
                costs.append(len(said))
                await f.intake.drain()
        finally:
            event.remove(SqlEngine, "before_cursor_execute", heard)
        assert costs[0] == costs[1] == costs[2], said
