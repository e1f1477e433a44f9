"""The charts of all recordings: real clusters that are sick have the picture of what is sick, and the others have none."""

import re

import pytest

from bot.bootstrap import registry
from bot.flow.examination import examine
from bot.flow.illustration import illustrate
from bot.model import Bars, Chart, Focus, Lines, Matrix, Severity
from tests.unit.snapshots import recorded, recordings

MATRIX, POSITIONS, GAP, LOAD = "ROUTE_MATRIX", "CONSUMER_POSITIONS", "META_LAG", "API_LOAD"
SHOWN = {
    ("history_ahead", "CLUSTER_AUDIT"): ["REPLICA_LAG"],
    ("history_outside", "CLUSTER_AUDIT"): ["REPLICA_LAG"],
    ("mesh_cut", "ROUTE_MESH"): [MATRIX],
    ("mesh_headless", "ROUTE_MESH"): [MATRIX],
    ("mesh_islands", "ROUTE_MESH"): [MATRIX],
    ("mesh_seed", "ROUTE_MESH"): [MATRIX],
    ("meta_churn", "READINESS"): [GAP],
    ("meta_churn", "STUCK_CONSUMER"): [POSITIONS, POSITIONS],
    ("meta_stuck", "READINESS"): [GAP],
    ("overload_flood", "CLUSTER_AUDIT"): [LOAD],
    ("overload_flood", "OVERLOAD"): [LOAD],
    ("split", "STUCK_CONSUMER"): [POSITIONS],
    ("split_room", "STUCK_CONSUMER"): [POSITIONS],
}
"""By the name of a recording without its version, and by runbook. Whatever is not here has no picture."""


def charts(recording: str, code: str) -> list[Chart]:
    runbook = registry().runbook(code)
    assert runbook is not None
    judged = examine(recorded(recording), runbook, runbook.values(), Focus())
    return list(illustrate(judged, None, Focus()))


@pytest.mark.parametrize("recording", recordings())
def test_what_is_sick_in_a_recording_is_drawn_and_nothing_else(recording: str) -> None:
    family = recording.rpartition("_")[0]
    shown = {r.code: [c.code for c in charts(recording, r.code)] for r in registry().runbooks}
    assert shown == {r.code: SHOWN.get((family, r.code), []) for r in registry().runbooks}


@pytest.mark.parametrize("version", ["2.10.26", "2.11.11", "2.12.8", "2.15.1"])
def test_a_flooded_api_shows_the_queue_of_its_meta_leader_against_the_limit(version: str) -> None:
    (chart,) = charts(f"overload_flood_{version}", "OVERLOAD")
    assert isinstance(chart, Bars)
    queue, under_way = chart.bars[:2]
    assert queue.name == ("API info queue" if version == "2.15.1" else "API queue")
    assert queue.value > 4_000
    assert queue.severity in {Severity.WARNING, Severity.CRITICAL}
    assert (under_way.group, under_way.name) == (queue.group, "API requests")
    assert chart.limit is not None
    assert chart.limit.value == 10_000
    assert chart.title == f"{queue.name} on {queue.group}: {queue.value:,.0f}"


@pytest.mark.parametrize("version", ["2.10.26", "2.11.11"])
def test_a_meta_group_under_load_shows_the_gaps_that_the_finding_names(version: str) -> None:
    (chart,) = charts(f"meta_churn_{version}", "READINESS")
    assert isinstance(chart, Lines)
    runbook = registry().runbook("READINESS")
    assert runbook is not None
    findings = examine(recorded(f"meta_churn_{version}"), runbook, runbook.values(), Focus()).findings
    gaps = [(f.subject.server, f.evidence["behind"]) for f in findings if f.check == "META_GAP"]
    told = {
        name: gap for server, found in gaps for name, gap in (found.items() if server is None else [(server, found)])
    }
    drawn = {line.name: [value for _, value in line.points] for line in chart.panels[0].series}
    assert told
    assert {server: drawn[server] for server in told} == told


def test_a_mesh_behind_one_name_says_in_each_field_what_it_lacks() -> None:
    (chart,) = charts("mesh_headless_2.11.11", "ROUTE_MESH")
    assert isinstance(chart, Matrix)
    short = [cell for row in chart.cells for cell in row if cell.severity is Severity.WARNING]
    assert short, "where a connection goes is chance: record a mesh in which a pair has some of its connections"
    for cell in short:
        there, wanted = map(int, cell.text.split("/"))
        parts = [re.fullmatch(r"−(?:(\d) slots?|SYS)", part) for part in cell.note.split(", ")]
        assert sum(int(part[1] or 1) for part in parts if part) == wanted - there
