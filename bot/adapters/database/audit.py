"""Audit rows as their stored texts, narrowed by the database itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.adapters.database.convert import audit_entry
from bot.adapters.database.rows import RARE, AuditRow, Row
from bot.model import GAP, AuditEntry, AuditFilter, AuditLine

AuditQuery = Select[*tuple[Any, ...]]
"""Selects the columns of `AuditLine`, in its order."""

_COLUMNS: Final = tuple(Row.metadata.tables["audit"].c[name] for name in AuditLine._fields)


def narrowed(wanted: AuditFilter) -> AuditQuery:
    """Return the query for the wanted rows, in no order yet."""
    return select(*_COLUMNS).where(*_conditions(wanted))


async def gap_of(session: AsyncSession) -> AuditEntry | None:
    """Return the newest gap, None where there is none or a newer row acknowledges it."""
    query = select(AuditRow).where(text(RARE)).order_by(col(AuditRow.seq).desc()).limit(1)
    row = await session.scalar(query)
    return audit_entry(row) if row is not None and row.kind == GAP else None


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.kind is not None:
        family = col(AuditRow.kind).startswith(f"{wanted.kind}.", autoescape=True)
        found.append(or_(col(AuditRow.kind) == wanted.kind, family))
    if wanted.actor is not None:
        found.append(col(AuditRow.actor) == wanted.actor)
    if wanted.subject is not None:
        found.append(col(AuditRow.subject) == wanted.subject)
    searched = (col(AuditRow.actor), col(AuditRow.subject), col(AuditRow.sentence), col(AuditRow.data))
    found += [or_(*(column.icontains(word, autoescape=True) for column in searched)) for word in wanted.words]
    if wanted.incident is not None:
        found.append(col(AuditRow.incident_id) == wanted.incident)
    # Without its `Z` the time sorts as text: a whole second has no fraction, and stands before its fractions then.
    at = func.replace(col(AuditRow.at), "Z", "")
    if wanted.since is not None:
        found.append(at >= _text(wanted.since))
    if wanted.until is not None:
        found.append(at < _text(wanted.until))
    return found


def _text(moment: datetime) -> str:
    """Return a moment as `AuditEntry.at` is written, without its zone: six digits of a fraction, or none."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
