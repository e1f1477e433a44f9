"""The matrix of the route mesh: its fields are the numbers of ROUTEZ, and it is there only where something is to be seen."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.flow.examination import examine
from bot.model import (
    Cell,
    Endpoint,
    Focus,
    JsonObject,
    Matrix,
    Sample,
    ServerIdentity,
    Severity,
    Snapshot,
    SnapshotId,
    Unknown,
    UnknownReason,
)
from runbooks._mesh_charts import MOST_SERVERS
from runbooks.route_mesh import RUNBOOK
from tests.unit.snapshots import recorded

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
OK, SHORT, LOST, BLANK = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN
Views = Mapping[tuple[str, str], tuple[int, frozenset[str]]]
"""Pool connections and pinned accounts that a server shows with another, where they are not 3 and SYS."""
SYS = frozenset({"SYS"})
WHOLE = (3, SYS)


def sample(server: str, endpoint: Endpoint, data: JsonObject | None) -> Sample:
    why = Unknown(reason=UnknownReason.TIMED_OUT, detail="no answer") if data is None else None
    return Sample(server=server, endpoint=endpoint, taken_at=NOW, data=data, unknown=why)


def mesh(
    names: tuple[str, ...], views: Views | None = None, *, silent: tuple[str, ...] = (), pool_size: int = 3
) -> Snapshot:
    """A snapshot of servers with that many connections, each server 1 h old and with all others on its list."""
    shown = views or {}
    samples: list[Sample] = []
    for name in names:
        others = [other for other in names if other != name]
        rows: list[JsonObject] = []
        for other in others:
            slots, pinned = shown.get((name, other), WHOLE)
            rows += [{"remote_name": other, "remote_id": f"id-{other}"} for _ in range(slots)]
            rows += [{"remote_name": other, "remote_id": f"id-{other}", "account": a} for a in sorted(pinned)]
        varz: JsonObject = {
            "cluster": {"name": "prod", "pool_size": pool_size, "urls": [f"{other}:6222" for other in others]},
            "system_account": "SYS",
            "start": "2026-11-21T02:00:00Z",
            "now": NOW.isoformat(),
            "max_pending": 1_000,
        }
        samples.append(sample(name, Endpoint.VARZ, varz))
        routez = None if name in silent else {"num_routes": len(rows), "routes": rows}
        samples.append(sample(name, Endpoint.ROUTEZ, routez))
        samples.append(sample(name, Endpoint.ACCOUNTZ, {"accounts": ["SYS", "APP", "SHOP"]}))
    return Snapshot(
        id=SnapshotId("snap_1"),
        cluster="prod",
        taken_at=NOW,
        via="monitoring",
        servers=tuple(ServerIdentity(name=n, id=f"id-{n}", version="2.11.11", cluster="prod") for n in names),
        samples=tuple(samples),
        expected=frozenset(names),
    )


def both_ways(one: str, other: str, slots: int, pinned: frozenset[str] = SYS) -> Views:
    return {(one, other): (slots, pinned), (other, one): (slots, pinned)}


def charts(snapshot: Snapshot) -> list[Matrix]:
    judged = examine(snapshot, RUNBOOK, RUNBOOK.values(), Focus())
    found = RUNBOOK.charts(snapshot, judged.findings, RUNBOOK.values(), Focus())
    return [chart for chart in found if isinstance(chart, Matrix)]


def chart(snapshot: Snapshot) -> Matrix:
    (found,) = charts(snapshot)
    return found


def field(found: Matrix, row: str, column: str) -> Cell:
    return found.cells[found.rows.index(row)][found.columns.index(column)]


THREE = ("n0", "n1", "n2")


@pytest.mark.parametrize(
    "name", ["mesh_healthy_2.10.26", "mesh_healthy_2.11.11", "mesh_healthy_2.12.8", "mesh_healthy_2.15.1"]
)
def test_a_healthy_mesh_has_no_picture(name: str) -> None:
    assert charts(recorded(name)) == []


def test_a_mesh_that_only_looks_odd_has_no_picture() -> None:
    assert charts(recorded("mesh_pool_off_2.11.11")) == []


def test_a_real_mesh_without_one_route_shows_which() -> None:
    found = chart(recorded("mesh_seed_2.11.11"))
    assert found.rows == found.columns == THREE
    assert [[(c.text, c.severity) for c in row] for row in found.cells] == [
        [("", None), ("4/4", OK), ("4/4", OK)],
        [("4/4", OK), ("", None), ("0/4", LOST)],
        [("4/4", OK), ("0/4", LOST), ("", None)],
    ]
    assert found.title == "Routes of lab: 1 of 3 pairs incomplete"
    assert "1 of 3 pairs are incomplete (n1 with n2 0 of 4)" in found.alt
    assert [severity for severity, _ in found.legend] == [OK, LOST]


def test_islands_stand_as_blocks() -> None:
    found = chart(recorded("mesh_islands_2.15.1"))
    assert found.rows == ("n2", "n3", "n4", "n0", "n1")
    assert "2 islands" in found.title
    lost = [[c.severity is LOST for c in row] for row in found.cells]
    assert lost == [[False] * 3 + [True] * 2] * 3 + [[True] * 3 + [False] * 2] * 2


def test_a_pair_with_a_hole_in_its_pool_says_so_and_whose_messages_are_lost() -> None:
    found = chart(mesh(THREE, both_ways("n0", "n1", 2)))
    assert field(found, "n0", "n1") == Cell(text="3/4", severity=SHORT, note="−1 slot")
    assert "(slot 1: APP, SHOP)" in found.note
    assert found.alt.endswith("(n0 with n1 3 of 4).")


def test_two_holes_are_two_slots() -> None:
    found = chart(mesh(THREE, both_ways("n0", "n1", 1)))
    assert field(found, "n1", "n0").note == "−2 slots"


def test_a_pinned_account_without_its_connection_is_named() -> None:
    found = chart(mesh(THREE, both_ways("n0", "n1", 3, frozenset())))
    assert field(found, "n0", "n1") == Cell(text="3/4", severity=SHORT, note="−SYS")
    assert found.note == "", "nothing is said of slots where no slot is missing"


def test_views_that_differ_are_both_shown() -> None:
    found = chart(mesh(THREE, {("n0", "n1"): (2, SYS)}))
    assert field(found, "n0", "n1").text == "3/4"
    assert field(found, "n1", "n0") == Cell(text="4/4", severity=OK)
    assert "n0 with n1 3 of 4" in found.alt


def test_a_server_that_does_not_tell_is_not_known_and_what_others_show_of_it_is() -> None:
    found = chart(mesh(THREE, both_ways("n0", "n1", 0, frozenset()), silent=("n2",)))
    assert [cell.severity for cell in found.cells[2]] == [BLANK, BLANK, None]
    assert field(found, "n0", "n2") == Cell(text="4/4", severity=OK)


def test_servers_that_refuse_each_others_pool_size_say_why() -> None:
    views = both_ways("n0", "n1", 0, frozenset())
    old = mesh(THREE, views)
    sizes = {"n0": 5, "n1": 3, "n2": 3}
    for one in old.samples:
        if one.endpoint is Endpoint.VARZ and one.data is not None:
            one.data["cluster"]["pool_size"] = sizes[one.server]
    servers = tuple(s.model_copy(update={"version": "2.10.26"}) for s in old.servers)
    found = chart(replace(old, servers=servers))
    assert field(found, "n0", "n1") == Cell(text="0/?", severity=LOST, note="pool size")


def test_two_servers_are_told_in_a_sentence_and_three_are_drawn() -> None:
    gone = both_ways("n0", "n1", 0, frozenset())
    assert charts(mesh(("n0", "n1"), gone)) == []
    assert len(charts(mesh(THREE, gone))) == 1


@pytest.mark.parametrize(("size", "shown"), [(MOST_SERVERS, MOST_SERVERS), (MOST_SERVERS + 1, 2)])
def test_a_large_mesh_shows_all_servers_up_to_the_limit_and_the_sick_ones_above(size: int, shown: int) -> None:
    names = tuple(f"n{number:02}" for number in range(size))
    found = chart(mesh(names, both_ways("n03", "n07", 0, frozenset())))
    assert len(found.rows) == len(found.columns) == shown
    assert field(found, "n03", "n07").severity is LOST
    assert ("left out" in found.note) == (shown < size)


def test_of_too_many_sick_servers_the_worst_are_shown() -> None:
    names = tuple(f"n{number:02}" for number in range(MOST_SERVERS + 3))
    views: dict[tuple[str, str], tuple[int, frozenset[str]]] = {}
    for other in names[1:]:
        views |= both_ways("n00", other, 2)
    views |= both_ways("n16", "n17", 0, frozenset())
    found = chart(mesh(names, views))
    assert len(found.rows) == MOST_SERVERS
    assert {"n00", "n16", "n17"} <= set(found.rows)
    assert found.note.startswith("3 of 18 servers are left out")


def test_names_stay_as_they_are_for_whoever_draws_makes_them_safe() -> None:
    names = ("$x^2$", "\u202eevil", "<!channel>")
    assert set(chart(mesh(names, both_ways(names[0], names[1], 0, frozenset()))).rows) == set(names)


def test_an_unchanged_mesh_gives_an_equal_chart_an_hour_later() -> None:
    first = mesh(THREE, both_ways("n0", "n1", 2))
    later = replace(mesh(THREE, both_ways("n0", "n1", 2)), taken_at=NOW.replace(hour=4))
    assert chart(first).digest == chart(later).digest
