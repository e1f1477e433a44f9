"""What a database says of its own tables: columns, keys, references, indexes with their conditions. Triggers and Alembic's table are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection, text

from bot.adapters.database.revisions import VERSION_TABLE

_POSTGRESQL = (
    """SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' null ' || is_nullable
        || ' collate ' || coalesce(collation_name, '') || ' default ' || coalesce(column_default, '')
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> :versions""",
    "SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> :versions",
    """SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid::regclass::text <> :versions""",
)


def catalog(connection: Connection) -> frozenset[str]:
    """Return one line per part, in the database's own words."""
    if connection.dialect.name == "postgresql":
        return frozenset(
            line
            for query in _POSTGRESQL
            for line in connection.execute(text(query), {"versions": VERSION_TABLE}).scalars()
        )
    written = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index')")).all()
    return frozenset(line for name, sql in written if sql and name != VERSION_TABLE for line in _sqlite(name, sql))


def _sqlite(name: str, sql: str) -> Iterator[str]:
    """A table part by part, in whatever order they came to it; an index as it is written."""
    plain = re.sub(r"\s+", " ", sql.replace('"', "")).strip()
    if not plain.startswith("CREATE TABLE"):
        yield plain
        return
    body = plain[plain.index("(") + 1 : plain.rindex(")")]
    depth, part = 0, ""
    for char in f"{body},":
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and not depth:
            yield f"{name}: {part.strip()}"
            part = ""
        else:
            part += char
