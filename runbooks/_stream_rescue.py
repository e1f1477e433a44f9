"""How messages of a stream with two histories are saved: exact commands, in the order in which nothing is lost. Pure.

What rescues a history and what does not was tried on real servers (tests/integration/test_stream_groups.py): a backup over the API asks the group's
leader and returns *its* history; the files of a copy with one replica open in a server without a cluster; and a member that is ahead gives its messages
to the others again once it leads, as long as nobody has published meanwhile.
"""

from __future__ import annotations

import json
import shlex
from pathlib import PurePosixPath

from bot.actions._command_line import command
from bot.model import Endpoint, Finding, Snapshot, StreamKey, part
from bot.model.groups import latest
from bot.model.versions import version_number
from bot.runbook import Draft
from runbooks._nack import edit_replicas
from runbooks._stream_timeline import AHEAD, CLEAN_UP, OUTSIDE, SILENT

PREFERRED = (2, 11, 0)
"""First version whose step-down takes a preferred successor (reference/nats.md 3.3)."""


def rescue(snapshot: Snapshot, finding: Finding) -> Draft:
    server, stream, kind = finding.subject.server or "", finding.subject.stream or "", finding.evidence.get("kind")
    messages = finding.evidence.get("messages") or "all"
    title = f"Copy the files of stream {stream} on {server} now"
    guidance = _stop_writers(stream)
    if kind == OUTSIDE:
        guidance = (_copy(snapshot, finding, "while it runs"), *_open_copy(finding), *_put_back(stream))
    elif kind == AHEAD:
        title = f"Let {server} lead stream {stream}"
        guidance += (_copy(snapshot, finding, "while it runs"), *_lead(snapshot, server, key_of(finding), messages))
    elif kind == SILENT:
        title = f"Copy the files of stream {stream} on {server} before it starts"
        guidance += (
            _copy(snapshot, finding, "before it starts (on Kubernetes: from its volume, in another pod)"),
            f"Then start {server}. It follows the empty leader and keeps its messages until the next one is published; diagnose again at once.",
            *_lead(snapshot, server, key_of(finding), messages),
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
    here = command("cp", "-a", of=[f"{parent}/{stream}", f"{stream}-rescue"])
    packed = command("tar", "-C", parent, "-cf", "-", of=[stream])
    pod = f"{command('kubectl', 'exec', of=[server], options=['-c', 'nats'])} -- {packed}"
    return (
        f"On {server}, {when}: {here}   (out of a running pod: {pod} > {shlex.quote(f'{stream}-rescue.tar')}). With JWT accounts the directory above `streams` "
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
    moved = command("cp", "-a", of=[f"{stream}-rescue", f"rescue/jetstream/{account}/streams/{stream}"])
    server = ("nats", "--server", "nats://127.0.0.1:4333", "--user", "rescue", "--password", "rescue")
    return (
        f"Anywhere, with the same nats-server version: {place} && {moved}",
        (
            "Write rescue.conf: "
            f'port: 4333, jetstream {{ store_dir: "rescue" }}, accounts {{ {json.dumps(account)} {{ jetstream: enabled, users: [{{ user: rescue, password: rescue }}] }} }}'
            "  and start it without any cluster block: nats-server -c rescue.conf"
        ),
        f"It must show {finding.evidence.get('messages')} messages: {command(*server, 'stream', 'info', of=[stream])}",
        f"Now a backup is one: {command(*server, 'stream', 'backup', of=[stream, f'{stream}-backup'])}",
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
    return f"{command('nats', 'stream', 'rm', of=[stream])}, {command('nats', 'stream', 'restore', of=[f'{stream}-backup'])}"


def key_of(finding: Finding) -> StreamKey:
    return StreamKey(finding.subject.account or "", finding.subject.stream or "")


def _lead(snapshot: Snapshot, server: str, key: StreamKey, messages: object) -> tuple[str, ...]:
    """What gave every message back on 2.10.26, 2.11.2 and 2.11.11, in this order."""
    stream = key.stream
    step_down = ("nats", "stream", "cluster", "step-down")
    how = (
        f"{command(*step_down, of=[stream])}   and again, until {server} leads: before 2.11 nobody can be preferred, so any member may come next."
        if any(version_number(s.version) < PREFERRED for s in snapshot.servers)
        else f"{command(*step_down, of=[stream], options=[f'--preferred={server}'])}   and again if another member came first."
    )
    return (
        how,
        (
            f"Now, and not before, a backup saves the right history: {command('nats', 'stream', 'backup', of=[stream, f'{stream}-backup'])} "
            f"(it must show {messages} messages)."
        ),
        (
            f"Most times the others have copied it within seconds (diagnose again). Where they have not: {edit_replicas(snapshot, key, 1)}, "
            f"wait until {server} is the only member and holds everything, then {edit_replicas(snapshot, key, 3)}; with all servers "
            "up, one stream at a time."
        ),
        "Let publishers in again only when all members hold the same.",
    )
