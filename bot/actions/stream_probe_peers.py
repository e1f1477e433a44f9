"""Tries the servers that a stream is going to be on: a trial stream is made on all of them at once, and each one's own view of it is read.

Seen on 2.10.26, 2.11.2, 2.12.8 and 2.15.1 with a disk that takes no new directory (reference/drills.md 3.5): the meta leader answers the create with the
text of the operating system and drops the stream, or, on 2.10.26 at times, one member lacks it. The answer names no server, and in Kubernetes its path is
the same on all; so the trial is then made with one replica and grown as the stream itself would be, and the server that does not follow shows.
"""

from __future__ import annotations

import asyncio
from typing import Final

from bot.action import ELECTION, RECEIPT_KEY, Check, Receipt
from bot.actions._facts import look, stream_facts
from bot.actions._loading import Sleep
from bot.actions._peer_trial import TrialParams, config_of, expected, mark_of, passive_signs, trial_problems
from bot.actions._scale_facts import hindrances, replicas_in
from bot.actions.stream_scale import NEEDS
from bot.errors import ApiRefused, Refused, Unreadable
from bot.model import (
    TRENDS,
    TRIAL_STREAM,
    Again,
    JsonObject,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    Verification,
    part,
)
from bot.ports import Readers, Writers

CREATE_FAILED: Final = 10049
"""JetStream's code for a stream that a member could not make (reference/nats.md 3.4), seen with the text of the operating system."""

NAME_IN_USE, NOT_FOUND = 10058, 10059
BEING_DROPPED: Final = frozenset({NAME_IN_USE, NOT_FOUND})
"""JetStream's codes while the meta leader has not yet dropped the stream whose create it has just refused, or drops the next one with it (seen on 2.10.26)."""

TRIES, PAUSE = 10, 0.2
"""How often, and after how many seconds, what meets `BEING_DROPPED` is sent again."""

LOOK_AGAIN: Final = 0.5
"""Seconds between two looks at streams that lag."""


class ProbePeers:
    """Makes the trial stream."""

    kind: str = "stream.probe_peers"
    title: str = "Try the servers of a stream"
    risk: RiskClass = RiskClass.LOW
    params: type[Record] = TrialParams
    settle: float = 0.0
    """A member that reports its group, and follows, has written it to its disk."""
    patience: float = 12.0
    """An election takes 4 to 9 s where the member that should lead is the sick one (reference/nats.md 1.0)."""
    half_way: float = ELECTION

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    async def check(self, readers: Readers, params: TrialParams) -> Check:
        """Look at what the servers tell by themselves, and at all that speaks against the change that follows."""
        snapshot = await look(
            readers, NEEDS, lambda first: Again(TRENDS, 2, LOOK_AGAIN) if _against(first, params) else None
        )
        reasons = _against(snapshot, params)
        found = await _config(readers, params)
        if found and not mark_of(found):
            reasons.append(f"There is a stream {params.key} that natsmedic did not make.")
        return Check(world={}, refusals=tuple(dict.fromkeys(reasons)))

    async def preview(self, readers: Readers, params: TrialParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what is made, where, and which servers it can't reach."""
        told = ["Nothing is published to it, and it is deleted by the next stage, or at once where a server fails."]
        if len(params.servers) > params.replicas:
            told.append(
                f"{params.replicas} of the {len(params.servers)} servers are tried, those that the meta leader chooses: one group can't be on more. "
                "Of the others only what they tell by themselves is read."
            )
        return Preview(
            summary=f"Try {', '.join(params.servers)} with a stream {TRIAL_STREAM} of {params.replicas} replicas",
            diff=f"+stream {params.key}, {params.replicas} replicas, empty",
            blast_radius=f"Account {params.account} has one more stream for a second or two; streams and consumers of applications are not touched.",
            effects=tuple(told),
            way_back="It is deleted.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: TrialParams, operation: OperationId) -> None:
        """Make the trial on all servers at once; where one can't, make it so that the one shows."""
        found = await _config(readers, params)
        if found and _receipt(found) != operation:
            if not mark_of(found):
                raise Refused(f"There is a stream {params.key} that natsmedic did not make.")
            await writers.delete_trial(params.account)  # left by a trial whose outcome nobody learnt
            found = {}
        if found:
            if replicas_in(found) != params.replicas:
                await self._grow(writers, params, operation)
            return
        try:
            await writers.create_trial(params.account, config_of(params, operation, params.replicas))
        except ApiRefused as refused:
            if refused.err_code != CREATE_FAILED:
                raise
            await self._narrow_down(writers, params, operation)

    async def receipt(self, readers: Readers, params: TrialParams, operation: OperationId) -> Receipt:
        """Read the operation id back, from the leader or, while there is none, from any member. Raises `Unreadable`."""
        found = await _config(readers, params)
        if not found:
            return Receipt.NOT_APPLIED
        if _receipt(found) != operation:
            return Receipt.NOT_APPLIED if mark_of(found) else Receipt.FOREIGN
        return Receipt.APPLIED if replicas_in(found) == params.replicas else Receipt.NOT_APPLIED

    async def verify(self, readers: Readers, params: TrialParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """Every server must report the trial, have its Raft group, and follow."""
        snapshot = await look(readers, NEEDS)
        problems = trial_problems(snapshot, params)
        seen = expected(snapshot.streams(snapshot.rounds - 1).get(params.key) or {}, params)
        numbers: dict[str, str | int | None] = {"servers tried": len(seen), "that failed": len(problems)}
        if problems:
            sentence = f"{' '.join(problems)} Nothing of stream {params.scale.key} was changed."
            return Verification(outcome=Outcome.FAILED, sentence=sentence, numbers=numbers)
        rest = sorted(set(params.servers) - set(seen))
        untried = f" Not tried: {', '.join(rest)}." if rest else ""
        sentence = f"{', '.join(seen)} made the trial stream and follow its leader.{untried}"
        return Verification(outcome=Outcome.VERIFIED, sentence=sentence, numbers=numbers)

    async def rollback(self, readers: Readers, writers: Writers, params: TrialParams, operation: OperationId) -> str:
        """Delete the trial. It is called again until it is gone."""
        found = await _config(readers, params)
        if not found:
            return "The trial stream is gone."
        if _receipt(found) != operation:
            raise Refused(f"{params.key} does not carry this operation's receipt, so it is not deleted.")
        await writers.delete_trial(params.account)
        return "The trial stream is deleted again."

    async def _narrow_down(self, writers: Writers, params: TrialParams, operation: OperationId) -> None:
        """Make the trial on one server and grow it. A trial that was just refused may still be dropped meanwhile, this one with it."""
        for left in range(TRIES, -1, -1):
            made = False
            try:
                await writers.create_trial(params.account, config_of(params, operation, 1))
                made = True
                await self._grow(writers, params, operation)
            except ApiRefused as refused:
                if refused.err_code not in BEING_DROPPED or not left:
                    if made and refused.err_code not in BEING_DROPPED:
                        await writers.delete_trial(params.account)
                    raise
                await self._sleep(PAUSE)
                continue
            return

    async def _grow(self, writers: Writers, params: TrialParams, operation: OperationId) -> None:
        await writers.update_stream(
            params.account, TRIAL_STREAM, config_of(params, operation, params.replicas) | {"name": TRIAL_STREAM}
        )


def _against(snapshot: Snapshot, params: TrialParams) -> list[str]:
    reasons = passive_signs(snapshot, params.servers)
    try:
        reasons += hindrances(snapshot, stream_facts(snapshot, params.scale.key), params.scale)
    except Refused as refused:
        reasons += refused.reasons
    return reasons


async def _config(readers: Readers, params: TrialParams) -> JsonObject:
    """Return the trial stream's configuration, from a member where no leader answers; empty where there is none. Raises `Unreadable`."""
    try:
        info = await readers.stream_info(params.account, TRIAL_STREAM)
    except Unreadable:
        snapshot = await look(readers, NEEDS)
        views = snapshot.streams(snapshot.rounds - 1).get(params.key) or {}
        if not views:
            raise
        return next(iter(views.values())).config
    return part(info, "config") if info is not None else {}


def _receipt(config: JsonObject) -> str:
    return str(part(config, "metadata").get(RECEIPT_KEY) or "")


ACTION = ProbePeers()
