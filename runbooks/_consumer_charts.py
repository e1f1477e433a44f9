"""A consumer over the rounds of a snapshot: what waits for delivery, and where each server says that it stands. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from bot.model import (
    Chart,
    ConsumerKey,
    ConsumerState,
    Endpoint,
    Finding,
    Focus,
    Lines,
    Panel,
    Series,
    Severity,
    Snapshot,
    StreamKey,
)
from bot.runbook import Thresholds
from runbooks._consumer_views import consumer_standing, subject
from runbooks._raft_charts import meta_lag, stream_lag
from runbooks._series import MOST_LINES, OfRound, lines, told

MOST_CONSUMERS = 2
"""Consumers with a picture; a cause that is common to more of them shows in each of them."""

ENOUGH_READINGS = 3
"""From so many readings on a single line is a picture; two numbers are a sentence."""


def consumer_charts(
    snapshot: Snapshot,
    findings: Sequence[Finding],
    thresholds: Thresholds,  # noqa: ARG001 - the contract's parameters
    focus: Focus,  # noqa: ARG001
) -> list[Chart]:
    """Return the Raft groups below that are behind, then the first consumers that something is wrong with."""
    bad = [f for f in findings if f.severity in {Severity.WARNING, Severity.CRITICAL}]
    meta = [meta_lag(snapshot)] if any(f.check == "META_QUORUM" for f in bad) else []
    sick = [f.subject for f in bad if f.check == "STREAM_QUORUM"]
    streams = [stream_lag(snapshot, StreamKey(s.account, s.stream)) for s in sick[:1] if s.account and s.stream]
    found: list[Chart] = [chart for chart in (*meta, *streams) if chart is not None]
    return [*found, *islice(_sick_consumers(snapshot, bad), MOST_CONSUMERS)]


def positions(snapshot: Snapshot, key: ConsumerKey) -> Lines | None:
    """Return what waits and where each server stands. None where a sentence says it as well: servers that agree, a few readings, nothing that waits."""
    standing = consumer_standing(snapshot, key, snapshot.rounds - 1)
    leading = standing.ghosts | ({standing.leader} if standing.leader else set[str]())
    roles = dict.fromkeys(standing.ghosts, "second leader") | ({standing.leader: "leader"} if standing.leader else {})

    def number(read: Callable[[ConsumerState], int], servers: frozenset[str]) -> OfRound:
        def of_round(n: int) -> dict[str, float]:
            views = snapshot.consumers(n).get(key) or {}
            return {server: read(view) for server, view in views.items() if not servers or server in servers}

        return of_round

    everybody = frozenset[str]()
    waiting = lines(
        snapshot,
        Endpoint.JSZ,
        number(lambda view: view.num_pending, leading),
        roles=roles,
        wrong=standing.ghosts,
    )[:MOST_LINES]
    places = lines(
        snapshot,
        Endpoint.JSZ,
        number(lambda view: view.delivered_stream_seq, everybody),
        lower=number(lambda view: view.floor_stream_seq, everybody),
        roles=roles,
        wrong=standing.ghosts,
    )[:MOST_LINES]
    if not waiting or not places:
        return None
    moving = len(places[0].points) >= ENOUGH_READINGS and any(line.points[-1][1] for line in waiting)
    if len(places) < 2 and not moving:
        return None
    return Lines(
        code="CONSUMER_POSITIONS",
        subject=subject(snapshot, key),
        title=_title(key, places, waiting),
        alt=f"Lines over time of consumer {key}: waiting to be delivered {told(waiting)}; delivered up to {told(places)}.",
        panels=(
            Panel(title="Waiting to be delivered", unit="messages", series=waiting),
            Panel(title="Delivered up to, and acknowledged up to (dashed)", unit="stream sequence", series=places),
        ),
    )


def _title(key: ConsumerKey, places: Sequence[Series], waiting: Sequence[Series]) -> str:
    """Say who stands where for a split consumer, how it moves for any other."""
    name = f"Consumer {key.consumer} of {key.stream}"
    wrong = [line for line in places if line.severity is Severity.CRITICAL]
    right = [line for line in places if line.severity is None]
    if wrong and right:
        return f"{name}: {right[0].name} stands at {right[0].points[-1][1]:,.0f}, {wrong[-1].name} at {wrong[-1].points[-1][1]:,.0f}"
    (began, before), (ended, now) = places[0].points[0], places[0].points[-1]
    return (
        f"{name}: {waiting[0].points[-1][1]:,.0f} messages wait, {now - before:,.0f} delivered in {ended - began:.0f} s"
    )


def _sick_consumers(snapshot: Snapshot, bad: Sequence[Finding]) -> Iterator[Lines]:
    """The pictures of the consumers that findings are about, each once, in order; made when they are asked for."""
    named = ((f.subject.account, f.subject.stream, f.subject.consumer) for f in bad)
    for account, stream, consumer in dict.fromkeys(named):
        if account is None or stream is None or consumer is None:
            continue
        chart = positions(snapshot, ConsumerKey(account, stream, consumer))
        if chart is not None:
            yield chart
