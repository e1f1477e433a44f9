"""A small action with a value that people may set, and a proposal of it."""

from __future__ import annotations

from bot.action import Check, Receipt
from bot.flow.stages import Stages
from bot.model import (
    Measure,
    OperationId,
    Outcome,
    Preview,
    Proposal,
    Record,
    RiskClass,
    Stage,
    Tunable,
    Verification,
)
from bot.ports import Readers, Writers
from tests.integration.slack_adapter_support import proposal

REFUSED_AT = 13.0
"""What the world can't stand, though it lies within the bounds."""


class KnobParams(Record):
    pace: float
    name: str = "ORDERS"


class Knob:
    """Turns nothing."""

    kind: str = "test.knob"
    title: str = "Turn a knob"
    risk: RiskClass = RiskClass.LOW
    params: type[Record] = KnobParams
    settle: float = 0.0
    patience: float = 1.0
    half_way: float = 0.0

    def tunables(self, params: KnobParams) -> tuple[Tunable, ...]:
        pace = f"{params.pace:g}"
        return (Tunable(name="pace", title="Pace", measure=Measure.NUMBER, value=pace, least="0.5", most="50"),)

    async def check(self, readers: Readers, params: KnobParams) -> Check:
        del readers
        refusals = ("A pace of 13 brings bad luck.",) if params.pace == REFUSED_AT else ()
        return Check(world={"knob.at": 1}, refusals=refusals)

    async def preview(self, readers: Readers, params: KnobParams) -> Preview:
        del readers
        return Preview(summary=f"Turn it to {params.pace:g}", blast_radius="one knob", way_back="turn it back")

    async def apply(self, readers: Readers, writers: Writers, params: KnobParams, operation: OperationId) -> None:
        del readers, writers, params, operation

    async def receipt(self, readers: Readers, params: KnobParams, operation: OperationId) -> Receipt:
        del readers, params, operation
        return Receipt.APPLIED

    async def verify(self, readers: Readers, params: KnobParams, operation: OperationId) -> Verification:
        del readers, params, operation
        return Verification(outcome=Outcome.VERIFIED, sentence="It is turned.")

    async def rollback(self, readers: Readers, writers: Writers, params: KnobParams, operation: OperationId) -> str:
        del readers, writers, params, operation
        return "It is turned back."


KNOB = Knob()


def stages() -> Stages:
    return Stages({KNOB.kind: KNOB})


def knob_proposal(pace: float = 2.0) -> Proposal:
    preview = Preview(summary=f"Turn it to {pace:g}", blast_radius="one knob", way_back="turn it back")
    one = Stage(kind=KNOB.kind, params={"pace": pace, "name": "ORDERS"}, risk=RiskClass.LOW, preview=preview)
    return proposal("Turn the knob").model_copy(
        update={
            "risk": RiskClass.LOW,
            "stages": (one,),
            "tunables": KNOB.tunables(KnobParams(pace=pace)),
            "world": {"knob.at": 1},
        }
    )
