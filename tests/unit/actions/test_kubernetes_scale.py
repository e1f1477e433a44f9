"""One server more: what must hold before, what proves it, and when there is a way back. Scaling in is told and never done."""

import pytest

from bot.action import Receipt
from bot.actions.kubernetes_scale_out import ScaleOut, ScaleOutParams, even_size, tolerated
from bot.actions.scale import compose_scale_out, scale_in_guidance
from bot.errors import NotYet, Refused
from bot.model import OperationId, Outcome
from bot.model.kubernetes import Kind
from tests.unit.actions.kubernetes_scene import Scene, Server, cluster, explicit_conf, listed, pod, streams

OP = OperationId("op_1")


def grown(replicas: int = 3, of: int = 4) -> Scene:
    """A healthy cluster whose servers list `of` pods already."""
    return cluster(replicas, explicit_conf(of))


def params_of(scene: Scene, target: int = 4) -> ScaleOutParams:
    kind, raw = compose_scale_out(*scene.look(), target).stages[-1]
    assert kind == "kubernetes.scale_out"
    return ScaleOutParams.model_validate(raw)


def refusal(scene: Scene, target: int = 4) -> str:
    with pytest.raises(Refused) as refused:
        compose_scale_out(*scene.look(), target)
    return str(refused.value)


def joins(scene: Scene, index: int = 3) -> None:
    """The new pod runs, and its server has joined."""
    scene.objects[Kind.POD, f"nats-{index}"] = pod(index)
    scene.servers[f"nats-{index}"] = Server(listed(scene.conf))


# --- sizes ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("servers", "losses"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3)])
def test_a_majority_must_be_left(servers: int, losses: int):
    assert tolerated(servers) == losses


def test_an_even_size_tolerates_no_more_than_the_odd_one_below():
    assert even_size(3) == even_size(5) == ""
    assert even_size(4) == "4 servers tolerate the loss of 1, and so do 3: the quorum of 4 is 3."


# --- what is proposed -----------------------------------------------------------------------------------------------------------


def test_routes_for_all_come_first_then_pod_after_pod():
    stages = compose_scale_out(*cluster(3, explicit_conf(3)).look(), 5).stages
    assert [kind for kind, _ in stages] == ["kubernetes.routes", *["nats.reload"] * 3, *["kubernetes.scale_out"] * 2]
    assert len(stages[0][1]["routes"]) == 5
    first, second = (ScaleOutParams.model_validate(raw) for _, raw in stages[4:])
    assert (first.replicas, first.server, first.pod, first.servers) == (
        3,
        "nats-3",
        "nats-3",
        ("nats-0", "nats-1", "nats-2"),
    )
    assert (second.replicas, second.server, second.servers[-1]) == (4, "nats-4", "nats-3")


def test_where_every_server_lists_the_new_pod_only_the_pod_is_added():
    assert [kind for kind, _ in compose_scale_out(*grown().look(), 4).stages] == ["kubernetes.scale_out"]


def test_a_new_server_is_named_like_the_others():
    scene = grown()
    scene.servers = {f"eu-{name}": server for name, server in scene.servers.items()}
    assert params_of(scene).server == "eu-nats-3"


def test_people_are_told_that_four_are_no_better_than_three():
    assert any("4 servers tolerate the loss of 1" in line for line in compose_scale_out(*grown().look(), 4).cautions)
    assert not any("tolerate" in line for line in compose_scale_out(*grown(3, 5).look(), 5).cautions)


def test_a_single_server_is_never_made_a_cluster():
    assert "deletes the streams it has (nats-server #5467)" in refusal(cluster(1, explicit_conf(1)))


@pytest.mark.parametrize("target", [3, 2])
def test_it_only_grows(target: int):
    assert "has 3 pods already" in refusal(grown(), target)


def test_two_servers_may_leave_their_trap():
    assert params_of(grown(2, 3), 3).replicas == 2


def test_every_reason_that_the_cluster_is_not_healthy_is_told():
    scene = grown()
    scene.raw(Kind.STATEFUL_SET, "nats")["status"]["updateRevision"] = "r2"
    scene.raw(Kind.POD, "nats-1")["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    scene.meta = {"leader": "", "cluster_size": 3}
    scene.cut = {frozenset({"nats-0", "nats-2"})}
    told = refusal(scene)
    assert "A rollout of StatefulSet nats is under way." in told
    assert "nats-1 is not ready." in told
    assert "The meta group is not complete: no leader" in told
    assert "1 of 3 pairs of servers lack connections: nats-0 with nats-2." in told


def test_a_spec_that_its_controller_has_not_seen_is_a_rollout_under_way():
    scene = grown()
    scene.raw(Kind.STATEFUL_SET, "nats")["metadata"]["generation"] = 2
    assert "A rollout of StatefulSet nats is under way." in refusal(scene)


# --- check, apply, verify -------------------------------------------------------------------------------------------------------


async def test_a_healthy_cluster_gets_its_pod():
    scene = grown()
    action, params = ScaleOut(), params_of(scene)
    check = await action.check(scene.readers, params)
    assert (check.refusals, check.world["statefulset.replicas"]) == ((), 3)
    await action.apply(scene.readers, scene.writers, params, OP)
    raw = scene.raw(Kind.STATEFUL_SET, "nats")
    assert raw["spec"]["replicas"] == 4
    assert await action.receipt(scene.readers, params, OP) is Receipt.APPLIED
    await action.apply(scene.readers, scene.writers, params, OP)
    assert len(scene.written) == 1


async def test_it_waits_until_every_server_lists_the_pod():
    scene = cluster(3, explicit_conf(3))
    params = params_of(grown())
    told = (await ScaleOut().check(scene.readers, params)).refusals
    assert "nats.conf does not list the wanted routes." in told
    assert "nats-0, nats-1, nats-2 did not load the list that names nats-3." in told


async def test_another_number_of_pods_is_refused_before_and_at_the_write():
    scene = grown()
    action, params = ScaleOut(), params_of(scene)
    scene.raw(Kind.STATEFUL_SET, "nats")["spec"]["replicas"] = 5
    assert any("asks for 5 pods, not for 3" in r for r in (await action.check(scene.readers, params)).refusals)
    with pytest.raises(Refused, match="asks for 5 pods, not for 3"):
        await action.apply(scene.readers, scene.writers, params, OP)
    assert scene.written == []


async def test_the_preview_says_what_it_helps_and_when_there_is_no_way_back():
    scene = grown()
    preview = await ScaleOut().preview(scene.readers, params_of(scene))
    assert preview.summary == "StatefulSet nats gets a pod more: nats-3, the 4th server"
    assert "+  replicas: 4" in preview.diff
    assert preview.effects[0] == even_size(4)
    assert "As long as nats-3 did not join the meta group" in preview.way_back


async def test_it_is_verified_when_the_server_has_joined_meta_group_and_mesh():
    scene = grown()
    action, params = ScaleOut(), params_of(scene)
    assert "Pod nats-3 is not there" in (await action.verify(scene.readers, params, OP)).sentence
    joins(scene)
    seen = await action.verify(scene.readers, params, OP)
    assert (seen.outcome, seen.numbers["meta peers"], seen.numbers["pairs"]) == (Outcome.VERIFIED, 4, 6)


async def test_a_pod_that_waits_is_named_with_its_reason():
    scene = grown()
    joins(scene)
    status = scene.raw(Kind.POD, "nats-3")["status"]
    status |= {"phase": "Pending", "conditions": []}
    status["containerStatuses"] = [{"name": "nats", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
    seen = await ScaleOut().verify(scene.readers, params_of(grown()), OP)
    assert (seen.outcome, seen.sentence) == (
        Outcome.FAILED,
        "Pod nats-3 is Pending and not ready: ImagePullBackOff.",
    )


async def test_a_server_that_the_meta_group_does_not_count_has_not_joined():
    scene = grown()
    params = params_of(scene)
    scene.meta = scene._meta("nats-0")
    joins(scene)
    seen = await ScaleOut().verify(scene.readers, params, OP)
    assert seen.outcome is Outcome.FAILED
    assert "The meta group does not count nats-3 as current" in seen.sentence


async def test_a_server_that_lags_behind_the_meta_leader_is_not_there_yet():
    scene = grown()
    params = params_of(scene)
    joins(scene)
    leader = scene._meta("nats-0")
    leader["replicas"][-1] |= {"current": False, "lag": 5}
    scene.meta = leader
    seen = await ScaleOut().verify(scene.readers, params, OP)
    assert seen.outcome is Outcome.FAILED
    assert "3 of 4 members current (nats-3" in seen.sentence


async def test_a_new_server_without_a_connection_to_one_of_the_others_has_not_joined():
    scene = grown()
    params = params_of(scene)
    joins(scene)
    scene.cut = {frozenset({"nats-1", "nats-3"})}
    seen = await ScaleOut().verify(scene.readers, params, OP)
    assert seen.outcome is Outcome.FAILED
    assert "nats-1 with nats-3" in seen.sentence


# --- the way back ---------------------------------------------------------------------------------------------------------------


async def applied() -> tuple[Scene, ScaleOut, ScaleOutParams]:
    scene = grown()
    action, params = ScaleOut(), params_of(scene)
    await action.apply(scene.readers, scene.writers, params, OP)
    return scene, action, params


async def test_a_pod_whose_server_did_not_join_is_taken_away_again():
    scene, action, params = await applied()
    scene.objects[Kind.POD, "nats-3"] = pod(3)
    with pytest.raises(NotYet, match="nats-3 is still there"):
        await action.rollback(scene.readers, scene.writers, params, OP)
    assert scene.raw(Kind.STATEFUL_SET, "nats")["spec"]["replicas"] == 3
    del scene.objects[Kind.POD, "nats-3"]
    assert "has 3 pods again" in await action.rollback(scene.readers, scene.writers, params, OP)
    assert len(scene.written) == 2


async def test_a_server_that_joined_stays_and_people_are_told_how_it_goes():
    scene, action, params = await applied()
    joins(scene)
    with pytest.raises(Refused, match="only when the pod is gone: nats server cluster peer-remove nats-3") as refused:
        await action.rollback(scene.readers, scene.writers, params, OP)
    assert not isinstance(refused.value, NotYet)
    assert scene.raw(Kind.STATEFUL_SET, "nats")["spec"]["replicas"] == 4


async def test_without_a_meta_leader_nobody_knows_whether_it_joined():
    scene, action, params = await applied()
    scene.meta = {"leader": "", "cluster_size": 4}
    with pytest.raises(NotYet, match="can't be told"):
        await action.rollback(scene.readers, scene.writers, params, OP)


async def test_a_number_of_pods_that_somebody_changed_since_stays():
    scene, action, params = await applied()
    scene.raw(Kind.STATEFUL_SET, "nats")["spec"]["replicas"] = 7
    with pytest.raises(Refused, match="changed again since"):
        await action.rollback(scene.readers, scene.writers, params, OP)


# --- scaling in is for people ---------------------------------------------------------------------------------------------------


def test_scaling_in_moves_everything_before_the_pod_goes_and_removes_the_peer_after():
    scene = cluster(5, explicit_conf(5))
    scene.assets = streams(ORDERS=("nats-4", "nats-0", "nats-1"), SOLO=("nats-4",), SAFE=("nats-0", "nats-1", "nats-2"))
    told = scale_in_guidance(*scene.look(), 4)
    lines = [line.partition("   #")[0] for line in told]
    order = [
        "nats stream cluster peer-remove ORDERS nats-4",
        "nats stream edit SOLO --replicas 3",
        "nats stream cluster peer-remove SOLO nats-4",
        "nats stream edit SOLO --replicas 1",
        "kubectl -n queues scale statefulset nats --replicas 4",
        "kubectl -n queues wait --for=delete pod/nats-4 --timeout=180s",
    ]
    assert [lines.index(one) for one in order] == sorted(lines.index(one) for one in order)
    assert any(line.endswith("nats server cluster peer-remove nats-4") for line in lines[lines.index(order[-1]) :])
    assert "4 servers tolerate the loss of 1" in told[0]
    assert not any("SAFE" in line for line in told)


def test_the_highest_pod_goes_first():
    told = "\n".join(scale_in_guidance(*cluster(5, explicit_conf(5)).look(), 3))
    assert told.index("--replicas 4") < told.index("--replicas 3")
    assert told.index("pod/nats-4") < told.index("pod/nats-3")


def test_names_are_quoted_for_the_shell():
    scene = cluster(4, explicit_conf(4))
    scene.assets = streams(**{"a b;rm": ("nats-3", "nats-0", "nats-1")})
    assert any(
        line.startswith("nats stream cluster peer-remove 'a b;rm' nats-3")
        for line in scale_in_guidance(*scene.look(), 3)
    )


def test_streams_that_are_wider_than_what_is_left_stop_it():
    scene = cluster(5, explicit_conf(5))
    scene.assets = streams(WIDE=tuple(f"nats-{i}" for i in range(5)))
    with pytest.raises(Refused, match=r"4 servers can't hold these streams: .*WIDE \(5 replicas\)"):
        scale_in_guidance(*scene.look(), 4)


@pytest.mark.parametrize("target", [2, 1])
def test_nobody_is_led_below_three(target: int):
    with pytest.raises(Refused, match="stay at 3 or more"):
        scale_in_guidance(*cluster(3, explicit_conf(3)).look(), target)
