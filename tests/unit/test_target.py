"""A cluster named on the command line: what is accepted, what is refused, and that secrets are not shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from bot.adapters.nats.connect import connect_target
from bot.errors import ReadDenied, SettingsError, Unreadable
from bot.model import Endpoint
from bot.settings.target import Target, addresses
from tests.integration.nats_support import WallClock


def test_a_list_of_servers_is_split_and_one_without_a_scheme_is_nats() -> None:
    assert addresses("a:4222, tls://b ,,nats://u:p@c") == ("nats://a:4222", "tls://b", "nats://u:p@c")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target(servers=("nats://u:p@a:4222/x", "nats://b:4222")), "a:4222"),
        (Target(context="prod", servers=("nats://b:4222",)), "prod"),
        (Target(monitoring=("http://m:8222/base",)), "m:8222"),
    ],
)
def test_a_cluster_is_called_by_its_context_or_first_address_without_a_login(target: Target, name: str) -> None:
    assert target.name == name


def test_its_text_never_holds_a_secret() -> None:
    shown = repr(Target(servers=("nats://u:s3cret@a:1",), user="u", password="s3cret"))
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"servers": ("http://a:1",)},
        {"servers": ("nats://a b",)},
        {"monitoring": ("http://u:p@a:1",)},
        {"monitoring": ("file:///etc/passwd",)},
        {"servers": ("nats://a:1",), "inbox_prefix": "_INBOX.>"},
        {"servers": ("nats://a:1",), "user": "u", "nkey": Path("/nowhere")},
        {"servers": ("nats://a:1",), "password": "p"},
        {"servers": ("nats://a:1",), "creds": Path("/nowhere.creds")},
        {"servers": ("nats://a:1",), "cert": Path("/nowhere.pem")},
    ],
)
def test_what_cannot_be_used_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Target(**fields)


async def test_an_option_stands_in_for_what_the_context_says(tmp_path: Path) -> None:
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    context = {"url": "nats://127.0.0.1:1", "user": "of-the-context", "password": "x"}
    (folder / "prod.json").write_text(json.dumps(context))
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    said: list[str] = []
    for target in (
        Target(context="prod", timeout=1.0),
        Target(context="prod", timeout=1.0, user="other", password="y"),
        Target(context="prod", timeout=1.0, user="a-token"),
        Target(context="prod", timeout=1.0, servers=("nats://127.0.0.1:2",)),
    ):
        readers = await connect_target(target, WallClock(), environ)
        with pytest.raises(Unreadable) as refused:
            await readers.gather(frozenset({Endpoint.VARZ}))
        await readers.aclose()
        assert not isinstance(refused.value, ReadDenied)
        said.append(str(refused.value))
    assert "user of-the-context" in said[0]
    assert "user other" in said[1]
    assert "a token" in said[2]
    assert "a-token" not in said[2]
    assert "127.0.0.1:2" in said[3]
