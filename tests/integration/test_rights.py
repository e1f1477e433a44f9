"""The roles of deploy/ against what natsmedic was seen to ask for in recorded runs (tests/rights.py): nothing is missing, and nothing is granted in vain."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import pytest
import yaml

from bot.action import Receipt
from bot.actions.kubernetes_budget import BudgetParams, DisruptionBudget
from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader, KubernetesApiWriter
from bot.adapters.kubernetes.writer import ALLOWED
from bot.errors import WriteDenied
from bot.lab.kubernetes import StandInKubernetes
from bot.model import OperationId
from bot.model.kubernetes import Change, Kind, patch
from bot.ports import Readers, Writers
from bot.settings.clusters import KubernetesSettings
from tests.integration.kubernetes_support import APPLIER_FILE, DEPLOY, READER_FILE, Raw
from tests.rights import Right, recorded

CHART: Final = DEPLOY / "manifests" / "natsmedic-approve.yaml"
OBSERVING: Final = DEPLOY / "manifests" / "natsmedic.yaml"
PLACES: Final = {"roles beside the chart": (READER_FILE, APPLIER_FILE), "chart": (CHART,)}
READER, APPLIER = "natsmedic-reader", "natsmedic-applier"
OF_RIGHTS: Final = frozenset({"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
READS: Final = frozenset({"get", "list"})
IN_THE_CHART: Final = {"data-nats-#": "nats-js-nats-#"}
"""What is called otherwise in the laboratory than in the chart's default values: the claims, by their template."""
IN_VAIN: Final = frozenset[Right]()
"""Rights that no run uses, each with its reason beside it. What is used, or is not granted, may not be among them."""


def granted(account: str, *files: Path) -> frozenset[Right]:
    """Return what these files allow a ServiceAccount; a right on every name has the name `any`."""
    objects: list[Raw] = [raw for file in files for raw in yaml.safe_load_all(file.read_text(encoding="utf-8")) if raw]
    roles = {(raw["kind"], raw["metadata"]["name"]): raw["rules"] for raw in objects if raw["kind"].endswith("Role")}
    found: set[Right] = set()
    for binding in objects:
        if account not in {subject["name"] for subject in binding.get("subjects", ())}:
            continue
        for rule in roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]:
            names = [re.sub(r"-\d+$", "-#", name) for name in rule.get("resourceNames") or ("any",)]
            found |= {
                Right(verb, group, resource, name)
                for verb in rule["verbs"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in names
            }
    return frozenset(found)


def covers(rule: Right, asked: Right) -> bool:
    return rule[:3] == asked[:3] and rule.name in {"any", IN_THE_CHART.get(asked.name, asked.name)}


def of(account: str) -> frozenset[Right]:
    """Return what was asked in the name of this account: whoever reads never writes, and whoever writes never reads."""
    return frozenset(right for right in recorded() if (right.verb in READS) == (account == READER))


@pytest.fixture(params=PLACES)
def files(request: pytest.FixtureRequest) -> tuple[Path, ...]:
    return PLACES[request.param]


@pytest.mark.parametrize("account", [READER, APPLIER])
def test_whatever_a_recorded_run_asked_for_is_granted(account: str, files: tuple[Path, ...]) -> None:
    rules = granted(account, *files)
    assert not {str(asked) for asked in of(account) if not any(covers(rule, asked) for rule in rules)}


@pytest.mark.parametrize("account", [READER, APPLIER])
def test_nothing_is_granted_that_no_recorded_run_asked_for(account: str, files: tuple[Path, ...]) -> None:
    rules = granted(account, *files)
    unused = {rule for rule in rules if not any(covers(rule, asked) for asked in of(account))}
    assert {str(rule) for rule in unused} == {str(rule) for rule in IN_VAIN if rule in rules}


def test_who_only_observes_is_granted_what_the_reader_is_and_nothing_else() -> None:
    assert granted(READER, OBSERVING) == granted(READER, CHART)
    assert granted(APPLIER, OBSERVING) == frozenset()


def test_every_write_that_the_bot_can_send_at_all_was_sent_in_a_recorded_run() -> None:
    sent = {(right.verb, right.resource) for right in of(APPLIER)}
    assert sent == {(str(verb), str(kind)) for verb, kind in ALLOWED}


class Looks:
    """The one question that the action asks."""

    def __init__(self, reader: KubernetesApiReader) -> None:
        self.kubernetes_object = reader.object


class Writes:
    def __init__(self, writer: KubernetesApiWriter) -> None:
        self.write_object = writer.write


async def test_a_budget_that_is_there_is_set_right_with_no_more_than_the_charts_roles(tmp_path: Path) -> None:
    async with StandInKubernetes(tmp_path / "kube", namespace="nats", nodes=1) as kube:
        shipped = [raw for raw in yaml.safe_load_all(CHART.read_text(encoding="utf-8")) if raw]
        kube.apply(raw for raw in shipped if raw["kind"] in OF_RIGHTS)
        meta = {"name": "nats", "namespace": "nats"}
        spec: Raw = {"minAvailable": 3, "selector": {"matchLabels": {"app": "nats"}}}
        (made,) = kube.apply(
            [{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec}]
        )
        reader, applier = (
            KubernetesSettings(
                kubeconfig=kube.kubeconfig(tmp_path / name, kube.account_token(name, "natsmedic")),
                namespace="nats",
                statefulset="nats",
            )
            for name in (READER, APPLIER)
        )
        readers = cast("Readers", Looks(KubernetesApiReader(reader, SystemClock())))
        writers = cast("Writers", Writes(KubernetesApiWriter(applier)))
        params = BudgetParams(
            workload="nats",
            workload_uid="",
            selector=spec["selector"],
            name="nats",
            api="policy/v1",
            uid=made["metadata"]["uid"],
            former={"minAvailable": 3},
        )
        action, operation = DisruptionBudget(), OperationId("op_1")
        await action.apply(readers, writers, params, operation)
        assert await action.receipt(readers, params, operation) is Receipt.APPLIED
        assert limits(kube) == {"maxUnavailable": 1}
        await action.rollback(readers, writers, params, operation)
        assert limits(kube) == {"minAvailable": 3}
        with pytest.raises(WriteDenied, match="may not patch"):
            await Writes(KubernetesApiWriter(reader)).write_object(budget_change(kube))


def limits(kube: StandInKubernetes) -> Raw:
    found = kube.get("PodDisruptionBudget", "nats", api_version="policy/v1")
    assert found is not None
    return {key: value for key, value in found["spec"].items() if key != "selector"}


def budget_change(kube: StandInKubernetes) -> Change:
    found = kube.get("PodDisruptionBudget", "nats", api_version="policy/v1")
    assert found is not None
    return patch(Kind.BUDGET, found, found | {"spec": found["spec"] | {"minAvailable": 1}})


MUTATIONS: Final[dict[str, Callable[[frozenset[Right]], frozenset[Right]]]] = {
    "a rule too few": lambda rules: rules - {Right("patch", "apps", "statefulsets", "nats")},
    "a name that is not the object's": lambda rules: (
        rules - {Right("patch", "apps", "statefulsets", "nats")} | {Right("patch", "apps", "statefulsets", "other")}
    ),
}


@pytest.mark.parametrize("wrong", MUTATIONS.values(), ids=MUTATIONS)
def test_a_role_that_falls_short_would_be_found(wrong: Callable[[frozenset[Right]], frozenset[Right]]) -> None:
    rules = wrong(granted(APPLIER, CHART))
    missing = {str(asked) for asked in of(APPLIER) if not any(covers(rule, asked) for rule in rules)}
    assert missing == {"patch apps statefulsets nats"}
