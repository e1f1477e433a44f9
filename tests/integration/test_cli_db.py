"""`natsmedic db` over a real file: what it prints, how it ends, and that looking changes nothing."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.database.revisions import OURS
from bot.adapters.terminal import operator_named
from bot.cli import app


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "natsmedic.yaml"
    cluster = {"name": "prod", "channel": "C0PROD", "nats": {"servers": ["nats://127.0.0.1:4222"]}}
    file.write_text(yaml.safe_dump({"clusters": [cluster]}), encoding="utf-8")
    return file


@pytest.fixture
def path(config: Path) -> Path:
    """A database of this natsmedic."""
    path = config.with_name("natsmedic.db")

    async def make() -> None:
        async with SqlStore.open(f"sqlite:///{path}", SystemClock()):
            pass

    asyncio.run(make())
    return path


def natsmedic(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), *arguments])


def sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as raw, raw:
        return [row for statement in statements for row in raw.execute(statement)]


def unname(path: Path) -> None:
    """Make it a database from before the first revision."""
    sql(
        path,
        *("DROP TABLE alembic_version", "DROP TABLE replicas", "DROP INDEX ix_executions_started_at"),
        "CREATE TABLE schema_version (version INTEGER)",
        "INSERT INTO schema_version VALUES (5)",
    )


def test_a_database_that_fits_is_shown_as_such(config: Path, path: Path) -> None:
    shown = natsmedic(config, "db", "status", "--format", "json")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == {
        "database": str(path),
        "revision": OURS.newest,
        "newest": OURS.newest,
        "pending": [],
        "differences": [],
    }


def test_a_database_whose_tables_were_changed_by_hand_does_not_fit(config: Path, path: Path) -> None:
    sql(path, "DROP INDEX incidents_episode")
    shown = natsmedic(config, "db", "status")
    assert shown.exit_code == 1
    assert "differs: add index incidents_episode" in shown.stdout


def test_looking_changes_nothing_and_upgrading_says_who_did_it(config: Path, path: Path) -> None:
    unname(path)
    before = path.read_bytes()
    status = natsmedic(config, "db", "status")
    planned = natsmedic(config, "db", "upgrade", "--dry-run")
    assert (status.exit_code, planned.exit_code) == (1, 0)
    assert "tables: schema 5" in status.stdout
    assert f"would be brought from schema 5 to {OURS.newest}" in planned.stdout
    assert path.read_bytes() == before
    done = natsmedic(config, "db", "upgrade")
    assert done.exit_code == 0
    assert f"are brought from schema 5 to {OURS.newest}" in done.stdout
    assert sql(path, "SELECT kind, actor FROM audit") == [("database.upgraded", operator_named())]
    assert "already" in natsmedic(config, "db", "upgrade").stdout
    assert natsmedic(config, "db", "status").exit_code == 0


def test_the_statements_that_are_printed_make_the_same_tables(config: Path, path: Path) -> None:
    made = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    wanted = sql(path, made)
    path.unlink()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
    printed = natsmedic(config, "db", "upgrade", "--sql")
    assert printed.exit_code == 0
    assert sql(path, "SELECT name FROM sqlite_master") == []
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(printed.stdout)
    assert [_plain(row) for row in sql(path, made)] == [_plain(row) for row in wanted]
    assert natsmedic(config, "db", "status").exit_code == 0


def _plain(row: tuple[object, ...]) -> str:
    """Blanks and line breaks are the printer's affair."""
    return " ".join(str(row).replace("\\n", " ").replace("\\t", " ").split())


def test_the_way_back_is_not_taken_without_a_yes(config: Path, path: Path) -> None:
    refused = natsmedic(config, "db", "downgrade", "0001")
    assert refused.exit_code == 2
    assert "say --yes" in refused.stderr
    assert sql(path, "SELECT count(*) FROM audit") == [(0,)]


def test_the_tables_of_a_newer_natsmedic_are_refused_by_every_verb(config: Path, path: Path) -> None:
    sql(path, "UPDATE alembic_version SET version_num = '9999'")
    for verb in (["incidents", "list"], ["db", "upgrade"], ["audit", "verify"]):
        refused = natsmedic(config, *verb)
        assert refused.exit_code == 2
        assert "use the newer natsmedic" in refused.stderr
    assert natsmedic(config, "db", "status").exit_code == 1
