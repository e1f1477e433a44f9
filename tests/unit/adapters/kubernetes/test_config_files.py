"""nats.conf in ConfigMaps and Secrets: found through mounts and includes, read only where it is allowed, kept without secrets."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from bot.model import Unknown, UnknownReason
from bot.model.kubernetes import Kind
from bot.model.nats_conf import NatsConf
from tests.unit.adapters.kubernetes.recorded import (
    PATHS,
    Answers,
    RecordedClient,
    first,
    gathered,
    recording,
    the_workload,
)


@pytest.fixture
def healthy() -> Answers:
    return recording("healthy")


def in_secret(answers: Answers, text: str) -> None:
    """Move nats.conf into a Secret that is mounted by subPath, as Bitnami's chart does."""
    raw = first(answers, Kind.STATEFUL_SET)["spec"]["template"]["spec"]
    raw["volumes"] = [{"name": "config", "secret": {"secretName": "nats"}}]
    mount = {"name": "config", "mountPath": "/etc/nats-config/nats.conf", "subPath": "nats.conf"}
    raw["containers"][0]["volumeMounts"] = [mount]
    data = {"nats.conf": base64.b64encode(text.encode()).decode(), "other": base64.b64encode(b"c4n4ry").decode()}
    answers["/api/v1/namespaces/queues/secrets/nats"] = (200, {"metadata": {"name": "nats"}, "data": data})


CONF = "authorization { user: a, password: c4n4ry }\nport: 4222\n"


async def test_a_secret_is_not_asked_for_unless_it_is_allowed(monkeypatch: pytest.MonkeyPatch, healthy: Answers):
    in_secret(healthy, CONF)
    client = RecordedClient(healthy)
    facts = await gathered(monkeypatch, healthy, client=client)
    conf = the_workload(facts).conf
    assert isinstance(conf, Unknown)
    assert (conf.reason, facts.unknown) == (UnknownReason.NOT_CONFIGURED, (conf,))
    assert "secrets/nats" in conf.detail
    assert not any("secrets" in url for url in client.asked)


async def test_of_an_allowed_secret_only_the_file_is_kept_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    in_secret(healthy, CONF)
    facts = await gathered(monkeypatch, healthy, read_config_secret=True)
    (file,) = facts.config_files
    assert (file.kind, file.name, file.key, file.live) == (Kind.SECRET, "nats", "nats.conf", False)
    conf = the_workload(facts).conf
    assert isinstance(conf, NatsConf)
    assert conf.client_port == 4222
    everything = json.dumps([r.model_dump(mode="json") for r in (*facts.listings, *facts.config_files)])
    assert "c4n4ry" not in everything
    assert base64.b64encode(b"c4n4ry").decode() not in everything


def with_conf(answers: Answers, change: Callable[[dict[str, str]], None]) -> Answers:
    change(answers[PATHS[Kind.CONFIG_MAP]][1]["data"])
    return answers


async def test_a_file_that_the_server_can_not_load_is_unknown_by_its_line_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    broken = "port: 4222\nauthorization { password: 'c4n4ry\n"
    facts = await gathered(monkeypatch, with_conf(healthy, lambda data: data.update({"nats.conf": broken})))
    conf = the_workload(facts).conf
    assert isinstance(conf, Unknown)
    assert "nats-server can't load /etc/nats-config/nats.conf: the configuration, line 3" in conf.detail
    assert "c4n4ry" not in json.dumps([r.model_dump(mode="json") for r in (*facts.listings, *facts.config_files)])


async def test_included_files_are_followed_and_each_pod_has_its_own_digest(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    def change(data: dict[str, str]) -> None:
        data["nats.conf"] = "server_name: $POD_NAME\ninclude a.conf\n"
        data["a.conf"] = "max_connections: 7\ninclude ./b.conf\n"
        data["b.conf"] = "accounts { A { users: [ { user: x, password: c4n4ry } ] } }"
        data["unused.conf"] = "c4n4ry"

    facts = await gathered(monkeypatch, with_conf(healthy, change))
    assert [file.key for file in facts.config_files] == ["nats.conf", "a.conf", "b.conf"]
    main = facts.config_files[0]
    assert sorted(main.digests) == ["nats-0", "nats-1", "nats-2"]
    assert len({digest for digests in main.digests.values() for digest in digests}) == 3
    conf = the_workload(facts).conf
    assert isinstance(conf, NatsConf)
    assert (conf.max_connections, conf.accounts, conf.missing_includes) == (7, ("A",), ())


async def test_an_included_file_that_lies_elsewhere_leaves_the_digest_unknown(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers
):
    elsewhere = {"nats.conf": "include ../other/x.conf\n"}
    facts = await gathered(monkeypatch, with_conf(healthy, lambda data: data.update(elsewhere)))
    conf = the_workload(facts).conf
    assert isinstance(conf, NatsConf)
    assert conf.missing_includes == ("../other/x.conf",)
    assert set(facts.config_files[0].digests.values()) == {()}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {"reason": "NotFound", "details": {"name": "nats-config"}}), "configmaps/nats-config is not there"),
        ((200, {"metadata": {}, "data": {}}), "configmaps/nats-config has no text below nats.conf"),
    ],
)
async def test_a_configuration_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, healthy: Answers, answer: tuple[int, Any], words: str
):
    healthy[PATHS[Kind.CONFIG_MAP]] = answer
    conf = the_workload(await gathered(monkeypatch, healthy)).conf
    assert isinstance(conf, Unknown)
    assert words in conf.detail
