"""What people can do about causes that several runbooks find: the same words in each, so that a report of all shows them once. Pure."""

from __future__ import annotations

from bot.actions._command_line import command
from bot.model import Finding, Snapshot
from bot.model.versions import version_number
from bot.runbook import Draft

SAFE_SCALE_UP = (2, 11, 4)
"""First version that refuses a scale-up while the only holder is away, which loses its data before (nats-server #6856; no 2.10 has it)."""


def cause_guidance(snapshot: Snapshot, finding: Finding) -> Draft | None:
    """Return what takes the cause away that a shared check found; None for other checks."""
    match finding.check:
        case "SERVER_ANSWERS":
            return _bring_back(snapshot, finding) if finding.subject.server else None
        case "META_QUORUM":
            return Draft(
                title="Bring the meta group back",
                why=finding.sentence,
                guidance=(
                    "Start the servers that are missing: without a meta leader no stream or consumer can be created, deleted or moved.",
                ),
            )
        case "STREAM_QUORUM":
            return _quorum(finding)
        case _:
            return None


def _bring_back(snapshot: Snapshot, finding: Finding) -> Draft:
    server = finding.subject.server or ""
    cautions = [
        "Streams with one replica on it are away meanwhile. Do not create them again and do not scale them up: their data is on that server.",
    ]
    old = sorted({s.version for s in snapshot.servers if (0, 0, 0) < version_number(s.version) < SAFE_SCALE_UP})
    if old:
        cautions.append(
            f"{', '.join(old)} takes such a scale-up and loses the data (nats-server #6856, fixed in 2.11.4)."
        )
    return Draft(
        title=f"Bring server {server} back",
        why=finding.sentence,
        guidance=(
            f"Look whether {server} runs and why it does not answer: process, node, disk, CPU limit, network to the other servers.",
            "While it is away every group on it has one member less; do not take another server down.",
            "What stays sick once it is back is examined again then.",
        ),
        cautions=tuple(cautions),
    )


def _quorum(finding: Finding) -> Draft:
    stream = finding.subject.stream
    return Draft(
        title=f"Bring a majority of stream {stream} back",
        why=finding.sentence,
        guidance=(
            f"See its members: {command('nats', 'stream', 'info', of=[stream])} (it times out while there is no leader; JSZ of each server, in the evidence, does not).",
            "Start the members that are away; one more than half of them is enough, and it takes seconds then. Messages and positions are kept.",
            "Its consumers can only be as healthy as the stream.",
        ),
        cautions=(
            f"Never delete or create {stream} again, and do not change its replicas or its peers meanwhile: without quorum that is how data gets lost.",
            "A server whose disk is gone for good: give it an empty disk and the same name, and it copies the stream from the others.",
        ),
    )
