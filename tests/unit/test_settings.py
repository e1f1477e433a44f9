"""The settings file: what is accepted, what is refused, and what a mistake says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.errors import SettingsError
from bot.model import RiskClass
from bot.settings import Mode, Settings, Transport, json_schema, load
from tests.exhaustive import examples

Tree = dict[str, Any]
Change = Callable[[Tree], object]


def good() -> Tree:
    """The smallest file that may approve."""
    return {
        "clusters": [
            {
                "name": "prod",
                "channel": "C0PROD",
                "nats": {
                    "servers": ["nats://nats-0.nats:4222"],
                    "system": {"user": "sysreader", "password": "s-canary"},
                    "accounts": {"APP": {"reader": {"user": "reader", "password": "r-canary"}}},
                },
            }
        ],
        "mode": "approve",
        "slack": {"bot_token": "xoxb-canary", "app_token": "xapp-canary", "workspaces": ["T0HOME"]},
        "policy": {
            "groups": {"oncall": {"users": ["U1", "U2"]}, "owners": {"usergroups": ["S1"]}},
            "approvers": {"low": ["oncall"], "medium": ["oncall"], "destructive": ["oncall", "owners"]},
        },
        "webhooks": {"sources": {"alertmanager": {"bearer": "w-canary"}}},
    }


MAPPING: Tree = {"name": "a", "fingerprint": "b", "state": "c", "started_at": "d"}


def source(tree: Tree, **other: object) -> None:
    """Add a second webhook source."""
    tree["webhooks"]["sources"]["other"] = other


def kubernetes(tree: Tree, **given: object) -> None:
    """Give the cluster a Kubernetes side."""
    tree["clusters"][0]["kubernetes"] = {"namespace": "queues", **given}


def read(folder: Path, tree: Tree | str, environ: dict[str, str] | None = None) -> Settings:
    path = folder / "natsmedic.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree), encoding="utf-8")
    return load(path, environ or {})


def refusal(folder: Path, tree: Tree | str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read(folder, tree, environ)
    return str(caught.value)


def test_defaults_are_the_careful_ones(tmp_path: Path) -> None:
    found = read(tmp_path, {"clusters": good()["clusters"]})
    assert found.mode is Mode.OBSERVE
    assert found.database.url == f"sqlite:///{tmp_path}/natsmedic.db"
    assert found.webhooks.listen == "127.0.0.1:8080"
    assert found.webhooks.max_body_bytes == 5 * 1024 * 1024
    assert found.policy.expiry_seconds == {RiskClass.LOW: 900, RiskClass.MEDIUM: 900, RiskClass.DESTRUCTIVE: 600}
    assert found.policy.approvers == {}
    assert found.clusters[0].match == {"cluster": "prod"}
    assert found.clusters[0].nats.timeout_seconds == 5.0


def test_one_expiry_keeps_the_other_defaults(tmp_path: Path) -> None:
    tree = good()
    tree["policy"]["expiry_seconds"] = {"low": 60}
    assert read(tmp_path, tree).policy.expiry_seconds == {
        RiskClass.LOW: 60,
        RiskClass.MEDIUM: 900,
        RiskClass.DESTRUCTIVE: 600,
    }


def test_no_secret_shows_when_settings_are_printed(tmp_path: Path) -> None:
    tree = good()
    tree["database"] = {"url": "postgresql://bot:d-canary@db/natsmedic"}
    found = read(tmp_path, tree)
    assert "canary" not in repr(found) + str(found)
    assert found.database.shown == "postgresql://db/natsmedic"
    assert found.database.url == "postgresql://bot:d-canary@db/natsmedic"
    tree["database"] = {"url": "postgres://bot:d-canary@db/natsmedic"}
    assert read(tmp_path, tree).database.url == found.database.url, "libpq's other word for the same"


def test_a_secret_comes_from_a_file_beside_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("xoxb-file\n", encoding="utf-8")
    tree = good()
    del tree["slack"]["bot_token"]
    tree["slack"]["bot_token_file"] = "token"
    found = read(tmp_path, tree)
    assert found.slack is not None
    assert found.slack.bot_token.get_secret_value() == "xoxb-file"


def test_a_secret_comes_from_the_environment(tmp_path: Path) -> None:
    tree = good()
    tree["slack"]["bot_token"] = {"env": "BOT_TOKEN"}
    found = read(tmp_path, tree, {"BOT_TOKEN": "xoxb-env"})
    assert found.slack is not None
    assert found.slack.bot_token.get_secret_value() == "xoxb-env"


def test_any_single_value_can_be_overridden_by_the_environment(tmp_path: Path) -> None:
    environ = {
        "NATSMEDIC_MODE": "observe",
        "NATSMEDIC_CLUSTERS__0__CHANNEL": "C0OTHER",
        "NATSMEDIC_CLUSTERS__0__NATS__TIMEOUT_SECONDS": "2.5",
        "NATSMEDIC_SLACK__BOT_TOKEN": "xoxb-env",
    }
    found = read(tmp_path, good(), environ)
    assert (found.mode, found.clusters[0].channel, found.clusters[0].nats.timeout_seconds) == (
        Mode.OBSERVE,
        "C0OTHER",
        2.5,
    )
    assert found.slack is not None
    assert found.slack.bot_token.get_secret_value() == "xoxb-env"


def test_variables_that_kubernetes_invents_for_a_service_are_ignored(tmp_path: Path) -> None:
    read(tmp_path, good(), {"NATSMEDIC_SERVICE_HOST": "10.0.0.1", "NATSMEDIC_PORT_8080_TCP_ADDR": "10.0.0.1"})


def test_an_override_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    assert "databse: is an unknown key" in refusal(tmp_path, good(), {"NATSMEDIC_DATABSE__URL": "sqlite:///x"})
    assert "NATSMEDIC_CLUSTERS__7__NAME" in refusal(tmp_path, good(), {"NATSMEDIC_CLUSTERS__7__NAME": "x"})


def test_http_transport_is_derived_from_a_signing_secret_alone(tmp_path: Path) -> None:
    tree = good()
    tree["slack"] = {"bot_token": "xoxb-1", "signing_secret_file": "signing", "workspaces": ["T1"]}
    (tmp_path / "signing").write_text("s", encoding="utf-8")
    found = read(tmp_path, tree)
    assert found.slack is not None
    assert found.slack.transport is Transport.HTTP


def test_servers_may_be_left_out_where_every_login_is_a_context(tmp_path: Path) -> None:
    tree = good()
    tree["clusters"][0]["nats"] = {"accounts": {"APP": {"reader": {"context": "prod"}}}}
    read(tmp_path, tree)
    tree["clusters"][0]["nats"]["system"] = {"user": "sys", "password": "p"}
    assert "clusters[0].nats: has no servers" in refusal(tmp_path, tree)


def test_kubernetes_is_read_with_the_environments_kubeconfig_unless_told_otherwise(tmp_path: Path) -> None:
    tree = good()
    kubernetes(tree)
    found = read(tmp_path, tree).clusters[0].kubernetes
    assert found is not None
    assert (found.in_cluster, found.kubeconfig, found.server) == (False, None, None)
    assert (found.statefulset, found.selector) == (None, None)
    assert found.read_config_secret is False, "a Secret is read only where somebody says so"


def test_a_token_beside_the_config_file_is_a_way_into_kubernetes(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    tree = good()
    kubernetes(tree, server="https://api:6443", token_file="token", selector="app=nats,x/tier=y")
    found = read(tmp_path, tree).clusters[0].kubernetes
    assert found is not None
    assert (found.token_file, found.selector) == (tmp_path / "token", "app=nats,x/tier=y")


def test_the_inbox_prefix_is_private_to_the_user_unless_given(tmp_path: Path) -> None:
    tree = good()
    tree["clusters"][0]["nats"]["accounts"]["APP"]["writer"] = {"token": "t", "inbox_prefix": "_INBOX.w"}
    nats = read(tmp_path, tree).clusters[0].nats
    account = nats.accounts["APP"]
    assert account.writer is not None
    assert (account.reader.inbox, account.writer.inbox) == ("_INBOX_reader", "_INBOX.w")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.update(chanel=1), "chanel: is an unknown key"),
        (lambda t: t["slack"].update(bot_tokn="x"), "did you mean `bot_token`?"),
        (lambda t: t["slack"].update(bot_token_fil="x"), "did you mean `bot_token_file`?"),
        (lambda t: t["clusters"][0].pop("channel"), "clusters[0].channel: is missing"),
        (lambda t: t.update(clusters=[]), "clusters: is a list; expected at least one entry"),
        (lambda t: t["clusters"].append(t["clusters"][0]), "clusters: names prod more than once"),
        (lambda t: t["clusters"][0].update(channel="#ops"), "a Slack channel id such as C0123456789, not a name"),
        (lambda t: t["clusters"][0]["nats"].update(servers=["nats://u:p-canary@h:1"]), "carries a user or a password"),
        (lambda t: t["clusters"][0]["nats"].update(servers=["h:4222"]), "write scheme"),
        (lambda t: t["clusters"][0]["nats"]["system"].pop("password"), "has only one of user and password"),
        (lambda t: t["clusters"][0]["nats"]["system"].update(token="t"), "has user and token; expected exactly one of"),
        (lambda t: t["clusters"][0]["nats"].update(system={}), "has no login; expected exactly one of"),
        (lambda t: t["clusters"][0]["nats"].update(system={"creds_file": "no.creds"}), "which is no file"),
        (
            lambda t: t["clusters"][0]["nats"]["system"].update(user=5),
            "is the number 5; expected a text; put it in quotes",
        ),
        (lambda t: t.update(mode="aprove"), "mode: is 'aprove'; expected `observe` or `approve`"),
        (lambda t: t["slack"].pop("app_token"), "slack: has no app_token"),
        (lambda t: t["slack"].update(transport="http"), "slack: has no signing_secret"),
        (lambda t: t["slack"].update(api_url="http://slack.example/api/"), "slack.api_url: is not an https address"),
        (lambda t: t["slack"].update(workspaces=[]), "slack.workspaces is empty"),
        (lambda t: t.pop("slack"), "there is no `slack` section"),
        (lambda t: t["slack"].update(bot_token=""), "slack.bot_token: is empty; expected a secret"),
        (
            lambda t: t["slack"].update(bot_token={"env": "NOPE"}),
            "names the environment variable NOPE, which is not set",
        ),
        (lambda t: t["slack"].update(app_token_file="x"), "slack.app_token: has another form"),
        (lambda t: t["policy"]["groups"]["oncall"].update(users=["alice"]), "a Slack user id such as U0123456789"),
        (
            lambda t: t["policy"]["approvers"].update(low=["nobody"]),
            "has approvers.low with the unknown group 'nobody'",
        ),
        (lambda t: t["policy"]["approvers"].update(destructive=["oncall"]), "has approvers.destructive with one group"),
        (lambda t: t["policy"]["approvers"].update(destructive=["oncall", "oncall"]), "with the group 'oncall' twice"),
        (lambda t: t["policy"]["approvers"].update(read=["oncall"]), "has approvers.read"),
        (lambda t: t["policy"]["approvers"].pop("medium"), "policy.approvers.medium names nobody"),
        (lambda t: t["policy"]["approvers"].update(low=[]), "policy.approvers.low names nobody"),
        (lambda t: t["policy"]["groups"].update(owners={}), "group 'owners' of policy.approvers.destructive is empty"),
        (lambda t: t["policy"].update(persons={"a": ["U1"], "b": ["U1"]}), "the user U1 below two persons"),
        (lambda t: t["policy"].update(terminal={"adal": "ada"}), "has terminal with the unknown person 'ada'"),
        (lambda t: t["policy"].update(terminal={"a b": "ada"}), "a user of the operating system"),
        (lambda t: t["policy"].update(escalation={"low": ["nobody"]}), "has escalation.low with the unknown group"),
        (lambda t: t["policy"].update(escalation={"read": []}), "has escalation.read"),
        (lambda t: t["policy"].update(escalation={"low": ["oncall"]}), "'oncall', which approves already"),
        (
            lambda t: t["policy"].update(groups=t["policy"]["groups"] | {"g": {}}, escalation={"low": ["g", "g"]}),
            "'g', which is in it twice",
        ),
        (
            lambda t: t["policy"].update(clusters={"prod": {"escalation": {"low": ["oncall"]}}}),
            "has clusters.prod.escalation.low with the group 'oncall', which approves already",
        ),
        (lambda t: t["policy"].update(break_glass=["nobody"]), "has break_glass with the unknown group 'nobody'"),
        (
            lambda t: t["policy"].update(
                groups=t["policy"]["groups"] | {"g": {"usergroups": ["S1"]}}, break_glass=["g"]
            ),
            "whose people only Slack knows",
        ),
        (lambda t: t["policy"].update(expiry_seconds={"low": 0}), "policy.expiry_seconds.low: is the number 0"),
        (lambda t: t["webhooks"]["sources"].update(other={}), "webhooks.sources.other: has no secret"),
        (lambda t: t["webhooks"]["sources"].update(other={"bearer": "w-canary"}), "has the same secret"),
        (lambda t: t["webhooks"]["sources"].update({"a/b": {"bearer": "x"}}), "webhooks.sources.a/b: is 'a/b'"),
        (lambda t: source(t, kind="grafana"), "webhooks.sources.other: has no secret"),
        (lambda t: source(t, kind="grafana", bearer="x"), "a sender of kind grafana can prove; add hmac_secret"),
        (lambda t: source(t, kind="grafana", hmac_secret="x"), "without timestamp_header"),
        (lambda t: source(t, kind="grafana", timestamp_header="X-Time"), "has no secret"),
        (lambda t: source(t, kind="grafana", hmac_secret="x", timestamp_header="X Time"), "the name of an HTTP header"),
        (
            lambda t: source(t, kind="grafana", hmac_secret="x", timestamp_header="x-grafana-alerting-signature"),
            "has one header for signature and time",
        ),
        (lambda t: source(t, kind="pagerduty"), "add hmac_secret or hmac_secret_file"),
        (lambda t: source(t, kind="pagerduty", bearer="x"), "a sender of kind pagerduty can prove"),
        (
            lambda t: source(t, kind="pagerduty", hmac_secret="x", timestamp_header="X-Time"),
            "has timestamp_header, which kind pagerduty does not use here",
        ),
        (lambda t: source(t, hmac_secret="x"), "a sender of kind alertmanager can prove"),
        (lambda t: source(t, bearer="x", mapping=MAPPING), "has a mapping; expected one for kind generic"),
        (lambda t: source(t, kind="generic", bearer="x"), "has no mapping"),
        (lambda t: source(t, kind="generic", bearer="x", hmac_secret="y", mapping=MAPPING), "has two secrets"),
        (
            lambda t: source(t, kind="generic", hmac_secret="y", timestamp_header="X-Time", mapping=MAPPING),
            "has hmac_secret without signature_header",
        ),
        (
            lambda t: source(t, kind="generic", bearer="x", mapping=MAPPING | {"name": "a..b"}),
            "webhooks.sources.other.mapping.name: is 'a..b'; expected keys or list positions joined by dots",
        ),
        (
            lambda t: source(t, kind="generic", bearer="x", mapping={"name": "a", "fingerprint": "b", "state": "c"}),
            "webhooks.sources.other.mapping.started_at: is missing",
        ),
        (
            lambda t: source(t, kind="generic", bearer="x", mapping=MAPPING | {"firing": ["a"], "resolved": ["a"]}),
            "has 'a' below firing and resolved",
        ),
        (lambda t: source(t, kind="generic", bearer="x", mapping=MAPPING | {"firing": []}), "at least one entry"),
        (lambda t: source(t, kind="generic", bearer="x", mapping=MAPPING | {"firing": [1]}), "put it in quotes"),
        (lambda t: source(t, kind="opsgenie", bearer="x"), "webhooks.sources.other.kind: is 'opsgenie'"),
        (lambda t: source(t, bearer="x", previous="x"), "has the same secret as its previous one"),
        (lambda t: source(t, bearer="x", previous="w-canary"), "has the same secret in sources.alertmanager"),
        (lambda t: t["webhooks"].update(listen="127.0.0.1:99999"), "with a port up to 65535"),
        (lambda t: t.update(thresholds={"STUCK": {"seconds": float("nan")}}), "expected a finite number"),
        (lambda t: t.update(database={"url": "mysql://x"}), "database.url: starts with no known scheme"),
        (lambda t: kubernetes(t, namespace="Queues"), "a Kubernetes namespace (RFC 1123 label)"),
        (lambda t: kubernetes(t, in_cluster=True, context="x"), "has in_cluster and a kubeconfig or context"),
        (lambda t: kubernetes(t, server="https://a:6443"), "has only one of server and token_file"),
        (lambda t: kubernetes(t, server="http://a:6443"), "an address like https://host:6443"),
        (lambda t: kubernetes(t, server="https://u:p-canary@a"), "an address like https://host:6443"),
        (lambda t: kubernetes(t, token_file="none"), "which is no file"),
        (lambda t: kubernetes(t, statefulset="nats", selector="app=nats"), "has statefulset and selector"),
        (lambda t: kubernetes(t, selector="app in (x)"), "labels such as app.kubernetes.io/name=nats"),
        (lambda t: kubernetes(t, timeout_seconds=0), "timeout_seconds: is the number 0"),
    ],
)
def test_a_mistake_names_key_problem_and_way_out(tmp_path: Path, change: Change, expected: str) -> None:
    tree = good()
    change(tree)
    said = refusal(tmp_path, tree)
    assert expected in said
    assert "canary" not in said


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    tree = good()
    tree["mode"] = "aprove"
    tree["clusters"][0]["channel"] = "#ops"
    tree["policy"]["approvers"]["low"] = ["nobody"]
    tree["webhooks"]["sources"]["other"] = {}
    said = refusal(tmp_path, tree)
    assert "has 4 mistakes" in said
    assert [line.split(":")[0].strip() for line in said.splitlines()[1:]] == [
        "- clusters[0].channel",
        "- mode",
        "- policy",
        "- webhooks.sources.other",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mode: observe\nmode: approve\n", "mode: is written twice, in lines 1 and 2"),
        ("slack:\n  workspaces: []\n  workspaces: []\n", "slack.workspaces: is written twice, in lines 2 and 3"),
        ("clusters:\n  - name: a\n    name: b\n", "clusters[0].name: is written twice, in lines 2 and 3"),
        ("a: [", "line 1, column 5: not valid YAML"),
        ("- a", "holds a list; expected a mapping"),
        ("a: !!python/object/apply:os.system [id]", "not valid YAML"),
        ("", "clusters: is missing"),
    ],
)
def test_a_file_with_two_meanings_or_none_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--config"):
        load(tmp_path / "none.yaml", {})


def test_sources_of_every_kind_are_accepted_by_loader_and_schema(tmp_path: Path) -> None:
    tree = good()
    tree["webhooks"]["sources"] |= {
        "grafana": {"kind": "grafana", "hmac_secret": {"env": "G"}, "timestamp_header": "X-Grafana-Alerting-Timestamp"},
        "pagerduty": {"kind": "pagerduty", "hmac_secret_file": "pd", "previous_file": "pd-old"},
        "shop": {"kind": "generic", "bearer": "x", "mapping": MAPPING | {"labels": {"cluster": "data.0.name"}}},
        "till": {"kind": "generic", "username": "u", "password": "p", "previous": "q", "mapping": MAPPING},
        "signed": {
            "kind": "generic",
            "hmac_secret": "s",
            "signature_header": "X-Signature",
            "timestamp_header": "X-Time",
            "mapping": MAPPING,
        },
    }
    (tmp_path / "pd").write_text("new\n", encoding="utf-8")
    (tmp_path / "pd-old").write_text("old\n", encoding="utf-8")
    check = jsonschema.Draft202012Validator(json_schema())
    assert list(check.iter_errors(tree)) == []
    sources = read(tmp_path, tree, {"G": "from the environment"}).webhooks.sources
    assert sources["grafana"].signature_name == "X-Grafana-Alerting-Signature"
    assert sources["pagerduty"].signature_name == "X-PagerDuty-Signature"
    assert [secret.get_secret_value() for secret in sources["pagerduty"].secrets] == ["new", "old"]
    assert sources["signed"].signature_name == "X-Signature"
    assert sources["shop"].signature_name is None
    tree["webhooks"]["sources"]["shop"]["mapping"]["label"] = {}
    assert list(check.iter_errors(tree)) != []


def test_the_schema_accepts_what_the_loader_accepts_and_refuses_unknown_keys(tmp_path: Path) -> None:
    schema = json_schema()
    check = jsonschema.Draft202012Validator(schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    tree = good()
    assert list(check.iter_errors(tree)) == []
    tree["slack"].pop("bot_token")
    assert list(check.iter_errors(tree)) != []
    tree["slack"]["bot_token_file"] = "token"
    (tmp_path / "token").write_text("x", encoding="utf-8")
    assert list(check.iter_errors(tree)) == []
    read(tmp_path, tree)
    tree["slack"]["app_token"] = {"env": "APP"}
    assert list(check.iter_errors(tree)) == []
    tree["chanel"] = 1
    assert list(check.iter_errors(tree)) != []


_GROUP = st.fixed_dictionaries(
    {},
    optional={
        "users": st.lists(st.sampled_from(["U1", "U2", "alice", ""]), max_size=2),
        "usergroups": st.lists(st.sampled_from(["S1", "@ops"]), max_size=1),
    },
)
_NAMES = st.lists(st.sampled_from(["oncall", "owners", "ghosts"]), max_size=3)
_POLICY = st.fixed_dictionaries(
    {},
    optional={
        "groups": st.dictionaries(st.sampled_from(["oncall", "owners", "empty"]), _GROUP, max_size=3),
        "approvers": st.dictionaries(st.sampled_from(["read", "low", "medium", "destructive"]), _NAMES, max_size=4),
        "persons": st.dictionaries(
            st.sampled_from(["anna", "ben"]), st.lists(st.sampled_from(["U1", "U2"])), max_size=2
        ),
    },
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=_POLICY)
def test_no_policy_lets_an_empty_group_approve(tmp_path: Path, policy: Tree) -> None:
    tree = good() | {"policy": policy}
    try:
        found = read(tmp_path, tree)
    except SettingsError:
        return
    for risk in (RiskClass.LOW, RiskClass.MEDIUM, RiskClass.DESTRUCTIVE):
        names = found.policy.approvers[risk]
        assert names
        assert all(found.policy.groups[name].users or found.policy.groups[name].usergroups for name in names)
    assert len(set(found.policy.approvers[RiskClass.DESTRUCTIVE])) >= 2
