"""Pauses a consumer until a moment (2.11): nothing is delivered, its position stays, and it goes on by itself afterwards.

The request changes `pause_until` and nothing else of the configuration, so nobody's edit is overwritten; and it takes no metadata. So the receipt is in the
moment itself: its nanoseconds are those of this operation.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from bot.action import ELECTION, Check, Receipt
from bot.actions._consumer_target import (
    ConsumerTarget,
    agreed,
    check_target,
    numbers_of,
    objections,
    receipt_of,
    seen_settled,
    target_of,
    verify_target,
)
from bot.actions._facts import ConsumerFacts, consumer_facts, owner_mark
from bot.errors import Refused
from bot.model import ConsumerKey, OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification, digest
from bot.model.versions import Version
from bot.ports import Readers, Writers

PAUSE: Final[Version] = (2, 11, 0)
"""First version with CONSUMER.PAUSE (reference/nats.md 8)."""

MOST: Final = timedelta(days=7)
"""The longest pause: messages pile up meanwhile, and whoever asked for it has to come back before they go."""


class PauseParams(ConsumerTarget):
    """Which consumer, and until when."""

    until: str
    """The second, RFC 3339 in UTC: `2026-11-27T06:00:00Z`."""

    @property
    def moment(self) -> datetime:
        return datetime.strptime(self.until, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


class ConsumerPause:
    """Pauses one consumer."""

    kind: str = "consumer.pause"
    title: str = "Pause consumer"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = PauseParams
    settle: float = 1.0
    """The meta leader's change reaches the members within a heartbeat."""
    patience: float = 30.0
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: PauseParams) -> Check:
        """Nobody else has paused it, and the end lies ahead."""
        return await check_target(readers, params, seen_settled, refusals)

    async def preview(self, readers: Readers, params: PauseParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what waits."""
        return Preview(
            summary=f"Pause consumer {params.consumer} of stream {params.stream} until {params.until}",
            diff=f'+ "pause_until": "{params.until}"',
            blast_radius=f"Consumer {params.key}: nothing is delivered. Messages that wait for an acknowledgement can still be acknowledged.",
            effects=(
                "The stream goes on, so messages pile up; limits of the stream may remove some before they are delivered.",
            ),
            way_back="It is resumed, at once by rollback and by itself at the end.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: PauseParams, operation: OperationId) -> None:  # noqa: ARG002
        """Ask the meta leader."""
        await writers.pause_consumer(params.account, params.stream, params.consumer, marked(params.until, operation))

    async def receipt(self, readers: Readers, params: PauseParams, operation: OperationId) -> Receipt:
        """The very moment is the receipt: its nanoseconds are this operation's."""

        def tell(facts: ConsumerFacts) -> Receipt:
            found = paused_until(facts)
            if found == marked(params.until, operation):
                return Receipt.APPLIED
            return Receipt.FOREIGN if found else Receipt.NOT_APPLIED

        return await receipt_of(readers, params, tell)

    async def verify(self, readers: Readers, params: PauseParams, operation: OperationId) -> Verification:
        """Its leader counts it as paused, until the moment that was asked for."""

        def judge(facts: ConsumerFacts) -> tuple[Outcome, str]:
            found = paused_until(facts)
            if not facts.state.paused or found != marked(params.until, operation):
                now = f"paused until {found}" if facts.state.paused else "not paused"
                return Outcome.FAILED, f"Consumer {facts.key} is {now}."
            return Outcome.VERIFIED, f"Paused until {params.until}; {facts.state.num_pending} messages wait."

        return await verify_target(readers, params, judge, numbers_of)

    async def rollback(self, readers: Readers, writers: Writers, params: PauseParams, operation: OperationId) -> str:
        """Resume it, where the pause is ours."""
        match await self.receipt(readers, params, operation):
            case Receipt.APPLIED:
                await writers.pause_consumer(params.account, params.stream, params.consumer)
                return f"Consumer {params.key} is resumed."
            case Receipt.NOT_APPLIED:
                return f"Consumer {params.key} is not paused."
            case _:
                raise Refused(f"Consumer {params.key} is paused by somebody else, or can't be read.")


def refusals(snapshot: Snapshot, facts: ConsumerFacts, params: PauseParams) -> list[str]:
    """Reasons why it is not paused now."""
    reasons = objections(snapshot, facts, params, PAUSE, "CONSUMER.PAUSE")
    if was := paused_until(facts):
        reasons.append(f"It is paused already, until {was}, by somebody else.")
    if owner := owner_mark(facts.config):
        reasons.append(f"It is owned by a controller ({owner}), which would end the pause: pause it there.")
    if params.moment <= snapshot.taken_at:
        reasons.append(f"{params.until} is over.")
    elif params.moment - snapshot.taken_at > MOST:
        reasons.append(f"{params.until} is more than {MOST.days} days away.")
    return reasons


def compose_pause(snapshot: Snapshot, key: ConsumerKey, until: datetime) -> PauseParams:
    """Return the pause of a consumer until this second. Raises `Refused` with every reason that speaks against it."""
    facts = consumer_facts(snapshot, key)
    return agreed(snapshot, facts, pause_stage(facts, until), refusals)


def pause_stage(facts: ConsumerFacts, until: datetime) -> PauseParams:
    """Return the parameters for a pause until this second."""
    return PauseParams(**target_of(facts).model_dump(), until=until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def paused_until(facts: ConsumerFacts) -> str:
    """Return `pause_until` of its configuration, empty where it has none."""
    return str(facts.config.get("pause_until") or "")


def marked(until: str, operation: OperationId) -> str:
    """Return the moment with the operation's nanoseconds. The last digit is never 0: a server leaves zeros at the end out (RFC3339Nano of Go)."""
    number = int(digest(operation)[:12], 16)
    return f"{until.removesuffix('Z')}.{number % 10**8:08d}{number % 9 + 1}Z"


ACTION = ConsumerPause()
