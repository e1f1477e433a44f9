"""Looks into the JSON of a record from within a query."""

from __future__ import annotations

from typing import cast

from sqlalchemy import ColumnElement, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped
from sqlalchemy.sql.compiler import SQLCompiler

from bot.adapters.database.rows import POSTGRESQL_JSON


class InBody(ColumnElement[str]):
    """A text of a record's JSON; empty where there is none. Written out without parameters, or PostgreSQL would not group by it."""

    inherit_cache = False

    def __init__(self, body: Mapped[str], *path: str) -> None:
        self.body = cast("ColumnElement[str]", body)  # SQLModel's `col` declares what an instance has
        self.path = path
        self.type = String()


@compiles(InBody)
def _in_sqlite(element: InBody, compiler: SQLCompiler, **named: object) -> str:
    return f"coalesce(json_extract({compiler.process(element.body, **named)}, '$.{'.'.join(element.path)}'), '')"


@compiles(InBody, "postgresql")
def _in_postgresql(element: InBody, compiler: SQLCompiler, **named: object) -> str:
    path = ",".join(element.path)
    body = POSTGRESQL_JSON.format(body=compiler.process(element.body, **named))
    return f"coalesce({body} #>> '{{{path}}}', '')"
