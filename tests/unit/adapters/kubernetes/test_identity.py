"""Who the reader is, and what it refuses to give its token to."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.adapters.kubernetes.identity import open_client
from bot.errors import Unreachable
from bot.settings.clusters import KubernetesSettings

Raw = dict[str, Any]


def kubeconfig(folder: Path, cluster: Raw, user: Raw | None = None) -> Path:
    raw = {
        "current-context": "main",
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u"}},
            {"name": "other", "context": {"cluster": "o", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": cluster}, {"name": "o", "cluster": {"server": "https://other:6443"}}],
        "users": [{"name": "u", "user": user or {"token": "t-canary"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(raw))
    return path


def settings(**given: Any) -> KubernetesSettings:
    return KubernetesSettings.model_validate({"namespace": "queues", **given})


async def login(given: KubernetesSettings) -> tuple[str, str]:
    """Host and Authorization header of the client that these settings make."""
    async with open_client(given) as client:
        headers = (await client.param_serialize("GET", "/", auth_settings=["BearerToken"]))[2]
        assert client.configuration.retries is None
        assert client.configuration.client_go_retries is False
        return client.configuration.host, headers["authorization"]


async def test_a_context_of_a_kubeconfig_is_used(tmp_path: Path):
    path = kubeconfig(tmp_path, {"server": "https://main:6443"})
    assert await login(settings(kubeconfig=path)) == ("https://main:6443", "Bearer t-canary")
    assert await login(settings(kubeconfig=path, context="other")) == ("https://other:6443", "Bearer t-canary")


async def test_a_token_file_is_read_again_for_each_look(tmp_path: Path):
    token = tmp_path / "token"
    given = settings(server="https://api:6443/", token_file=token)
    token.write_text("first\n")
    assert await login(given) == ("https://api:6443", "Bearer first")
    token.write_text("second")
    assert await login(given) == ("https://api:6443", "Bearer second")


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"server": "https://main:6443", "insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        ({"server": "http://main:8080"}, "is not asked over http"),
        ({"server": "https://main:6443", "certificate-authority": "/none.pem"}, "can't log in"),
        ({}, "names no server"),
    ],
)
async def test_the_token_goes_to_nobody_who_is_not_verified(tmp_path: Path, cluster: Raw, words: str):
    with pytest.raises(Unreachable, match=words):
        await login(settings(kubeconfig=kubeconfig(tmp_path, cluster)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_loopback_may_be_plain(tmp_path: Path, host: str):
    path = kubeconfig(tmp_path, {"server": f"http://{host}:8080"})
    assert (await login(settings(kubeconfig=path)))[0] == f"http://{host}:8080"


@pytest.mark.parametrize("content", ["", "[]", "a: [", "users: []", "contexts: []\ncurrent-context: x", "\0"])
async def test_a_kubeconfig_that_is_none_is_told(tmp_path: Path, content: str):
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(Unreachable, match="can't log in"):
        await login(settings(kubeconfig=path))


async def test_outside_of_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Unreachable, match="can't log in"):
        await login(settings(in_cluster=True))


async def test_a_context_that_is_not_there_is_told_without_the_token(tmp_path: Path):
    path = kubeconfig(tmp_path, {"server": "https://main:6443"})
    with pytest.raises(Unreachable) as told:
        await login(settings(kubeconfig=path, context="none"))
    assert "none" in str(told.value)
    assert "t-canary" not in str(told.value)


async def test_a_certificate_that_is_none_is_told(tmp_path: Path):
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.pem").write_text("no certificate")
    given = settings(server="https://api:6443", token_file=tmp_path / "token", ca_file=tmp_path / "ca.pem")
    with pytest.raises(Unreachable, match="certificates"):
        await login(given)
