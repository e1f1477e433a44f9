"""The explicit list of routes: what stops it, what it writes, and how it goes back."""

import json
from collections.abc import Callable

import pytest

from bot.action import Receipt
from bot.actions.kubernetes_routes import FORMER, RouteList, RoutesParams
from bot.actions.mesh_repair import compose_routes
from bot.actions.nats_reload import ReloadParams
from bot.adapters.kubernetes.redaction import clean
from bot.errors import NotYet, ObjectMoved, Refused, ServerRefused, WriteDenied
from bot.model import OperationId, Outcome, Unknown, UnknownReason
from bot.model.kubernetes import ConfigFile, Kind, Verb, receipt_of
from tests.unit.actions.kubernetes_scene import CANARY, Scene, cluster, explicit_conf, listed

OP = OperationId("op_1")
LIST = tuple(f"nats-{i}.nats-headless:6222" for i in range(3))


def params_of(scene: Scene) -> RoutesParams:
    kind, raw = compose_routes(*scene.look()).stages[0]
    assert kind == "kubernetes.routes"
    return RoutesParams.model_validate(raw)


def refusal(scene: Scene) -> str:
    with pytest.raises(Refused) as refused:
        compose_routes(*scene.look())
    return str(refused.value)


async def applied(scene: Scene) -> tuple[RouteList, RoutesParams]:
    action, params = RouteList(scene.sleep), params_of(scene)
    await action.apply(scene.readers, scene.writers, params, OP)
    return action, params


# --- what is proposed -----------------------------------------------------------------------------------------------------------


def test_the_file_is_edited_first_then_one_server_after_another_loads_it():
    repair = compose_routes(*cluster().look())
    assert repair.routes == LIST
    assert [kind for kind, _ in repair.stages] == ["kubernetes.routes", *["nats.reload"] * 3]
    reloads = [ReloadParams.model_validate(raw) for _, raw in repair.stages[1:]]
    assert [(r.server, r.with_servers) for r in reloads] == [
        ("nats-0", ()),
        ("nats-1", ("nats-0",)),
        ("nats-2", ("nats-0", "nats-1")),
    ]


def test_servers_that_answer_are_first_because_they_dial_those_that_do_not():
    scene = cluster()
    scene.servers["nats-0"].answers = False
    order = [raw["server"] for kind, raw in compose_routes(*scene.look()).stages if kind == "nats.reload"]
    assert order == ["nats-1", "nats-2", "nats-0"]


def test_a_file_that_is_right_already_is_only_loaded_where_it_was_not():
    scene = cluster()
    scene.conf = explicit_conf(3)
    scene.servers["nats-1"].routes = LIST
    stages = compose_routes(*scene.look()).stages
    assert [(kind, raw["server"], tuple(raw["with_servers"])) for kind, raw in stages] == [
        ("nats.reload", "nats-0", ("nats-1",)),
        ("nats.reload", "nats-2", ("nats-1", "nats-0")),
    ]


def everywhere(scene: Scene) -> None:
    scene.conf = explicit_conf(3)
    for server in scene.servers.values():
        server.routes = LIST


def test_a_complete_mesh_is_left_alone():
    scene = cluster()
    everywhere(scene)
    assert "the mesh is complete" in refusal(scene)


def test_a_mesh_that_is_incomplete_with_the_right_list_is_no_case_for_a_reload():
    scene = cluster()
    everywhere(scene)
    scene.cut = {frozenset({"nats-0", "nats-1"})}
    assert "a reload changes nothing" in refusal(scene)
    assert "nats-0 with nats-1" in refusal(scene)
    assert "#8454" in refusal(scene)


def file_with(**fields: object) -> Callable[[ConfigFile], ConfigFile]:
    return lambda file: file.model_copy(update=fields)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": Kind.SECRET, "name": "nats"}, "lies in Secret nats, which natsmedic never writes"),
        ({"live": False}, "mounted by subPath"),
        ({"immutable": True}, "ConfigMap conf is immutable"),
        ({"uid": ""}, "Which ConfigMap conf was read is not known"),
        (
            {"text": None, "unknown": Unknown(reason=UnknownReason.DENIED, detail="may not get")},
            "nats.conf is not known",
        ),
    ],
)
def test_a_file_that_cannot_be_edited_in_place_is_refused_with_the_way_out(fields: dict[str, object], reason: str):
    scene = cluster()
    scene.config_file = file_with(**fields)
    assert reason in refusal(scene)


def test_all_reasons_are_told_at_once():
    scene = cluster()
    scene.config_file = file_with(live=False)
    scene.raw(Kind.POD, "nats-1")["status"]["phase"] = "Pending"
    del scene.objects[Kind.SERVICE, "nats-headless"]
    told = refusal(scene)
    assert "subPath" in told
    assert "Pod nats-1 does not run (Pending)" in told
    assert "There is no service nats-headless" in told


def test_a_service_with_an_address_of_its_own_gives_pods_no_names():
    scene = cluster()
    scene.raw(Kind.SERVICE, "nats-headless")["spec"]["clusterIP"] = "10.0.0.1"
    assert "is not headless" in refusal(scene)


def test_a_pod_that_is_missing_or_whose_server_cannot_be_told_stops_it():
    scene = cluster()
    del scene.objects[Kind.POD, "nats-2"]
    assert "asks for 3 pods and has 2" in refusal(scene)
    scene = cluster()
    container = scene.raw(Kind.STATEFUL_SET, "nats")["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "POD_NAME", "value": "$(NAME)"}]
    scene.servers = {f"other-{i}": server for i, server in enumerate(scene.servers.values())}
    assert "Which server runs in pod nats-0 can't be told" in refusal(scene)


def test_a_pod_that_is_being_deleted_stops_it():
    scene = cluster()
    scene.raw(Kind.POD, "nats-1")["metadata"]["deletionTimestamp"] = "2026-11-26T00:00:00Z"
    assert "Pod nats-1 does not run (being deleted)" in refusal(scene)


def test_servers_of_another_cluster_are_not_taken_for_those_of_the_pods():
    scene = cluster()
    scene.servers = {f"other-{i}": server for i, server in enumerate(scene.servers.values())}
    assert "None of the servers that answer (other-0, other-1, other-2) runs in a pod" in refusal(scene)


def test_servers_on_another_island_are_in_the_plan_and_last():
    scene = cluster()
    scene.islands = [{"nats-1"}, {"nats-0", "nats-2"}]
    order = [raw["server"] for kind, raw in compose_routes(*scene.look()).stages if kind == "nats.reload"]
    assert order == ["nats-1", "nats-0", "nats-2"]


def test_pods_that_could_not_be_read_are_unknown_and_not_absent():
    scene = cluster()
    scene.extra = {"pod": Unknown(reason=UnknownReason.DENIED, detail="The reader may not list pods.")}
    assert "are not known: The reader may not list pods." in refusal(scene)


def test_a_server_with_a_prefix_before_its_pods_name_is_found():
    scene = cluster()
    scene.servers = {f"eu-{name}": server for name, server in scene.servers.items()}
    assert [raw["server"] for kind, raw in compose_routes(*scene.look()).stages if kind == "nats.reload"] == [
        "eu-nats-0",
        "eu-nats-1",
        "eu-nats-2",
    ]


def test_people_are_told_of_owners_of_pending_edits_and_of_unpublished_names():
    scene = cluster()
    scene.raw(Kind.STATEFUL_SET, "nats")["metadata"]["annotations"] = {"meta.helm.sh/release-name": "queue"}
    scene.raw(Kind.SERVICE, "nats-headless")["spec"]["publishNotReadyAddresses"] = False
    scene.config_file = file_with(digests={"nats-1": ("sha256:new",)})
    scene.servers["nats-1"].digest = "sha256:old"
    told = compose_routes(*scene.look()).cautions
    assert any("Helm release queue keeps this object" in line for line in told)
    assert any(line.startswith("nats-1 did not load the file as it stands now") for line in told)
    assert any("publishNotReadyAddresses" in line for line in told)
    assert any("nats.system_writer" in line for line in told)


# --- what is written ------------------------------------------------------------------------------------------------------------


async def test_only_the_routes_change_and_the_former_ones_are_kept_beside_them():
    scene = cluster()
    before = scene.conf
    await applied(scene)
    (change,) = scene.written
    assert (change.verb, change.kind, change.name) == (Verb.PATCH, Kind.CONFIG_MAP, "conf")
    assert listed(scene.conf) == LIST
    assert scene.conf.count(CANARY) == 3
    assert scene.raw(Kind.CONFIG_MAP, "conf")["data"]["other"] == "x"
    notes = scene.raw(Kind.CONFIG_MAP, "conf")["metadata"]["annotations"]
    assert notes == {FORMER: f"[ nats://route:{CANARY}@nats-headless:6222 ]", "natsmedic.io/op": OP}
    head, tail = before.split(notes[FORMER])
    assert scene.conf.startswith(head)
    assert scene.conf.endswith(tail)


async def test_no_secret_enters_params_world_preview_or_before_image():
    scene = cluster()
    action, params = RouteList(scene.sleep), params_of(scene)
    check = await action.check(scene.readers, params)
    preview = await action.preview(scene.readers, params)
    assert check.refusals == ()
    added = [line.removeprefix("+").strip() for line in preview.diff.splitlines() if line.startswith("+ ")]
    assert [line.strip('",') for line in added if "//" in line] == [f"nats://[redacted]@{address}" for address in LIST]
    for record in (params, check, preview):
        assert CANARY not in record.model_dump_json()
    await action.apply(scene.readers, scene.writers, params, OP)
    assert CANARY not in json.dumps(clean(Kind.CONFIG_MAP, scene.raw(Kind.CONFIG_MAP, "conf")))


async def test_an_edit_in_between_is_named_and_nothing_is_written():
    scene = cluster()
    action, params = RouteList(scene.sleep), params_of(scene)
    approved = (await action.check(scene.readers, params)).world
    scene.conf += "debug: true\n"
    check = await action.check(scene.readers, params)
    assert {key for key in approved if approved[key] != check.world[key]} == {"configmap.nats.conf"}
    assert any("was edited since" in reason for reason in check.refusals)
    with pytest.raises(Refused, match="was edited since"):
        await action.apply(scene.readers, scene.writers, params, OP)
    assert scene.written == []


async def test_a_file_that_became_immutable_is_refused():
    scene = cluster()
    action, params = RouteList(scene.sleep), params_of(scene)
    scene.raw(Kind.CONFIG_MAP, "conf")["immutable"] = True
    assert (await action.check(scene.readers, params)).refusals == ("ConfigMap conf is immutable.",)


@pytest.mark.parametrize(("field", "value"), [("replicas", 5), ("serviceName", "other")])
async def test_another_number_of_pods_or_another_service_moves_the_world(field: str, value: object):
    scene = cluster()
    action, params = RouteList(scene.sleep), params_of(scene)
    approved = (await action.check(scene.readers, params)).world
    scene.raw(Kind.STATEFUL_SET, "nats")["spec"][field] = value
    now = (await action.check(scene.readers, params)).world
    assert {key for key in approved if approved[key] != now[key]} == {f"statefulset.{field}"}


async def test_a_file_made_anew_under_the_same_name_is_another_one():
    scene = cluster()
    action, params = RouteList(scene.sleep), params_of(scene)
    scene.raw(Kind.CONFIG_MAP, "conf")["metadata"]["uid"] = "uid-new"
    assert any("deleted and made anew" in r for r in (await action.check(scene.readers, params)).refusals)
    assert await action.receipt(scene.readers, params, OP) is Receipt.FOREIGN
    seen = await action.verify(scene.readers, params, OP)
    assert (seen.outcome, seen.final) == (Outcome.FAILED, True)


async def test_an_edit_between_reading_and_writing_is_seen_and_refused():
    scene = cluster()
    action, params = RouteList(scene.sleep), params_of(scene)

    def edit() -> None:
        scene.conf += "debug: true\n"

    scene.meddle = edit
    with pytest.raises(Refused, match="was edited since"):
        await action.apply(scene.readers, scene.writers, params, OP)
    assert listed(scene.conf) == ("nats-headless:6222",)


async def test_a_write_of_something_else_in_between_is_no_obstacle():
    scene = cluster()
    scene.write_faults = [ObjectMoved("patch", 409, "Conflict", "modified")]
    await applied(scene)
    assert listed(scene.conf) == LIST


async def test_the_receipt_tells_this_operation_from_others():
    scene = cluster()
    action, params = await applied(scene)
    assert await action.receipt(scene.readers, params, OP) is Receipt.APPLIED
    assert await action.receipt(scene.readers, params, OperationId("op_2")) is Receipt.NOT_APPLIED
    await action.apply(scene.readers, scene.writers, params, OP)
    assert len(scene.written) == 1


async def test_it_is_verified_by_what_the_api_server_holds():
    scene = cluster()
    action, params = RouteList(scene.sleep), params_of(scene)
    assert (await action.verify(scene.readers, params, OP)).outcome is Outcome.FAILED
    await action.apply(scene.readers, scene.writers, params, OP)
    assert (await action.verify(scene.readers, params, OP)).outcome is Outcome.VERIFIED


# --- the way back ---------------------------------------------------------------------------------------------------------------


async def test_on_the_way_back_the_file_is_as_before_and_every_server_runs_with_it():
    scene = cluster()
    before = scene.conf
    action, params = await applied(scene)
    scene.servers["nats-1"].routes, scene.stale_reads = LIST, 7
    with pytest.raises(NotYet, match="nats-1 did not load them yet"):
        await action.rollback(scene.readers, scene.writers, params, OP)
    assert scene.conf == before
    sentence = await action.rollback(scene.readers, scene.writers, params, OP)
    assert "nats-0, nats-1, nats-2 run with them" in sentence
    assert scene.reloaded == ["nats-1"] * 8
    assert len(scene.written) == 2
    kept = scene.raw(Kind.CONFIG_MAP, "conf")["metadata"]["annotations"]
    assert kept == {"natsmedic.io/op": f"{OP}.undone"}


async def test_on_the_way_back_every_island_is_looked_at():
    scene = cluster()
    action, params = await applied(scene)
    for server in scene.servers.values():
        server.routes = LIST
    scene.islands = [{"nats-0"}, {"nats-1"}, {"nats-2"}]
    await action.rollback(scene.readers, scene.writers, params, OP)
    assert sorted(scene.reloaded) == ["nats-0", "nats-1", "nats-2"]


async def test_on_the_way_back_a_reloader_is_only_waited_for():
    scene = cluster()
    action, params = await applied(scene)
    scene.servers["nats-1"].routes = LIST
    with pytest.raises(NotYet):
        await action.rollback(scene.readers, scene.writers, params.model_copy(update={"reloader": True}), OP)
    assert scene.reloaded == []


async def test_on_the_way_back_a_silent_server_is_waited_for():
    scene = cluster()
    action, params = await applied(scene)
    scene.servers["nats-2"].answers = False
    with pytest.raises(NotYet, match="nats-2 did not load"):
        await action.rollback(scene.readers, scene.writers, params, OP)


@pytest.mark.parametrize("error", [WriteDenied("may not"), ServerRefused("load", 500, "not supported")])
async def test_on_the_way_back_a_definite_no_is_for_people(error: Exception):
    scene = cluster()
    action, params = await applied(scene)
    scene.servers["nats-1"].routes, scene.reload_faults = LIST, [error]
    with pytest.raises(type(error)):
        await action.rollback(scene.readers, scene.writers, params, OP)


async def test_what_somebody_edited_since_is_not_overwritten_on_the_way_back():
    scene = cluster()
    action, params = await applied(scene)
    scene.conf = scene.conf.replace("nats-2.", "nats-7.")
    with pytest.raises(Refused, match="were edited since"):
        await action.rollback(scene.readers, scene.writers, params, OP)
    assert receipt_of(scene.raw(Kind.CONFIG_MAP, "conf")) == OP


async def test_what_natsmedic_changed_again_since_is_not_undone():
    scene = cluster()
    action, params = await applied(scene)
    scene.raw(Kind.CONFIG_MAP, "conf")["metadata"]["annotations"]["natsmedic.io/op"] = "op_9"
    with pytest.raises(Refused, match="changed by natsmedic again"):
        await action.rollback(scene.readers, scene.writers, params, OP)
