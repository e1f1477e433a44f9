"""Which charts belong to a diagnosis."""

from collections.abc import Sequence
from dataclasses import replace

from bot.flow.examination import Judgement, examine
from bot.flow.illustration import MOST_CHARTS, illustrate
from bot.model import Chart, Finding, Focus, Snapshot
from bot.runbook import Thresholds
from runbooks.route_mesh import RUNBOOK
from tests.unit.charts import matrix
from tests.unit.snapshots import recorded


def judged(charts: Sequence[Chart]) -> Judgement:
    def draw(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> Sequence[Chart]:
        return charts

    snapshot = recorded("mesh_seed_2.11.11")
    return examine(snapshot, replace(RUNBOOK, charts=draw), RUNBOOK.values(), Focus())


def test_a_thread_gets_the_first_charts_of_its_runbook_and_no_flood() -> None:
    many = [matrix(str(number)) for number in range(MOST_CHARTS + 1)]
    assert illustrate(judged(many[:MOST_CHARTS]), None, Focus()) == tuple(many[:MOST_CHARTS])
    assert illustrate(judged(many), None, Focus()) == tuple(many[:MOST_CHARTS])


def test_a_chart_that_cannot_be_made_costs_the_picture_and_not_the_diagnosis() -> None:
    def fail(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> Sequence[Chart]:
        raise KeyError("server")

    broken = judged(())._replace(runbook=replace(RUNBOOK, charts=fail))
    assert illustrate(broken, None, Focus()) == ()


def test_where_nothing_was_read_there_is_nothing_to_draw() -> None:
    assert illustrate(judged([matrix()])._replace(snapshot=None), None, Focus()) == ()


def test_charts_get_the_thresholds_of_the_settings() -> None:
    seen: list[Thresholds] = []

    def note(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> Sequence[Chart]:
        seen.append(thresholds)
        return ()

    illustrate(judged(())._replace(runbook=replace(RUNBOOK, charts=note)), {"young": 5.0}, Focus())
    assert seen[0]["young"] == 5.0
    assert seen[0].keys() == RUNBOOK.values().keys()
