"""The stand-in Kubernetes gives the answers of a real one: every test runs against both, and the real cluster is right."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.integration.kubernetes_conformance import (
    APPLY,
    JSON_PATCH,
    MAPS,
    MERGE,
    OTHER_UID,
    PODS,
    REAL,
    SETS,
    STAND_IN,
    STRATEGIC,
    World,
    config_map,
    real,
    stand_in,
    workload,
)
from tests.integration.kubernetes_support import Raw

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[STAND_IN, pytest.param(REAL, marks=pytest.mark.kubernetes)]
)
async def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with AsyncExitStack() as stack:
        way = real() if request.param == REAL else stand_in(tmp_path_factory.mktemp("kube"))
        cluster, client, kube = await stack.enter_async_context(way)
        yield World(request.param, cluster, client, "", kube)


@pytest_asyncio.fixture(loop_scope="module")
async def world(opened: World) -> AsyncGenerator[World]:
    opened.namespace = f"standin-{secrets.token_hex(3)}"
    await opened.make("/api/v1/namespaces", {"metadata": {"name": opened.namespace}})
    yield opened
    await opened.ask("DELETE", f"/api/v1/namespaces/{opened.namespace}")


# Objects: create, read, replace, delete.


async def test_a_created_object_has_what_a_server_gives_it(world: World):
    made = await world.make(MAPS, config_map("a", {"k": "v"}, x="1"), fieldManager="me")
    meta = made["metadata"]
    assert (made["kind"], made["apiVersion"], made["data"]) == ("ConfigMap", "v1", {"k": "v"})
    assert meta["namespace"] == world.namespace
    assert meta["uid"]
    assert int(meta["resourceVersion"])
    assert meta["creationTimestamp"].endswith("Z")
    (entry,) = meta["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("me", "Update", "v1")
    assert entry["fieldsV1"] == {
        "f:data": {".": {}, "f:k": {}},
        "f:metadata": {"f:labels": {".": {}, "f:x": {}}},
    }
    assert (await world.read(f"{MAPS}/a")) == made


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (config_map("a"), (409, "AlreadyExists", 'configmaps "a" already exists')),
        (
            {"metadata": {}},
            (
                422,
                "Invalid",
                'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required',
            ),
        ),
        (
            {"metadata": {"name": "q", "namespace": "other"}},
            (
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
        ),
        (
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "q"}},
            (
                400,
                "BadRequest",
                'Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion',
            ),
        ),
    ],
)
async def test_what_cannot_be_created_is_refused_in_these_words(world: World, body: Raw, refusal: tuple[int, str, str]):
    await world.make(MAPS, config_map("a"))
    assert (await world.ask("POST", MAPS, body)).refusal == refusal


async def test_an_invalid_name_is_refused_with_the_field_that_is_wrong(world: World):
    answer = await world.ask("POST", MAPS, {"metadata": {"name": "B_d"}})
    assert answer.refusal[:2] == (422, "Invalid")
    details = answer.body["details"]
    assert (details["name"], details["kind"]) == ("B_d", "ConfigMap")
    (cause,) = details["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", "metadata.name")
    assert cause["message"].startswith('Invalid value: "B_d": a lowercase RFC 1123 subdomain must consist of')


async def test_a_missing_namespace_is_named(world: World):
    answer = await world.ask("POST", "/api/v1/namespaces/no-such-one/configmaps", {"metadata": {"name": "q"}})
    assert answer.refusal == (404, "NotFound", 'namespaces "no-such-one" not found')
    assert answer.body["details"] == {"name": "no-such-one", "kind": "namespaces"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_a_missing_object_is_named(world: World, method: str):
    body = {"metadata": {"name": "missing"}} if method == "PUT" else {} if method == "PATCH" else None
    answer = await world.ask(method, f"{MAPS}/missing", body, MERGE if method == "PATCH" else "application/json")
    assert answer.refusal == (404, "NotFound", 'configmaps "missing" not found')
    assert answer.body["details"] == {"name": "missing", "kind": "configmaps"}


async def test_the_group_is_named_where_a_kind_has_one(world: World):
    answer = await world.ask("GET", f"{SETS}/missing")
    assert answer.refusal == (404, "NotFound", 'statefulsets.apps "missing" not found')
    assert answer.body["details"] == {"name": "missing", "group": "apps", "kind": "statefulsets"}


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/apis/nope.io/v1/things", 404, None),
        ("GET", MAPS + "/p/status", 404, "NotFound"),
        ("PATCH", MAPS, 405, "MethodNotAllowed"),
        ("PUT", MAPS, 405, "MethodNotAllowed"),
        ("POST", MAPS + "/p", 405, "MethodNotAllowed"),
    ],
)
async def test_addresses_that_do_not_exist(world: World, method: str, path: str, status: int, reason: str | None):
    answer = await world.ask(
        method, path, {} if method != "GET" else None, MERGE if method == "PATCH" else "application/json"
    )
    assert answer.status == status
    assert answer.body.get("reason") == reason


@pytest.mark.parametrize("path", ["/api", "/apis/apps", "/apis/apps/v1", "/apis/policy", "/version"])
async def test_discovery_answers_with_these_kinds(world: World, path: str):
    kinds = {
        "/api": "APIVersions",
        "/apis/apps": "APIGroup",
        "/apis/policy": "APIGroup",
        "/apis/apps/v1": "APIResourceList",
    }
    found = await world.read(path)
    assert found.get("kind") == kinds.get(path)
    if path == "/apis/apps/v1":
        names = {r["name"]: r["verbs"] for r in found["resources"]}
        assert {"statefulsets", "statefulsets/status", "statefulsets/scale", "controllerrevisions"} <= names.keys()
        assert sorted(names["statefulsets/scale"]) == ["get", "patch", "update"]


async def test_a_stale_replacement_is_a_conflict(world: World):
    old = await world.make(MAPS, config_map("a", {"k": "v"}))
    new = await world.merge(f"{MAPS}/a", {"data": {"k": "w"}})
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    answer = await world.ask("PUT", f"{MAPS}/a", old)
    assert answer.refusal == (409, "Conflict", f'Operation cannot be fulfilled on configmaps "a": {MODIFIED}')
    assert answer.body["details"] == {"name": "a", "kind": "configmaps"}
    assert (await world.read(f"{MAPS}/a"))["data"] == {"k": "w"}
    del old["metadata"]["resourceVersion"]
    assert (await world.ask("PUT", f"{MAPS}/a", old)).fine["data"] == {"k": "v"}, "without a version nobody is asked"


async def test_a_replacement_of_another_object_is_a_conflict(world: World):
    made = await world.make(MAPS, config_map("a"))
    uid = made["metadata"]["uid"]
    made["metadata"]["uid"] = OTHER_UID
    answer = await world.ask("PUT", f"{MAPS}/a", made)
    assert answer.refusal[:2] == (409, "Conflict")
    assert answer.refusal[2].endswith(
        f"Precondition failed: UID in precondition: {OTHER_UID}, UID in object meta: {uid}"
    )
    made["metadata"] |= {"uid": uid, "name": "zz"}
    words = "the name of the object (zz) does not match the name on the URL (a)"
    assert (await world.ask("PUT", f"{MAPS}/a", made)).refusal == (400, "BadRequest", words)


async def test_a_write_that_changes_nothing_leaves_the_version(world: World):
    made = await world.make(MAPS, config_map("a", {"k": "v"}))
    same = await world.merge(f"{MAPS}/a", {"data": {"k": "v"}})
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


@pytest.mark.parametrize("key", ["uid", "resourceVersion"])
async def test_a_deletion_whose_precondition_fails_is_a_conflict(world: World, key: str):
    made = await world.make(MAPS, config_map("a"))
    wrong = {"uid": OTHER_UID, "resourceVersion": "1"}[key]
    name, lost = {
        "uid": ("UID", "deleted and then recreated"),
        "resourceVersion": ("ResourceVersion", "modified"),
    }[key]
    answer = await world.ask("DELETE", f"{MAPS}/a", {"preconditions": {key: wrong}})
    said = f"the {name} in the precondition ({wrong}) does not match the {name} in record ({made['metadata'][key]}). The object might have been {lost}"
    assert answer.refusal == (409, "Conflict", f'Operation cannot be fulfilled on ConfigMap "a": {said}')
    assert answer.body["details"] == {"name": "a", "kind": "ConfigMap"}
    right = {"preconditions": {key: made["metadata"][key]}}
    gone = (await world.ask("DELETE", f"{MAPS}/a", right)).fine
    assert (gone["kind"], gone["status"]) == ("Status", "Success")
    assert gone["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}


async def test_a_dry_run_answers_and_keeps_nothing(world: World):
    made = await world.make(MAPS, config_map("dry", {"k": "v"}), dryRun="All")
    assert "resourceVersion" not in made["metadata"]
    assert made["metadata"]["uid"]
    assert (await world.ask("GET", f"{MAPS}/dry")).status == 404
    kept = await world.make(MAPS, config_map("dry", {"k": "v"}))
    assert (await world.merge(f"{MAPS}/dry", {"data": {"k": "w"}}, dryRun="All"))["data"] == {"k": "w"}
    await world.ask("DELETE", f"{MAPS}/dry", dryRun="All")
    await world.ask("DELETE", f"{MAPS}/dry", {"dryRun": ["All"]})
    assert (await world.read(f"{MAPS}/dry")) == kept
    answer = await world.ask("POST", MAPS, config_map("q"), dryRun="Some")
    words = (
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: []string{"Some"}: supported values: "All"'
    )
    assert answer.refusal == (422, "Invalid", words)


# Lists and watches.


async def test_selectors_and_pages(world: World):
    for i in range(5):
        await world.make(MAPS, config_map(f"p{i}", n=str(i % 2), all="y"))

    async def names(**query: str | int) -> list[str]:
        return [raw["metadata"]["name"] for raw in (await world.read(MAPS, **query))["items"]]

    assert await names(labelSelector="n=1") == ["p1", "p3"]
    assert await names(labelSelector="n==1,all") == ["p1", "p3"]
    assert await names(labelSelector="n!=1,all") == ["p0", "p2", "p4"]
    assert await names(labelSelector="n in (1,2),all") == ["p1", "p3"]
    assert await names(labelSelector="n notin (1),all=y") == ["p0", "p2", "p4"]
    assert not {"p0", "p1"} & set(await names(labelSelector="!n"))
    assert await names(fieldSelector="metadata.name=p1") == ["p1"]
    assert await names(fieldSelector="metadata.name!=p1", labelSelector="n=1") == ["p3"]
    first = await world.read(MAPS, limit=2, labelSelector="all=y")
    assert first["kind"] == "ConfigMapList"
    assert "kind" not in first["items"][0]
    assert "remainingItemCount" not in first["metadata"], "nobody counts what a selector would leave out"
    token = first["metadata"]["continue"]
    second = await world.read(MAPS, limit=2, labelSelector="all=y", **{"continue": token})
    last = await world.read(MAPS, limit=2, labelSelector="all=y", **{"continue": second["metadata"]["continue"]})
    pages = [[raw["metadata"]["name"] for raw in page["items"]] for page in (first, second, last)]
    assert pages == [["p0", "p1"], ["p2", "p3"], ["p4"]]
    assert "continue" not in last["metadata"]
    assert (await world.read(MAPS, limit=2))["metadata"]["remainingItemCount"] >= 3


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ({"labelSelector": "n in ("}, 400, "BadRequest"),
        ({"fieldSelector": "data.k=p1"}, 400, "BadRequest"),
        ({"continue": "garbage", "limit": 2}, 400, "BadRequest"),
        ({"resourceVersion": "999999999"}, 504, "Timeout"),
    ],
)
async def test_lists_that_cannot_be_answered(world: World, query: Raw, code: int, reason: str):
    answer = await world.ask("GET", MAPS, **query)
    assert answer.refusal[:2] == (code, reason)
    if code == 504:
        assert answer.retry_after == "1"
        assert answer.body["details"]["retryAfterSeconds"] == 1


async def test_a_watch_tells_what_happened_since(world: World):
    start = (await world.read(MAPS))["metadata"]["resourceVersion"]
    await world.make(MAPS, config_map("a", {"k": "1"}, seen="yes"))
    await world.merge(f"{MAPS}/a", {"data": {"k": "2"}})
    await world.merge(f"{MAPS}/a", {"metadata": {"labels": {"seen": "no"}}})
    await world.ask("DELETE", f"{MAPS}/a")
    told = await world.watch(MAPS, 1, resourceVersion=start, fieldSelector="metadata.name=a")
    assert [(kind, raw["data"]) for kind, raw in told] == [
        ("ADDED", {"k": "1"}),
        ("MODIFIED", {"k": "2"}),
        ("MODIFIED", {"k": "2"}),
        ("DELETED", {"k": "2"}),
    ]
    assert {raw["kind"] for _, raw in told} == {"ConfigMap"}
    versions = [int(raw["metadata"]["resourceVersion"]) for _, raw in told]
    assert versions == sorted(versions)
    chosen = await world.watch(MAPS, 1, resourceVersion=start, labelSelector="seen=yes")
    assert [kind for kind, _ in chosen] == ["ADDED", "MODIFIED", "DELETED"], "what no longer matches is gone"


async def test_a_watch_hears_what_happens_while_it_lasts(world: World):
    start = (await world.read(MAPS))["metadata"]["resourceVersion"]
    watching = asyncio.create_task(world.watch(MAPS, 2, resourceVersion=start, labelSelector="w=1"))
    await asyncio.sleep(0.5)
    await world.make(MAPS, config_map("late", w="1"))
    assert [kind for kind, _ in await watching] == ["ADDED"]


async def test_a_watch_from_a_forgotten_version_is_told_410(world: World):
    ((kind, raw),) = await world.watch(MAPS, 1, resourceVersion="1")
    assert kind == "ERROR"
    assert (raw["kind"], raw["code"], raw["reason"]) == ("Status", 410, "Expired")
    assert raw["message"].startswith("too old resource version: 1 (")


# Patches.


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
    raw = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "nats"}}
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


# StatefulSets: what is refused, status and scale.


def _broken(**changes: Raw) -> Raw:
    raw = workload(0)
    raw["spec"] |= changes
    return raw


_FIXED = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'template', and 'updateStrategy' are forbidden"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": -1}}},
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"podManagementPolicy": "X"},
            "spec.podManagementPolicy: Invalid value: \"X\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            {"selector": {"matchLabels": {"z": "1"}}},
            'spec.template.metadata.labels: Invalid value: map[string]string{"app":"nats"}: `selector` does not match template `labels`',
        ),
    ],
)
async def test_an_invalid_workload_is_refused_with_the_field(world: World, changes: Raw, said: str):
    answer = await world.ask("POST", SETS, _broken(**changes))
    assert answer.refusal == (422, "Invalid", f'StatefulSet.apps "nats" is invalid: {said}')
    assert (answer.body["details"]["group"], answer.body["details"]["kind"]) == ("apps", "StatefulSet")


@pytest.mark.parametrize(
    "change",
    [
        {"serviceName": "y"},
        {"podManagementPolicy": "OrderedReady"},
        {"volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]},
    ],
)
async def test_most_of_a_workload_cannot_be_changed(world: World, change: Raw):
    await world.make(SETS, workload(0))
    answer = await world.ask("PATCH", f"{SETS}/nats", {"spec": change}, MERGE)
    assert answer.refusal == (422, "Invalid", f'StatefulSet.apps "nats" is invalid: {_FIXED}')
    (cause,) = answer.body["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldValueForbidden", "spec")


async def test_a_quantity_that_is_none_is_400_when_created_and_422_when_patched(world: World):
    raw = workload(0)
    raw["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "lots"}}
    answer = await world.ask("POST", SETS, raw)
    assert answer.refusal[:2] == (400, "BadRequest")
    assert "quantities must match the regular expression" in answer.refusal[2]
    await world.make(SETS, workload(0))
    change = {"containers": [{"name": "nats", "resources": {"requests": {"cpu": "lots"}}}]}
    answer = await world.ask("PATCH", f"{SETS}/nats", {"spec": {"template": {"spec": change}}}, STRATEGIC)
    assert answer.refusal[:2] == (422, "Invalid")
    assert [cause["field"] for cause in answer.body["details"]["causes"]] == ["patch"]
    assert "quantities must match the regular expression" in answer.refusal[2]


@pytest.mark.parametrize("value", ["two", 0.5])
async def test_a_number_that_is_none_is_400_when_created_and_422_when_patched(world: World, value: object):
    assert (await world.ask("POST", SETS, _broken(replicas=value))).refusal[:2] == (400, "BadRequest")  # pyright: ignore[reportArgumentType]
    await world.make(SETS, workload(0))
    answer = await world.ask("PATCH", f"{SETS}/nats", {"spec": {"replicas": value}}, MERGE)
    assert answer.refusal[:2] == (422, "Invalid")


async def test_status_and_spec_are_written_apart(world: World):
    await world.make(SETS, workload(0))
    done = await world.merge(f"{SETS}/nats", {"status": {"readyReplicas": 77}})
    assert done["status"].get("readyReplicas", 0) == 0
    done = await world.merge(
        f"{SETS}/nats/status", {"spec": {"replicas": 7}, "status": {"replicas": 5, "readyReplicas": 5}}, dryRun="All"
    )
    assert (done["spec"]["replicas"], done["status"]["readyReplicas"]) == (0, 5)
    assert done["metadata"]["generation"] == 1


async def test_the_scale_is_a_small_object_of_its_own(world: World):
    made = await world.make(SETS, workload(0))
    scale = await world.read(f"{SETS}/nats/scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["metadata"].keys() == {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}
    assert scale["metadata"]["uid"] == made["metadata"]["uid"]
    assert (scale["spec"], scale["status"]) == ({}, {"replicas": 0, "selector": "app=nats"})
    dry = await world.merge(f"{SETS}/nats/scale", {"spec": {"replicas": 3}}, dryRun="All")
    assert dry["spec"] == {"replicas": 3}
    assert (await world.read(f"{SETS}/nats"))["spec"]["replicas"] == 0
    stale = {
        "metadata": {"name": "nats", "namespace": world.namespace, "resourceVersion": "1"},
        "spec": {"replicas": 1},
    }
    answer = await world.ask("PUT", f"{SETS}/nats/scale", stale)
    assert answer.refusal == (409, "Conflict", f'Operation cannot be fulfilled on statefulsets.apps "nats": {MODIFIED}')
    wrong = {"metadata": {"name": "nats", "namespace": world.namespace}, "spec": {"replicas": -1}}
    answer = await world.ask("PUT", f"{SETS}/nats/scale", wrong)
    words = 'Scale.autoscaling "nats" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    assert answer.refusal == (422, "Invalid", words)


# Rights.


async def test_what_is_not_granted_is_forbidden_in_these_words(world: World):
    await world.make(SETS, workload(0))
    rules: list[Raw] = [
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "resourceNames": ["nats"], "verbs": ["get", "patch"]}
    ]
    client = await world.account("bot", rules)
    try:
        who = f'User "system:serviceaccount:{world.namespace}:bot"'
        inside = f'in the namespace "{world.namespace}"'

        async def granted() -> int:
            return (await world.ask("GET", f"{SETS}/nats", client=client)).status

        for _ in range(50):
            if await granted() == 200:
                break
            await asyncio.sleep(0.1)
        assert await granted() == 200
        cases = [
            ("DELETE", f"{SETS}/nats", f'statefulsets.apps "nats" is forbidden: {who} cannot delete resource "statefulsets" in API group "apps" {inside}'),
            ("PATCH", f"{SETS}/nats/scale", f'statefulsets.apps "nats" is forbidden: {who} cannot patch resource "statefulsets/scale" in API group "apps" {inside}'),
            ("GET", SETS, f'statefulsets.apps is forbidden: {who} cannot list resource "statefulsets" in API group "apps" {inside}'),
            ("DELETE", SETS, f'statefulsets.apps is forbidden: {who} cannot deletecollection resource "statefulsets" in API group "apps" {inside}'),
            ("POST", f"{PODS}/nats-0/eviction", f'pods "nats-0" is forbidden: {who} cannot create resource "pods/eviction" in API group "" {inside}'),
            ("GET", "/api/v1/nodes", f'nodes is forbidden: {who} cannot list resource "nodes" in API group "" at the cluster scope'),
            ("GET", "/api/v1/nodes/x", f'nodes "x" is forbidden: {who} cannot get resource "nodes" in API group "" at the cluster scope'),
            ("GET", "/apis/jetstream.nats.io/v1beta2/streams", f'streams.jetstream.nats.io is forbidden: {who} cannot list resource "streams" in API group "jetstream.nats.io" at the cluster scope'),
            ("GET", "/metrics", f'forbidden: {who} cannot get path "/metrics"'),
        ]  # fmt: skip
        for method, path, words in cases:
            answer = await world.ask(
                method,
                path,
                None if method == "GET" else {},
                MERGE if method == "PATCH" else "application/json",
                client,
            )
            assert answer.refusal == (403, "Forbidden", words)
        answer = await world.ask("DELETE", f"{SETS}/nats", {}, client=client)
        assert answer.body["details"] == {"name": "nats", "group": "apps", "kind": "statefulsets"}
        assert (await world.ask("GET", "/apis", client=client)).status == 200
        for verb, allowed in (("patch", True), ("delete", False)):
            attributes = {
                "namespace": world.namespace,
                "verb": verb,
                "group": "apps",
                "resource": "statefulsets",
                "name": "nats",
            }
            review = await world.ask(
                "POST",
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                {"spec": {"resourceAttributes": attributes}},
                client=client,
            )
            assert review.status == 201
            status = review.body["status"]
            assert status["allowed"] is allowed
            assert status.get("reason", "").startswith('RBAC: allowed by RoleBinding "bot/') is allowed
    finally:
        await client.close()


async def test_an_unknown_token_is_401_and_nobody_is_anonymous(world: World):
    client = world.cluster.client_of("nope")
    try:
        answer = await world.ask("GET", MAPS, client=client)
        assert answer.refusal == (401, "Unauthorized", "Unauthorized")
        client.configuration.api_key.clear()
        answer = await world.ask("GET", MAPS, client=client)
        words = f'configmaps is forbidden: User "system:anonymous" cannot list resource "configmaps" in API group "" in the namespace "{world.namespace}"'
        assert answer.refusal == (403, "Forbidden", words)
        assert answer.body["details"] == {"kind": "configmaps"}
    finally:
        await client.close()
