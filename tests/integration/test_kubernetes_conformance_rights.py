"""The stand-in Kubernetes gives the answers of a real one about workloads and rights: every test runs against both, and the real cluster is right."""

import asyncio

import pytest

from tests.integration.kubernetes_conformance import (
    MAPS,
    MERGE,
    MODIFIED,
    PODS,
    SETS,
    STRATEGIC,
    World,
    config_map,
    until,
    workload,
)
from tests.integration.kubernetes_support import Raw

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


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


async def test_nothing_new_is_made_in_a_namespace_that_goes(world: World):
    async with world.new_namespace() as going:
        held = config_map("held") | {"metadata": {"name": "held", "finalizers": ["example.com/held"]}}
        await going.make(MAPS, held)
        ending = await going.delete(f"/api/v1/namespaces/{going.namespace}")
        assert ending["status"] == {"phase": "Terminating"}
        assert ending["metadata"]["deletionTimestamp"]
        answer = await going.ask("POST", MAPS, config_map("late"))
        why = f"unable to create new content in namespace {going.namespace} because it is being terminated"
        assert answer.refusal == (403, "Forbidden", f'configmaps "late" is forbidden: {why}')
        assert answer.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
        left = await going.delete(f"{MAPS}/held")
        assert (left["kind"], left["metadata"]["deletionGracePeriodSeconds"]) == ("ConfigMap", 0)
        assert (await going.ask("GET", f"{MAPS}/held")).status == 200, "a finalizer keeps it"
        await going.merge(f"{MAPS}/held", {"metadata": {"finalizers": None}})
        assert (await going.ask("GET", f"{MAPS}/held")).status == 404

        async def gone() -> bool:
            return (await going.ask("GET", f"/api/v1/namespaces/{going.namespace}")).status == 404

        await until("the end of the namespace", gone)
