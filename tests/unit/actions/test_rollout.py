"""Rollouts against a controller that does what Kubernetes' own does: what is written, in which order, and how it is undone."""

from collections.abc import Callable

import pytest

from bot.action import Composed, Receipt
from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.rollout import (
    compose_resources,
    compose_spread,
)
from bot.errors import NotYet, OutcomeUnknown, Refused
from bot.model import OperationId, Outcome, RiskClass
from bot.model.kubernetes import receipt_of
from bot.model.probes import ENABLED_ONLY
from tests.unit.actions.rollout_world import (
    ACTIONS,
    OP,
    World,
    changed,
    container,
    image,
    peer,
    probe,
    renamed,
    restart,
    run,
    sides,
    stateful_set,
    template,
    undo,
    unready,
    upgraded,
)
from tests.unit.snapshots import Raw

FORWARD = ["patch RollingUpdate 3", "patch RollingUpdate 2", "patch RollingUpdate 1", "patch RollingUpdate 0"]


def refusal(compose: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        compose()
    return str(refused.value)


# Forward.


async def test_the_edit_holds_and_each_pod_is_released_from_the_highest_ordinal_down() -> None:
    world = World()
    rollout = probe(world)
    assert [kind for kind, _ in rollout.stages] == ["kubernetes.probe"] + ["kubernetes.roll_pod"] * 3
    assert [raw["ordinal"] for _, raw in rollout.stages[1:]] == [2, 1, 0]
    seen = await run(world, rollout.stages)
    assert seen.outcome is Outcome.VERIFIED, seen.sentence
    assert world.writes == FORWARD
    assert len(set(world.revisions_of_pods())) == 1
    assert container(world)["readinessProbe"]["httpGet"] == {"path": ENABLED_ONLY, "port": "monitor", "scheme": "HTTP"}


async def test_the_edit_alone_replaces_no_pod_and_bears_the_receipt() -> None:
    world = World()
    kind, raw = probe(world).stages[0]
    action = ACTIONS[kind]
    params = action.params.model_validate(raw)
    readers, writers = sides(world)
    assert await action.receipt(readers, params, OP) is Receipt.NOT_APPLIED
    pods = {ordinal: pod["metadata"]["uid"] for ordinal, pod in world.pods.items()}
    await action.apply(readers, writers, params, OP)
    for _ in range(5):
        world.step()
    assert {ordinal: pod["metadata"]["uid"] for ordinal, pod in world.pods.items()} == pods
    assert (await action.receipt(readers, params, OP), receipt_of(world.raw)) == (Receipt.APPLIED, OP)
    assert (await action.verify(readers, params, OP)).outcome is Outcome.VERIFIED


async def test_what_is_redacted_where_a_rollout_is_composed_is_no_foreign_edit_where_it_runs() -> None:
    headers = [{"name": "Authorization", "value": "s3cret"}]
    probe_ = template()["spec"]["containers"][0]["readinessProbe"]
    asked = probe_ | {"httpGet": probe_["httpGet"] | {"httpHeaders": headers}}
    world = World(stateful_set(template=template(readinessProbe=asked)))
    assert "s3cret" not in str(probe(world).stages)
    assert (await run(world, probe(world).stages)).outcome is Outcome.VERIFIED
    assert container(world)["readinessProbe"]["httpGet"]["httpHeaders"] == headers


async def test_under_on_delete_each_pod_is_deleted_by_its_uid() -> None:
    world = World(stateful_set(updateStrategy={"type": "OnDelete"}))
    assert (await run(world, probe(world).stages)).outcome is Outcome.VERIFIED
    assert [w for w in world.writes if w.startswith("delete")] == [f"delete nats-{ordinal}" for ordinal in (2, 1, 0)]
    assert {w for w in world.writes if w.startswith("patch")} == {"patch OnDelete"}
    assert len(set(world.revisions_of_pods())) == 1


@pytest.mark.parametrize("waiting", ["CrashLoopBackOff", ""])
async def test_in_ordered_ready_a_pod_that_is_not_ready_is_deleted_so_that_the_edit_reaches_it(waiting: str) -> None:
    world = World(stateful_set(podManagementPolicy="OrderedReady"))
    stages = probe(world).stages
    unready(world, 2, waiting)
    assert (await run(world, stages[:1])).outcome is Outcome.VERIFIED
    kind, raw = stages[1]
    params = ACTIONS[kind].params.model_validate(raw)
    readers, writers = sides(world)
    assert (await ACTIONS[kind].check(readers, params)).refusals == (), "it is the pod that is sick itself"
    await ACTIONS[kind].apply(readers, writers, params, OP)
    assert world.writes[-1] == "delete nats-2"
    assert await ACTIONS[kind].receipt(readers, params, OP) is Receipt.APPLIED


async def test_a_crash_between_partition_and_deletion_is_seen_in_the_receipt() -> None:
    world = World(stateful_set(updateStrategy={"type": "OnDelete"}))
    stages = probe(world).stages
    await run(world, stages[:1])
    kind, raw = stages[1]
    params = ACTIONS[kind].params.model_validate(raw)
    world.edit(lambda raw: raw["metadata"].setdefault("annotations", {}).update({"natsmedic.io/op": OP}))
    assert await ACTIONS[kind].receipt(sides(world)[0], params, OP) is Receipt.NOT_APPLIED


async def test_a_pod_that_went_by_itself_just_before_its_deletion_is_no_failure() -> None:
    world = World(stateful_set(updateStrategy={"type": "OnDelete"}))
    stages = probe(world).stages
    await run(world, stages[:1])
    kind, raw = stages[1]
    params = ACTIONS[kind].params.model_validate(raw)
    readers, writers = sides(world)
    world.before_delete = lambda: world.pods.pop(2)
    with pytest.raises(OutcomeUnknown, match="not found"):
        await ACTIONS[kind].apply(readers, writers, params, OP)
    assert await ACTIONS[kind].receipt(readers, params, OP) is Receipt.APPLIED


# Back.


async def test_an_image_that_no_node_has_stops_at_the_first_pod_and_everything_is_as_before() -> None:
    world = World()
    world.unfit.add("nats:2.15.2")
    before, uids = world.raw["spec"], {ordinal: world.pods[ordinal]["metadata"]["uid"] for ordinal in (0, 1)}
    seen = await run(world, image(world).stages)
    assert (seen.final, seen.sentence) == (
        True,
        "nats-2 can't run: container nats waits with ErrImageNeverPull.",
    )
    assert world.writes == [*FORWARD[:2], "patch OnDelete", "delete nats-2", "patch RollingUpdate 0"]
    assert world.raw["spec"] == before
    assert {ordinal: world.pods[ordinal]["metadata"]["uid"] for ordinal in (0, 1)} == uids


async def test_no_second_pod_goes_back_before_the_first_one_is_there_again() -> None:
    world = World()
    world.hanging.add(0)
    with pytest.raises(NotYet, match="nats-0 is not ready"):
        await run(world, probe(world).stages, turns=12)
    assert world.writes == [*FORWARD, "patch OnDelete", "delete nats-0"]


async def test_a_pod_that_runs_the_edit_goes_back_only_when_the_cluster_can_spare_its_server() -> None:
    world = World()
    stages = probe(world).stages
    await run(world, stages)
    world.sick["lag"] = peer("nats-1", current=False)
    with pytest.raises(NotYet, match="nats-0 must wait before it is replaced"):
        await undo(world, *stages[3], OP)
    assert world.writes == [*FORWARD, "patch OnDelete"]
    world.sick.clear()
    assert await undo(world, *stages[3], OP) == f"nats-0 runs the template of {stages[0][1]['target']['former']} again."


async def test_a_complete_rollout_is_undone_to_the_former_revision_although_the_new_one_is_current() -> None:
    """Under a hold the controller would make deleted pods of `currentRevision`, which is the new one then."""
    world = World()
    former, stages = world.revisions_of_pods()[0], probe(world).stages
    await run(world, stages)
    assert world.raw["status"]["currentRevision"] != former
    for index in (3, 2, 1, 0):
        await undo(world, *stages[index], OperationId(f"op_{index}"))
    assert set(world.revisions_of_pods()) == {former}
    assert world.raw["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    deleted = [w for w in world.writes if w.startswith("delete")]
    assert deleted == ["delete nats-0", "delete nats-1", "delete nats-2"]


async def test_nothing_is_put_back_over_somebody_elses_edit() -> None:
    world = World()
    stages = probe(world).stages
    await run(world, stages)
    world.edit(changed(world, image="nats:2.15.9"))
    writes = list(world.writes)
    with pytest.raises(Refused, match=r"changed by somebody else.*container\.nats\.image") as refused:
        await undo(world, *stages[3], OP)
    assert not isinstance(refused.value, NotYet)
    assert world.writes == writes


async def test_an_undone_rollout_that_is_undone_again_writes_nothing_more() -> None:
    world = World()
    stages = probe(world).stages
    await run(world, stages)
    for index in (3, 2, 1, 0):
        await undo(world, *stages[index], OperationId(f"op_{index}"))
    writes = list(world.writes)
    await undo(world, *stages[0], OperationId("op_0"))
    assert world.writes == writes


async def test_without_the_former_revision_nobody_guesses_what_it_was() -> None:
    world = World()
    stages = probe(world).stages
    await run(world, stages)
    world.revisions.pop(stages[0][1]["target"]["former"])
    with pytest.raises(Refused, match="is gone"):
        await undo(world, *stages[3], OP)


# What is refused at once.


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
            "Somebody holds a canary: nats has partition 2.",
        ),
        ({"revisionHistoryLimit": 0}, "nats has revisionHistoryLimit 0"),
        ({"ordinals": {"start": 1}}, "The ordinals of nats start at 1"),
    ],
)
async def test_a_stateful_set_that_can_not_be_rolled_is_refused(edit: Raw, said: str) -> None:
    assert said in refusal(lambda: probe(World(stateful_set(**edit))))


async def test_a_rollout_under_way_is_refused() -> None:
    world = World()
    world.edit(changed(world, image="nats:2.15.9"))
    world.step()
    assert "A rollout of nats is under way" in refusal(lambda: probe(world))


async def test_a_change_that_the_controller_has_not_seen_is_refused() -> None:
    world = World()
    world.raw["metadata"]["generation"] = 2
    assert "has not seen the last change" in refusal(lambda: probe(world))


async def test_what_is_already_so_is_no_rollout() -> None:
    assert "Nothing to do" in refusal(lambda: probe(World(), ProbeChange(path="/healthz?js-server-only=true")))


async def test_every_server_that_a_group_can_not_spare_is_named_before_anything_begins() -> None:
    world = World()
    world.sick["lag"] = peer("nats-1", current=False)
    said = refusal(lambda: probe(world))
    assert "Without nats-0 the meta group would stand still" in said
    assert "Without nats-2 the meta group would stand still" in said
    assert "Without nats-1" not in said


async def test_a_pod_whose_server_has_another_name_is_refused() -> None:
    world = World()
    world.sick["renamed"] = renamed("nats-2", "other")
    assert "Which server runs in pod nats-2 can't be told by its name" in refusal(lambda: probe(world))


async def test_a_prefix_before_the_pods_name_is_understood() -> None:
    world = World()
    for ordinal in range(3):
        world.sick[f"{ordinal}"] = renamed(f"nats-{ordinal}", f"east-nats-{ordinal}")
    assert probe(world).stages


async def test_an_owner_that_reverts_the_edit_is_a_caution() -> None:
    raw = stateful_set()
    raw["metadata"]["annotations"] = {"meta.helm.sh/release-name": "queues"}
    told = probe(World(raw)).cautions
    assert any("Helm release queues keeps this object" in one for one in told)


async def test_previews_say_what_rolls_how_long_and_what_is_led() -> None:
    world = World()
    (kind, raw), *rolls = probe(world).stages
    readers, _ = sides(world)
    edit = await ACTIONS[kind].preview(readers, ACTIONS[kind].params.model_validate(raw))
    assert "roll 3 pods one at a time, about 5 minutes" in edit.blast_radius
    added = [line.removeprefix("+").strip() for line in edit.diff.splitlines() if line.startswith("+")]
    assert {"path: /healthz?js-enabled-only=true", "partition: 3"} <= set(added)
    last = await ACTIONS["kubernetes.roll_pod"].preview(
        readers, ACTIONS["kubernetes.roll_pod"].params.model_validate(rolls[2][1])
    )
    assert any("It leads the meta group, stream APP > ORDERS" in effect for effect in last.effects)


# Restart.


async def test_a_restart_deletes_the_very_pod_and_waits_until_its_server_is_whole() -> None:
    world = World()
    assert (await run(world, restart(world, 1).stages)).outcome is Outcome.VERIFIED
    assert world.writes == ["delete nats-1"]


async def test_a_restart_is_refused_while_another_pod_is_down_and_a_pod_that_does_not_run_is_restarted_all_the_same() -> (
    None
):
    world = World()
    unready(world, 2, "CrashLoopBackOff")
    assert "Pod nats-2 is not ready: nats waits with CrashLoopBackOff." in refusal(lambda: restart(world, 1))
    assert (await run(world, restart(world, 2).stages)).outcome is Outcome.VERIFIED


async def test_a_pod_that_was_replaced_since_is_not_restarted_again() -> None:
    world = World()
    stages = restart(world, 1).stages
    del world.pods[1]
    world.step()
    seen = await run(world, stages)
    assert "is gone: it was replaced since" in seen.sentence
    assert world.writes == []
    kind, raw = stages[0]
    assert await ACTIONS[kind].receipt(sides(world)[0], ACTIONS[kind].params.model_validate(raw), OP) is Receipt.APPLIED


async def test_every_rolling_action_asks_for_an_approver() -> None:
    kinds = ("probe", "resources", "image", "spread", "roll_pod", "restart_pod")
    assert {ACTIONS[f"kubernetes.{kind}"].risk for kind in kinds} == {RiskClass.MEDIUM}


@pytest.mark.parametrize(
    "compose",
    [
        lambda w: compose_resources(w.snapshot(), w.workload(), {"memory_limit": "256Mi"}, "200MiB"),
        lambda w: compose_spread(w.snapshot(), w.workload(), {"required": True}),
        lambda w: compose_spread(w.snapshot(), w.workload(), {"means": "anti-affinity"}),
        image,
    ],
)
async def test_every_edit_is_rolled_out_and_undone_to_the_last_field(compose: Callable[[World], Composed]) -> None:
    world = World()
    before = world.raw["spec"]
    stages = compose(world).stages
    world.sick["version"] = upgraded("2.15.2")
    assert (await run(world, stages)).outcome is Outcome.VERIFIED
    assert world.raw["spec"] != before
    for index in (3, 2, 1, 0):
        await undo(world, *stages[index], OperationId(f"op_{index}"))
    assert world.raw["spec"] == before


async def test_people_see_what_each_pod_ran_before_and_runs_now() -> None:
    world = World()
    former, stages = world.revisions_of_pods()[0], image(world).stages
    readers, _ = sides(world)
    checks = [await ACTIONS[kind].check(readers, ACTIONS[kind].params.model_validate(raw)) for kind, raw in stages[:2]]
    assert checks[0].before == {"container.nats.image": "nats:2.15.1"}
    world.sick["version"] = upgraded("2.15.2")
    seen = await run(world, stages)
    assert seen.numbers == {"nats-0": f"2.15.2, {world.revisions_of_pods()[0]}"}
    assert former not in str(seen.numbers)


async def test_a_server_of_another_version_than_promised_is_no_success() -> None:
    world = World()
    seen = await run(world, image(world).stages)
    assert "nats-2 runs 2.15.1, not 2.15.2." in seen.sentence
