"""Every kind of audit row: what it means and what its data holds. `natsmedic audit kinds` prints it.

Rows of a kind that is not here can be read and verified like any other: a database may be older or newer than this program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from bot.model.approval import Approval
from bot.model.base import Record
from bot.model.freeze import Freeze


class AuditKind(Record):
    """One kind of row. `keys` are in the data of every such row, `optional` ones in some."""

    kind: str
    meaning: str
    keys: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def _kind(kind: str, meaning: str, *keys: str, optional: Iterable[str] = ()) -> AuditKind:
    return AuditKind(kind=kind, meaning=meaning, keys=keys, optional=tuple(optional))


def _stage(state: str, meaning: str, optional: Iterable[str] = ()) -> AuditKind:
    return _kind(f"stage.{state}", meaning, "execution", "stage", "operation", "sent", "after", optional=optional)


def _execution(state: str, meaning: str) -> AuditKind:
    return _kind(f"execution.{state}", meaning, "execution", "state", "fence")


def _freeze(event: str, meaning: str) -> AuditKind:
    return _kind(f"freeze.{event}", meaning, *Freeze.model_fields, optional=("team", "user"))


_MOVED: Final = ("before", "after", "revisions")

_ALL: Final = (
    _kind("alert.firing", "An alert fires; the incident it belongs to is named.", "fingerprint", "delivery"),
    _kind("alert.resolved", "Its sender says that an alert is over.", "fingerprint", "delivery"),
    _kind("approval.recorded", "A person has approved or denied a proposal.", *Approval.model_fields),
    _kind("approval.void", "An approval counts for nothing any more; policy asks for more now.", "approval", "person"),
    _kind(
        "audit.acknowledged",
        "A person lets changes go on after a gap.",
        *("checkpoints", "gaps", "reason"),
        optional=("team", "user"),
    ),
    _kind("audit.gap", "A checkpoint outside contradicts this log: nothing changes.", "sink", "checkpoint", "head"),
    _kind(
        "bot.started",
        "The bot starts; digests of its settings by section.",
        *("version", "mode", "sections", "crashed"),
        optional=("replica",),
    ),
    _kind("bot.stopped", "The bot stops because it was asked to.", "version", optional=("replica",)),
    _kind("checkpoint.failed", "A place takes no checkpoints."),
    _kind("checkpoint.recovered", "A place takes checkpoints again."),
    _kind(
        "click.refused",
        "A person pressed or sent something in Slack that does not count; the code says why.",
        "code",
        optional=("choice", "gesture", "team", "user"),
    ),
    _kind("command.refused", "A person asked in words for what they may not.", "code", "team", "user"),
    _kind("database.downgraded", "A person brings the tables back to an older revision.", *_MOVED),
    _kind(
        "database.pruned",
        "What is too old to keep is about to be removed: how many of what, and from when on it would be kept.",
        *("incidents", "snapshots", "deliveries", "before"),
    ),
    _kind("database.upgraded", "A person brings the tables to a newer revision.", *_MOVED),
    _kind("delivery.unreadable", "A stored webhook request is not readable."),
    _kind("diagnosis.asked", "A person asks for another look.", "event"),
    _kind("diagnosis.done", "A diagnosis has its verdict; digest of its snapshot.", "snapshot", "severity", "reason"),
    _execution("done", "All stages are verified."),
    _execution("failed", "A stage failed, and nothing could or had to be taken back."),
    _execution("needs_human", "The bot can't go on by itself."),
    _execution("refused", "It stopped before its first write."),
    _execution("rolled_back", "What was changed was taken back."),
    _execution("started", "Approvals, expiry and world were checked again; the first write may come."),
    _execution("verifying", "The last stage is applied; reality is read."),
    _kind(
        "factor.locked",
        "A person sent so many wrong codes that none is looked at until then.",
        "person",
        "until",
        "wrong",
    ),
    _freeze("lift", "The first of two people lifts a freeze; it stands."),
    _freeze("lifted", "The second person lifts a freeze; it is over."),
    _freeze("set", "A person stops changes: everywhere, of a cluster or of an action."),
    _kind("glass.broken", "A person approves alone, in place of the groups named.", "missing", "digest"),
    _kind("incident.reopened", "An alert fires again after its incident was over."),
    _kind("incident.taken", "A person takes an incident."),
    _kind("lock.released", "A person gave a cluster's lock back.", "cluster", "fence", optional=("team", "user")),
    _kind(
        "proposal.created",
        "A proposal is stored, whole, with the preview people see.",
        "digest",
        "proposal",
        optional=("instead_of",),
    ),
    _kind("proposal.escalated", "A further group is called and may approve in place of one.", "group", "stands_for"),
    _kind("proposal.expired", "Nobody decided in time."),
    _kind("proposal.superseded", "Another one took its place, or the world moved.", optional=("drift",)),
    _kind("proposal.withdrawn", "Its reason is gone, or a person takes it back.", optional=("team", "user")),
    _kind("replica.lost", "A replica is taken for dead; the others go on with its work.", "replica", "by"),
    _kind("settings.changed", "Sections of the settings differ from those of the start before.", "sections"),
    _kind("silence.ended", "A person ends a silence."),
    _kind("silence.over", "A silence has run its time."),
    _kind("silence.set", "A person silences an incident."),
    _stage("applied", "A change was sent and is known to be applied; its operation id is its receipt."),
    _stage("failed", "A change is applied and reality does not show what was promised."),
    _stage("intended", "A change is about to be sent: what was there, and the world it rests on.", ("before", "world")),
    _stage("not_applied", "A change is known not to have happened."),
    _stage("rolled_back", "A change was taken back."),
    _stage("sending", "A change is sent now, under the fence."),
    _stage("undoing", "A change is about to be taken back."),
    _stage("unknown", "Nobody knows yet whether a change happened."),
    _stage("verified", "Reality shows what was promised."),
    _stage("waiting", "A stage waits for what must hold before it."),
    _kind("storm.began", "So many alerts came in that they share one message."),
    _kind("storm.opened", "A person gives an incident of a storm a thread of its own."),
    _kind("storm.over", "A storm is over."),
)
AUDIT_KINDS: Final[Mapping[str, AuditKind]] = {one.kind: one for one in _ALL}


def flaw_of(kind: str, keys: Iterable[str]) -> str:
    """Return what is wrong with a row of this kind whose data has these keys, one sentence; empty where nothing is."""
    known = AUDIT_KINDS.get(kind)
    if known is None:
        return f"{kind} is not in the table of kinds (bot/model/audit_kinds.py)."
    given = set(keys)
    missing = sorted(set(known.keys) - given)
    more = sorted(given - {*known.keys, *known.optional})
    return f"{kind} lacks {missing} and has {more} besides what its kind names." if missing or more else ""
