"""What the revisions are: a line, each within its rules, and together the tables that `rows.py` describes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from bot.adapters.database.revisions import FOLDER, OURS, Effect, Revisions, differences
from bot.adapters.database.rows import Row
from bot.errors import BadInput
from bot.lab.postgres import PostgresServer
from tests.integration.catalog import catalog
from tests.integration.migrating import made, opened, run

pytestmark = pytest.mark.timeout(120)

ADDS = re.compile(
    r"CREATE (TABLE|TRIGGER|FUNCTION) |CREATE INDEX |ALTER TABLE \w+ ENABLE ALWAYS TRIGGER |INSERT INTO alembic_version |UPDATE alembic_version |BEGIN|COMMIT"
)
COLUMN = re.compile(r"ALTER TABLE \w+ ADD (COLUMN )?\w+ .*")
"""What a revision that expands consists of, besides unique indexes of tables that it makes."""


def statements(sql: str) -> list[str]:
    """Return statements on one line each; those of a trigger or function in one."""
    bodies = re.sub(
        r"(\$\$.*?\$\$|\bBEGIN\s+SELECT.*?END)", lambda found: found.group().replace(";", ""), sql, flags=re.DOTALL
    )
    lines = (line for line in bodies.splitlines() if not line.startswith("--"))
    return [found for one in " ".join(lines).split(";") if (found := re.sub(r"\s+", " ", one).strip())]


def breaches(sql: str) -> list[str]:
    """Return the statements with which no program of the revision before could go on."""
    new = set(re.findall(r"CREATE TABLE (\w+)", sql))
    found = [one for one in statements(sql) if not ADDS.match(one)]
    unique = re.compile(r"CREATE UNIQUE INDEX \w+ ON (\w+)")
    found = [one for one in found if not ((match := unique.match(one)) and match[1] in new)]
    return [one for one in found if not (COLUMN.match(one) and ("NOT NULL" not in one or " DEFAULT " in one))]


def test_revisions_are_one_line_in_the_order_of_their_names_and_each_says_what_it_is() -> None:
    found = OURS.between(None, OURS.newest)
    assert tuple(one.id for one in found) == OURS.ids
    assert len(list((FOLDER / "versions").glob("*.py"))) == len(OURS.ids) + 1, "a file whose name no revision has"
    assert all(one.title.endswith(".") and one.effect in Effect for one in found)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_revision_that_expands_only_adds(dialect: str, grown: Revisions) -> None:
    before: str | None = None
    for one in OURS.between(None, OURS.newest):
        if one.effect is Effect.EXPAND:
            assert breaches(OURS.sql(dialect, before, one.id)) == []
        before = one.id
    assert breaches(grown.sql(dialect, before, "9001")) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE alerts",
        "DROP INDEX incidents_episode",
        "ALTER TABLE alerts RENAME TO warnings",
        "ALTER TABLE alerts DROP COLUMN source",
        "ALTER TABLE alerts ADD COLUMN mood VARCHAR NOT NULL",
        "ALTER TABLE alerts ALTER COLUMN body SET NOT NULL",
        "CREATE UNIQUE INDEX one ON alerts (source)",
        "UPDATE alerts SET source = ''",
    ],
)
def test_a_statement_that_takes_something_away_does_not_pass_as_expanding(statement: str) -> None:
    assert breaches(f"CREATE TABLE notes (id VARCHAR);\n{statement};\nCREATE UNIQUE INDEX two ON notes (id);") == [
        statement
    ]


async def test_the_tables_that_the_revisions_make_are_those_that_the_rows_describe(
    url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    await made(url)
    assert await run(url, differences) == ()
    if url.startswith("sqlite"):
        other = f"sqlite:///{tmp_path}/described.db"
        await run(other, Row.metadata.create_all)
        assert await run(url, catalog) == await run(other, catalog)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database("described") as other:
        await run(other, Row.metadata.create_all)
        assert await run(url, catalog) == await run(other, catalog)


async def test_a_table_that_is_not_as_described_is_named_and_those_of_others_are_not(url: str) -> None:
    await made(url)
    before = await run(url, catalog)

    def meddle(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE workflow_status (id INTEGER)"))
        connection.execute(text("DROP INDEX incidents_episode"))
        connection.execute(text("DROP INDEX incidents_one_open"))
        connection.execute(text("CREATE UNIQUE INDEX incidents_one_open ON incidents (source, fingerprint)"))
        connection.execute(text("ALTER TABLE factors ADD COLUMN mood VARCHAR"))

    await run(url, meddle)
    named = await run(url, differences)
    assert isinstance(named, tuple)
    assert sorted(named) == ["add index incidents_episode", "remove column factors mood"]
    after = await run(url, catalog)
    assert isinstance(before, frozenset)
    assert isinstance(after, frozenset)
    assert any("incidents_one_open" in line for line in before - after), "its condition is gone"
    async with opened(url) as tables:
        assert (await tables.standing()).differences == named


async def test_two_databases_are_made_at_once_and_none_gets_tables_of_the_other(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(3)]
    await asyncio.gather(*(made(one) for one in urls))
    assert [await run(one, differences) for one in urls] == [()] * 3


def test_the_first_revision_has_no_way_back() -> None:
    (script,) = OURS._scripts.iterate_revisions(OURS.ids[0], "base")
    with pytest.raises(BadInput, match="would remove the audit log"):
        script.module.downgrade(None)
