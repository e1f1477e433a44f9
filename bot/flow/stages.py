"""Reads the world through actions: plans a draft's stages, and compares the world of a proposal with the world of now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from bot.action import Action, Check, Comparing, Draft, Paced, Settable
from bot.errors import BadInput, Refused, Unreadable
from bot.model import (
    Again,
    Endpoint,
    JsonObject,
    Proposal,
    Record,
    RiskClass,
    Snapshot,
    Stage,
    StageRun,
    Tunable,
    World,
)
from bot.ports import Readers

AnyAction = Action[Any]
"""An action whose parameter type is known only through its `params` record."""


class Plan(Record):
    """A draft as it can be offered: stages with previews, or none and the reasons as guidance."""

    stages: tuple[Stage, ...]
    guidance: tuple[str, ...]
    world: World
    risk: RiskClass
    tunables: tuple[Tunable, ...] = ()


class Stages:
    """Turns stored `(kind, params)` into actions. Knows nothing of persons or approvals."""

    def __init__(self, actions: Mapping[str, AnyAction]) -> None:
        self._actions = actions

    def action(self, kind: str, params: JsonObject) -> tuple[AnyAction, Record]:
        """Return the action and its typed parameters. Raises BadInput for an unknown kind."""
        try:
            action = self._actions[kind]
        except KeyError:
            raise BadInput(
                f"No action of kind {kind!r} is registered; known: {', '.join(sorted(self._actions))}."
            ) from None
        return action, action.params.model_validate(params)

    def begun(self, stage: Stage, run: StageRun) -> tuple[AnyAction, Record]:
        """Return the action of a stage whose intent is committed, its parameters with what was committed where they ask for it."""
        action, params = self.action(stage.kind, stage.params)
        if isinstance(params, Comparing):
            params = params.model_copy(update={"before": run.before_image})
        return action, params

    async def plan(self, readers: Readers, draft: Draft) -> Plan:
        """Preview every stage and take the world. A refusal of the first stage turns the whole draft into guidance."""
        if not draft.stages:
            return Plan(stages=(), guidance=(), world={}, risk=RiskClass.READ)
        readers = one_look(readers)
        try:
            checks = await self._checks(readers, draft.stages)
            if checks[0].refusals or checks[0].needless:
                return _not_offered(*checks[0].refusals, *filter(None, [checks[0].needless]))
            stages = [await self._stage(readers, kind, params) for kind, params in draft.stages]
        except Unreadable as error:
            return _not_offered(f"a fact it rests on could not be read. {error}")
        except Refused as refused:
            # What a check can't know and a preview learns: the API server itself would refuse the change.
            return _not_offered(*refused.reasons)
        risk = max((s.risk for s in stages), key=lambda r: r.rank)
        return Plan(
            stages=tuple(stages), guidance=(), world=_union(checks), risk=risk, tunables=self.tunables(draft.stages)
        )

    def tunables(self, stages: Sequence[tuple[str, JsonObject]]) -> tuple[Tunable, ...]:
        """Return what a person may want otherwise, each once. What the stages have in different values is not one value, and is left out."""
        found: dict[str, set[Tunable]] = {}
        for kind, params in stages:
            for one in self._tunables(kind, params):
                found.setdefault(one.name, set()).add(one)
        return tuple(one for same in found.values() if len(same) == 1 for one in same)

    def tuned(
        self, stages: Sequence[tuple[str, JsonObject]], values: Mapping[str, str]
    ) -> tuple[tuple[str, JsonObject], ...]:
        """Return the stages with these values in all that share them. Raises `BadInput` for a value that a stage cannot have."""
        made: list[tuple[str, JsonObject]] = []
        for kind, params in stages:
            own = {one.name: one.measure for one in self._tunables(kind, params)}
            changed = params | {name: own[name].typed(text) for name, text in values.items() if name in own}
            try:
                self.action(kind, changed)
            except ValidationError as error:
                raise BadInput(f"{kind} cannot have this value ({error.error_count()} mistakes).") from None
            made.append((kind, changed))
        return tuple(made)

    def _tunables(self, kind: str, params: JsonObject) -> Sequence[Tunable]:
        action, typed = self.action(kind, params)
        return cast("Settable[Any]", action).tunables(typed) if isinstance(action, Settable) else ()

    async def check(self, readers: Readers, stage: Stage) -> Check:
        """Run one stage's check. Raises Unreadable."""
        action, params = self.action(stage.kind, stage.params)
        return await action.check(readers, params)

    async def drift(self, readers: Readers, proposal: Proposal) -> tuple[str, ...]:
        """Return one sentence per field in which the world differs from the proposal's; empty when it is the same. Raises Unreadable."""
        checks = await self._checks(one_look(readers), [(s.kind, s.params) for s in proposal.stages])
        now = _union(checks)
        moved = [
            f"{field} was {_show(proposal.world.get(field))}, now {_show(now.get(field))}."
            for field in sorted(proposal.world.keys() | now.keys())
            if proposal.world.get(field) != now.get(field)
        ]
        return (*moved, *checks[0].refusals) if moved else checks[0].refusals

    async def _checks(self, readers: Readers, stages: Sequence[tuple[str, JsonObject]]) -> list[Check]:
        found: list[Check] = []
        for kind, params in stages:
            action, typed = self.action(kind, params)
            found.append(await action.check(readers, typed))
        return found

    async def _stage(self, readers: Readers, kind: str, params: JsonObject) -> Stage:
        action, typed = self.action(kind, params)
        preview = await action.preview(readers, typed)
        return Stage(kind=kind, params=params, risk=action.risk, preview=preview)


def one_look(readers: Readers) -> Readers:
    """Return readers that look at the servers once for all stages of a draft: they judge the same moment, and a look at 20,000 clients is megabytes."""
    return cast("Readers", _OneLook(readers))


class _OneLook:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._looks: dict[frozenset[Endpoint], Snapshot] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._readers, name)

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        if again is not None:
            return await self._readers.gather(needs, again=again)
        if needs not in self._looks:
            self._looks[needs] = await self._readers.gather(needs)
        return self._looks[needs]

    async def look_elsewhere(self) -> None:
        """What was not seen is looked for anew."""
        self._looks.clear()
        await self._readers.look_elsewhere()


def pace(action: AnyAction, params: Record) -> tuple[float, float]:
    """Return the seconds for which a stage's condition must hold, and those after which one that never held is a failure."""
    return (params.settle, params.patience) if isinstance(params, Paced) else (action.settle, action.patience)


def _not_offered(*reasons: str) -> Plan:
    return Plan(stages=(), guidance=tuple(f"Not offered: {why}" for why in reasons), world={}, risk=RiskClass.READ)


def _union(checks: Sequence[Check]) -> World:
    world: World = {}
    for check in checks:
        world |= check.world
    return world


def _show(value: object) -> str:
    return "absent" if value is None else str(value)
