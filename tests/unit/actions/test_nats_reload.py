"""A server that shall load its file: it is asked until it shows the routes, and the mesh is proven pair by pair."""

import pytest

from bot.action import Receipt
from bot.actions._loading import PAUSE, PROPAGATION
from bot.actions.mesh_repair import compose_routes
from bot.actions.nats_reload import Reload, ReloadParams
from bot.errors import NoResponders, NotApplied, OutcomeUnknown, ServerRefused, Unreadable, WriteDenied
from bot.model import OperationId, Outcome, Snapshot
from bot.model.kubernetes import Kind
from tests.unit.actions.kubernetes_scene import Scene, cluster, explicit_conf
from tests.unit.actions.test_kubernetes_routes import LIST, file_with

OP = OperationId("op_1")


def ready() -> tuple[Scene, Reload, ReloadParams]:
    """The file has the list, nobody has loaded it; the parameters are those of the last server."""
    scene = cluster()
    stages = compose_routes(*scene.look()).stages
    scene.conf = explicit_conf(3)
    return scene, Reload(scene.sleep), ReloadParams.model_validate(stages[-1][1])


async def test_it_is_asked_once_where_the_file_is_there():
    scene, action, params = ready()
    assert (await action.check(scene.readers, params)).refusals == ()
    assert await action.receipt(scene.readers, params, OP) is Receipt.NOT_APPLIED
    await action.apply(scene.readers, scene.writers, params, OP)
    assert scene.reloaded == ["nats-2"]
    assert await action.receipt(scene.readers, params, OP) is Receipt.APPLIED


async def test_it_is_asked_again_until_the_kubelet_has_brought_the_file():
    scene, action, params = ready()
    scene.stale_reads = 7
    await action.apply(scene.readers, scene.writers, params, OP)
    assert scene.reloaded == ["nats-2"] * 8
    assert sum(scene.slept) == 8 * PAUSE


async def test_after_the_propagation_time_it_is_a_definite_no():
    scene, action, params = ready()
    scene.stale_reads = 1000
    with pytest.raises(NotApplied, match="did not load the new routes within 150 s: the changed file does not reach"):
        await action.apply(scene.readers, scene.writers, params, OP)
    assert sum(scene.slept) == PROPAGATION


async def test_looks_that_take_long_count_among_the_propagation_time():
    scene, _, params = ready()
    scene.stale_reads = 1000

    async def slow(seconds: float) -> None:
        scene.slept.append(seconds + 12)

    with pytest.raises(NotApplied, match="within 150 s"):
        await Reload(slow).apply(scene.readers, scene.writers, params, OP)
    assert PROPAGATION <= sum(scene.slept) <= PROPAGATION + 15


async def test_a_server_that_runs_with_the_list_is_not_asked():
    scene, action, params = ready()
    scene.servers["nats-2"].routes = LIST
    await action.apply(scene.readers, scene.writers, params, OP)
    assert scene.reloaded == []


async def test_a_reloader_is_waited_for_and_the_server_not_asked():
    scene, action, params = ready()

    async def sidecar(seconds: float) -> None:
        scene.slept.append(seconds)
        if len(scene.slept) == 3:
            scene.servers["nats-2"].routes = LIST

    await Reload(sidecar).apply(scene.readers, scene.writers, params.model_copy(update={"reloader": True}), OP)
    assert (scene.reloaded, len(scene.slept)) == ([], 3)
    del action


@pytest.mark.parametrize("error", [OutcomeUnknown("no answer"), NoResponders("nobody"), NotApplied("not sent")])
async def test_a_lost_answer_is_settled_by_what_the_server_shows(error: Exception):
    scene, action, params = ready()
    scene.reload_faults = [error]
    await action.apply(scene.readers, scene.writers, params, OP)
    assert scene.reloaded == ["nats-2"]


@pytest.mark.parametrize("error", [ServerRefused("load", 500, "config reload not supported"), WriteDenied("may not")])
async def test_a_refusal_ends_it_at_once(error: Exception):
    scene, action, params = ready()
    scene.stale_reads, scene.reload_faults = 1, [error]
    with pytest.raises(type(error)):
        await action.apply(scene.readers, scene.writers, params, OP)
    assert scene.slept == []


async def test_a_server_with_another_file_than_the_present_one_has_not_loaded_it():
    scene, action, params = ready()
    scene.servers["nats-2"].routes, scene.servers["nats-2"].digest = LIST, "sha256:old"
    scene.config_file = file_with(digests={"nats-2": ("sha256:new",)})
    assert await action.receipt(scene.readers, params, OP) is Receipt.NOT_APPLIED
    assert (await action.verify(scene.readers, params, OP)).outcome is Outcome.FAILED
    scene.servers["nats-2"].digest = "sha256:new"
    assert await action.receipt(scene.readers, params, OP) is Receipt.APPLIED


async def test_what_cannot_be_read_after_asking_is_unknown_and_before_it_is_unreadable():
    scene, action, params = ready()
    readers = scene.readers
    looks = 0

    async def gather(needs: object, *, again: object = None) -> Snapshot:
        nonlocal looks
        del needs, again
        looks += 1
        if looks > 1:
            raise Unreadable("no server answers")
        return scene.snapshot()

    readers.gather = gather  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown, match="no server answers"):
        await action.apply(readers, scene.writers, params, OP)
    with pytest.raises(Unreadable):
        await action.apply(readers, scene.writers, params, OP)


async def test_a_server_that_never_answers_was_not_asked_and_that_is_a_definite_no():
    scene, action, params = ready()
    scene.servers["nats-2"].answers = False
    with pytest.raises(NotApplied, match="nats-2 was not asked, because it does not answer"):
        await action.apply(scene.readers, scene.writers, params, OP)
    with pytest.raises(OutcomeUnknown, match="can't be read: it does not answer"):
        await action.apply(scene.readers, scene.writers, params.model_copy(update={"reloader": True}), OP)


async def test_it_is_refused_before_the_file_lists_the_routes_and_while_the_server_is_silent():
    scene = cluster()
    _, raw = compose_routes(*scene.look()).stages[-1]
    action, params = Reload(scene.sleep), ReloadParams.model_validate(raw)
    assert (await action.check(scene.readers, params)).refusals == ("nats.conf does not list the wanted routes.",)
    scene.conf = explicit_conf(3)
    scene.servers["nats-2"].answers = False
    assert (await action.check(scene.readers, params)).refusals == ("Server nats-2 does not answer.",)
    assert await action.receipt(scene.readers, params, OP) is Receipt.UNREADABLE


async def test_it_is_for_the_very_stateful_set_that_was_approved():
    scene, action, params = ready()
    scene.raw(Kind.STATEFUL_SET, "nats")["metadata"]["uid"] = "uid-new"
    (reason,) = (await action.check(scene.readers, params)).refusals
    assert "made anew" in reason


async def test_it_is_verified_when_every_pair_has_every_connection():
    scene, action, params = ready()
    for server in scene.servers.values():
        server.routes = LIST
    seen = await action.verify(scene.readers, params, OP)
    assert (seen.outcome, seen.numbers["pairs"], seen.numbers["complete pairs"]) == (Outcome.VERIFIED, 3, 3)
    assert seen.numbers["routes of nats-0"] == 8


async def test_one_missing_connection_of_one_pair_is_a_failure_that_names_the_pair():
    scene, action, params = ready()
    for server in scene.servers.values():
        server.routes = LIST
    scene.cut = {frozenset({"nats-0", "nats-2"})}
    seen = await action.verify(scene.readers, params, OP)
    assert seen.outcome is Outcome.FAILED
    assert "1 of 3 pairs of servers lack connections: nats-0 with nats-2" in seen.sentence


async def test_pairs_of_servers_that_are_still_to_load_do_not_count():
    scene = cluster()
    _, raw = compose_routes(*scene.look()).stages[1]
    scene.conf, scene.servers["nats-0"].routes = explicit_conf(3), LIST
    scene.cut = {frozenset({"nats-1", "nats-2"})}
    action = Reload(scene.sleep)
    seen = await action.verify(scene.readers, ReloadParams.model_validate(raw), OP)
    assert (seen.outcome, seen.numbers["pairs"]) == (Outcome.VERIFIED, 0)


async def test_a_silent_server_cannot_be_told_where_the_others_show_it_whole():
    scene, action, params = ready()
    for server in scene.servers.values():
        server.routes = LIST
    scene.servers["nats-0"].answers = False
    assert (await action.verify(scene.readers, params, OP)).outcome is Outcome.CANNOT_TELL
    scene.servers["nats-0"].answers, scene.servers["nats-2"].answers = True, False
    seen = await action.verify(scene.readers, params, OP)
    assert seen.outcome is Outcome.CANNOT_TELL
    assert "runs with the list" not in seen.sentence


async def test_the_way_back_is_the_files():
    scene, action, params = ready()
    assert "until the former file is back" in await action.rollback(scene.readers, scene.writers, params, OP)
    assert scene.reloaded == []


async def test_a_server_on_another_island_is_looked_for_through_the_others():
    scene, action, params = ready()
    scene.islands = [{"nats-0"}, {"nats-1"}, {"nats-2"}]
    assert (await action.check(scene.readers, params)).refusals == ("Server nats-2 does not answer.",)
    await action.apply(scene.readers, scene.writers, params, OP)
    assert (scene.reloaded, scene.elsewhere) == (["nats-2"], 2)


async def test_servers_on_islands_are_a_failure_whichever_is_looked_at():
    scene, action, params = ready()
    for server in scene.servers.values():
        server.routes = LIST
    scene.islands = [{"nats-2"}, {"nats-0", "nats-1"}]
    for island in ("nats-0, nats-1", "nats-2"):
        seen = await action.verify(scene.readers, params, OP)
        assert seen.outcome is Outcome.FAILED
        assert f"No server has a route with {island}." in seen.sentence
