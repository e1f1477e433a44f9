"""The rules of the stand-in Kubernetes that need no server: patches, selectors, owners of fields, budgets, environment, addresses."""

from typing import Any

import pytest

from bot.lab.kubernetes.api import target_of
from bot.lab.kubernetes.defaults import quality
from bot.lab.kubernetes.environment import expanded
from bot.lab.kubernetes.eviction import budget_status
from bot.lab.kubernetes.faults import FaultKind, Faults
from bot.lab.kubernetes.kinds import CONFIG_MAP, POD, discovery
from bot.lab.kubernetes.managed import applied, fields_of, leaves, readable
from bot.lab.kubernetes.objects import Raw, matches, quantity
from bot.lab.kubernetes.patches import strategic
from bot.lab.kubernetes.refusals import Refused
from bot.lab.kubernetes.sandbox import Addresses
from bot.lab.kubernetes.selectors import selected


@pytest.mark.parametrize(
    ("text", "value"),
    [("50m", 0.05), ("1", 1), ("1.5", 1.5), ("1Ki", 1024), ("2Gi", 2**31), ("1e3", 1000), ("3M", 3e6)],
)
def test_quantities(text: str, value: float):
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "Gi"])
def test_what_is_no_quantity(text: str):
    with pytest.raises(ValueError, match=r"is no quantity|could not convert"):
        quantity(text)


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Nonsense"}]}, False),
        ({}, True),
        (None, False),
    ],
)
def test_label_selectors_of_objects(selector: Raw | None, holds: bool):
    assert matches(selector, {"a": "1"}) is holds


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["p", "q"]),
        ("a", ["p", "q"]),
        ("!b", ["q"]),
        ("a = 1", ["p"]),
        ("a!=1", ["q"]),
        ("a in (1,2),b", ["p"]),
        ("a notin (1)", ["q"]),
    ],
)
def test_label_selectors_of_lists(text: str, names: list[str]):
    pods: list[Raw] = [
        {"metadata": {"name": "p", "labels": {"a": "1", "b": "x"}}},
        {"metadata": {"name": "q", "labels": {"a": "2"}}},
    ]
    chosen = selected(POD, text, "")
    assert [pod["metadata"]["name"] for pod in pods if chosen(pod)] == names


@pytest.mark.parametrize("text", ["a in (", "a in 1", "a=b c", "(a)", "a in (b) c"])
def test_label_selectors_that_mean_nothing(text: str):
    with pytest.raises(Refused) as refused:
        selected(POD, text, "")
    assert refused.value.code == 400


def test_field_selectors_know_what_is_absent():
    assert selected(POD, "", "spec.nodeName=")({"metadata": {"name": "p"}, "spec": {}})
    assert selected(POD, "", "spec.restartPolicy==Always,metadata.name!=q")({"metadata": {"name": "p"}})
    with pytest.raises(Refused, match="is not a known field selector"):
        selected(CONFIG_MAP, "", "spec.nodeName=x")


@pytest.mark.parametrize(
    ("patch", "made"),
    [
        ({"$patch": "replace", "b": 2}, {"b": 2}),
        ({"$retainKeys": ["env"], "env": []}, {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
        (
            {
                "env": [{"name": "C", "value": "3"}],
                "$setElementOrder/env": [{"name": "C"}, {"name": "B"}, {"name": "A"}],
            },
            ["C", "B", "A"],
        ),
        ({"env": [{"$patch": "replace"}, {"name": "Z"}]}, ["Z"]),
        ({"env": [{"name": "A", "$patch": "delete"}]}, ["B"]),
        ({"finalizers": ["y"]}, {"finalizers": ["x", "y"]}),
        ({"$deleteFromPrimitiveList/finalizers": ["x"]}, {"finalizers": []}),
    ],
)
def test_directives_of_strategic_patches(patch: Raw, made: Any):
    old: Raw = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "finalizers": ["x"]}
    done = strategic(old, patch)
    if isinstance(made, list):
        assert [item["name"] for item in done["env"]] == made
    elif "env" in made:
        assert done == made
    else:
        assert done | made == done


def test_a_strategic_patch_needs_the_key_of_an_item():
    with pytest.raises(Refused, match="does not contain declared merge key: name"):
        strategic({"env": []}, {"env": [{"value": "1"}]})


def test_owned_fields_leave_out_what_belongs_to_the_server():
    raw: Raw = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "uid": "u", "labels": {"a": "1"}, "finalizers": ["x"]},
        "spec": {"containers": [{"name": "c", "args": ["-a"]}]},
    }
    assert {path for path, _ in leaves(raw)} == {
        ("f:metadata", "f:labels", "."),
        ("f:metadata", "f:labels", "f:a"),
        ("f:metadata", "f:finalizers", "."),
        ("f:metadata", "f:finalizers", 'v:"x"'),
        ("f:spec", "f:containers", 'k:{"name":"c"}', "."),
        ("f:spec", "f:containers", 'k:{"name":"c"}', "f:name"),
        ("f:spec", "f:containers", 'k:{"name":"c"}', "f:args"),
    }


def test_several_conflicts_are_listed_by_manager():
    live: Raw = {
        "metadata": {
            "managedFields": [
                {
                    "manager": "helm",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "time": "t",
                    "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}},
                },
                {
                    "manager": "argo",
                    "operation": "Apply",
                    "apiVersion": "v1",
                    "time": "t",
                    "fieldsV1": {"f:data": {"f:c": {}}},
                },
            ]
        },
        "data": {"a": "1", "b": "1", "c": "1"},
    }
    config: Raw = {"apiVersion": "v1", "data": {"a": "2", "b": "2", "c": "2"}}
    with pytest.raises(Refused) as refused:
        applied(live, config, "me", "now", force=False)
    assert refused.value.message == (
        'Apply failed with 3 conflicts: conflicts with "argo":\n- .data.c\nconflicts with "helm" using v1:\n- .data.a\n- .data.b'
    )
    forced = applied(live, config, "me", "now", force=True)
    assert forced["data"] == config["data"]
    (entry,) = forced["metadata"]["managedFields"]
    assert fields_of(entry) == {("f:data", "f:a"), ("f:data", "f:b"), ("f:data", "f:c")}


def test_paths_are_readable():
    path = ("f:spec", "f:ports", 'k:{"containerPort":8222,"protocol":"TCP"}', "f:name")
    assert readable(path) == '.spec.ports[containerPort=8222,protocol="TCP"].name'
    assert readable(("f:metadata", "f:finalizers", 'v:"x"')) == '.metadata.finalizers[="x"]'


def _pod(name: str, *, ready: bool) -> Raw:
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": name}, "status": {"phase": "Running", "conditions": [condition]}}


@pytest.mark.parametrize(
    ("spec", "healthy", "allowed", "desired"),
    [
        ({"maxUnavailable": 1}, 3, 1, 2),
        ({"maxUnavailable": 1}, 2, 0, 2),
        ({"maxUnavailable": 1}, 1, 0, 2),
        ({"minAvailable": 2}, 3, 1, 2),
        ({"minAvailable": "50%"}, 3, 1, 2),
        ({"maxUnavailable": "34%"}, 3, 2, 1),
        ({"maxUnavailable": 0}, 3, 0, 3),
        ({"maxUnavailable": 5}, 3, 3, 0),
    ],
)
def test_budgets(spec: Raw, healthy: int, allowed: int, desired: int):
    pods = [_pod(f"p{i}", ready=i < healthy) for i in range(3)]
    status = budget_status({"metadata": {"generation": 4}, "spec": spec, "status": {}}, pods)
    assert (status["disruptionsAllowed"], status["desiredHealthy"], status["currentHealthy"]) == (
        allowed,
        desired,
        healthy,
    )
    assert (status["expectedPods"], status["observedGeneration"]) == (3, 4)


def test_an_evicted_pod_counts_as_gone_until_it_goes():
    pods = [_pod(f"p{i}", ready=True) for i in range(3)]
    budget: Raw = {
        "metadata": {"generation": 1},
        "spec": {"maxUnavailable": 1},
        "status": {"disruptedPods": {"p0": "t", "old": "t"}},
    }
    status = budget_status(budget, pods)
    assert (status["currentHealthy"], status["disruptionsAllowed"], status["disruptedPods"]) == (2, 0, {"p0": "t"})


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}, "Burstable"),
        ({"limits": {"memory": "1Gi"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: Raw, expected: str):
    assert quality({"containers": [{"resources": resources}]}) == expected


def test_arguments_are_expanded_where_the_variable_is_known():
    assert expanded("$(A)-$(B)-$$(A)", {"A": "1"}) == "1-$(B)-$(A)"


def test_addresses_are_given_once_and_again_after_they_came_back():
    addresses = Addresses()
    addresses.open()
    try:
        first, second = addresses.give(), addresses.give()
        assert first != second
        assert first.startswith("127.")
        addresses.take_back(first)
        assert addresses.give() not in (first, second), "the next one first, as on a real node"
        others = Addresses()
        others.open()
        assert others.prefix != addresses.prefix
        others.close()
    finally:
        addresses.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/namespaces/nats", ("namespaces", "", "nats", "")),
        ("/api/v1/namespaces/nats/status", ("namespaces", "", "nats", "status")),
        ("/api/v1/namespaces/nats/pods", ("pods", "nats", "", "")),
        ("/api/v1/namespaces/nats/pods/p/log", ("pods", "nats", "p", "log")),
        ("/apis/apps/v1/statefulsets", ("statefulsets", "", "", "")),
        ("/apis/apps/v1/namespaces/nats/statefulsets/s/scale", ("statefulsets", "nats", "s", "scale")),
    ],
)
def test_addresses_of_objects(path: str, expected: tuple[str, str, str, str]):
    target = target_of(path)
    assert target is not None
    assert (target.kind.plural, target.namespace, target.name, target.subresource) == expected


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version"])
def test_addresses_that_are_no_objects(path: str):
    assert target_of(path) is None


def test_discovery_lists_every_version():
    policy = discovery("/apis/policy")
    assert policy is not None
    assert [version["version"] for version in policy["versions"]] == ["v1", "v1beta1"]
    assert discovery("/apis/jetstream.nats.io/v1beta2") is None


def test_a_fault_is_used_up_by_what_it_hits():
    faults = Faults()
    faults.add(FaultKind.CONFLICT, "write", "statefulsets/nats$", count=2)
    assert faults.take("GET", "/x/statefulsets/nats") is None
    assert faults.take("PATCH", "/x/statefulsets/nats/scale") is None
    hits = [faults.take(method, "/x/statefulsets/nats") is not None for method in ("PATCH", "DELETE", "PUT")]
    assert hits == [True, True, False]
    faults.add(FaultKind.CUT)
    faults.clear()
    assert faults.take("GET", "/") is None
