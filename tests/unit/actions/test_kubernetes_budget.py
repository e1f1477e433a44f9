"""A disruption budget: made where there is none, set right where it is wrong, and taken back as it was."""

from typing import Any

import pytest

from bot.action import Receipt
from bot.actions.kubernetes_budget import BudgetParams, DisruptionBudget, compose_budget
from bot.errors import Refused
from bot.model import OperationId, Outcome, Unknown, UnknownReason
from bot.model.kubernetes import Kind, Verb
from tests.unit.actions.kubernetes_scene import LABELS, Raw, Scene, cluster, metadata

OP = OperationId("op_1")


def with_budget(**spec: Any) -> Scene:
    scene = cluster()
    raw = {
        "apiVersion": "policy/v1",
        "metadata": metadata("guard"),
        "spec": {"selector": {"matchLabels": LABELS}, **spec},
    }
    scene.objects[Kind.BUDGET, "guard"] = raw
    return scene


def served(scene: Scene, api: str = "policy/v1") -> Scene:
    scene.apis[Kind.BUDGET] = api
    return scene


def params_of(scene: Scene) -> BudgetParams:
    ((kind, raw),) = compose_budget(*served(scene).look()).stages
    assert kind == "kubernetes.budget"
    return BudgetParams.model_validate(raw)


def budget(scene: Scene, name: str = "nats") -> Raw:
    return scene.raw(Kind.BUDGET, name)


# --- what is proposed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["policy/v1", "policy/v1beta1"])
async def test_a_missing_budget_is_made_in_the_version_that_the_server_has(api: str):
    scene = served(cluster(), api)
    ((_, raw),) = compose_budget(*scene.look()).stages
    await DisruptionBudget().apply(scene.readers, scene.writers, BudgetParams.model_validate(raw), OP)
    (change,) = scene.written
    assert (change.verb, change.kind, change.name) == (Verb.CREATE, Kind.BUDGET, "nats")
    assert change.after["apiVersion"] == api
    assert change.after["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}
    assert change.after["metadata"]["annotations"] == {"natsmedic.io/op": OP}


def test_a_server_whose_version_is_not_known_gets_none():
    with pytest.raises(Refused, match="Which version"):
        compose_budget(*served(cluster(), "").look())


def test_a_right_budget_is_left_alone():
    with pytest.raises(Refused, match="guard has maxUnavailable 1 already"):
        compose_budget(*served(with_budget(maxUnavailable=1)).look())


@pytest.mark.parametrize(
    "spec", [{"maxUnavailable": 0}, {"maxUnavailable": 2}, {"maxUnavailable": "50%"}, {"minAvailable": 3}, {}]
)
async def test_a_wrong_budget_is_set_right_and_keeps_its_selector(spec: Raw):
    scene = with_budget(**spec)
    params = params_of(scene)
    assert (params.uid, params.former) == ("uid-guard", spec)
    await DisruptionBudget().apply(scene.readers, scene.writers, params, OP)
    assert budget(scene, "guard")["spec"] == {"selector": {"matchLabels": LABELS}, "maxUnavailable": 1}


def test_two_budgets_are_peoples_because_under_two_no_pod_can_be_evicted():
    scene = with_budget(maxUnavailable=1)
    scene.objects[Kind.BUDGET, "other"] = budget(scene, "guard") | {"metadata": metadata("other")}
    with pytest.raises(Refused, match=r"2 budgets \(guard, other\)"):
        compose_budget(*served(scene).look())


def test_budgets_that_could_not_be_read_are_not_absent():
    scene = cluster()
    scene.extra = {"budget": Unknown(reason=UnknownReason.DENIED, detail="The reader may not list budgets.")}
    with pytest.raises(Refused, match="may not list budgets"):
        compose_budget(*served(scene).look())


# --- check, receipt, verify -----------------------------------------------------------------------------------------------------


async def test_a_budget_that_came_in_between_moves_the_world_and_is_refused():
    scene = cluster()
    action, params = DisruptionBudget(), params_of(scene)
    before = await action.check(scene.readers, params)
    scene.objects[Kind.BUDGET, "guard"] = budget(with_budget(minAvailable=2), "guard")
    after = await action.check(scene.readers, params)
    assert before.refusals == ()
    assert {key for key in before.world if before.world[key] != after.world[key]} == {"budgets"}
    assert any("already: guard" in reason for reason in after.refusals)


async def test_an_edited_or_vanished_budget_is_refused():
    scene = with_budget(maxUnavailable=0)
    action, params = DisruptionBudget(), params_of(scene)
    budget(scene, "guard")["spec"]["maxUnavailable"] = 2
    assert any("was edited since" in r for r in (await action.check(scene.readers, params)).refusals)
    with pytest.raises(Refused, match="was edited since"):
        await action.apply(scene.readers, scene.writers, params, OP)
    del scene.objects[Kind.BUDGET, "guard"]
    assert any("does not protect" in r for r in (await action.check(scene.readers, params)).refusals)


async def test_a_stateful_set_that_selects_other_pods_since_is_refused():
    scene = cluster()
    action, params = DisruptionBudget(), params_of(scene)
    scene.raw(Kind.STATEFUL_SET, "nats")["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    assert any("selects its pods otherwise" in r for r in (await action.check(scene.readers, params)).refusals)


async def test_the_receipt_tells_ours_from_one_that_somebody_else_made():
    scene = cluster()
    action, params = DisruptionBudget(), params_of(scene)
    assert await action.receipt(scene.readers, params, OP) is Receipt.NOT_APPLIED
    await action.apply(scene.readers, scene.writers, params, OP)
    await action.apply(scene.readers, scene.writers, params, OP)
    assert len(scene.written) == 1
    assert await action.receipt(scene.readers, params, OP) is Receipt.APPLIED
    assert await action.receipt(scene.readers, params, OperationId("op_2")) is Receipt.FOREIGN


@pytest.mark.parametrize(
    ("counted", "outcome"), [(None, Outcome.FAILED), (2, Outcome.FAILED), (3, Outcome.VERIFIED), (4, Outcome.FAILED)]
)
async def test_it_is_verified_when_the_controller_counts_every_pod(counted: int | None, outcome: Outcome):
    scene = cluster()
    action, params = DisruptionBudget(), params_of(scene)
    await action.apply(scene.readers, scene.writers, params, OP)
    budget(scene)["status"] = {"expectedPods": counted, "disruptionsAllowed": 1}
    assert (await action.verify(scene.readers, params, OP)).outcome is outcome


async def test_a_budget_with_another_limit_or_none_is_not_what_was_made():
    scene = cluster()
    action, params = DisruptionBudget(), params_of(scene)
    assert (await action.verify(scene.readers, params, OP)).outcome is Outcome.FAILED
    await action.apply(scene.readers, scene.writers, params, OP)
    budget(scene)["spec"]["maxUnavailable"] = 2
    budget(scene)["status"] = {"expectedPods": 3}
    assert "has maxUnavailable 2" in (await action.verify(scene.readers, params, OP)).sentence


async def test_the_preview_says_what_it_does_not_hold_back():
    preview = await DisruptionBudget().preview((scene := cluster()).readers, params_of(scene))
    assert "+  maxUnavailable: 1" in preview.diff
    assert "rolling updates" in preview.effects[0]
    wrong = with_budget(minAvailable=3)
    preview = await DisruptionBudget().preview(wrong.readers, params_of(wrong))
    assert "instead of minAvailable 3" in preview.summary


# --- the way back ---------------------------------------------------------------------------------------------------------------


async def test_what_was_made_is_deleted_by_its_uid():
    scene = cluster()
    action, params = DisruptionBudget(), params_of(scene)
    await action.apply(scene.readers, scene.writers, params, OP)
    assert await action.rollback(scene.readers, scene.writers, params, OP) == "Disruption budget nats is deleted."
    assert (scene.written[-1].verb, scene.written[-1].uid) == (Verb.DELETE, "uid-nats")
    assert (Kind.BUDGET, "nats") not in scene.objects
    assert "is gone" in await action.rollback(scene.readers, scene.writers, params, OP)


async def test_one_that_somebody_made_instead_is_not_deleted():
    scene = cluster()
    action, params = DisruptionBudget(), params_of(scene)
    await action.apply(scene.readers, scene.writers, params, OP)
    budget(scene)["metadata"]["annotations"] = {}
    with pytest.raises(Refused, match="not the one that natsmedic made"):
        await action.rollback(scene.readers, scene.writers, params, OP)
    assert (Kind.BUDGET, "nats") in scene.objects


async def test_a_limit_that_was_set_right_becomes_the_former_one():
    scene = with_budget(minAvailable=3)
    action, params = DisruptionBudget(), params_of(scene)
    await action.apply(scene.readers, scene.writers, params, OP)
    assert "minAvailable 3 again" in await action.rollback(scene.readers, scene.writers, params, OP)
    assert budget(scene, "guard")["spec"] == {"selector": {"matchLabels": LABELS}, "minAvailable": 3}
    budget(scene, "guard")["metadata"]["annotations"]["natsmedic.io/op"] = "op_9"
    with pytest.raises(Refused, match="changed again since"):
        await action.rollback(scene.readers, scene.writers, params, OP)
