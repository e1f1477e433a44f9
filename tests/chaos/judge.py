"""The oracle of the chaos runs: I1 to I7 over everything that was played, counted at the targets, in Slack and in the records.

`tests/crash/oracle.py` judges one execution whose every moment is known. Here replicas take over from each other at any time, so what must hold is
said of each change: it took effect as often as its execution says, which is never more than once for each way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.flow.audit import verify
from bot.lab.slack import TEAM_ID
from bot.model import (
    AuditEntry,
    Execution,
    ExecutionState,
    Incident,
    Person,
    Proposal,
    ProposalId,
    ProposalState,
    SlackUser,
    StageRun,
    StageState,
)
from bot.policy import still_valid
from bot.settings import PolicySettings
from tests.chaos.nemesis import OF_A_REPLICA, FaultKind, Suffered
from tests.chaos.play import COPIES, Played
from tests.crash.oracle import RESUMED_WITHIN, listed

TAKEN_OVER_WITHIN: Final = 15.0
"""Seconds until the work of a replica that is gone goes on elsewhere (issue 7)."""
VERBS: Final = {
    "consumer.pause": ("PAUSE", "PAUSE"),
    "consumer.resume": ("PAUSE", "PAUSE"),
    "consumer.reset": ("RESET", ""),
    "consumer.delete": ("DELETE", "CREATE"),
    "consumer.create": ("CREATE", "DELETE"),
}
"""By the kind of a stage: what it asks of a consumer, and what its way back asks; empty where it has none."""


@dataclass(frozen=True)
class Times:
    """How often something took effect: at least and at most."""

    least: int = 0
    most: int = 0

    def __add__(self, other: Times) -> Times:
        return Times(self.least + other.least, self.most + other.most)

    def __contains__(self, count: int) -> bool:
        return self.least <= count <= self.most


@dataclass(frozen=True)
class Case:
    """The records of one operation."""

    played: Played
    incident: Incident | None
    proposals: Sequence[Proposal]
    executions: Mapping[ProposalId, Execution]
    """By the id of the proposal."""
    entries: Sequence[AuditEntry]


@dataclass(frozen=True)
class Background:
    """What all operations share."""

    rules: PolicySettings
    people: Mapping[str, Person]
    """By their Slack id."""
    away: Sequence[tuple[datetime, datetime]]
    """When nothing could be expected: all replicas that are able to were away, or the database, or the work of a lost one was being taken over."""


async def judged(
    store: SqlStore,
    played: Sequence[Played],
    rules: PolicySettings,
    suffered: Sequence[Suffered],
    able: Collection[int],
) -> list[str]:
    """Return every violation, each with the number of its operation. `able` are the replicas that can go on with whatever was begun."""
    entries = await _all_entries(store)
    by_incident: defaultdict[str | None, list[AuditEntry]] = defaultdict(list)
    for entry in entries:
        by_incident[entry.incident_id].append(entry)
    shared = Background(rules, _people(rules), list(away(suffered, able)))
    violations: list[str] = []
    executions: list[Execution] = []
    for one in played:
        proposals = await store.proposals(one.incident)
        found = {p.id: e for p in proposals if (e := await store.execution_of(p.id)) is not None}
        executions += found.values()
        case = Case(one, await store.get(Incident, one.incident), proposals, found, by_incident[one.incident])
        wrong = [*lost(case), *twice(case), *await _unapproved(store, case, shared), *untrue(case)]
        wrong += [*unaudited(case), *unfinished(case), *halted(case, shared)]
        violations += [f"operation {one.number} ({one.wish}): {what}" for what in wrong]
    report = verify(entries)
    if not report.intact:
        violations.append(f"I5: audit row {report.first_bad_seq}: {report.reason}")
    if waiting := await store.count_unprocessed():
        violations.append(f"I1: {waiting} webhooks are not processed")
    return violations + list(at_once(executions, entries))


# --- one operation -------------------------------------------------------------------------------------------------------------


def lost(case: Case) -> Iterator[str]:
    """I1: every webhook that was answered is counted in the incident."""
    if case.incident is None:
        yield "I1: its incident is not there"
    elif case.incident.firing_count < COPIES:
        yield f"I1: {COPIES} webhooks were answered 2xx, {case.incident.firing_count} are counted"


def twice(case: Case) -> Iterator[str]:
    """I2: each change took effect as often as its execution says."""
    expected: defaultdict[str, Times] = defaultdict(Times)
    for proposal in case.proposals:
        execution = case.executions.get(proposal.id)
        for run in execution.stages if execution else ():
            forth, back = VERBS[proposal.stages[run.index].kind]
            expected[forth] += _forth(run)
            if back:
                expected[back] += _back(run, case.entries, proposal)
    seen = Counter(sent.what.split(".")[1] for sent in case.played.effects)
    for verb in sorted(expected.keys() | seen.keys()):
        if seen[verb] not in expected[verb]:
            wanted = expected[verb]
            yield f"I2: {verb} took effect {seen[verb]} times, expected were {wanted.least} to {wanted.most}; the target saw {listed([s.what for s in case.played.effects])}"


def _forth(run: StageRun) -> Times:
    match run.state:
        case StageState.VERIFIED | StageState.APPLIED | StageState.FAILED:
            return Times(1, 1) if run.sent else Times()
        case StageState.ROLLED_BACK:
            return Times(1, 1)
        case StageState.UNKNOWN | StageState.INTENDED:
            return Times(0, 1)
        case StageState.WAITING | StageState.NOT_APPLIED | StageState.SKIPPED:
            return Times()


def _back(run: StageRun, entries: Sequence[AuditEntry], proposal: Proposal) -> Times:
    """The way back of a stage, once it was announced; whether it was needed is the target's to say."""
    announced = any(
        entry.kind == "stage.undoing" and entry.subject == proposal.id and entry.data["stage"] == run.index
        for entry in entries
    )
    return Times(0, 1) if announced else Times()


async def _unapproved(store: SqlStore, case: Case, shared: Background) -> list[str]:
    """I3: policy is satisfied for exactly each proposal that was executed, on record before the first intent."""
    wrong: list[str] = []
    for proposal in case.proposals:
        intents = [entry for entry in case.entries if entry.kind == "stage.intended" and entry.subject == proposal.id]
        if not intents:
            continue
        approvals = await store.approvals(proposal.id)
        people = [shared.people[one.user.user_id] for one in approvals]
        decision = still_valid(proposal, approvals, people, shared.rules, intents[0].at)
        if not decision.allowed:
            wrong.append(f"I3: {decision.sentence}")
        recorded = [
            entry.seq
            for entry in case.entries
            if entry.kind == "approval.recorded" and entry.data["proposal_id"] == proposal.id
        ]
        if len(recorded) != len(approvals) or max(recorded) > intents[0].seq:
            wrong.append(f"I3: {len(approvals)} approvals, {len(recorded)} on record, not all before the first intent")
    announced = any(entry.kind == "stage.intended" for entry in case.entries)
    if case.played.effects and not announced:
        wrong.append("I3: the target was changed, and no intent is on record")
    return wrong


def untrue(case: Case) -> Iterator[str]:
    """I4: execution, proposal and target agree."""
    for proposal in case.proposals:
        execution = case.executions.get(proposal.id)
        if execution is None or execution.state is ExecutionState.REFUSED:
            continue
        voided = proposal.state is ProposalState.SUPERSEDED and execution.state is ExecutionState.FAILED
        if voided and not any(run.sent for run in execution.stages):
            continue  # the world moved between the intent and the sending, so nothing was sent
        if proposal.state.value != execution.state.value:
            yield f"I4: the execution is {execution.state}, its proposal {proposal.state}"
        if execution.state is ExecutionState.DONE and case.played.problem:
            yield f"I4: it says done, but {case.played.problem}"


def unaudited(case: Case) -> Iterator[str]:
    """I5: each stage was intended once, and each sending is on record."""
    for execution in case.executions.values():
        mine = [entry for entry in case.entries if entry.data.get("execution") == execution.id]
        intended = Counter(entry.data["stage"] for entry in mine if entry.kind == "stage.intended")
        if any(times > 1 for times in intended.values()):
            yield f"I5: stages were intended more than once: {dict(intended)}"
        for run in execution.stages:
            told = sum(entry.kind == "stage.sending" and entry.data["stage"] == run.index for entry in mine)
            if told != run.sent:
                yield f"I5: stage {run.index + 1} was sent {run.sent} times, {told} are on record"


def unfinished(case: Case) -> Iterator[str]:
    """I6: everything has come to an end."""
    if case.played.unfinished:
        states = [f"{proposal.id} {proposal.state}" for proposal in case.proposals]
        yield f"I6: people gave up waiting; proposals: {', '.join(states) or 'none'}"
    for execution in case.executions.values():
        if not execution.state.terminal:
            yield f"I6: execution {execution.id} is still {execution.state}"
    for proposal in case.proposals:
        if proposal.stages and not proposal.state.terminal and proposal.state is not ProposalState.PROPOSED:
            yield f"I6: proposal {proposal.id} is still {proposal.state}"


def halted(case: Case, shared: Background) -> Iterator[str]:
    """I7: from the first intent to its end nothing stands still for longer than a minute in which something could be expected."""
    for execution in case.executions.values():
        moments = [
            entry.at
            for entry in case.entries
            if entry.data.get("execution") == execution.id and entry.kind != "execution.started"
        ]
        for before, after in pairwise(moments):
            still = (after - before) - overlap(shared.away, before, after)
            if still.total_seconds() > RESUMED_WITHIN:
                yield f"I7: it stood still for {still.total_seconds():.0f} s although a replica could work"


# --- all together --------------------------------------------------------------------------------------------------------------


def at_once(executions: Sequence[Execution], entries: Sequence[AuditEntry]) -> Iterator[str]:
    """Lock: from its start to its end an execution has its cluster for itself."""
    clusters = {str(execution.id): execution.cluster for execution in executions}
    running: dict[str, str] = {}
    for entry in entries:
        if not entry.kind.startswith("execution.") or (mine := str(entry.data.get("execution"))) not in clusters:
            continue
        cluster = clusters[mine]
        if entry.kind == "execution.started":
            if (other := running.get(cluster)) is not None:
                yield f"Lock: {mine} started on {cluster} while {other} was running"
            running[cluster] = mine
        elif entry.kind != "execution.verifying" and running.get(cluster) == mine:
            del running[cluster]


def away(suffered: Sequence[Suffered], able: Collection[int]) -> Iterator[tuple[datetime, datetime]]:
    """Yield when the database was away, when all replicas that are able were away at once, and the time in which the work of a lost one is taken over.

    Which replica had a repair is not on record, so each loss counts for every repair: I7's minute begins with a restart, and each loss asks for another one.
    """
    yield from ((one.began, one.ended) for one in suffered if one.kind is FaultKind.DATABASE)
    taken_over = timedelta(seconds=TAKEN_OVER_WITHIN)
    for one in suffered:
        if one.kind is FaultKind.KILL:
            yield one.began, one.began + taken_over
        elif one.kind is FaultKind.FREEZE:
            yield one.began, min(one.ended, one.began + taken_over)
    edges: list[tuple[datetime, int]] = []
    for one in suffered:
        if one.kind in OF_A_REPLICA and one.target in able:
            edges += [(one.began, 1), (one.ended, -1)]
    absent, since = 0, None
    for at, change in sorted(edges):
        absent += change
        if absent == len(able) and since is None:
            since = at
        elif absent < len(able) and since is not None:
            yield since, at
            since = None


def overlap(spans: Sequence[tuple[datetime, datetime]], begin: datetime, end: datetime) -> timedelta:
    """Return how much of a time lies in any of the spans."""
    covered, reached = timedelta(), begin
    for began, ended in sorted(spans):
        first, last = max(began, reached), min(ended, end)
        if first < last:
            covered += last - first
            reached = last
    return covered


def _people(rules: PolicySettings) -> dict[str, Person]:
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for name, group in rules.groups.items():
        for user in group.users:
            groups[user].add(name)
    return {user: _person(user, frozenset(names)) for user, names in groups.items()}


def _person(user: str, groups: frozenset[str]) -> Person:
    slack_user = SlackUser(team_id=TEAM_ID, user_id=user)
    return Person(
        user=slack_user,
        key=f"{TEAM_ID}/{user}",
        human=True,
        active=True,
        guest=False,
        home_workspace=True,
        groups=groups,
        looked_up_at=SystemClock().now(),
    )


async def _all_entries(store: SqlStore) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    while more := await store.audit_entries(after=entries[-1].seq if entries else 0):
        entries += more
    return entries
