"""Stuck consumers (family E, nats-server #6838): no leader, `group node missing`, split leaders, deliveries that stopped.

What repairs which state, compared on five server versions: reference/drills.md 3.3 and 3.4. A cause that is still there comes first; the one
repair that loses a position comes last, and only where it would not break again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bot.actions._command_line import command
from bot.actions.consumer_step_down import ACTION as STEP_DOWN
from bot.actions.consumer_step_down import hindrances, step_down_stage
from bot.actions.recreate import Recreation, compose, read_consumer
from bot.errors import Refused
from bot.model import ConsumerKey, Endpoint, Finding, Focus, Layer, Rung, Severity, Snapshot, Subject
from bot.model.groups import HaAssets, ha_assets
from bot.model.versions import version
from bot.runbook import Check, Draft, Proposed, Runbook, Threshold, Thresholds, Unit
from runbooks import _deploy_guidance as deploy
from runbooks._consumer_charts import consumer_charts
from runbooks._consumer_checks import (
    consumer_exists,
    consumers_have_leader,
    members_match,
    one_leader,
    raft_nodes_exist,
    room_for_groups,
)
from runbooks._consumer_clients import ACKS, FAILING, PIN, REDELIVERED, acks_come, pins_are_worked
from runbooks._consumer_delivery import WAITING, clients_work, consumers_deliver
from runbooks._consumer_offers import client_side, start_again
from runbooks._consumer_views import SETTLE
from runbooks._deploy_checks import KILLS, PODS, PROBE_THRESHOLDS, PROBES, STARTING
from runbooks._nack import recreated_in_source
from runbooks._shared_checks import META_QUORUM, SERVER_ANSWERS, STREAM_QUORUM
from runbooks._shared_guidance import cause_guidance

GROUP_CHECKS = frozenset({"CONSUMER_LEADER", "CONSUMER_NODE", "CONSUMER_SPLIT", "CONSUMER_MEMBERS"})
"""Checks whose findings recreation can repair."""

TARGETS = GROUP_CHECKS | {"CONSUMER_DELIVERS"}
"""Checks whose findings say that the consumer itself is broken."""

SETTLE_SECONDS = 15.0
"""Healthy groups have no leader, or members that are not current, for up to 11 s after a scale-up: two readings so far apart tell (drills.md 3.1)."""

MOST_PROPOSALS = 10
"""Consumers for which one diagnosis makes proposals; a cause common to more of them is offered first anyway."""


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:  # noqa: ARG001
    """Return the repairs: a cause that is still there, step-down, restart of the one sick server, reset, recreate, upgrade; then what clients need."""
    bad = [f for f in findings if f.severity is Severity.CRITICAL]
    # A probe that kills a server for one sick consumer is one to change in any case, and before anything else.
    killers = deploy.guidance(snapshot, [f for f in findings if f.check == KILLS.code])
    # A consumer that is broken itself is mended first: what its clients do can be judged then.
    broken = set(_consumers(f for f in bad if f.check in TARGETS))
    whole = [f for f in findings if not broken & set(_consumers([f]))]
    return killers + _repairs(snapshot, findings, bad) + client_side(snapshot, whole, thresholds, MOST_PROPOSALS)


def _repairs(snapshot: Snapshot, findings: Sequence[Finding], bad: Sequence[Finding]) -> list[Proposed]:
    """What mends the consumers themselves."""
    targets = _consumers(f for f in bad if f.check in TARGETS)
    causes = _causes(snapshot, findings) if bad else []
    if not targets:
        return causes
    broken = _consumers(f for f in bad if f.check in GROUP_CHECKS)
    lacking = _consumers(f for f in bad if f.check == "CONSUMER_NODE")
    proposed = causes
    for key in targets[:MOST_PROPOSALS]:
        if key not in lacking:
            proposed += _step_down(snapshot, key)
    proposed += _restarts(snapshot, [f for f in bad if f.check == "CONSUMER_NODE"])
    for finding in [f for f in bad if f.check == "CONSUMER_DELIVERS"][:MOST_PROPOSALS]:
        if (key := _consumers([finding])[0]) not in broken:
            proposed += start_again(snapshot, finding, key)
    for key in broken[:MOST_PROPOSALS]:
        proposed.append(_recreate(snapshot, key))
    return proposed + _upgrade(snapshot, bad)


def _causes(snapshot: Snapshot, findings: Sequence[Finding]) -> list[Proposed]:
    """Guidance for causes that natsmedic must not or can't take away itself."""
    told = [f for f in findings if f.cause and f.severity in {Severity.CRITICAL, Severity.UNKNOWN}]
    return [Proposed(f.subject, draft) for f in told if (draft := _cause_draft(snapshot, f))]


def _cause_draft(snapshot: Snapshot, finding: Finding) -> Draft | None:
    if finding.check == "HA_ASSETS":
        server = finding.subject.server or ""
        return _limit_draft(server, ha_assets(snapshot, server), finding)
    return cause_guidance(snapshot, finding)


def _limit_draft(server: str, assets: HaAssets, finding: Finding) -> Draft:
    known = assets.limit is not None
    first = (
        f"In nats.conf of {server} raise jetstream.limits.max_ha_assets above {assets.count} (it is {assets.limit}), or remove it."
        if known
        else f"In nats.conf of {server} look for jetstream.limits.max_ha_assets, and in its log for *Maximum HA Assets limit reached*; raise or remove it."
    )
    return Draft(
        title=f"Give server {server} room for Raft groups",
        why=finding.sentence,
        guidance=(
            first,
            f"A reload does not take this limit (config reload not supported for JetStreamLimits): restart {server}, and only {server}, with SIGTERM.",
            "After its start it makes the missing Raft nodes by itself; consumers keep their position, nothing is delivered twice.",
            "Alternatively make room: delete or move what nobody needs. New groups fit then; what is broken stays so until a restart or a recreation.",
        ),
    )


def _step_down(snapshot: Snapshot, key: ConsumerKey) -> list[Proposed]:
    try:
        facts = read_consumer(snapshot, key)
    except Refused:
        return []
    if hindrances(facts):
        return []
    draft = Draft(
        title=f"Move the leader of consumer {key.consumer}",
        why=f"{facts.standing.leader} leads with all members current, and yet the consumer does not work: a new leader starts its delivery afresh.",
        stages=((STEP_DOWN.kind, step_down_stage(snapshot, facts).model_dump(mode="json")),),
        rung=Rung(
            not_enough="The same members elect among themselves: one that lacks its Raft node goes on lacking it, and a second leader stays.",
            go_on="a new leader is there, and a minute later still nothing is delivered.",
        ),
    )
    return [Proposed(_subject(snapshot, key), draft)]


def _restarts(snapshot: Snapshot, nodes: Sequence[Finding]) -> list[Proposed]:
    """The best repair of a missing Raft node keeps every position (drills.md 3.4, B), and is a human's: it stops a server."""
    found: list[Proposed] = []
    for server in sorted({f.subject.server for f in nodes if f.subject.server}):
        mine = [f for f in nodes if f.subject.server == server]
        if ha_assets(snapshot, server).refuses(1):
            continue  # The cause's own guidance has the restart behind the limit.
        lacks = (
            "the Raft node of 1 consumer and makes it"
            if len(mine) == 1
            else f"the Raft nodes of {len(mine)} consumers and makes them"
        )
        draft = Draft(
            title=f"Restart server {server}",
            why=f"{server} lacks {lacks} when it starts; positions are kept, nothing is delivered twice.",
            guidance=(
                f"Make sure that all other servers are healthy, and that {server} is the only one you stop.",
                f"If it holds streams or consumers with one replica, they are away meanwhile: {command('nats', 'server', 'report', 'jetstream')}",
                f"Stop {server} with SIGTERM (on Kubernetes: delete its pod) and wait until it is healthy again; it takes seconds.",
            ),
            rung=Rung(
                not_enough="A server whose limit on Raft groups is reached makes none at its start either.",
                go_on=f"{server} has been healthy for a minute, and the Raft node is still missing.",
            ),
        )
        found.append(Proposed(Subject(cluster=snapshot.cluster, server=server), draft))
    return found


def _recreate(snapshot: Snapshot, key: ConsumerKey) -> Proposed:
    title = f"Delete consumer {key.consumer} and create it again at its position"
    try:
        recreation = compose(snapshot, key)
    except Refused as refused:
        if (in_source := _in_source(snapshot, key)) is not None:
            return Proposed(_subject(snapshot, key), in_source)
        guidance = (
            *(f"Not offered: {reason}" for reason in refused.reasons),
            "Nothing was changed; the consumer's position is safe where it is.",
        )
        return Proposed(
            _subject(snapshot, key),
            Draft(title=f"{title}: not now", why="It would break again or lose messages.", guidance=guidance),
        )
    draft = Draft(
        title=title,
        why=_why(recreation),
        stages=recreation.stages,
        rung=Rung(
            not_enough="Where the cause is still there, the new groups break as the old ones did.",
            go_on="the new consumer, too, loses its leader or a member's Raft node.",
        ),
        cautions=recreation.cautions,
    )
    return Proposed(_subject(snapshot, key), draft)


def _in_source(snapshot: Snapshot, key: ConsumerKey) -> Draft | None:
    """How NACK recreates a consumer that it keeps; None where it does not, or where nobody should."""
    try:
        recreation = compose(snapshot, key, by_owner=True)
    except Refused:
        return None
    return recreated_in_source(snapshot, recreation, _why(recreation))


def _why(recreation: Recreation) -> str:
    state, place = recreation.facts.state, recreation.position
    at = f"at sequence {place.start}" if place.start is not None else "with its own start policy"
    return (
        f"Every member gets a new Raft node. The position is that of {recreation.facts.standing.leader}, which a majority of the members names as "
        f"leader: ack floor {state.floor_stream_seq}, delivered {state.delivered_stream_seq}, {state.num_ack_pending} waiting for an ack. It starts {at}; "
        f"at most {place.repeated_acked} acknowledged messages are delivered again, and the {place.repeated_unacked} that wait for an ack."
    )


def _upgrade(snapshot: Snapshot, bad: Sequence[Finding]) -> list[Proposed]:
    affected = [f for f in bad if f.issue]
    if not affected:
        return []
    versions = sorted({version(snapshot, s.name) for s in snapshot.servers})
    draft = Draft(
        title="Upgrade nats-server",
        why=f"The servers run {', '.join(versions)}. {affected[0].issue}: until then a scale-up from one replica can split a group again.",
        guidance=(
            "Upgrade to 2.11.4 or later (2.10: 2.10.29), one server at a time, each healthy before the next.",
            "Before 2.11.4 a scale-up while the only holder is down loses its data (#6856; no 2.10 release has that fix).",
        ),
        rung=Rung(
            not_enough="It keeps groups from breaking; one that is broken stays so until it is repaired.", go_on=""
        ),
    )
    return [Proposed(Subject(cluster=snapshot.cluster), draft)]


def _consumers(findings: Iterable[Finding]) -> list[ConsumerKey]:
    """The consumers that findings are about, each once, in order."""
    keys = [
        ConsumerKey(f.subject.account, f.subject.stream, f.subject.consumer)
        for f in findings
        if f.subject.account is not None and f.subject.stream is not None and f.subject.consumer is not None
    ]
    return list(dict.fromkeys(keys))


def _subject(snapshot: Snapshot, key: ConsumerKey) -> Subject:
    return Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream, consumer=key.consumer)


_JSZ = frozenset({Endpoint.JSZ})
_RAFT = frozenset({Endpoint.JSZ, Endpoint.RAFTZ})
_VIEWS = frozenset({Endpoint.VARZ, Endpoint.JSZ})
_NODES = frozenset({Endpoint.JSZ, Endpoint.RAFTZ, Endpoint.HEALTHZ})

RUNBOOK = Runbook(
    code="STUCK_CONSUMER",
    title="A consumer is stuck",
    alerts=frozenset(
        {
            "NatsConsumerStuck",
            "NatsConsumerLeaderless",
            "NatsConsumerNotDelivering",
            "NatsGroupNodeMissing",
            "NatsConsumerQuorumLost",
            "NatsConsumerMaxDeliveries",
        }
    ),
    thresholds=(
        Threshold(
            SETTLE,
            SETTLE_SECONDS,
            Unit.SECONDS,
            "How long a group must be seen sick before it is called broken: an election takes up to 9 s, a scale-up some more.",
        ),
        Threshold(
            WAITING, 1, Unit.COUNT, "From how many undelivered messages on a consumer that delivers nothing is stuck."
        ),
        REDELIVERED,
        FAILING,
        STARTING,
        *PROBE_THRESHOLDS,
    ),
    checks=(
        SERVER_ANSWERS,
        PODS,
        KILLS,
        META_QUORUM,
        Check(
            "HA_ASSETS",
            Layer.STORAGE,
            "Every server has room for further Raft groups.",
            _NODES | _VIEWS,
            room_for_groups,
        ),
        STREAM_QUORUM,
        Check("CONSUMER_EXISTS", Layer.CONSUMERS, "The consumer that the alert names exists.", _VIEWS, consumer_exists),
        Check(
            "CONSUMER_LEADER",
            Layer.CONSUMERS,
            "Every consumer has a leader that a majority of its members names, and quorum.",
            _VIEWS,
            consumers_have_leader,
            _JSZ,
        ),
        Check(
            "CONSUMER_NODE",
            Layer.CONSUMERS,
            "Every member of a consumer runs a Raft node for it.",
            _NODES,
            raft_nodes_exist,
            _RAFT,
        ),
        Check(
            "CONSUMER_SPLIT",
            Layer.CONSUMERS,
            "No consumer has a second server that takes itself for its leader.",
            _VIEWS,
            one_leader,
            _JSZ,
        ),
        Check(
            "CONSUMER_MEMBERS",
            Layer.CONSUMERS,
            "A consumer's members are its stream's, as many as configured.",
            _VIEWS,
            members_match,
            _JSZ,
        ),
        Check(
            "CONSUMER_DELIVERS",
            Layer.CONSUMERS,
            "What waits and is asked for is delivered.",
            _VIEWS,
            consumers_deliver,
            _JSZ,
        ),
        Check(
            "CONSUMER_CLIENTS",
            Layer.CLIENTS,
            "Clients ask for messages and acknowledge them.",
            _VIEWS,
            clients_work,
            _JSZ,
        ),
        PIN.check("No priority group waits for a client that it is pinned to.", _VIEWS, pins_are_worked, trend=_JSZ),
        ACKS.check("What is delivered again is acknowledged.", _VIEWS, acks_come, trend=_JSZ),
        PROBES,
    ),
    propose=propose,
    rounds=2,
    interval=SETTLE_SECONDS,
    charts=consumer_charts,
    sources=(
        "nats-server #6838: group node missing after a scale-up; fixed by #6851 in 2.11.3 and 2.10.29",
        "nats-server server/raft.go: a leader that has not heard from a majority for 10 s has lost quorum",
        "nats-server #7001: from 2.11.5 on a health check only reports",
    ),
)
