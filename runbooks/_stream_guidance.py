"""What is done about sick stream groups, the least destructive first: exact commands, and the changes that natsmedic offers itself. Pure.

Rescue comes before all, for it does not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bot.actions._command_line import command
from bot.actions._scale_facts import SAFE_SCALE_DOWN
from bot.actions.stream_scaling import WAITS_FOR_HOLDER, compose_raft_reset
from bot.errors import Refused
from bot.model import Finding, Focus, Rung, Severity, Snapshot, Subject
from bot.model.groups import ha_assets
from bot.model.versions import has
from bot.runbook import Draft, Proposed, Thresholds
from runbooks._nack import edit_replicas
from runbooks._shared_guidance import cause_guidance
from runbooks._stream_checks import LAG, MEMBERS, NODE, SPLIT
from runbooks._stream_replacement import replacements
from runbooks._stream_rescue import key_of, rescue
from runbooks._stream_sync import CONSUMER_SYNC, STREAM_SYNC
from runbooks._stream_timeline import HOLDER, LEFTOVER, TIMELINE

MOST_PROPOSALS = 10
"""Things of one kind for which one diagnosis makes proposals."""


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:  # noqa: ARG001 - the contract's parameters
    """Return guidance: rescue of messages, causes that are still there, then each kind of damage, and an upgrade last."""
    sick = [f for f in findings if f.severity in {Severity.CRITICAL, Severity.WARNING}]
    histories = [f for f in sick if f.check == TIMELINE.code and f.evidence.get("kind") != LEFTOVER]
    proposed = [Proposed(f.subject, rescue(snapshot, f)) for f in histories[:MOST_PROPOSALS] if f.subject.stream]
    # Neither is a server that may hold the only copy simply restarted, nor a silent one simply started.
    holders = {f.evidence.get("holder") for f in histories}
    causes = [f for f in findings if f.cause and f.severity in {Severity.CRITICAL, Severity.UNKNOWN}]
    proposed += [
        Proposed(f.subject, draft)
        for f in causes
        if f.subject.server not in holders and (draft := cause_guidance(snapshot, f))
    ]
    for code, make in MAKERS.items():
        kind = [f for f in sick if f.check == code and not (f.check in _ENDANGERS and f.subject.server in holders)]
        made = [(f, make(snapshot, f)) for f in kind[:MOST_PROPOSALS]]
        proposed += [Proposed(f.subject, _on_rung(draft, RUNGS[code])) for f, draft in made if draft]
    dead = [f for f in sick if f.check == MEMBERS.code and f.subject.server not in holders]
    return proposed + replacements(snapshot, dead, MOST_PROPOSALS) + _upgrade(snapshot, sick)


def _node(snapshot: Snapshot, finding: Finding) -> Draft | None:
    server = finding.subject.server or ""
    if finding.severity is Severity.WARNING:
        return _wait(finding, f"Wait for {server}")
    room = ha_assets(snapshot, server)
    cause = (
        (
            f"First give it room: it runs {room.count} Raft groups and its max_ha_assets is {room.limit}; a reload does not take that limit.",
        )
        if room.refuses(1)
        else ()
    )
    return Draft(
        title=f"Restart server {server}",
        why=f"{finding.sentence} A server makes missing copies and Raft nodes when it starts, and fetches the messages from the leader.",
        guidance=(
            *cause,
            f"Look at its log for the reason: disk full or read-only, *Maximum HA Assets limit reached*, *Error creating*. {server} fails again while it lasts.",
            (
                "Save the positions of the consumers first; a server that can't write has deleted consumers of the whole cluster: "
                f"{command('nats', 'consumer', 'report', of=[finding.subject.stream]) if finding.subject.stream else 'nats consumer report <stream>'}"
            ),
            f"Make sure that all other servers are healthy, then stop {server} with SIGTERM (on Kubernetes: delete its pod) and wait until it is healthy.",
        ),
        cautions=(
            "Not while STREAM_TIMELINE speaks of this server: a restart deletes copies that are outside of their group.",
        ),
    )


def _split(_: Snapshot, finding: Finding) -> Draft | None:
    stream = finding.subject.stream
    if finding.severity is Severity.WARNING:
        return _wait(finding, f"Wait for stream {stream} to settle on one leader")
    return Draft(
        title=f"Leave stream {stream} one leader",
        why=finding.sentence,
        guidance=(
            "Compare messages and last sequences of both in the evidence: where the second leader holds more, copy its files first.",
            f"Let the leader that the majority names step down, so that all members elect again: {command('nats', 'stream', 'cluster', 'step-down', of=[stream])}",
            "If the second one stays: restart that server alone, with all others healthy. It joins as a follower, and what only it holds is gone.",
        ),
    )


def _members(snapshot: Snapshot, finding: Finding) -> Draft | None:
    server = finding.subject.server
    if finding.severity is Severity.WARNING:
        return _wait(finding, f"Wait for {server or finding.subject.stream}")
    if server is None:
        key = key_of(finding)
        stream = key.stream
        return Draft(
            title=f"Give stream {stream} its missing member",
            why=finding.sentence,
            guidance=(
                f"See whether a server with room is there for it: {command('nats', 'server', 'report', 'jetstream')}",
                (
                    f"With all its members up, write its configuration once more, so that a peer is chosen: {edit_replicas(snapshot, key, 1)}"
                    f" and then {edit_replicas(snapshot, key, 3)}, but only after a backup: "
                    f"{command('nats', 'stream', 'backup', of=[stream, f'{stream}-backup'])}"
                ),
            ),
            cautions=(
                "Never `peer-remove` where no spare server is there: before 2.15 the peer is gone although the request is refused (10075).",
            ),
        )
    return Draft(
        title=f"Bring {server} back as a member",
        why=finding.sentence,
        guidance=(
            f"Look whether {server} runs, answers and reaches the leaders over its routes; natsmedic's SERVER_ANSWERS and ROUTE_MESH say more.",
            "Once it is back it catches up by itself. Until then take no other server down.",
        ),
        cautions=(
            "Do not remove it as a peer while it may come back: its copy is thrown away, and the stream is copied anew.",
        ),
    )


def _lag(_: Snapshot, finding: Finding) -> Draft | None:
    server = finding.subject.server or ""
    if finding.severity is Severity.WARNING:
        return _wait(finding, f"Wait until {server} has caught up")
    return Draft(
        title=f"Find out why {server} does not catch up",
        why=finding.sentence,
        guidance=(
            f"Look at {server}: CPU limit, disk (full, slow, read-only), memory, and *pending* of its routes.",
            "What it says itself: nats server report health, and its log (*catchup*, *error*).",
            f"If nothing is wrong there: with quorum without it, and every other server healthy, restart {server} alone; it fetches the rest at its start.",
        ),
        cautions=("The leader serves clients as before; a second lost member would stop the stream.",),
    )


def _sync(snapshot: Snapshot, finding: Finding) -> Draft | None:
    key = key_of(finding)
    stream = key.stream
    if finding.severity is Severity.WARNING:
        return None
    unsafe = not all(has(server.version, SAFE_SCALE_DOWN) for server in snapshot.servers)
    guide = Draft(
        title=f"Copy stream {stream} anew from its leader",
        why=finding.sentence,
        guidance=(
            (
                "Decide from the evidence which replica is right; only the leader's copy survives. If it is another one, let that lead first: "
                f"{command('nats', 'stream', 'cluster', 'step-down', of=[stream], options=['--preferred=SERVER'])}"
            ),
            f"Back up first: {command('nats', 'stream', 'backup', of=[stream, f'{stream}-backup'])}",
            "Preconditions: every server is up, all members current, no other stream is being changed, nothing is restarted within the next minute.",
            f"{edit_replicas(snapshot, key, 1)}   then wait until INFO shows one member, with the last_seq of before.",
            f"{edit_replicas(snapshot, key, 3)}   then wait until all members are current; one stream at a time.",
        ),
        cautions=(
            "On this version the scale-down may keep a replica that is not the leader's or not online (nats-server #8253, 2.12.10 and 2.14.2)."
            if unsafe
            else "The server keeps the leader's copy when it scales down.",
            "Consumers with pending messages are scaled along; take their positions down before.",
        ),
    )
    try:
        reset = compose_raft_reset(snapshot, key)
    except Refused as refused:
        told = (f"natsmedic does not offer it now: {reason}" for reason in refused.reasons)
        return guide.model_copy(update={"guidance": (*guide.guidance, *told)})
    return guide.model_copy(update={"guidance": (), "stages": reset.stages, "cautions": reset.cautions})


def _consumer(_: Snapshot, finding: Finding) -> Draft | None:
    stream, consumer = finding.subject.stream, finding.subject.consumer
    if finding.severity is Severity.WARNING:
        return None
    return Draft(
        title=f"Bring consumer {consumer} back to where its stream is",
        why=finding.sentence,
        guidance=(
            "First decide about the lost messages of the stream; when they are restored the consumer is right as it is.",
            f"From 2.14 on: {command('nats', 'consumer', 'reset', of=[stream, consumer])}   with the first sequence that it must deliver.",
            "Before 2.14 its owner deletes it and creates it again; nothing that it delivered before is in the stream any more.",
        ),
    )


def _holder(_: Snapshot, finding: Finding) -> Draft | None:
    holder = finding.evidence.get("holder")
    if not holder:
        return None
    what = finding.subject.consumer or finding.subject.stream
    return Draft(
        title=f"Bring {holder} back for {what}",
        why=finding.sentence,
        guidance=(
            f"Start {holder} again with its disk: its data is there and nowhere else.",
            "Do not create it again, do not scale it up and do not remove the server from the cluster meanwhile.",
            "Afterwards give it three replicas, one at a time, with all servers up.",
        ),
    )


def _wait(finding: Finding, title: str) -> Draft:
    return Draft(
        title=title,
        why=finding.sentence,
        guidance=("Change and restart nothing; diagnose again in a minute.",),
        rung=Rung(not_enough="What is stuck stays so, however long one waits.", go_on="it is the same a minute later."),
    )


def _on_rung(draft: Draft, rung: Rung) -> Draft:
    """Say why it may not be enough; waiting has its own words for that."""
    return draft if draft.rung else draft.model_copy(update={"rung": rung})


def _upgrade(snapshot: Snapshot, sick: Sequence[Finding]) -> list[Proposed]:
    """An upgrade where a fixed defect, or a scale-up that the server itself does not stage, is behind what was found."""
    affected = [f for f in sick if f.severity is Severity.CRITICAL and (f.issue or f.check == TIMELINE.code)]
    old = sorted({server.version for server in snapshot.servers if not has(server.version, WAITS_FOR_HOLDER)})
    if not affected or not old:
        return []
    draft = Draft(
        title="Upgrade nats-server",
        why=f"The servers run {', '.join(old)}: there a scale-up from one replica can begin a new history or leave two leaders.",
        guidance=(
            "Not before the messages are safe: an upgrade restarts every server.",
            (
                "2.12.8 and later wait for the holder, 2.15 stages scale-ups itself. 2.11.3 and 2.10.29 end a second leader (#6851); 2.11.4 refuses a scale-up "
                "where the holder is known to be away (#6856), which it is only some time after its death."
            ),
            "Until then scale one stream at a time, wait until all members are current, compare last_seq before and after, and restart nothing meanwhile.",
        ),
        rung=Rung(
            not_enough="It keeps groups from breaking; one that is broken stays so until it is repaired.", go_on=""
        ),
    )
    return [Proposed(Subject(cluster=snapshot.cluster), draft)]


MAKERS: dict[str, Callable[[Snapshot, Finding], Draft | None]] = {
    HOLDER.code: _holder,
    NODE.code: _node,
    SPLIT.code: _split,
    MEMBERS.code: _members,
    LAG.code: _lag,
    STREAM_SYNC.code: _sync,
    CONSUMER_SYNC.code: _consumer,
}
"""Kinds of damage in the order in which they are offered."""

RUNGS: dict[str, Rung] = {
    HOLDER.code: Rung(
        not_enough="Where its disk is lost its data is too, and only a backup brings it back.",
        go_on="it is back with an empty disk, or does not come back.",
    ),
    NODE.code: Rung(
        not_enough="A server that can't write, or is at its limit of Raft groups, makes none at its start either.",
        go_on="it has been healthy for a minute, and still lacks its copy or its Raft node.",
    ),
    SPLIT.code: Rung(
        not_enough="A server that leads alone, outside of its group, does not take part in the election.",
        go_on="a new leader is there, and the second one stays for a minute.",
    ),
    MEMBERS.code: Rung(
        not_enough="A server whose disk or machine is gone does not come back with its copy.",
        go_on="it is away for good, and a spare server with room is there.",
    ),
    LAG.code: Rung(
        not_enough="A disk or a network that is too slow is as slow after a restart.",
        go_on="it has been back for a minute, and the gap does not shrink.",
    ),
    STREAM_SYNC.code: Rung(
        not_enough="What made the copies differ may do it again: clocks, a disk, or a defect of the version.",
        go_on="the new copies differ again.",
    ),
    CONSUMER_SYNC.code: Rung(
        not_enough="Messages that the stream has lost are delivered by no position.",
        go_on="",
    ),
}
"""Why each may not be enough, and when to go on to what comes after it: a replacement of the member, and an upgrade at last."""

_ENDANGERS = frozenset({NODE.code, SPLIT.code, MEMBERS.code, LAG.code})
"""Kinds whose remedy may restart the server that they name, or start it."""
