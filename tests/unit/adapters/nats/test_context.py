"""Contexts of the `nats` command."""

import json
from pathlib import Path
from typing import Any

import pytest

from bot.adapters.nats.connection import bare
from bot.adapters.nats.context import read_context
from bot.adapters.nats.login import login_of
from bot.errors import SettingsError
from bot.settings import Credentials


def write(home: Path, name: str, content: dict[str, Any] | str) -> dict[str, str]:
    folder = home / "nats" / "context"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return {"XDG_CONFIG_HOME": str(home), "HOME": str(home)}


def test_a_context_gives_servers_login_and_inbox(tmp_path: Path) -> None:
    (tmp_path / "user.creds").write_text("x")
    environ = write(
        tmp_path,
        "prod",
        {
            "description": "",
            "url": "nats://a:4222, nats://b:4222",
            "user": "ops",
            "password": "s3cret-canary",
            "creds": "~/user.creds",
            "inbox_prefix": "_INBOX_ops.",
            "color_scheme": "",
            "nsc": "",
        },
    )
    context = read_context("prod", environ)
    assert context.servers == ("nats://a:4222", "nats://b:4222")
    assert context.creds == tmp_path / "user.creds"
    assert context.inbox_prefix == "_INBOX_ops"
    assert "s3cret-canary" not in repr(context)
    login = login_of(Credentials(context="prod"), environ)
    assert (login.user, login.password, login.inbox_prefix) == ("ops", "s3cret-canary", "_INBOX_ops")
    assert "s3cret-canary" not in f"{login} {login!r}"
    assert login_of(Credentials(context="prod", inbox_prefix="_MINE"), environ).inbox_prefix == "_MINE"


def test_the_inbox_is_private_to_the_user_where_the_context_names_none(tmp_path: Path) -> None:
    environ = write(tmp_path, "prod", {"url": "nats://a", "user": "o.p s", "password": "x"})
    assert login_of(Credentials(context="prod"), environ).inbox_prefix == "_INBOX_o_p_s"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ({"user": 3}, "user that is not a text"),
        ({"nsc": "nsc://a/b/c"}, "uses nsc"),
        ({"socks_proxy": "socks5://h:1"}, "uses socks_proxy"),
        ({"creds": "/no/such/file"}, "creds file /no/such/file"),
        ({"inbox_prefix": "a b"}, "not a subject prefix"),
    ],
)
def test_a_context_that_cannot_be_used_says_why(tmp_path: Path, content: dict[str, Any] | str, says: str) -> None:
    environ = write(tmp_path, "bad", content)
    with pytest.raises(SettingsError, match=says):
        read_context("bad", environ)


def test_a_missing_context_names_the_known_ones_and_a_path_is_no_name(tmp_path: Path) -> None:
    environ = write(tmp_path, "prod", {})
    with pytest.raises(SettingsError, match="known contexts: prod"):
        read_context("staging", environ)
    for name in ("../prod", "/etc/passwd", "", "a/b", "a\x00b"):
        with pytest.raises(SettingsError, match="not the name of a nats context"):
            read_context(name, environ)


@pytest.mark.parametrize(
    ("server", "shown"),
    [("nats://u:p@host:4222", "nats://host:4222"), ("tls://host", "tls://host"), ("tok@host:1", "nats://host:1")],
)
def test_a_server_is_shown_without_its_login(server: str, shown: str) -> None:
    assert bare(server) == shown
