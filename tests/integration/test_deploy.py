"""What `deploy/` ships for Kubernetes: the chart, what it renders to, and that both say the same as the roles beside them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.settings import Mode, Settings, load
from tests.integration.kubernetes_support import APPLIER_FILE, DEPLOY, READER_FILE

Raw = dict[str, Any]

HASHED = DEPLOY / "constraints.hashed.txt"
CHART = DEPLOY / "helm" / "natsmedic"
OBSERVE, APPROVE = DEPLOY / "manifests" / "natsmedic.yaml", DEPLOY / "manifests" / "natsmedic-approve.yaml"
VALUES = {OBSERVE: (), APPROVE: ("--values", str(CHART / "ci" / "approve-values.yaml"))}
KUBERNETES = "1.30.0"
HELM = os.environ.get("HELM") or shutil.which("helm")
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def objects(file: Path) -> list[Raw]:
    return [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]


def one(file: Path, kind: str, name: str = "natsmedic") -> Raw:
    return next(raw for raw in objects(file) if (raw["kind"], raw["metadata"]["name"]) == (kind, name))


def rules(raw: Raw) -> set[tuple[str, str, str]]:
    """Group, resource and verb of everything that a role allows, whatever names it holds to."""
    return {
        (group, resource, verb)
        for rule in raw["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    if HELM is None:
        pytest.skip("helm is not installed, and HELM does not name it")
    command = [HELM, "template", "natsmedic", str(CHART), "--namespace", "natsmedic", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("file", [OBSERVE, APPROVE], ids=["observe", "approve"])
def test_the_manifests_are_what_the_chart_renders_to(file: Path) -> None:
    rendered = helm("--kube-version", KUBERNETES, *VALUES[file])
    assert rendered.returncode == 0, rendered.stderr
    assert file.read_text(encoding="utf-8") == rendered.stdout, f"{file.name} is not up to date: render it anew"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "applier.enabled=true"), "Set settings.mode: approve, or applier.enabled: false."),
        (("--kube-version", "1.29.0", *VALUES[APPROVE]), "Set applier.admissionPolicy: false"),
        (("--set", "image.digest=latest"), "image.digest"),
        (("--set", "settings.mode=watch"), "mode"),
        (("--set", "replicas=2"), "Set replicas: 1, or use PostgreSQL."),
        (("--set", "replicas=0"), "replicas"),
        (("--set", "targets[0].budget=null"), "budget"),
    ],
)
def test_values_that_go_wrong_are_refused_with_their_name(arguments: tuple[str, ...], said: str) -> None:
    ended = helm("--kube-version", KUBERNETES, *arguments)
    assert ended.returncode != 0
    assert said in ended.stderr


@pytest.mark.parametrize("file", [OBSERVE, APPROVE], ids=["observe", "approve"])
def test_the_pod_is_restricted_and_writes_nowhere_but_on_its_volumes(file: Path) -> None:
    pod = one(file, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == RESTRICTED
    assert {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")} == {"/data", "/tmp"}
    assert "command" not in container
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    probes = [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("liveness", "readiness")]
    assert probes == ["/livez", "/readyz"]


@pytest.mark.parametrize("file", [OBSERVE, APPROVE], ids=["observe", "approve"])
def test_what_natsmedic_is_told_there_is_a_whole_configuration_that_ends_before_kubernetes_kills_it(
    file: Path, tmp_path: Path
) -> None:
    settings = _settings(file, tmp_path)
    pod = one(file, "Deployment")["spec"]["template"]["spec"]
    assert settings.shutdown.grace < pod["terminationGracePeriodSeconds"]
    assert settings.mode is (Mode.OBSERVE if file == OBSERVE else Mode.APPROVE)
    assert settings.webhooks.listen.endswith(":8080")


def _settings(file: Path, folder: Path) -> Settings:
    text = one(file, "ConfigMap")["data"]["natsmedic.yaml"]
    variables = re.findall(r"env: (\w+)", text)
    token = folder / "token"  # mounted there
    token.touch()
    text = text.replace("/var/run/natsmedic/applier/token", str(token))
    written = folder / "natsmedic.yaml"
    written.write_text(text, encoding="utf-8")
    return load(written, {name: f"{'xoxb' if 'BOT' in name else 'xapp'}-a-secret-of-some-length" for name in variables})


def test_by_default_nothing_that_could_change_anything_is_there() -> None:
    text = OBSERVE.read_text(encoding="utf-8")
    assert "applier" not in text
    verbs = {verb for raw in objects(OBSERVE) if raw["kind"].endswith("Role") for _, _, verb in rules(raw)}
    assert verbs == {"get", "list"}


@pytest.mark.parametrize(("account", "file"), [("reader", READER_FILE), ("applier", APPLIER_FILE)])
def test_the_charts_roles_allow_what_the_plain_ones_do_and_hold_every_change_to_names(account: str, file: Path) -> None:
    plain = next(raw for raw in objects(file) if raw["kind"] == "Role")
    made = one(APPROVE, "Role", f"natsmedic-{account}-nats")
    assert rules(made) == rules(plain)
    unnamed = {verb for rule in made["rules"] if not rule.get("resourceNames") for verb in rule["verbs"]}
    assert unnamed == ({"get", "list"} if account == "reader" else {"create"})


def test_the_address_of_another_database_may_come_from_a_secret_and_no_volume_is_claimed_for_it() -> None:
    made = helm("--kube-version", KUBERNETES, "--set-json", 'settings.database={"url": {"env": "URL"}}')
    assert made.returncode == 0, made.stderr
    kinds = [raw["kind"] for raw in yaml.safe_load_all(made.stdout) if raw]
    assert "Deployment" in kinds
    assert "PersistentVolumeClaim" not in kinds


def test_several_replicas_on_postgresql_are_spread_roll_one_by_one_and_keep_one_through_a_drain() -> None:
    url = ("--set-json", 'settings.database={"url": {"env": "URL"}}')
    made = helm("--kube-version", KUBERNETES, "--set", "replicas=3", *url)
    assert made.returncode == 0, made.stderr
    found = {raw["kind"]: raw["spec"] for raw in yaml.safe_load_all(made.stdout) if raw and "spec" in raw}
    assert found["Deployment"]["replicas"] == 3
    assert found["Deployment"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (spread,) = found["Deployment"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"] == found["Deployment"]["selector"]
    assert found["PodDisruptionBudget"]["maxUnavailable"] == 1


def test_no_role_reads_secrets_runs_commands_or_grants_rights() -> None:
    found = {rule for raw in objects(APPROVE) if raw["kind"].endswith("Role") for rule in rules(raw)}
    assert not [r for r in found if r[1] in {"secrets", "pods/exec", "roles", "rolebindings", "*"} or "*" in r]


def test_the_chart_holds_no_secret_and_refers_to_one_of_yours() -> None:
    secrets = [raw for raw in objects(APPROVE) if raw["kind"] == "Secret"]
    assert [raw["type"] for raw in secrets] == ["kubernetes.io/service-account-token"]
    assert not [raw for raw in secrets if raw.get("data") or raw.get("stringData")]
    (container,) = one(APPROVE, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "natsmedic"}}]


def test_what_is_not_named_is_denied_in_both_directions() -> None:
    policy = one(OBSERVE, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": 8080}, {"port": 9464}]]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443, 4222, 6443, 8222}


def test_the_api_server_itself_checks_what_the_applier_changes() -> None:
    policies = [raw for raw in objects(APPROVE) if raw["kind"] == "ValidatingAdmissionPolicy"]
    kinds = {
        resource
        for p in policies
        for r in p["spec"]["matchConstraints"]["resourceRules"]
        for resource in r["resources"]
    }
    assert kinds == {"statefulsets", "configmaps"}
    assert {p["spec"]["failurePolicy"] for p in policies} == {"Fail"}
    bound = [raw["spec"]["policyName"] for raw in objects(APPROVE) if raw["kind"].endswith("PolicyBinding")]
    assert sorted(bound) == sorted(p["metadata"]["name"] for p in policies)
    assert "natsmedic:natsmedic-applier" in json.dumps(policies)


def test_an_image_is_made_of_the_versions_that_were_tested_each_file_by_its_hash() -> None:
    tested = _pins((DEPLOY.parent / "constraints.txt").read_text(encoding="utf-8"))
    text = HASHED.read_text(encoding="utf-8")
    made = _pins(text)
    assert made.items() <= tested.items()
    assert {"slack-bolt", "nats-py", "kubernetes", "httpx", "sqlmodel", "psycopg", "opentelemetry-sdk"} <= made.keys()
    assert text.count("--hash=sha256:") >= len(made)
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z0-9])", text)[1:])
    assert "://" not in text, "no registry's address belongs there"


def _pins(text: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}
