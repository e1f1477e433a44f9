"""What an action author needs: one small, typed change to the world with check · preview · apply · verify · rollback.

A proposal is a list of such changes; execution runs check → apply → verify for each and stops on doubt. An action is stateless: everything it
needs stands in its parameters, so that what was approved is what runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeVar, runtime_checkable

from bot.model import (
    JsonObject,
    OperationId,
    Patch,
    Preview,
    Record,
    RiskClass,
    Rung,
    Subject,
    Tunable,
    Verification,
    World,
)
from bot.ports import Readers, Writers

RECEIPT_KEY = "natsmedic.op"
"""Metadata key (NATS) that holds the operation id of the last change natsmedic made to the object."""


ELECTION: Final = 60.0
"""Seconds in which an election, or a member's catching up after it, is over: it takes 4 to 9 s, a lost quorum shows after 10 (reference/nats.md 1.0)."""


class Check(Record):
    """What an action sees right before it would act."""

    world: World
    """The facts that make this stage right; compared field by field between proposal, click and first write."""
    refusals: tuple[str, ...] = ()
    """Whole sentences; any one of them means *do not apply*."""
    needless: str = ""
    """A sentence that says why nothing need be done any more: the stage then ends well, and nothing is sent."""
    final: bool = False
    """Whether a refusal stays one, however long it is waited for: somebody else has edited the object."""
    before_image: JsonObject = {}
    """The object as it is, raw."""
    before: dict[str, str | int | None] = {}
    """Numbers people see as *before*."""


class Receipt(StrEnum):
    """What reading the receipt says about an operation whose outcome is unknown."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    FOREIGN = "foreign"
    """Something else changed the object meanwhile: a human must look."""
    UNREADABLE = "unreadable"
    """No leader or no quorum answers: keep reading."""


class Paced(Record):
    """Parameters that bring their own times, approved with the stage; without them the action's `settle` and `patience` hold."""

    settle: float
    patience: float


class Comparing(Record):
    """Parameters of a stage that compares what is with what was."""

    before: JsonObject = {}
    """The before-image as it was committed with the intent. Empty in a proposal: flow fills it in for all that it asks after that commit."""


P = TypeVar("P", bound=Record, contravariant=True)


class Action(Protocol[P]):
    """One kind of change. `kind` is its name in stored proposals, so it never changes its meaning."""

    @property
    def kind(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def risk(self) -> RiskClass: ...

    @property
    def params(self) -> type[Record]: ...

    @property
    def settle(self) -> float:
        """Seconds for which the stage's condition must have held."""
        ...

    @property
    def patience(self) -> float:
        """Seconds after which a condition that never held is a failure."""
        ...

    @property
    def half_way(self) -> float:
        """Seconds for which a refusal between two stages, or on the way back, is waited out: there it leaves half a change."""
        ...

    async def check(self, readers: Readers, params: P) -> Check:
        """Read the facts. Raises `Unreadable` where they can't be had, which is never a yes."""
        ...

    async def preview(self, readers: Readers, params: P) -> Preview:
        """Say what people must know before they approve."""
        ...

    async def apply(self, readers: Readers, writers: Writers, params: P, operation: OperationId) -> None:
        """Send the one change with its receipt. Raises `NotApplied` or `OutcomeUnknown`, and `Refused` or `Unreadable` where nothing was sent; returns
        only on a definite yes.
        """
        ...

    async def receipt(self, readers: Readers, params: P, operation: OperationId) -> Receipt:
        """Say whether this very operation was applied."""
        ...

    async def verify(self, readers: Readers, params: P, operation: OperationId) -> Verification:
        """Look once at reality. The flow polls until it has held for `settle` seconds."""
        ...

    async def rollback(self, readers: Readers, writers: Writers, params: P, operation: OperationId) -> str:
        """Undo an applied stage and return a sentence; raises `Refused` with the reason where there is no way back, and `NotYet` while it is under way
        or must wait. It is called again then, so it looks at reality for what is left to do. Raises `Stands` where what was reached is whole in
        itself and worth keeping: it stays then, and so does all that came before it.
        """
        ...


@runtime_checkable
class Rescuing(Protocol[P]):
    """An action whose failure can lose what its before-image holds: it can say how that comes back, in proposals of their own."""

    async def rescue(self, readers: Readers, params: P) -> Sequence[tuple[Subject, Draft]]:
        """Return what brings back what is still lost, each with the thing it is about; nothing where nothing is. Raises `Unreadable`."""
        ...


@runtime_checkable
class Settable(Protocol[P]):
    """An action with values that a person may want otherwise. What follows from another value is judged by `check` and `preview`, as for every proposal."""

    def tunables(self, params: P) -> Sequence[Tunable]:
        """Return them with their present values and bounds; none where these parameters have none."""
        ...


@dataclass(frozen=True, slots=True)
class Composed:
    """What composing a change comes to."""

    stages: tuple[tuple[str, JsonObject], ...]
    cautions: tuple[str, ...]
    """What people must know before they approve them."""


class Draft(Record):
    """What a runbook proposes: `(kind, params)` pairs, or guidance for people where natsmedic itself must not act."""

    title: str
    why: str
    stages: tuple[tuple[str, JsonObject], ...] = ()
    guidance: tuple[str, ...] = ()
    """Exact commands and sentences for a human."""
    rung: Rung | None = None
    """For one repair among several of the same problem, which a runbook proposes in order, the least destructive first."""
    cautions: tuple[str, ...] = ()
    patches: tuple[Patch, ...] = ()
    """Files that the guidance speaks of."""
