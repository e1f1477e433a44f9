"""Lets go of the client that a priority group is pinned to (2.11, `pinned_client`), so that another one that waits gets the messages.

The pin has an id of its own that is never given twice, so that another one, or none, is the receipt.
"""

from __future__ import annotations

from bot.action import ELECTION, Check, Receipt
from bot.actions._consumer_target import (
    ConsumerTarget,
    agreed,
    check_target,
    objections,
    receipt_of,
    target_of,
    verify_target,
)
from bot.actions._facts import ConsumerFacts, consumer_facts, settled_world
from bot.actions.consumer_delete import numbers
from bot.actions.consumer_pause import PAUSE
from bot.errors import Refused
from bot.model import ConsumerKey, OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification
from bot.ports import Readers, Writers

UNPIN = PAUSE
"""Both came with 2.11.0 (reference/nats.md 8)."""


class UnpinParams(ConsumerTarget):
    """Which group of which consumer, and which pin."""

    group: str
    pin: str
    """The id of the pin, which is not the client's."""


class ConsumerUnpin:
    """Unpins one group."""

    kind: str = "consumer.unpin"
    title: str = "Unpin consumer"
    risk: RiskClass = RiskClass.LOW
    params: type[Record] = UnpinParams
    settle: float = 1.0
    """A client that waits is pinned with the next message, within milliseconds."""
    patience: float = 30.0
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: UnpinParams) -> Check:
        """The group is still pinned by this pin."""

        def see(facts: ConsumerFacts) -> Check:
            world = settled_world(facts) | {f"consumer.pin of {params.group}": pins(facts).get(params.group)}
            return Check(world=world, before=_numbers(facts, params.group))

        return await check_target(readers, params, see, refusals)

    async def preview(self, readers: Readers, params: UnpinParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say who loses its place."""
        return Preview(
            summary=f"Unpin group {params.group} of consumer {params.consumer} of stream {params.stream}",
            blast_radius=f"Consumer {params.key}: the client that is pinned loses its place; it may get it back with its next request.",
            effects=(
                "The next client that asks is pinned. What the former one has not acknowledged is delivered again after ack_wait.",
            ),
            way_back="None is needed: clients are pinned anew as they ask.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: UnpinParams, operation: OperationId) -> None:  # noqa: ARG002
        """Ask the consumer's leader."""
        await writers.unpin_consumer(params.account, params.stream, params.consumer, params.group)

    async def receipt(self, readers: Readers, params: UnpinParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """Another pin, or none, is the receipt."""

        def tell(facts: ConsumerFacts) -> Receipt:
            return Receipt.NOT_APPLIED if pins(facts).get(params.group) == params.pin else Receipt.APPLIED

        return await receipt_of(readers, params, tell)

    async def verify(self, readers: Readers, params: UnpinParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """The pin is gone, and where messages and requests wait, another client has been pinned."""
        group = params.group

        def judge(facts: ConsumerFacts) -> tuple[Outcome, str]:
            found, state = pins(facts).get(group), facts.state
            if found == params.pin:
                return Outcome.FAILED, f"Group {group} is still pinned by {params.pin}."
            if not found and state.num_pending and state.num_waiting:
                waits = f"{state.num_pending} messages and {state.num_waiting} requests wait"
                return Outcome.FAILED, f"Nobody is pinned in group {group}, though {waits}."
            now = f"is pinned by {found} now" if found else "waits for a client"
            return Outcome.VERIFIED, f"Group {group} {now}."

        return await verify_target(readers, params, judge, lambda facts: _numbers(facts, group))

    async def rollback(self, readers: Readers, writers: Writers, params: UnpinParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is nothing to undo."""
        raise Refused(
            "A pin is given by the server as clients ask; the former one can't be given back, and nothing is lost."
        )


def refusals(snapshot: Snapshot, facts: ConsumerFacts, params: UnpinParams) -> list[str]:
    """Reasons why this pin is not taken away now."""
    reasons = objections(snapshot, facts, params, UNPIN, "CONSUMER.UNPIN")
    found = pins(facts).get(params.group)
    if found is None:
        reasons.append(f"It has no priority group {params.group}.")
    elif not found or found != params.pin:
        now = f"pinned by {found}" if found else "not pinned"
        reasons.append(
            f"Group {params.group} is {now}; the pin {params.pin or 'of nobody'} is what was to be taken away."
        )
    return reasons


def compose_unpin(snapshot: Snapshot, key: ConsumerKey, group: str) -> UnpinParams:
    """Return the end of a group's present pin. Raises `Refused` with every reason that speaks against it."""
    facts = consumer_facts(snapshot, key)
    return agreed(snapshot, facts, unpin_stage(facts, group), refusals)


def unpin_stage(facts: ConsumerFacts, group: str) -> UnpinParams:
    """Return the parameters for letting go of whoever is pinned in this group."""
    return UnpinParams(**target_of(facts).model_dump(), group=group, pin=pins(facts).get(group) or "")


def pins(facts: ConsumerFacts) -> dict[str, str]:
    """Return the pin of each priority group, empty where none is given; only the leader knows them."""
    return {one.group: one.pinned_client_id or "" for one in facts.state.priority_states or ()}


def _numbers(facts: ConsumerFacts, group: str) -> dict[str, str | int | None]:
    return numbers(facts.state) | {"pinned by": pins(facts).get(group), "requests that wait": facts.state.num_waiting}


ACTION = ConsumerUnpin()
