"""Gives the pods a disruption budget of one: a drained node then takes one server at a time, and waits until it is back."""

from __future__ import annotations

from typing import Final

from bot.action import ELECTION, Check, Composed, Receipt
from bot.actions._facts import look
from bot.actions._objects import Edit, change_object, object_receipt, read_object, rehearsed
from bot.actions._servers import facts_of, workload_of
from bot.errors import Refused
from bot.model import (
    JsonObject,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    Unknown,
    Verification,
    part,
)
from bot.model.kubernetes import Budget, Change, Kind, Workload, creation, deletion, patch, receipt_of, signed
from bot.ports import Readers, Writers

MAX_UNAVAILABLE: Final = 1
"""What both charts set, and what every group of three tolerates (reference/nats.md 1.B)."""

SERVED: Final = ("policy/v1", "policy/v1beta1")


class BudgetParams(Record):
    """Whose pods, and which budget."""

    workload: str
    workload_uid: str
    selector: JsonObject
    """Of the StatefulSet."""
    name: str
    api: str
    """Group and version that the server has."""
    uid: str = ""
    """Of the budget that is there; empty where one is made."""
    former: JsonObject = {}
    """Its `maxUnavailable` or `minAvailable`."""


class DisruptionBudget:
    """Creates a budget, or sets the one that is there right."""

    kind: str = "kubernetes.budget"
    title: str = "Disruption budget"
    risk: RiskClass = RiskClass.LOW
    params: type[Record] = BudgetParams
    settle: float = 0.0
    """The controller's count is a fact once it is there."""
    patience: float = 60.0
    """The controller counts pods within seconds."""
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: BudgetParams) -> Check:
        """The pods must have exactly the budgets that they had."""
        snapshot = await look(readers, frozenset())
        try:
            workload = workload_of(snapshot, params.workload, params.workload_uid)
            budgets = budgets_of(workload)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        found = {budget.uid: budget for budget in budgets}
        reasons: list[str] = []
        if workload.selector != params.selector:
            reasons.append(f"StatefulSet {workload.name} selects its pods otherwise now.")
        if params.uid and params.uid not in found:
            reasons.append(f"Disruption budget {params.name} does not protect the pods any more.")
        elif others := [budget.name for budget in budgets if budget.uid != params.uid]:
            reasons.append(f"The pods have a budget already: {', '.join(others)}. Under two, no pod can be evicted.")
        elif params.uid and limits_of(found[params.uid].spec) != params.former:
            reasons.append(f"Disruption budget {params.name} was edited since.")
        return Check(
            world={
                "statefulset.uid": workload.uid,
                "budgets": ", ".join(f"{budget.name} {told(limits_of(budget.spec))}" for budget in budgets),
            },
            refusals=tuple(reasons),
            before_image={"spec": params.former},
            before={"budgets": len(budgets)},
        )

    async def preview(self, readers: Readers, params: BudgetParams) -> Preview:
        """Show the object as the API server would store it."""
        try:
            diff, notes = await rehearsed(readers, await _change(readers, params))
        except Refused as refused:
            diff, notes = "", tuple(f"Not possible now: {reason}" for reason in refused.reasons)
        summary = (
            f"Disruption budget {params.name}: maxUnavailable {MAX_UNAVAILABLE} instead of {told(params.former)}"
            if params.uid
            else f"A disruption budget {params.name} with maxUnavailable {MAX_UNAVAILABLE} for the pods of {params.workload}"
        )
        return Preview(
            summary=summary,
            diff=diff,
            blast_radius="No pod is touched. Evictions, as `kubectl drain` and cluster autoscalers make them, take one pod at a time.",
            effects=("It does not hold deletions, crashes and rolling updates back.", *notes),
            way_back="The former limit is written back." if params.uid else "The budget is deleted.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: BudgetParams, operation: OperationId) -> None:
        """Create it, or change its limit."""
        if params.uid:
            await change_object(readers, writers, Kind.BUDGET, params.name, params.uid, _right(params), operation)
            return
        there = await readers.kubernetes_object(Kind.BUDGET, params.name)
        if there is not None and receipt_of(there) == operation:
            return
        change = await _change(readers, params)
        await writers.write_object(change.model_copy(update={"after": signed(change.after, operation)}))

    async def receipt(self, readers: Readers, params: BudgetParams, operation: OperationId) -> Receipt:
        """Read the annotation; one that is not there was not made."""
        if params.uid:
            return await object_receipt(readers, Kind.BUDGET, params.name, params.uid, operation)
        there = await readers.kubernetes_object(Kind.BUDGET, params.name)
        if there is None:
            return Receipt.NOT_APPLIED
        return Receipt.APPLIED if receipt_of(there) == operation else Receipt.FOREIGN

    async def verify(self, readers: Readers, params: BudgetParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """The controller counts all pods under it."""
        snapshot = await look(readers, frozenset())
        try:
            workload = workload_of(snapshot, params.workload, params.workload_uid)
            budgets = budgets_of(workload)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused))
        budget = next((one for one in budgets if one.name == params.name), None)
        if budget is None:
            said = f"{params.name} protects no pod of {workload.name}."
            return Verification(outcome=Outcome.FAILED, sentence=said, numbers={"budgets": len(budgets)})
        counted = budget.status.get("expectedPods")
        numbers: dict[str, str | int | None] = {
            "expected pods": counted if isinstance(counted, int) else None,
            "disruptions allowed": budget.disruptions_allowed,
        }
        if limits_of(budget.spec) != {"maxUnavailable": MAX_UNAVAILABLE}:
            text = f"{params.name} has {told(limits_of(budget.spec))}."
            return Verification(outcome=Outcome.FAILED, sentence=text, numbers=numbers)
        if counted != workload.replicas:
            text = f"{params.name} counts {counted} pods of {workload.replicas}."
            return Verification(outcome=Outcome.FAILED, sentence=text, numbers=numbers)
        text = f"{params.name} protects {counted} pods; {budget.disruptions_allowed} may be evicted now."
        return Verification(outcome=Outcome.VERIFIED, sentence=text, numbers=numbers)

    async def rollback(self, readers: Readers, writers: Writers, params: BudgetParams, operation: OperationId) -> str:
        """Delete what was made, by its uid; or write the former limit."""
        if params.uid:
            undone = OperationId(f"{operation}.undone")

            def back(raw: JsonObject) -> JsonObject:
                if receipt_of(raw) != operation:
                    raise Refused(f"Disruption budget {params.name} was changed again since.")
                return _with_limits(raw, params.former)

            await change_object(readers, writers, Kind.BUDGET, params.name, params.uid, back, undone)
            return f"Disruption budget {params.name} has {told(params.former)} again."
        there = await readers.kubernetes_object(Kind.BUDGET, params.name)
        if there is None:
            return f"Disruption budget {params.name} is gone."
        if receipt_of(there) != operation:
            raise Refused(f"Disruption budget {params.name} is not the one that natsmedic made, so it stays.")
        await writers.write_object(deletion(Kind.BUDGET, there))
        return f"Disruption budget {params.name} is deleted."


def budgets_of(workload: Workload) -> tuple[Budget, ...]:
    """Return the budgets that protect its pods. Raises `Refused` where they are not known."""
    if isinstance(workload.budgets, Unknown):
        raise Refused(f"The disruption budgets are not known: {workload.budgets.detail}")
    return workload.budgets


def limits_of(spec: JsonObject) -> JsonObject:
    """Return what a budget allows: `maxUnavailable` or `minAvailable`."""
    return {key: spec[key] for key in ("maxUnavailable", "minAvailable") if spec.get(key) is not None}


def told(limits: JsonObject) -> str:
    """Return a budget's limit in words."""
    return ", ".join(f"{key} {value}" for key, value in limits.items()) or "no limit"


def compose_budget(snapshot: Snapshot, workload: Workload) -> Composed:
    """Return the stage that gives the pods their budget, with cautions. Raises `Refused` where they have it, or where one more harms."""
    budgets = budgets_of(workload)
    if len(budgets) > 1:
        names = ", ".join(budget.name for budget in budgets)
        raise Refused(
            f"The pods have {len(budgets)} budgets ({names}): under two no pod can be evicted. Delete all but one."
        )
    there = budgets[0] if budgets else None
    if there is not None and limits_of(there.spec) == {"maxUnavailable": MAX_UNAVAILABLE}:
        raise Refused(f"Disruption budget {there.name} has maxUnavailable {MAX_UNAVAILABLE} already.")
    if there is not None and not there.selects(workload.pod_labels):
        raise Refused(f"Disruption budget {there.name} does not select the pods of {workload.name}.")
    listing = facts_of(snapshot).listing(Kind.BUDGET)
    if listing is None or listing.api not in SERVED:
        raise Refused("Which version of disruption budgets the API server has is not known.")
    if not workload.selector:
        raise Refused(f"StatefulSet {workload.name} has no selector that a budget could take.")
    params = BudgetParams(
        workload=workload.name,
        workload_uid=workload.uid,
        selector=workload.selector,
        name=there.name if there else workload.name,
        api=listing.api,
        uid=there.uid if there else "",
        former=limits_of(there.spec) if there else {},
    )
    stage = (DisruptionBudget.kind, params.model_dump(mode="json"))
    return Composed((stage,), tuple(owner.reverts for owner in workload.owners))


async def _change(readers: Readers, params: BudgetParams) -> Change:
    if params.uid:
        raw = await read_object(readers, Kind.BUDGET, params.name, params.uid)
        return patch(Kind.BUDGET, raw, _right(params)(raw))
    return creation(
        Kind.BUDGET,
        {
            "apiVersion": params.api,
            "kind": "PodDisruptionBudget",
            "metadata": {"name": params.name, "labels": part(params.selector, "matchLabels")},
            "spec": {"maxUnavailable": MAX_UNAVAILABLE, "selector": params.selector},
        },
    )


def _right(params: BudgetParams) -> Edit:
    def edit(raw: JsonObject) -> JsonObject:
        if limits_of(part(raw, "spec")) != params.former:
            raise Refused(f"Disruption budget {params.name} was edited since.")
        return _with_limits(raw, {"maxUnavailable": MAX_UNAVAILABLE})

    return edit


def _with_limits(raw: JsonObject, limits: JsonObject) -> JsonObject:
    kept = {key: value for key, value in part(raw, "spec").items() if key not in {"maxUnavailable", "minAvailable"}}
    return raw | {"spec": kept | limits}


ACTION = DisruptionBudget()
