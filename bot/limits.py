"""Whether a change may start, and whether a stage may be sent: freezes, changes per hour, the rest after a failure, the stop of a loop.

Independent of whoever proposes and approves. Every execution asks it in the transaction that commits its intent, and fails closed: what can't be
read stops it (design/safety.md, Applying 8 and Approving 5). That one change at a time runs on a cluster is the target lock's matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from bot.model import Execution, ExecutionState, Moment, Proposal, Record
from bot.ports import Brakes, Clock
from bot.settings import LimitSettings

HOUR: Final = timedelta(hours=1)
LOOK_BACK: Final = timedelta(days=2)
"""No limit reaches further than a day, and no execution runs for another."""
_REASON_SHOWN: Final = 200
"""Characters of a freeze file's first line."""

_UNSUCCESSFUL: Final = frozenset({ExecutionState.FAILED, ExecutionState.ROLLED_BACK, ExecutionState.NEEDS_HUMAN})


class Stop(StrEnum):
    """What stops a change; `none` is the only yes."""

    NONE = "none"
    FROZEN = "frozen"
    AUDIT_GAP = "audit_gap"
    """The database does not reach its newest checkpoint, and nobody has acknowledged that."""
    PER_HOUR = "per_hour"
    REST = "rest"
    LOOP = "loop"


class Ruling(Record):
    """`sentence` says what was observed, the limit and the way out."""

    stop: Stop = Stop.NONE
    sentence: str = ""
    opens_at: Moment | None = None
    """When the limit is over by itself; None where it is not, or where nothing stops."""

    @property
    def allowed(self) -> bool:
        return self.stop is Stop.NONE


class Past(Record):
    """An execution of the cluster and what it ran."""

    execution: Execution
    proposal: Proposal

    @property
    def sent_at(self) -> datetime | None:
        """When its first change was meant to be sent; None where none was."""
        return min((run.intended_at for run in self.execution.stages if run.sent and run.intended_at), default=None)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(stage.kind for stage in self.proposal.stages)


class Limits:
    """Asked inside a transaction, so that what it saw is what is committed; and before, of the store, so that nobody waits for a turn to hear a no."""

    def __init__(self, rules: LimitSettings, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock

    async def start(self, brakes: Brakes, proposal: Proposal) -> Ruling:
        """Return whether a proposal may start now, all of its stages considered."""
        now = self._clock.now()
        for kind in dict.fromkeys(stage.kind for stage in proposal.stages):
            ruling = await self.stage(brakes, proposal.cluster, kind)
            if not ruling.allowed:
                return ruling
        runs = await brakes.runs_since(proposal.cluster, now - LOOK_BACK)
        past = [Past(execution=run, proposal=plan) for run, plan in runs if plan.id != proposal.id]
        return judge(proposal, past, self._rules, now)

    async def stage(self, brakes: Brakes, cluster: str, kind: str) -> Ruling:
        """Return whether one action of this kind may be sent now: only a freeze, or an audit log with a gap, stops what has begun."""
        if self._rules.freeze_file is not None and (why := await asyncio.to_thread(_file, self._rules.freeze_file)):
            return Ruling(stop=Stop.FROZEN, sentence=why)
        if (gap := await brakes.audit_gap()) is not None:
            return Ruling(stop=Stop.AUDIT_GAP, sentence=gap.sentence)
        now = self._clock.now()
        for freeze in await brakes.freezes():
            if freeze.active(now) and freeze.covers(cluster, kind):
                return Ruling(stop=Stop.FROZEN, sentence=_capital(f"{freeze}."), opens_at=freeze.until)
        return Ruling()


def judge(proposal: Proposal, past: Sequence[Past], rules: LimitSettings, now: datetime) -> Ruling:
    """Return the ruling on a start, of the limit that lasts longest. Pure."""
    rulings = (_loop(proposal, past, rules, now), _rest(past, rules, now), _per_hour(past, rules, now))
    stopping = [ruling for ruling in rulings if not ruling.allowed]
    return max(stopping, key=lambda ruling: ruling.opens_at or now) if stopping else Ruling()


def _per_hour(past: Sequence[Past], rules: LimitSettings, now: datetime) -> Ruling:
    recent = sorted(one.sent_at for one in past if one.sent_at is not None and one.sent_at > now - HOUR)
    if len(recent) < rules.per_hour:
        return Ruling()
    opens = recent[-rules.per_hour] + HOUR
    return Ruling(
        stop=Stop.PER_HOUR,
        sentence=f"{len(recent)} changes were made on this cluster within the last hour, and {rules.per_hour} are allowed: the next one may start at {_at(opens)}.",
        opens_at=opens,
    )


def _rest(past: Sequence[Past], rules: LimitSettings, now: datetime) -> Ruling:
    ends = [one.execution.ended_at for one in past if _failed(one) and one.execution.ended_at is not None]
    opens = max(ends, default=now) + timedelta(seconds=rules.rest_seconds)
    if not ends or opens <= now:
        return Ruling()
    return Ruling(
        stop=Stop.REST,
        sentence=f"A change of this cluster did not succeed at {_at(max(ends))}: it rests for {rules.rest_seconds / 60:.0f} minutes, and the next change may start at {_at(opens)}.",
        opens_at=opens,
    )


def _loop(proposal: Proposal, past: Sequence[Past], rules: LimitSettings, now: datetime) -> Ruling:
    """A repair that is proposed again although it was done did not last."""
    kinds = tuple(stage.kind for stage in proposal.stages)
    block = timedelta(seconds=rules.block_seconds)
    ends = sorted(
        one.execution.ended_at
        for one in past
        if one.proposal.subject == proposal.subject
        and one.execution.ended_at is not None
        and one.execution.ended_at > now - block
        and (_failed(one) or (one.execution.state is ExecutionState.DONE and one.kinds == kinds))
    )
    if len(ends) < rules.failures:
        return Ruling()
    opens = ends[-rules.failures] + block
    return Ruling(
        stop=Stop.LOOP,
        sentence=f"{len(ends)} changes of {proposal.subject} failed or did not last within {rules.block_seconds / 60:.0f} minutes: repairing it again would hide the cause. A person must look; it is blocked until {_at(opens)}.",
        opens_at=opens,
    )


def _failed(one: Past) -> bool:
    return one.execution.state in _UNSUCCESSFUL and one.sent_at is not None


def _file(path: Path) -> str:
    """Why a freeze file stops everything; empty where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            reason = file.readline(_REASON_SHOWN).strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"Whether everything is frozen can't be read from {path} ({error.strerror}), so nothing is sent."
    return f"Everything is frozen while {path} exists: {reason or 'it gives no reason'}."


def _at(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
