"""Numbers of the rounds of a snapshot as lines of a chart. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bot.model import Endpoint, Series, Severity, Snapshot
from bot.model.chart import Points

MOST_LINES = 6
"""Lines that can be told apart, by colour and by marker."""

MOST_NAMED = 3
"""Servers that the label of one line names."""

Values = Mapping[str, float]
"""A number per server."""

OfRound = Callable[[int], Values]
"""The numbers of a round."""


def lines(
    snapshot: Snapshot,
    endpoint: Endpoint,
    values: OfRound,
    *,
    lower: OfRound | None = None,
    roles: Mapping[str, str] | None = None,
    wrong: frozenset[str] = frozenset(),
) -> tuple[Series, ...]:
    """Return a line for each server that gave a number in two rounds at least, the highest end first.

    `endpoint` is where the numbers come from, for their times; `lower` gives the second line of the same servers. Servers with equal numbers share a line.
    `roles` are words for some servers, which then come first on their line; `wrong` are servers whose line is the trouble.
    """
    words = roles or {}
    uppers = _points(snapshot, endpoint, values)
    lowers = _points(snapshot, endpoint, lower) if lower else {}
    together: dict[tuple[object, ...], list[str]] = {}
    for server in sorted(uppers, key=lambda s: (s not in words, s)):
        if len(uppers[server]) > 1:
            numbers = [[value for _, value in line] for line in (uppers[server], lowers.get(server, ()))]
            together.setdefault((str(numbers), server in wrong), []).append(server)
    found = [
        Series(
            name=first,
            label=_label(servers, words),
            points=uppers[first],
            lower=lowers.get(first, ()),
            severity=Severity.CRITICAL if first in wrong else None,
        )
        for servers in together.values()
        for first in servers[:1]
    ]
    return tuple(sorted(found, key=lambda line: (-line.points[-1][1], line.name)))


def told(series: Sequence[Series]) -> str:
    """Return where each line ends, and where it began if it moved."""

    def one(line: Series) -> str:
        first, last = line.points[0][1], line.points[-1][1]
        return f"{line.label} {last:,.0f}" + (f" (was {first:,.0f})" if first != last else "")

    return ", ".join(one(line) for line in series)


def _points(snapshot: Snapshot, endpoint: Endpoint, values: OfRound) -> dict[str, Points]:
    """Points by server; a round's time is the moment of that server's own answer."""
    answers = (s.taken_at for s in snapshot.samples if s.endpoint is endpoint and s.data is not None)
    start = min(answers, default=snapshot.taken_at)
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(snapshot.readings(endpoint)):
        for server, value in values(number).items():
            sample = snapshot.sample(server, endpoint, number)
            if sample is not None:
                found.setdefault(server, []).append((round((sample.taken_at - start).total_seconds(), 1), value))
    return {server: tuple(points) for server, points in found.items()}


def _label(servers: Sequence[str], roles: Mapping[str, str]) -> str:
    named = [f"{server} ({roles[server]})" if server in roles else server for server in servers[:MOST_NAMED]]
    more = len(servers) - MOST_NAMED
    return ", ".join(named) + (f" +{more}" if more > 0 else "")
