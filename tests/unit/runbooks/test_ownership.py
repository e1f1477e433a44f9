"""Under an owner the change in its source comes first, as a file; the direct one is marked with what takes it back."""

from typing import Any

import pytest
import yaml

from bot.action import Draft
from bot.model.kubernetes import Workload
from bot.model.kubernetes.charts import ImageWish, LimitWish, ProbeWish, ResourcesWish, RoutesWish, Wish
from bot.model.probes import ProbeKind
from runbooks._ownership import owned
from tests.unit.model.test_kubernetes_workload import facts, only, stateful_set

DIRECT = Draft(
    title="Change the readiness probe of nats",
    why="It takes pods out of the Service while they catch up.",
    stages=(("kubernetes.probe", {"name": "nats"}),),
    cautions=("All pods are replaced, one after another.",),
)
WISH = ProbeWish(ProbeKind.READINESS, {"httpGet": {"path": "/healthz?js-enabled-only=true", "port": 8222}})
HELM = {"meta.helm.sh/release-name": "nats; rm -rf ~", "meta.helm.sh/release-namespace": "queues"}


def workload(
    annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None, **metadata: Any
) -> Workload:
    made = stateful_set(container={"name": "nats", "image": "nats:2.10.26"})
    made["metadata"] |= {"annotations": annotations or {}, "labels": labels or {}, **metadata}
    return only(facts(stateful_set=[made]))


def test_without_an_owner_there_is_the_direct_change_alone():
    assert owned(workload(), WISH, DIRECT) == (DIRECT,)


def test_under_helm_the_values_come_first_and_the_direct_change_says_what_takes_it_back():
    source, direct = owned(workload(HELM, {"helm.sh/chart": "nats-1.2.6"}), WISH, DIRECT)
    assert source.stages == ()
    assert "in its source: Helm release" in source.title
    (patch,) = source.patches
    assert patch.name == "nats-values.yaml"
    assert yaml.safe_load(patch.text) == {"container": {"merge": {"readinessProbe": WISH.probe}}}
    upgrade = source.guidance[2]
    assert upgrade.startswith(
        "helm upgrade 'nats; rm -rf ~' nats/nats --version 1.2.6 -n queues --reuse-values -f nats-values.yaml"
    )
    assert direct.stages == DIRECT.stages
    assert direct.title == f"{DIRECT.title}, directly: it holds until Helm's next upgrade"
    assert "at the next `helm upgrade`" in direct.cautions[0]
    assert direct.cautions[-1] == DIRECT.cautions[-1]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("max_connections",), {"config": {"merge": {"max_connections": 7}}}),
        (("mqtt", "max_ack_pending"), {"config": {"mqtt": {"merge": {"max_ack_pending": 7}}}}),
        (
            ("jetstream", "limits", "default_max_consumers"),
            {"config": {"jetstream": {"merge": {"limits": {"default_max_consumers": 7}}}}},
        ),
    ],
)
def test_a_limit_stands_in_the_merge_of_its_block_in_the_official_charts_values(path: tuple[str, ...], values: object):
    source, _ = owned(workload(HELM, {"helm.sh/chart": "nats-1.2.6"}), LimitWish(path, 7), DIRECT)
    assert yaml.safe_load(source.patches[0].text) == values
    bitnami, _ = owned(workload(HELM, {"helm.sh/chart": "nats-9.0.29"}), LimitWish(path, 7), DIRECT)
    assert bitnami.patches == ()


ARGO = {"argocd.argoproj.io/tracking-id": "queues:apps/StatefulSet:queues/nats"}


@pytest.mark.parametrize(
    ("annotations", "labels", "metadata", "until", "said"),
    [
        (ARGO, {}, {}, "Argo CD's next sync", "selfHeal"),
        ({}, {"helm.toolkit.fluxcd.io/name": "nats"}, {}, "Flux's next look", "driftDetection"),
        ({}, {"kustomize.toolkit.fluxcd.io/name": "apps"}, {}, "Flux's next look", "at every interval"),
        (
            {},
            {},
            {"ownerReferences": [{"kind": "NatsCluster", "name": "nats", "uid": "u", "controller": True}]},
            "the operator's next look",
            "may be at once",
        ),
    ],
)
def test_every_owner_is_named_with_what_it_does(
    annotations: dict[str, str], labels: dict[str, str], metadata: dict[str, Any], until: str, said: str
):
    source, direct = owned(workload(annotations, labels, **metadata), WISH, DIRECT)
    assert direct.title.endswith(f"it holds until {until}")
    assert said in direct.cautions[0]
    assert source.stages == ()
    assert source.patches == ()
    assert "which file that is natsmedic can't tell" in source.guidance[0]


def test_the_outermost_owner_decides_and_all_are_named():
    labels = {"helm.sh/chart": "nats-1.2.6", "helm.toolkit.fluxcd.io/name": "nats"}
    source, direct = owned(workload(HELM, labels), WISH, DIRECT)
    assert "spec.values" in source.guidance[1]
    assert [caution.partition(" keeps")[0] for caution in direct.cautions[:2]] == [
        "Flux HelmRelease nats",
        "Helm release nats; rm -rf ~ in namespace queues",
    ]


@pytest.mark.parametrize(
    ("chart", "wish", "said"),
    [
        ("nats-8.5.3", RoutesWish(("nats://nats-0.nats:6222",)), "one route per pod from 8.5.4 on; this is nats-8.5.3"),
        ("nats-8.5.4", RoutesWish(("nats://nats-0.nats:6222",)), "look for an override"),
        ("nats-0.19.17", WISH, "upgrade it to 1.x"),
        ("nats-0.19.17", ImageWish("2.10.26"), "natsmedic can't tell"),
        ("nats-1.2.6", RoutesWish(("nats://nats-0.nats:6222",)), "taking that out does it, too"),
        ("nats-9.0.29", ResourcesWish({}, {"memory": "8Gi"}, "7GiB"), "Helm replaces lists"),
    ],
)
def test_what_a_chart_has_no_value_for_is_said_and_what_people_trip_over_too(chart: str, wish: Wish, said: str):
    source, _ = owned(workload(HELM, {"helm.sh/chart": chart}), wish, DIRECT)
    assert said in " ".join(source.guidance)
