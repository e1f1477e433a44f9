"""What a thread should look like: the stored case of an incident, and the messages it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from bot.adapters.slack.blocks import Block
from bot.adapters.slack.countdown import time_left
from bot.adapters.slack.pace import REMEMBERED, RUNNING, Pace, usual
from bot.model import (
    STORM,
    Approval,
    Chart,
    Diagnosis,
    Dossier,
    Execution,
    Incident,
    IncidentId,
    JsonObject,
    Proposal,
    SnapshotId,
    StormLine,
    StormMember,
    digest,
)
from bot.ports import Store

APPROVE: Final = "approve"
DENY: Final = "deny"
DETAILS: Final = "details"
TUNE: Final = "tune"
"""action_ids of a proposal's buttons."""
TAKE: Final = "take"
SILENCE: Final = "silence"
END_SILENCE: Final = "end_silence"
"""action_ids of a board's buttons."""
OPEN_THREAD: Final = "open_thread"
"""action_id of the menu of a storm's message."""
OPTIONS: Final = 100
"""Slack's limit of a menu (reference/chatops.md 5)."""


@dataclass(frozen=True, slots=True)
class ProposalCase:
    """A proposal with what people and the bot have done about it."""

    proposal: Proposal
    approvals: tuple[Approval, ...] = ()
    execution: Execution | None = None
    left: str = ""
    """How much time is left to decide, behind the time of its expiry."""


@dataclass(frozen=True, slots=True)
class Storm:
    """What a storm's message shows: its table, and incidents that can be given a thread of their own."""

    lines: tuple[StormLine, ...]
    members: tuple[StormMember, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Everything stored about one incident that its thread shows."""

    incident: Incident
    diagnoses: tuple[Diagnosis, ...] = ()
    """Oldest first."""
    proposals: tuple[ProposalCase, ...] = ()
    """Oldest first."""
    lock_holder: str | None = None
    """The execution that holds the cluster's target lock."""
    pace: Pace | None = None
    """Where a repair of it runs: the time, and how long such repairs take."""
    storm: Storm | None = None
    """Where it stands for a storm."""

    @property
    def last_diagnosis(self) -> Diagnosis | None:
        """The diagnosis the incident stands on."""
        named = next((d for d in self.diagnoses if d.id == self.incident.last_diagnosis), None)
        return named or (self.diagnoses[-1] if self.diagnoses else None)


@dataclass(frozen=True, slots=True)
class File:
    """A file of the thread; its name is how it is found again. Its content is `text`, the archive of `snapshot`, the picture of `chart`, or the report of
    `report`, which comes with twins of other endings.
    """

    name: str
    title: str
    text: str | None = None
    snapshot: SnapshotId | None = None
    chart: Chart | None = None
    report: IncidentId | None = None
    alt: str = ""
    """What a picture shows, for people who don't see it."""


@dataclass(frozen=True, slots=True)
class WantedMessage:
    """One message as Slack should show it. `text` is the fallback, already safe. A message with a file is posted once and never edited."""

    key: str
    text: str
    blocks: tuple[Block, ...] = ()
    thread: bool = True
    file: File | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        shown: JsonObject = {
            "text": self.text,
            "blocks": list(self.blocks),
            "file": self.file.name if self.file else None,
        }
        object.__setattr__(self, "digest", digest(shown))

    @property
    def urgent(self) -> bool:
        """True for what people wait for: the board, proposals and their runs."""
        return self.key.partition(":")[0] in {"board", "proposal", "execution"}


async def load(store: Store, incident: Incident, now: datetime) -> Case:
    """Read the whole case from the store; raises StoreError."""
    if incident.source == STORM:
        lines, members = await store.storm_lines(incident.id), await store.rolled_up(incident.id, OPTIONS)
        return Case(incident, storm=Storm(tuple(lines), tuple(members)))
    dossier = await store.dossier(incident.id) or Dossier(incident=incident)  # retention may have taken it meanwhile
    cases = [
        ProposalCase(one.proposal, one.approvals, one.execution, time_left(one.proposal.expires_at, now))
        for one in dossier.decided
    ]
    running = any(entry.execution is not None and entry.execution.state in RUNNING for entry in cases)
    pace = Pace(now, usual(await store.runs(REMEMBERED))) if running else None
    return Case(dossier.incident, dossier.diagnoses, tuple(cases), lock_holder=dossier.lock_holder, pace=pace)
