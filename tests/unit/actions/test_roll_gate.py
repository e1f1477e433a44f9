"""When a pod may go: what the gate before each replacement waits for, and what stops it for good."""

from collections.abc import Callable

import pytest

from bot.errors import Refused
from bot.model import Outcome
from tests.unit.actions.rollout_world import (
    ACTIONS,
    OP,
    World,
    changed,
    check,
    health,
    image,
    peer,
    probe,
    restart,
    run,
    sides,
    silence,
    storing,
    stream_alone,
    template,
    unready,
)
from tests.unit.snapshots import Raw


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
    world = World(storing(None))
    for number in range(7):
        world.sick[f"alone {number}"] = stream_alone(f"ALONE_{number}", "nats-2")
    world.sick["memory"] = stream_alone("CACHE", "nats-2", storage="memory")
    kind, raw = restart(world, 2).stages[0]
    preview = await ACTIONS[kind].preview(sides(world)[0], ACTIONS[kind].params.model_validate(raw))
    named = (
        "stream APP > ALONE_0, stream APP > ALONE_1, stream APP > ALONE_2, stream APP > ALONE_3, stream APP > ALONE_4"
    )
    assert f"Away with nats-2, since it lives there alone: {named} and 2 more." in preview.effects
    assert "Lost with nats-2, since it is kept in memory there alone: stream APP > CACHE." in preview.effects


@pytest.mark.parametrize("volume", [{"emptyDir": {}}, {"emptyDir": {"medium": "Memory"}}, {}])
async def test_no_pod_goes_with_the_only_copy_of_a_stream(volume: Raw) -> None:
    """On an emptyDir, or on no volume at all, the store ends with the pod (reference/nats.md 1.B)."""
    lost = "The store of nats-1 ends with its pod, and it alone holds stream APP > ONCE: lost for good."

    world = World(storing(volume) if volume else None)
    world.sick["alone"] = stream_alone("ONCE", "nats-1")
    for compose in (probe, image, lambda w: restart(w, 1)):
        with pytest.raises(Refused, match=lost):
            compose(world)
    assert restart(world, 2).stages

    world = World(storing(volume) if volume else None)
    rollout = probe(world)
    world.sick["alone"] = stream_alone("ONCE", "nats-1")
    assert any(lost in said for said in await check(world, rollout, 0))
    assert await check(world, rollout, 1) != ()
    world.sick["alone"] = stream_alone("CACHE", "nats-1", storage="memory")
    assert await check(world, rollout, 0) == ()


async def test_a_store_on_a_claim_outlives_its_pod() -> None:
    world = World(storing(None))
    world.sick["alone"] = stream_alone("ONCE", "nats-1")
    assert probe(world).stages


@pytest.mark.parametrize(
    ("waiting", "restarts", "volume", "goes"),
    [
        ("CrashLoopBackOff", 3, {"emptyDir": {}}, False),
        ("CrashLoopBackOff", 3, None, True),
        ("ErrImagePull", 0, {"emptyDir": {}}, True),
    ],
)
async def test_a_stuck_pod_whose_store_ends_with_it_is_not_restarted_unless_it_never_ran(
    waiting: str, restarts: int, volume: Raw | None, goes: bool
) -> None:
    world = World(storing(volume))
    unready(world, 1, waiting)
    world.pods[1]["status"]["containerStatuses"][0]["restartCount"] = restarts
    if goes:
        assert await check(world, restart(world, 1), 0) == ()
    else:
        with pytest.raises(Refused, match="what lies there is unknown while its server does not run"):
            restart(world, 1)


async def test_a_pod_whose_first_run_has_ended_has_run() -> None:
    world = World(storing({"emptyDir": {}}))
    unready(world, 1, "CrashLoopBackOff")
    world.pods[1]["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 1}}
    with pytest.raises(Refused, match="what lies there is unknown while its server does not run"):
        restart(world, 1)


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
