"""The stand-in Kubernetes gives the answers of a real one to patches and applies: every test runs against both, and the real cluster is right."""

import pytest

from tests.integration.kubernetes_conformance import (
    APPLY,
    JSON_PATCH,
    MAPS,
    MERGE,
    MODIFIED,
    OTHER_UID,
    SETS,
    STRATEGIC,
    World,
    config_map,
    workload,
)
from tests.integration.kubernetes_support import Raw

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


async def test_a_failed_test_in_a_json_patch_changes_nothing(world: World):
    made = await world.make(MAPS, config_map("a", {"k": "v"}))
    patches = [
        [{"op": "test", "path": "/data/k", "value": "no"}, {"op": "replace", "path": "/data/k", "value": "x"}],
        [
            {"op": "replace", "path": "/data/k", "value": "x"},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        ],
        [{"op": "test", "path": "/data/absent", "value": "no"}],
        [{"op": "remove", "path": "/data/absent"}],
        [{"op": "add", "path": "/nodata/absent", "value": "1"}],
    ]
    for patch in patches:
        answer = await world.ask("PATCH", f"{MAPS}/a", patch, JSON_PATCH)
        assert answer.refusal == (422, "Invalid", "the server rejected our request due to an error in our request"), (
            patch
        )
        assert answer.body["details"] == {}
    assert (await world.read(f"{MAPS}/a")) == made


async def test_a_json_patch_that_holds_is_done(world: World):
    made = await world.make(MAPS, config_map("a", {"k": "v", "old": "1"}))
    patch = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
        {"op": "test", "path": "/data/absent", "value": None},
        {"op": "replace", "path": "/data/new", "value": "2"},
        {"op": "move", "from": "/data/old", "path": "/data/moved"},
        {"op": "copy", "from": "/data/k", "path": "/data/copied"},
        {"op": "add", "path": "/metadata/annotations", "value": {"a/b": "c"}},
        {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "d"},
    ]
    done = (await world.ask("PATCH", f"{MAPS}/a", patch, JSON_PATCH)).fine
    assert done["data"] == {"k": "v", "new": "2", "moved": "1", "copied": "v"}
    assert done["metadata"]["annotations"] == {"a/b": "d"}


async def test_a_merge_patch_takes_away_what_is_null_and_knows_versions(world: World):
    made = await world.make(MAPS, config_map("a", {"k": "v", "gone": "1"}, x="1"))
    version = made["metadata"]["resourceVersion"]
    done = await world.merge(
        f"{MAPS}/a", {"metadata": {"resourceVersion": version}, "data": {"gone": None, "new": "2"}}
    )
    assert done["data"] == {"k": "v", "new": "2"}
    stale = {"metadata": {"resourceVersion": version}, "data": {"k": "w"}}
    answer = await world.ask("PATCH", f"{MAPS}/a", stale, MERGE)
    assert answer.refusal == (409, "Conflict", f'Operation cannot be fulfilled on configmaps "a": {MODIFIED}')
    answer = await world.ask("PATCH", f"{MAPS}/a", {"metadata": {"uid": OTHER_UID}}, MERGE)
    assert answer.refusal[:2] == (422, "Invalid")
    assert {cause["field"] for cause in answer.body["details"]["causes"]} == {"metadata.uid"}


@pytest.mark.parametrize(
    ("body", "kind", "code", "reason"),
    [
        ({"data": {"k": "w"}}, "text/plain", 415, "UnsupportedMediaType"),
        ({"data": {"k": 3}}, MERGE, 422, "Invalid"),
    ],
)
async def test_patches_that_cannot_be_read(world: World, body: Raw, kind: str, code: int, reason: str):
    await world.make(MAPS, config_map("a", {"k": "v"}))
    answer = await world.ask("PATCH", f"{MAPS}/a", body if kind != "text/plain" else "{}", kind)
    assert answer.refusal[:2] == (code, reason)
    if code == 422:
        assert [cause["field"] for cause in answer.body["details"]["causes"]] == ["patch"]


async def test_a_strategic_patch_merges_lists_by_their_keys(world: World):
    await world.make(SETS, workload(0))
    new = {"name": "nats", "env": [{"name": "B", "value": "c"}], "ports": [{"containerPort": 4222, "name": "nats"}]}
    pod = {"containers": [new], "volumes": [{"name": "x", "emptyDir": {}}]}
    done = (await world.ask("PATCH", f"{SETS}/nats", {"spec": {"template": {"spec": pod}}}, STRATEGIC)).fine
    (container,) = done["spec"]["template"]["spec"]["containers"]
    assert {v["name"]: v["value"] for v in container["env"]} == {"A": "b", "B": "c"}
    assert {p["containerPort"] for p in container["ports"]} == {8222, 4222}
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert done["metadata"]["generation"] == 2
    change = {"containers": [{"name": "nats", "env": [{"name": "A", "$patch": "delete"}], "args": ["-m", "1"]}]}
    done = (await world.ask("PATCH", f"{SETS}/nats", {"spec": {"template": {"spec": change}}}, STRATEGIC)).fine
    (container,) = done["spec"]["template"]["spec"]["containers"]
    assert [v["name"] for v in container["env"]] == ["B"]
    assert container["args"] == ["-m", "1"], "a list without keys is replaced"


async def test_a_merge_patch_replaces_lists(world: World):
    await world.make(SETS, workload(0))
    change = {"spec": {"template": {"spec": {"containers": [{"name": "other", "image": "nats:1"}]}}}}
    done = await world.merge(f"{SETS}/nats", change)
    assert [c["name"] for c in done["spec"]["template"]["spec"]["containers"]] == ["other"]


# Owners of fields, and server-side apply.


async def test_each_manager_owns_what_it_changed(world: World):
    await world.make(SETS, workload(0), fieldManager="chart")
    path = "/spec/template/spec/containers/0/readinessProbe/httpGet/path"
    patch = [{"op": "replace", "path": path, "value": "/healthz?js-server-only=true"}]
    done = (await world.ask("PATCH", f"{SETS}/nats", patch, JSON_PATCH, fieldManager="natsmedic")).fine
    entries = {entry["manager"]: entry["fieldsV1"] for entry in done["metadata"]["managedFields"]}
    container = {"k:" + '{"name":"nats"}': {"f:readinessProbe": {"f:httpGet": {"f:path": {}}}}}
    assert entries["natsmedic"] == {"f:spec": {"f:template": {"f:spec": {"f:containers": container}}}}
    of_chart = entries["chart"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"nats"}']
    assert of_chart["f:readinessProbe"]["f:httpGet"] == {".": {}, "f:port": {}, "f:scheme": {}}
    assert of_chart["f:ports"]['k:{"containerPort":8222,"protocol":"TCP"}']["f:containerPort"] == {}
    assert of_chart["f:env"]['k:{"name":"A"}'] == {".": {}, "f:name": {}, "f:value": {}}
    assert "f:replicas" in entries["chart"]["f:spec"]


async def test_an_apply_of_anothers_field_is_a_conflict_until_it_is_forced(world: World):
    one, two = (config_map("ssa", data) for data in ({"a": "1", "b": "2"}, {"a": "2", "c": "3"}))
    for raw in (one, two):
        del raw["metadata"]["labels"]
    made = await world.ask("PATCH", f"{MAPS}/ssa", one, APPLY, fieldManager="one")
    assert made.status == 201
    (entry,) = made.body["metadata"]["managedFields"]
    assert (entry["operation"], entry["fieldsV1"]) == ("Apply", {"f:data": {"f:a": {}, "f:b": {}}})
    answer = await world.ask("PATCH", f"{MAPS}/ssa", two, APPLY, fieldManager="two")
    assert answer.refusal == (409, "Conflict", 'Apply failed with 1 conflict: conflict with "one": .data.a')
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}
    assert answer.body["details"] == {"causes": [cause]}
    forced = (await world.ask("PATCH", f"{MAPS}/ssa", two, APPLY, fieldManager="two", force="true")).fine
    assert forced["data"] == {"a": "2", "b": "2", "c": "3"}
    owners = {e["manager"]: e["fieldsV1"] for e in forced["metadata"]["managedFields"]}
    assert owners == {"one": {"f:data": {"f:b": {}}}, "two": {"f:data": {"f:a": {}, "f:c": {}}}}


async def test_an_apply_takes_away_what_it_no_longer_names(world: World):
    named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ssa"}}
    await world.ask("PATCH", f"{MAPS}/ssa", named | {"data": {"a": "1", "b": "2"}}, APPLY, fieldManager="one")
    await world.ask("PATCH", f"{MAPS}/ssa", named | {"data": {"a": "1"}}, APPLY, fieldManager="two")
    left = (await world.ask("PATCH", f"{MAPS}/ssa", named | {"data": {}}, APPLY, fieldManager="one")).fine
    assert left["data"] == {"a": "1"}, "the other one still says so"
    assert [entry["manager"] for entry in left["metadata"]["managedFields"]] == ["two"]


async def test_an_update_takes_a_field_from_whoever_applied_it(world: World):
    named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ssa"}}
    await world.ask("PATCH", f"{MAPS}/ssa", named | {"data": {"c": "3"}}, APPLY, fieldManager="two")
    changed = await world.merge(f"{MAPS}/ssa", {"data": {"c": "4"}}, fieldManager="three")
    (entry,) = changed["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("three", "Update")
    answer = await world.ask("PATCH", f"{MAPS}/ssa", named | {"data": {"c": "5"}}, APPLY, fieldManager="two")
    words = 'Apply failed with 1 conflict: conflict with "three" using v1: .data.c'
    assert answer.refusal == (409, "Conflict", words)


async def test_an_apply_to_a_workload_names_the_field_in_conflict(world: World):
    await world.make(SETS, workload(0), fieldManager="me")
    change = {"name": "nats", "env": [{"name": "A", "value": "other"}], "resources": {"limits": {"memory": "128Mi"}}}
    raw: Raw = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "nats"}}
    raw["spec"] = {"template": {"spec": {"containers": [change]}}}
    answer = await world.ask("PATCH", f"{SETS}/nats", raw, APPLY, fieldManager="natsmedic")
    field = '.spec.template.spec.containers[name="nats"].env[name="A"].value'
    words = f'Apply failed with 1 conflict: conflict with "me" using apps/v1: {field}'
    assert answer.refusal == (409, "Conflict", words)
    forced = (
        await world.ask("PATCH", f"{SETS}/nats", raw, APPLY, fieldManager="natsmedic", force="true", dryRun="All")
    ).fine
    (container,) = forced["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "other"}]
    assert container["resources"] == {"limits": {"memory": "128Mi"}}
    assert container["args"] == ["-m", "8222"]
    entry = next(e for e in forced["metadata"]["managedFields"] if e["manager"] == "natsmedic")
    owned = entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"nats"}']
    assert owned == {
        ".": {},
        "f:name": {},
        "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
        "f:resources": {"f:limits": {"f:memory": {}}},
    }
    assert (await world.read(f"{SETS}/nats"))["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("query", "kind", "refusal"),
    [
        (
            {},
            APPLY,
            (
                422,
                "Invalid",
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
            ),
        ),
        (
            {"force": "true"},
            MERGE,
            (
                422,
                "Invalid",
                'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch',
            ),
        ),
    ],
)
async def test_options_that_a_patch_does_not_take(world: World, query: Raw, kind: str, refusal: tuple[int, str, str]):
    await world.make(MAPS, config_map("ssa"))
    assert (await world.ask("PATCH", f"{MAPS}/ssa", config_map("ssa"), kind, **query)).refusal == refusal


async def test_an_apply_knows_versions(world: World):
    await world.make(MAPS, config_map("ssa"))
    stale = config_map("ssa") | {"metadata": {"name": "ssa", "resourceVersion": "1"}}
    answer = await world.ask("PATCH", f"{MAPS}/ssa", stale, APPLY, fieldManager="two")
    assert answer.refusal == (409, "Conflict", f'Operation cannot be fulfilled on configmaps "ssa": {MODIFIED}')
    nameless = {"metadata": {"name": "ssa"}, "data": {"c": "3"}}
    answer = await world.ask("PATCH", f"{MAPS}/ssa", nameless, APPLY, fieldManager="two")
    words = "Incorrect version specified in apply patch. Specified patch version: , expected: v1"
    assert answer.refusal == (400, "BadRequest", words)
