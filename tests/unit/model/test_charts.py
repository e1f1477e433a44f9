"""Values of charts: each wish at its place, and no guess where a chart has none."""

from typing import Any

import pytest

from bot.model.kubernetes import Workload
from bot.model.kubernetes.charts import (
    BudgetWish,
    Chart,
    ImageWish,
    ProbeWish,
    ReplicasWish,
    ResourcesWish,
    RoutesWish,
    SpreadWish,
    Wish,
    chart_of_workload,
    chart_version,
    values_of,
)
from bot.model.probes import ProbeKind
from tests.unit.model.test_kubernetes_workload import Raw, facts, only, stateful_set

PROBE = {"httpGet": {"path": "/healthz?js-enabled-only=true", "port": "monitor"}}
SELECTOR = {"matchLabels": {"app": "nats"}}


def workload(chart: str = "", image: str = "nats:2.10.26") -> Workload:
    made: Raw = stateful_set(container={"name": "nats", "image": image})
    made["metadata"]["labels"] = {"helm.sh/chart": chart} if chart else {}
    return only(facts(stateful_set=[made]))


@pytest.mark.parametrize(
    ("chart", "image", "expected", "version"),
    [
        ("nats-1.2.6", "nats:2.10.26", Chart.OFFICIAL, (1, 2, 6)),
        ("nats-2.14.2", "nats:2.14.2", Chart.OFFICIAL, (2, 14, 2)),
        ("nats-0.19.17", "nats:2.9.20", Chart.OFFICIAL_0, (0, 19, 17)),
        ("nats-8.5.3", "docker.io/bitnami/nats:2.10.22", Chart.BITNAMI, (8, 5, 3)),
        ("nats-9.0.29", "registry.example.com/nats:2.11.8", Chart.BITNAMI, (9, 0, 29)),
        ("", "docker.io/bitnamilegacy/nats:2.10.22", Chart.BITNAMI, None),
        ("", "nats:2.10.26", None, None),
        ("queues-3.0.0", "nats:2.10.26", None, None),
    ],
)
def test_a_chart_is_told_by_its_label_and_its_image(
    chart: str, image: str, expected: Chart | None, version: tuple[int, int, int] | None
):
    found = workload(chart, image)
    assert (chart_of_workload(found), chart_version(found)) == (expected, version)


RESOURCES = ResourcesWish({"cpu": "2", "memory": "8Gi"}, {"memory": "8Gi"}, "7GiB")
WISHES: list[tuple[Wish, Any, Any, Any]] = [
    (
        ProbeWish(ProbeKind.READINESS, PROBE),
        {"container": {"merge": {"readinessProbe": PROBE}}},
        None,
        {"customReadinessProbe": PROBE},
    ),
    (
        RESOURCES,
        {
            "container": {
                "merge": {"resources": {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "8Gi"}}},
                "env": {"GOMEMLIMIT": "7GiB"},
            }
        },
        None,
        {
            "resources": {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "8Gi"}},
            "extraEnvVars": [{"name": "GOMEMLIMIT", "value": "7GiB"}],
        },
    ),
    (
        ResourcesWish({"cpu": "2"}, {}),
        {"container": {"merge": {"resources": {"requests": {"cpu": "2"}}}}},
        {"nats": {"resources": {"requests": {"cpu": "2"}}}},
        {"resources": {"requests": {"cpu": "2"}}},
    ),
    (ImageWish("2.11.11"), {"container": {"image": {"tag": "2.11.11"}}}, None, {"image": {"tag": "2.11.11"}}),
    (
        SpreadWish(),
        {
            "podTemplate": {
                "topologySpreadConstraints": {
                    "kubernetes.io/hostname": {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
                }
            }
        },
        {
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
            ]
        },
        {
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": SELECTOR,
                }
            ]
        },
    ),
    (
        BudgetWish(),
        {"podDisruptionBudget": {"enabled": True, "merge": {"spec": {"maxUnavailable": 1}}}},
        None,
        {"pdb": {"create": True, "minAvailable": "", "maxUnavailable": 1}},
    ),
    (
        ReplicasWish(5),
        {"config": {"cluster": {"enabled": True, "replicas": 5}}},
        {"cluster": {"enabled": True, "replicas": 5}},
        {"replicaCount": 5},
    ),
    (
        RoutesWish(("nats://nats-0.nats-headless:6222",)),
        {"config": {"cluster": {"merge": {"routes": ["nats://nats-0.nats-headless:6222"]}}}},
        None,
        None,
    ),
]


@pytest.mark.parametrize(("wish", "official", "official_0", "bitnami"), WISHES)
def test_each_wish_stands_where_its_chart_reads_it(wish: Wish, official: Any, official_0: Any, bitnami: Any):
    assert values_of(workload("nats-1.2.6"), wish) == official
    assert values_of(workload("nats-0.19.17"), wish) == official_0
    assert values_of(workload("nats-9.0.29"), wish) == bitnami
    assert values_of(workload(), wish) is None
