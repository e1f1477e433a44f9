"""What people can do about sick stream groups: exact commands, nothing that natsmedic applies itself. Pure.

Rescue comes first, for it does not wait. What rescues a history and what does not was tried on real servers (tests/integration/test_stream_groups.py):
a backup over the API asks the group's leader and returns *its* history; the files of a copy with one replica open in a server without a cluster; and a
member that is ahead gives its messages to the others again once it leads, as long as nobody has published meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from bot.actions.stream_scaling import compose_raft_reset
from bot.errors import Refused
from bot.model import Endpoint, Finding, Focus, Rung, Severity, Snapshot, StreamKey, Subject, part
from bot.model.groups import ha_assets, latest
from bot.model.versions import version, version_number
from bot.runbook import Draft, Proposed, Thresholds
from runbooks._nack import edit_replicas
from runbooks._shared_guidance import cause_guidance, command
from runbooks._stream_checks import LAG, MEMBERS, NODE, SPLIT
from runbooks._stream_replacement import replacements
from runbooks._stream_sync import CONSUMER_SYNC, STREAM_SYNC
from runbooks._stream_timeline import AHEAD, CLEAN_UP, HOLDER, LEFTOVER, OUTSIDE, SILENT, TIMELINE

MOST_PROPOSALS = 10
"""Things of one kind for which one diagnosis makes proposals."""

PREFERRED = (2, 11, 0)
"""First version whose step-down takes a preferred successor (reference/nats.md 3.3)."""

WAITS_FOR_HOLDER = (2, 12, 8)
"""Oldest version that was seen to wait for the holder where empty members of 2.10.26, 2.11.2 and 2.11.11 elect one of themselves, every time
(tests/integration/test_stream_groups.py)."""

SAFE_SCALE_DOWN = ((2, 12, 10), (2, 14, 2))
"""First versions of their lines that keep the leader and prefer live peers when they scale down (nats-server #8253)."""


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:  # noqa: ARG001 - the contract's parameters
    """Return guidance: rescue of messages, causes that are still there, then each kind of damage, and an upgrade last."""
    sick = [f for f in findings if f.severity in {Severity.CRITICAL, Severity.WARNING}]
    histories = [f for f in sick if f.check == TIMELINE.code and f.evidence.get("kind") != LEFTOVER]
    proposed = [Proposed(f.subject, _rescue(snapshot, f)) for f in histories[:MOST_PROPOSALS] if f.subject.stream]
    # Neither is a server that may hold the only copy simply restarted, nor a silent one simply started.
    holders = {f.evidence.get("holder") for f in histories}
    causes = [f for f in findings if f.cause and f.severity in {Severity.CRITICAL, Severity.UNKNOWN}]
    proposed += [
        Proposed(f.subject, draft)
        for f in causes
        if f.subject.server not in holders and (draft := cause_guidance(snapshot, f))
    ]
    for code, make in _MAKERS.items():
        kind = [f for f in sick if f.check == code and not (f.check in _ENDANGERS and f.subject.server in holders)]
        made = [(f, make(snapshot, f)) for f in kind[:MOST_PROPOSALS]]
        proposed += [Proposed(f.subject, _on_rung(draft, RUNGS[code])) for f, draft in made if draft]
    dead = [f for f in sick if f.check == MEMBERS.code and f.subject.server not in holders]
    return proposed + replacements(snapshot, dead, MOST_PROPOSALS) + _upgrade(snapshot, sick)


def _rescue(snapshot: Snapshot, finding: Finding) -> Draft:
    server, stream, kind = finding.subject.server or "", finding.subject.stream or "", finding.evidence.get("kind")
    messages = finding.evidence.get("messages") or "all"
    title = f"Copy the files of stream {stream} on {server} now"
    guidance = _stop_writers(stream)
    if kind == OUTSIDE:
        guidance = (_copy(snapshot, finding, "while it runs"), *_open_copy(finding), *_put_back(stream))
    elif kind == AHEAD:
        title = f"Let {server} lead stream {stream}"
        guidance += (_copy(snapshot, finding, "while it runs"), *_lead(snapshot, server, _key(finding), messages))
    elif kind == SILENT:
        title = f"Copy the files of stream {stream} on {server} before it starts"
        guidance += (
            _copy(snapshot, finding, "before it starts (on Kubernetes: from its volume, in another pod)"),
            f"Then start {server}. It follows the empty leader and keeps its messages until the next one is published; diagnose again at once.",
            *_lead(snapshot, server, _key(finding), messages),
        )
    else:
        title = f"Save what is left of stream {stream}"
        guidance += (
            f"If a backup exists, restore it beside the stream and compare; what was published since has the same sequences. {_backup_hint(stream)}",
            "Look at every server that held it for files that are not deleted yet, also at snapshots of its volumes.",
        )
    return Draft(title=title, why=finding.sentence, guidance=guidance, cautions=_RESCUE_CAUTIONS)


_RESCUE_CAUTIONS = (
    f"Do not restart or stop anything before the copy is made: a copy outside of its group is deleted about {CLEAN_UP} s after each start.",
    "A backup over the API does not help yet: it asks the group's leader, which has the other history.",
    "Do not delete, purge or scale the stream before its messages are safe.",
)


def _stop_writers(stream: str) -> tuple[str, ...]:
    return (
        f"Stop everything that publishes to stream {stream}: the next message makes the fuller member throw its messages away.",
    )


def _copy(snapshot: Snapshot, finding: Finding, when: str) -> str:
    """The command that copies the stream's directory, on the server's machine or out of its pod."""
    server, stream = finding.subject.server or "", finding.subject.stream or ""
    config = part(latest(snapshot, server, Endpoint.JSZ) or {}, "config")
    store = str(config.get("store_dir") or "<store_dir>/jetstream")
    parent = str(PurePosixPath(store) / (finding.subject.account or "<account>") / "streams")
    here = command("cp", "-a", f"{parent}/{stream}", f"{stream}-rescue")
    pod = command("kubectl", "exec", server, "-c", "nats", "--", "tar", "-C", parent, "-cf", "-", stream)
    return (
        f"On {server}, {when}: {here}   (out of a running pod: {pod} > {command(f'{stream}-rescue.tar')}). With JWT accounts the directory above `streams` "
        "is the account's public key; a stream in memory has no files."
    )


def _open_copy(finding: Finding) -> tuple[str, ...]:
    account, stream = finding.subject.account or "", finding.subject.stream or ""
    views = part(finding.evidence, "views")
    if part(views, finding.subject.server or "").get("num_replicas", 1) != 1:
        return (
            (
                "The copy's configuration asks for more than one replica, and a server without a cluster refuses such a stream (10074): keep the copy, and "
                "ask for help before anything else."
            ),
        )
    place = command("mkdir", "-p", f"rescue/jetstream/{account}/streams")
    moved = command("cp", "-a", f"{stream}-rescue", f"rescue/jetstream/{account}/streams/{stream}")
    server = ("nats", "--server", "nats://127.0.0.1:4333", "--user", "rescue", "--password", "rescue")
    return (
        f"Anywhere, with the same nats-server version: {place} && {moved}",
        (
            "Write rescue.conf: "
            f'port: 4333, jetstream {{ store_dir: "rescue" }}, accounts {{ {json.dumps(account)} {{ jetstream: enabled, users: [{{ user: rescue, password: rescue }}] }} }}'
            "  and start it without any cluster block: nats-server -c rescue.conf"
        ),
        f"It must show {finding.evidence.get('messages')} messages: {command(*server, 'stream', 'info', stream)}",
        f"Now a backup is one: {command(*server, 'stream', 'backup', stream, f'{stream}-backup')}",
    )


def _put_back(stream: str) -> tuple[str, ...]:
    return (
        (
            f"Then people decide: where the new history holds nothing that is needed, remove it and restore ({_backup_hint(stream)}); else publish the rescued "
            "messages to it again."
        ),
        "Consumers come back with the backup; compare last_seq and the number of messages before anything publishes again.",
    )


def _backup_hint(stream: str) -> str:
    return f"{command('nats', 'stream', 'rm', stream)}, {command('nats', 'stream', 'restore', f'{stream}-backup')}"


def _key(finding: Finding) -> StreamKey:
    return StreamKey(finding.subject.account or "", finding.subject.stream or "")


def _lead(snapshot: Snapshot, server: str, key: StreamKey, messages: object) -> tuple[str, ...]:
    """What gave every message back on 2.10.26, 2.11.2 and 2.11.11, in this order."""
    stream = key.stream
    step_down = ["nats", "stream", "cluster", "step-down", stream]
    how = (
        f"{command(*step_down)}   and again, until {server} leads: before 2.11 nobody can be preferred, so any member may come next."
        if any(version_number(s.version) < PREFERRED for s in snapshot.servers)
        else f"{command(*step_down, '--preferred', server)}   and again if another member came first."
    )
    return (
        how,
        (
            f"Now, and not before, a backup saves the right history: {command('nats', 'stream', 'backup', stream, f'{stream}-backup')} "
            f"(it must show {messages} messages)."
        ),
        (
            f"Most times the others have copied it within seconds (diagnose again). Where they have not: {edit_replicas(snapshot, key, 1)}, "
            f"wait until {server} is the only member and holds everything, then {edit_replicas(snapshot, key, 3)}; with all servers "
            "up, one stream at a time."
        ),
        "Let publishers in again only when all members hold the same.",
    )


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
                f"{command('nats', 'consumer', 'report', finding.subject.stream) if finding.subject.stream else 'nats consumer report <stream>'}"
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
            f"Let the leader that the majority names step down, so that all members elect again: {command('nats', 'stream', 'cluster', 'step-down', stream)}",
            "If the second one stays: restart that server alone, with all others healthy. It joins as a follower, and what only it holds is gone.",
        ),
    )


def _members(snapshot: Snapshot, finding: Finding) -> Draft | None:
    server = finding.subject.server
    if finding.severity is Severity.WARNING:
        return _wait(finding, f"Wait for {server or finding.subject.stream}")
    if server is None:
        key = _key(finding)
        stream = key.stream
        return Draft(
            title=f"Give stream {stream} its missing member",
            why=finding.sentence,
            guidance=(
                f"See whether a server with room is there for it: {command('nats', 'server', 'report', 'jetstream')}",
                (
                    f"With all its members up, write its configuration once more, so that a peer is chosen: {edit_replicas(snapshot, key, 1)}"
                    f" and then {edit_replicas(snapshot, key, 3)}, but only after a backup: "
                    f"{command('nats', 'stream', 'backup', stream, f'{stream}-backup')}"
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
    key = _key(finding)
    stream = key.stream
    if finding.severity is Severity.WARNING:
        return None
    versions = [version_number(s.version) for s in snapshot.servers]
    unsafe = not all(_safe_scale_down(v) for v in versions)
    guide = Draft(
        title=f"Copy stream {stream} anew from its leader",
        why=finding.sentence,
        guidance=(
            (
                "Decide from the evidence which replica is right; only the leader's copy survives. If it is another one, let that lead first: "
                f"{command('nats', 'stream', 'cluster', 'step-down', stream, '--preferred')} <server>"
            ),
            f"Back up first: {command('nats', 'stream', 'backup', stream, f'{stream}-backup')}",
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
            f"From 2.14 on: {command('nats', 'consumer', 'reset', stream, consumer)}   with the first sequence that it must deliver.",
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
    old = sorted({v for s in snapshot.servers if version_number(v := version(snapshot, s.name)) < WAITS_FOR_HOLDER})
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


def _safe_scale_down(number: tuple[int, int, int]) -> bool:
    line = next((fix for fix in SAFE_SCALE_DOWN if fix[:2] == number[:2]), SAFE_SCALE_DOWN[-1])
    return number >= line


_MAKERS: dict[str, Callable[[Snapshot, Finding], Draft | None]] = {
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
