"""Rollouts against a controller that does what Kubernetes' own does: what is written, in which order, and how it is undone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from bot.action import Receipt
from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.rollout import (
    Rollout,
    compose_image,
    compose_probe,
    compose_resources,
    compose_restart,
    compose_spread,
)
from bot.errors import NotYet, Refused
from bot.model import OperationId, Outcome, RiskClass
from bot.model.kubernetes import Pod, receipt_of
from bot.model.probes import ENABLED_ONLY, ProbeKind
from tests.unit.actions.rollout_world import ACTIONS, World, run, sides, silence, stateful_set, template, undo, unready
from tests.unit.snapshots import Raw, answers

FORWARD = ["patch RollingUpdate 3", "patch RollingUpdate 2", "patch RollingUpdate 1", "patch RollingUpdate 0"]
RELAXED = ProbeChange(path=ENABLED_ONLY)
OP = OperationId("op_9")


def probe(world: World, change: ProbeChange = RELAXED) -> Rollout:
    return compose_probe(world.snapshot(), world.workload(), ProbeKind.READINESS, change)


def image(world: World, reference: str = "nats:2.15.2", version: str = "2.15.2") -> Rollout:
    return compose_image(world.snapshot(), world.workload(), reference, version)


def refusal(compose: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        compose()
    return str(refused.value)


def container(world: World) -> Raw:
    return world.raw["spec"]["template"]["spec"]["containers"][0]


def changed(world: World, **fields: Any) -> Callable[[Raw], None]:
    """Somebody else's edit of the server's container."""

    def change(raw: Raw) -> None:
        del raw
        container(world).update(fields)

    return change


async def check(world: World, rollout: Rollout, stage: int) -> tuple[str, ...]:
    kind, raw = rollout.stages[stage]
    action = ACTIONS[kind]
    return (await action.check(sides(world)[0], action.params.model_validate(raw))).refusals


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


async def test_under_on_delete_each_pod_is_deleted_by_its_uid() -> None:
    world = World(stateful_set(updateStrategy={"type": "OnDelete"}))
    assert (await run(world, probe(world).stages)).outcome is Outcome.VERIFIED
    assert [w for w in world.writes if w.startswith("delete")] == [f"delete nats-{ordinal}" for ordinal in (2, 1, 0)]
    assert {w for w in world.writes if w.startswith("patch")} == {"patch OnDelete"}
    assert len(set(world.revisions_of_pods())) == 1


async def test_in_ordered_ready_a_pod_that_hangs_in_the_former_template_is_deleted_so_that_the_edit_reaches_it() -> (
    None
):
    world = World(stateful_set(podManagementPolicy="OrderedReady"))
    stages = probe(world).stages
    unready(world, 2, "CrashLoopBackOff")
    world.sick["2 is away"] = silence("nats-2")
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


# The gate.


async def rolling(change: Callable[[World], None], *, upgrade: bool = False) -> tuple[str, ...]:
    """Refusals of the first pod's turn, after the edit was written and then something happened."""
    world = World()
    rollout = image(world) if upgrade else probe(world)
    await run(world, rollout.stages[:1])
    change(world)
    return await check(world, rollout, 1)


async def test_the_first_pod_goes_while_everything_is_whole() -> None:
    assert await rolling(lambda world: None) == ()
    assert await rolling(lambda world: None, upgrade=True) == ()


async def test_a_pod_waits_while_another_one_is_not_ready() -> None:
    (said,) = await rolling(lambda world: unready(world, 0))
    assert said == "Pod nats-0 is not ready: phase Running, restarts 0."


async def test_a_pod_waits_while_another_server_does_not_answer() -> None:
    said = await rolling(lambda world: world.sick.update(frozen=silence("nats-0")))
    assert "What a server holds is unknown: nats-0: timed_out, a test." in said


async def test_a_pod_waits_while_another_member_is_not_current() -> None:
    said = await rolling(lambda world: world.sick.update(lag=peer("nats-1", current=False)))
    assert "Without nats-2 the meta group would stand still: 1 of 3 members would be left (nats-1 not current)." in said
    assert "nats-1 is not current in the meta group: not current." in said


async def test_a_pod_that_is_not_current_itself_may_go() -> None:
    assert await rolling(lambda world: world.sick.update(lag=peer("nats-2", current=False))) == ()


@pytest.mark.parametrize(
    ("answer", "any_rollout", "an_upgrade"),
    [
        ({"status": "ok"}, False, False),
        ({"status": "unavailable", "error": "JetStream is not current with the meta leader"}, False, True),
        ({"status": "unavailable", "error": "JetStream not enabled"}, True, True),
        (None, False, True),
    ],
)
async def test_an_upgrade_waits_for_full_health_and_another_rollout_for_jetstream_alone(
    answer: Raw | None, any_rollout: bool, an_upgrade: bool
) -> None:
    """HEALTHZ of 2.10 flaps under load, which is what a changed probe may be for."""

    def sick(world: World) -> None:
        world.sick["health"] = health("nats-0", answer)

    assert bool(await rolling(sick)) is any_rollout
    assert bool(await rolling(sick, upgrade=True)) is an_upgrade


@pytest.mark.parametrize(("reason", "waits"), [("timed_out", True), ("not_in_version", False)])
async def test_a_version_whose_health_check_is_not_safe_to_ask_is_judged_by_its_raft_groups(
    reason: str, waits: bool
) -> None:
    def sick(world: World) -> None:
        world.sick["health"] = health("nats-0", None, reason)

    assert bool(await rolling(sick, upgrade=True)) is waits


async def test_a_pod_that_no_node_takes_says_so() -> None:
    def pending(world: World) -> None:
        unready(world, 0)
        condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
        world.pods[0]["status"]["conditions"].append(condition)

    (said,) = await rolling(pending)
    assert said == "Pod nats-0 is not ready: no node takes it, 0/3 nodes are available."


@pytest.mark.parametrize("where", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize(
    ("reason", "hopeless"),
    [
        ("ErrImagePull", True),
        ("CrashLoopBackOff", True),
        ("CreateContainerConfigError", True),
        ("ContainerCreating", False),
        ("PodInitializing", False),
    ],
)
async def test_what_no_waiting_ends_is_final_and_the_rest_is_waited_for(
    where: str, reason: str, hopeless: bool
) -> None:
    world = World()
    stages = probe(world).stages
    await run(world, stages)
    unready(world, 0)
    world.pods[0]["status"][where] = [{"name": "nats", "state": {"waiting": {"reason": reason}}}]
    kind, raw = stages[3]
    seen = await ACTIONS[kind].verify(sides(world)[0], ACTIONS[kind].params.model_validate(raw), OP)
    assert (seen.outcome, seen.final) == (Outcome.FAILED, hopeless)


async def test_a_preview_names_a_few_of_many_streams_that_live_on_one_server_alone() -> None:
    world = World()
    for number in range(7):
        world.sick[f"alone {number}"] = stream_alone(f"ALONE_{number}", "nats-2")
    kind, raw = restart(world, 2).stages[0]
    preview = await ACTIONS[kind].preview(sides(world)[0], ACTIONS[kind].params.model_validate(raw))
    named = (
        "stream APP > ALONE_0, stream APP > ALONE_1, stream APP > ALONE_2, stream APP > ALONE_3, stream APP > ALONE_4"
    )
    assert f"Away with it, since it lives there alone: {named} and 2 more." in preview.effects


async def test_it_is_not_a_pods_turn_before_those_above_it_run_the_edit() -> None:
    world = World()
    rollout = probe(world)
    await run(world, rollout.stages[:1])
    said = await check(world, rollout, 2)
    assert any(one.startswith("Pod nats-2 must be replaced first: it runs nats-") for one in said)


async def test_somebody_elses_edit_between_two_stages_stops_the_rollout_and_is_named() -> None:
    def edit(world: World) -> None:
        world.edit(changed(world, image="nats:2.15.9"))

    assert "Somebody else changed container.nats.image: it was nats:2.15.1, now nats:2.15.9." in await rolling(edit)


async def test_an_owner_that_puts_the_former_template_back_stops_the_rollout() -> None:
    def revert(world: World) -> None:
        world.edit(lambda raw: raw["spec"].update(template=template()))

    said = await rolling(revert)
    assert (
        "container.nats.readinessProbe.path must be /healthz?js-enabled-only=true and is /healthz?js-server-only=true."
        in said
    )


async def test_a_partition_that_somebody_lowers_stops_the_rollout() -> None:
    def release(world: World) -> None:
        world.edit(
            lambda raw: raw["spec"].update(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}})
        )

    (said, *_) = await rolling(release)
    assert said == "Somebody else lowered the partition: it is 1, so pods below nats-2 roll already."


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
    assert any("Helm release queues reverts the edit at its next upgrade" in one for one in told)


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


def restart(world: World, ordinal: int) -> Rollout:
    return compose_restart(world.snapshot(), world.workload(), Pod(world.pods[ordinal]))


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
async def test_every_edit_is_rolled_out_and_undone_to_the_last_field(compose: Callable[[World], Rollout]) -> None:
    world = World()
    before = world.raw["spec"]
    stages = compose(world).stages
    world.sick["version"] = upgraded("2.15.2")
    assert (await run(world, stages)).outcome is Outcome.VERIFIED
    assert world.raw["spec"] != before
    for index in (3, 2, 1, 0):
        await undo(world, *stages[index], OperationId(f"op_{index}"))
    assert world.raw["spec"] == before


async def test_a_server_of_another_version_than_promised_is_no_success() -> None:
    world = World()
    seen = await run(world, image(world).stages)
    assert "nats-2 runs 2.15.1, not 2.15.2." in seen.sentence


def peer(name: str, **fields: Any) -> Callable[[Raw], None]:
    """A change after which the meta leader says so of a member."""

    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            for row in jsz["meta_cluster"].get("replicas") or []:
                if row["name"] == name:
                    row.update({"active": 0} | fields)

    return change


def health(server: str, answer: Raw | None, reason: str = "timed_out") -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == server and sample["endpoint"] == "HEALTHZ":
                unknown = None if answer else {"reason": reason, "detail": "a test"}
                sample |= {"data": answer, "unknown": unknown}

    return change


def stream_alone(name: str, server: str) -> Callable[[Raw], None]:
    """A further stream of one replica on this server."""

    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", server):
            (found, *_) = jsz["account_details"][0]["stream_detail"]
            made = copy.deepcopy(found) | {"name": name, "consumer_detail": []}
            made["config"] |= {"name": name, "num_replicas": 1}
            made["cluster"] = {"leader": server}
            jsz["account_details"][0]["stream_detail"].append(made)

    return change


def renamed(old: str, new: str) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        def walk(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: walk(v) for k, v in value.items()}
            if isinstance(value, list):
                return [walk(v) for v in value]
            return new if value == old else value

        raw.update(walk(raw))

    return change


def upgraded(version: str) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    return change
