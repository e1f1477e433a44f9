"""What a storm's message shows (part of port `Store`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import case, func, select
from sqlmodel import col

from bot.adapters.database.connection import Database
from bot.adapters.database.convert import record_of
from bot.adapters.database.rows import IncidentRow, StormMemberRow
from bot.model import IncidentId, IncidentState, StormLine, StormMember


class SqlStorms:
    """Reads of storms."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def storm_lines(self, storm: IncidentId) -> Sequence[StormLine]:
        """Return the lines of a storm's table: page-worthy ones first, then those with the most incidents."""
        member = StormMemberRow
        firing = func.sum(case((col(IncidentRow.state) == IncidentState.OPEN.value, 1), else_=0))
        count, page = func.count(), func.max(case((col(member.page), 1), else_=0))
        query = (
            select(
                col(member.cluster),
                col(member.title),
                count,
                firing,
                page,
                func.min(col(member.at)),
                func.max(col(member.at)),
            )
            .join(IncidentRow, col(IncidentRow.id) == col(member.id))
            .where(col(member.storm) == storm)
            .group_by(col(member.cluster), col(member.title))
            .order_by(page.desc(), count.desc(), col(member.cluster), col(member.title))
        )
        async with self._database.read() as session:
            return [
                StormLine(
                    cluster=cluster,
                    title=title,
                    count=number,
                    firing=open_now,
                    page=bool(paged),
                    first=datetime.fromisoformat(first),
                    last=datetime.fromisoformat(last),
                )
                for cluster, title, number, open_now, paged, first, last in await session.execute(query)
            ]

    async def rolled_up(self, storm: IncidentId, limit: int) -> Sequence[StormMember]:
        """Return incidents of a storm that have no thread of their own: open ones, page-worthy ones, then the oldest first."""
        member = StormMemberRow
        still_open = col(IncidentRow.state) == IncidentState.OPEN.value
        query = (
            select(col(member.body))
            .join(IncidentRow, col(IncidentRow.id) == col(member.id))
            .where(col(member.storm) == storm, ~col(member.own_thread))
            .order_by(still_open.desc(), col(member.page).desc(), col(member.at), col(member.id))
            .limit(limit)
        )
        async with self._database.read() as session:
            return [record_of(StormMember, body) for body in await session.scalars(query)]
