"""The stand-in Kubernetes gives the answers of a real one: every test runs against both, and the real cluster is right."""

import asyncio

import pytest

from tests.integration.kubernetes_conformance import MAPS, MERGE, MODIFIED, OTHER_UID, SETS, World, config_map
from tests.integration.kubernetes_support import Raw

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


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
