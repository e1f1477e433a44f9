"""Where checkpoints go, as the example writes it, and what a start tells the audit log of its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import bot
from bot.bootstrap.auditing import sections_of
from bot.model import canonical_json
from bot.settings import AuditSettings
from tests.unit.test_settings import Tree, good, read

EXAMPLE = Path(bot.__file__).parents[1] / "deploy" / "natsmedic.example.yaml"
OTHER = "other-canary"


def test_the_example_of_the_audit_section_is_accepted_with_all_three_places(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("# audit:"))
    text = "\n".join(line.removeprefix("# ") for line in lines[start : lines.index("", start)])
    rules = read(tmp_path, good() | yaml.safe_load(text), {"NATS_KEEPER_PASSWORD": "k-canary"}).audit
    kinds = [
        [name for name in ("file", "channel", "stream") if getattr(place, name) is not None]
        for place in rules.checkpoints
    ]
    assert kinds == [["channel"], ["file"], ["stream"]]
    assert (rules.every_seconds, rules.every_rows) == (AuditSettings().every_seconds, AuditSettings().every_rows)
    stream = rules.checkpoints[2].stream
    assert stream is not None
    conf = EXAMPLE.with_name("nats-checkpoints.conf").read_text(encoding="utf-8")
    assert f"$JS.API.STREAM.INFO.{stream.name}" in conf
    assert f'"{stream.subject}"' in conf
    assert f"user: {stream.login.user}," in conf


def _system(tree: Tree) -> None:
    tree["clusters"][0]["nats"]["system"]["password"] = OTHER


def _reader(tree: Tree) -> None:
    tree["clusters"][0]["nats"]["accounts"]["APP"]["reader"]["password"] = OTHER


def _slack(tree: Tree) -> None:
    tree["slack"] |= {"bot_token": f"xoxb-{OTHER}", "app_token": f"xapp-{OTHER}"}


def _webhook(tree: Tree) -> None:
    tree["webhooks"]["sources"]["alertmanager"]["bearer"] = OTHER


@pytest.mark.parametrize("change", [_system, _reader, _slack, _webhook])
def test_another_secret_is_in_no_digest(tmp_path: Path, change: Callable[[Tree], None]) -> None:
    """A digest of a short secret could be guessed offline by whoever reads the audit log."""
    tree = good()
    before = sections_of(read(tmp_path, tree))
    change(tree)
    after = sections_of(read(tmp_path, tree))
    assert after == before
    assert "canary" not in canonical_json(dict(after))


def test_the_password_of_the_database_is_in_no_digest_and_its_address_is(tmp_path: Path) -> None:
    def digest_of(url: str) -> str:
        return sections_of(read(tmp_path, good() | {"database": {"url": url}}))["database"]

    one = digest_of("postgresql://natsmedic:one@db.example/natsmedic")
    assert one == digest_of(f"postgresql://natsmedic:{OTHER}@db.example/natsmedic")
    assert one != digest_of("postgresql://natsmedic:one@other.example/natsmedic")


def _approver(tree: Tree) -> None:
    tree["policy"]["groups"]["oncall"]["users"].append("U3")


def _server(tree: Tree) -> None:
    tree["clusters"][0]["nats"]["servers"] = ["nats://nats-1.nats:4222"]


def _workspace(tree: Tree) -> None:
    tree["slack"]["workspaces"] = ["T0OTHER"]


@pytest.mark.parametrize(("change", "section"), [(_approver, "policy"), (_server, "clusters"), (_workspace, "slack")])
def test_another_rule_changes_the_digest_of_its_section_alone(
    tmp_path: Path, change: Callable[[Tree], None], section: str
) -> None:
    tree = good()
    before = sections_of(read(tmp_path, tree))
    change(tree)
    after = sections_of(read(tmp_path, tree))
    assert [name for name in after if after[name] != before[name]] == [section]
