"""The queue checks of the overload runbook: the JetStream API's, and all other internal queues. Pure functions of snapshot and thresholds.

Every server puts every API request into its queue, whoever has to answer it, and drops all that wait when the limit is reached; what the meta leader
drops is lost for all creates and deletes (reference/drills.md 5).
"""

from __future__ import annotations

from dataclasses import dataclass

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, part
from bot.model.groups import latest
from bot.model.load import INFOS
from bot.runbook import Thresholds
from runbooks._audit_views import (
    TOO_LARGE,
    UNDERFLOW,
    Audit,
    Facts,
    few,
    first,
    known,
    on,
    seconds_between,
)
from runbooks._overload_views import Backlog, Course, api_backlogs, meta_leader, other_backlogs

API = Audit("OVERLOAD_API_QUEUE", Layer.META)
OTHERS = Audit("OVERLOAD_QUEUES", Layer.META)

META_GROUP = "RAFT '_meta_'"
OF_AN_ACCOUNT = "[ACC:"
"""How the names begin of queues that belong to one group, stream or consumer; the others serve the whole server (`System recvQ`, `SendQ`)."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A queue that is or was too long."""

    backlog: Backlog
    course: Course
    severity: Severity


def judged_api(snapshot: Snapshot, thresholds: Thresholds) -> tuple[list[Judged], Facts]:
    """Return the API queues that are too long, the meta leader's first. Critical where it lasts, or where one reading shows it near its limit."""
    backlogs, facts = api_backlogs(snapshot)
    limit = thresholds["queue_limit"]
    found: list[Judged] = []
    for backlog in backlogs:
        course = backlog.course(limit * thresholds["backlog"])
        critical = course is Course.LASTING or (course is Course.ONCE and backlog.last >= limit * thresholds["full"])
        if course is not Course.SHORT:
            found.append(Judged(backlog, course, Severity.CRITICAL if critical else Severity.WARNING))
    return found, facts


def judged_others(snapshot: Snapshot, thresholds: Thresholds) -> tuple[list[Judged], Facts]:
    """Return the other queues that are too long. One that serves the whole server is critical where it lasts; an account's own may be long for a moment."""
    backlogs, facts = other_backlogs(snapshot)
    found: list[Judged] = []
    for backlog in backlogs:
        course = backlog.course(thresholds["queue"])
        if course is Course.SHORT or (not _serves_all(backlog.queue) and course is not Course.LASTING):
            continue
        critical = course is Course.LASTING and _serves_all(backlog.queue)
        found.append(Judged(backlog, course, Severity.CRITICAL if critical else Severity.WARNING))
    return found, facts


def pressing(snapshot: Snapshot, thresholds: Thresholds) -> list[Judged]:
    """Return the queues that make API clients wait and are not seen to drain: the API's, and the meta group's, which has each change to work off."""
    api, _ = judged_api(snapshot, thresholds)
    others, _ = judged_others(snapshot, thresholds)
    return [j for j in (*api, *(o for o in others if META_GROUP in o.backlog.queue)) if j.course.presses]


def api_queues_are_short(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No server has a backlog of JetStream API requests, or it was seen to shrink."""
    judged, facts = judged_api(snapshot, thresholds)
    leader = meta_leader(snapshot)
    found = [_api_finding(snapshot, thresholds, one, leader) for one in judged]
    healthy = f"No server has {thresholds['queue_limit'] * thresholds['backlog']:g} or more API requests waiting"
    rates = {server: rate for server in sorted(known(snapshot)) if (rate := answers_a_second(snapshot, server))}
    answered = f"; {sum(rates.values()):.0f} are answered a second" if rates else ""
    dropped = [server for server in sorted(known(snapshot)) if _underflow(snapshot, server)]
    before = f". {few(dropped)} dropped requests some time since the start: `inflight` went below 0" if dropped else ""
    return API.result(snapshot, found, [facts], f"{healthy}{answered}{before}.")


def other_queues_are_short(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No other internal queue piles up: Raft groups, the servers' own messages, streams and consumers."""
    judged, facts = judged_others(snapshot, thresholds)
    found: list[Finding] = []
    for server in dict.fromkeys(one.backlog.server for one in judged):
        mine = [one for one in judged if one.backlog.server == server]
        for serves_all in (True, False):
            some = [one for one in mine if _serves_all(one.backlog.queue) is serves_all]
            if some:
                found.append(_others_finding(snapshot, server, some, serves_all=serves_all))
    return OTHERS.result(snapshot, found, [facts], f"No other queue holds {thresholds['queue']:g} items or more.")


def answers_a_second(snapshot: Snapshot, server: str) -> float | None:
    """Return how many API answers the server sent a second between its first and last reading, None where there are not two.

    `api.total` counts answers and not requests, and belongs to whoever had to answer (reference/drills.md 5).
    """
    earlier, now = first(snapshot, server, Endpoint.VARZ), latest(snapshot, server, Endpoint.VARZ)
    seconds = seconds_between(snapshot, server, Endpoint.VARZ)
    counted = Facts(Endpoint.VARZ)
    was, is_now = (counted.number(server, _api(raw or {}), "total") for raw in (earlier, now))
    if was is None or is_now is None or seconds <= 0 or is_now < was:
        return None
    return (is_now - was) / seconds


def _api_finding(snapshot: Snapshot, thresholds: Thresholds, one: Judged, leader: str) -> Finding:
    backlog, limit = one.backlog, thresholds["queue_limit"]
    leads = backlog.server == leader
    rate = answers_a_second(snapshot, backlog.server)
    who = f"Server {backlog.server}" + (", the meta leader," if leads else "")
    text = f"{who} has {backlog.last} JetStream API requests waiting ({backlog.last / limit:.0%} of {limit:g}), {_course(one)}."
    if one.course is Course.DRAINED:
        text = f"{who} had up to {backlog.peak} JetStream API requests waiting, {_course(one)}."
    if one.severity is Severity.CRITICAL or backlog.peak >= limit * thresholds["full"]:
        text += f" At {limit:g} it drops all that wait, {_harm(backlog.queue, leads=leads)}."
    text += f" It answers {rate:.0f} a second." if rate else ""
    evidence: JsonObject = {
        "queue": backlog.queue,
        "lengths": list(backlog.lengths),
        "seconds": backlog.seconds,
        "course": one.course.value,
        "limit": limit,
        "meta leader": leads,
        "answers a second": rate,
        "inflight": inflight(snapshot, backlog.server),
    }
    return API.finding(on(snapshot, backlog.server), one.severity, text, evidence)


def _others_finding(snapshot: Snapshot, server: str, some: list[Judged], *, serves_all: bool) -> Finding:
    worst = max(some, key=lambda one: (one.severity.rank, one.backlog.peak))
    more = f" {len(some) - 1} more of its queues are as long." if len(some) > 1 else ""
    text = f"Queue {worst.backlog.queue!r} of server {server} holds {worst.backlog.last} items, {_course(worst)}.{more}"
    evidence: JsonObject = {
        "queues": {one.backlog.queue: list(one.backlog.lengths) for one in some[:10]},
        "seconds": worst.backlog.seconds,
        "course": worst.course.value,
    }
    found = OTHERS.finding(on(snapshot, server), worst.severity, text, evidence)
    return found if serves_all else found.model_copy(update={"layer": Layer.STREAMS})


def _course(one: Judged) -> str:
    """One clause that says what the readings show."""
    backlog = one.backlog
    match one.course:
        case Course.DRAINED:
            return f"and {backlog.last} in the last reading ({backlog.shown}): it has drained"
        case Course.DRAINING:
            left = backlog.seconds_left
            pace = f" it is empty in {left:.0f} s at this pace," if left is not None else ""
            return f"and fewer in every reading ({backlog.shown}):{pace} wait"
        case Course.LASTING:
            return f"and does not get rid of them ({backlog.shown})"
        case _ if len(backlog.lengths) > 1:
            return f"in the last reading only ({backlog.shown})"
        case _:
            return "in one reading, which can't tell whether it drains"


def _harm(queue: str, *, leads: bool) -> str:
    """What a drop means: a request reaches all servers, and only the one that must answer it is missed."""
    if leads and queue != INFOS:
        return "and every create and delete among them fails"
    return "and those that it had to answer are never answered"


def _serves_all(queue: str) -> bool:
    return META_GROUP in queue or not queue.startswith(OF_AN_ACCOUNT)


def _api(varz: JsonObject) -> JsonObject:
    return part(part(part(varz, "jetstream"), "stats"), "api")


def inflight(snapshot: Snapshot, server: str) -> int | None:
    """Return the requests under way as VARZ counts them, None where it does not."""
    counted: object = _api(latest(snapshot, server, Endpoint.VARZ) or {}).get("inflight")
    return counted if isinstance(counted, int) and not isinstance(counted, bool) else None


def _underflow(snapshot: Snapshot, server: str) -> bool:
    """True where `inflight` is an unsigned number that went below zero, as 2.10.25 lets it after a drop (reference/nats.md 1.D, EXP e8)."""
    return UNDERFLOW <= (inflight(snapshot, server) or 0) < TOO_LARGE
