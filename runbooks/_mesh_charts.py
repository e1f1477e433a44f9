"""The route mesh as a matrix: who shows how many connections with whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.model import Cell, Finding, Focus, Matrix, Severity, Snapshot, Subject
from bot.model.mesh import Link, Mesh, Pair, read_mesh
from bot.model.mesh_pool import Expected, accounts_by_slot
from bot.runbook import Thresholds
from runbooks._audit_views import few

MOST_SERVERS = 15
"""Rows and columns that can be read on a phone, where a chart is about 360 points wide; of a larger cluster the sick ones are shown."""

FEWEST_SERVERS = 3
"""Two servers have one pair, and a sentence says all about it."""

MOST_NAMED = 5
"""Slots whose accounts the note names; the evidence has all."""

SEEN = frozenset({"MESH_ISLANDS", "MESH_PAIRS", "MESH_SLOTS", "MESH_VIEWS"})
"""Checks whose findings are about single pairs, so that they can be seen in the matrix."""

LEGEND = (
    (Severity.OK, "complete"),
    (Severity.WARNING, "incomplete: some accounts lose messages there"),
    (Severity.CRITICAL, "no route: all messages between them are lost"),
    (Severity.UNKNOWN, "not known"),
)


def mesh_charts(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Matrix]:  # noqa: ARG001
    """Return the matrix where something is wrong with a pair and there are servers enough to lose one's way in a sentence."""
    mesh = read_mesh(snapshot)
    bad = any(f.check in SEEN and f.severity in {Severity.WARNING, Severity.CRITICAL} for f in findings)
    if not bad or len(mesh.members) < FEWEST_SERVERS:
        return []
    pairs = {pair.names: pair for pair in mesh.pairs}
    cells = {(a, b): _cell(mesh, pairs, a, b) for a in mesh.members for b in mesh.members}
    shown = _shown(mesh, cells)
    sick = [pair for pair in mesh.pairs if _worst(cells, pair.names) in {Severity.WARNING, Severity.CRITICAL}]
    legend = {cells[a, b].severity for a in shown for b in shown}
    chart = Matrix(
        code="ROUTE_MATRIX",
        subject=Subject(cluster=snapshot.cluster),
        title=_title(mesh, sick),
        alt=_alt(mesh, sick, cells),
        note=_note(snapshot, mesh, sick, shown),
        row_title="as this server shows it",
        column_title="connections there / expected, with server",
        rows=shown,
        columns=shown,
        cells=tuple(tuple(cells[a, b] for b in shown) for a in shown),
        legend=tuple((severity, words) for severity, words in LEGEND if severity in legend),
    )
    return [chart]


def _cell(mesh: Mesh, pairs: Mapping[tuple[str, str], Pair], one: str, other: str) -> Cell:
    """What server `one` shows of `other`."""
    if one == other:
        return Cell()
    links = mesh.members[one].links
    pair = pairs.get((min(one, other), max(one, other)))
    link = None if links is None else links.get(other, Link())
    wanted = pair.expected if pair else None
    if link is None or pair is None:
        return Cell(text="?", severity=Severity.UNKNOWN)
    if not link.count:
        refused = "pool size" if wanted and wanted.refused else ""
        return Cell(text=f"0/{_number(wanted)}", severity=Severity.CRITICAL, note=refused)
    if wanted is None:
        return Cell(text=f"{link.count}/?", severity=Severity.UNKNOWN)
    lacking = _lacking(link, wanted)
    severity = Severity.WARNING if lacking else Severity.OK
    return Cell(text=f"{link.count}/{_number(wanted)}", severity=severity, note=", ".join(lacking))


def _number(wanted: Expected | None) -> str:
    """How many connections there must be; servers that refuse each other's pool size would have none, however many they want."""
    return "?" if wanted is None or wanted.refused else str(wanted.slots + len(wanted.pinned))


def _lacking(link: Link, wanted: Expected) -> list[str]:
    holes, accounts = wanted.slots - link.slots, sorted(wanted.pinned - link.pinned)
    found = [f"−{holes} slot{'s' if holes > 1 else ''}"] if holes > 0 else []
    return found + ([f"−{accounts[0]}" if len(accounts) == 1 else f"−{len(accounts)} accounts"] if accounts else [])


def _worst(cells: Mapping[tuple[str, str], Cell], names: tuple[str, str]) -> Severity:
    """The severity of a pair: the worse of its two views, of which only one may be known."""
    seen = [cells[names].severity, cells[names[1], names[0]].severity]
    known = [s for s in seen if s is not None and s is not Severity.UNKNOWN]
    return max(known, key=lambda s: s.rank, default=Severity.UNKNOWN)


def _shown(mesh: Mesh, cells: Mapping[tuple[str, str], Cell]) -> tuple[str, ...]:
    """The servers to show, island by island, so that a split cluster shows its blocks; of many the ones with the most sick cells."""
    place = {name: number for number, island in enumerate(mesh.islands) for name in island}
    order = sorted(mesh.members, key=lambda name: (place.get(name, len(place)), name))
    if len(order) <= MOST_SERVERS:
        return tuple(order)
    trouble = {name: sum(_weight(cells[name, b]) + _weight(cells[b, name]) for b in order) for name in order}
    sick = sorted((name for name in order if trouble[name]), key=lambda name: -trouble[name])
    return tuple(name for name in order if name in sick[:MOST_SERVERS])


def _weight(cell: Cell) -> int:
    return 0 if cell.severity is None else cell.severity.rank


def _title(mesh: Mesh, sick: Sequence[Pair]) -> str:
    split = f" · {len(mesh.islands)} islands" if len(mesh.islands) > 1 else ""
    return f"Routes of {mesh.name or 'the cluster'}: {len(sick)} of {len(mesh.pairs)} pairs incomplete{split}"


def _alt(mesh: Mesh, sick: Sequence[Pair], cells: Mapping[tuple[str, str], Cell]) -> str:
    told = few([f"{a} with {b} {_thinner(cells, (a, b))}" for a, b in (p.names for p in sick)])
    return (
        f"Matrix of the route connections between {len(mesh.members)} servers: {len(sick)} of {len(mesh.pairs)} pairs are incomplete "
        f"({told})."
    )


def _thinner(cells: Mapping[tuple[str, str], Cell], names: tuple[str, str]) -> str:
    """The text of that view of a pair which is worse."""
    both = (cells[names], cells[names[1], names[0]])
    known = [cell for cell in both if cell.severity is not Severity.UNKNOWN] or [both[0]]
    return max(known, key=_weight).text.replace("/", " of ")


def _note(snapshot: Snapshot, mesh: Mesh, sick: Sequence[Pair], shown: Sequence[str]) -> str:
    """Whose messages a missing slot loses, and which servers are left out."""
    left = len(mesh.members) - len(shown)
    told = [f"{left} of {len(mesh.members)} servers are left out; the worst are shown."] if left else []
    holes = [p.expected for p in sick if p.linked and p.expected and p.slots < p.expected.slots]
    if holes:
        wanted = max(holes, key=lambda e: e.slots)
        by_slot = accounts_by_slot(snapshot, wanted.slots, wanted.pinned)
        named = [f"slot {slot}: {few(accounts)}" for slot, accounts in sorted(by_slot.items())[:MOST_NAMED] if accounts]
        known = f" ({'; '.join(named)})" if named else ""
        told.append(f"A missing slot loses the messages of its accounts{known}.")
    return " ".join(told)
