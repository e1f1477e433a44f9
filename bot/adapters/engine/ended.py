"""Phases that have ended, as DBOS remembers them (port `Ended`): its tables grow by some rows for each of them.

A phase that is forgotten would run again if it were started again. Nobody starts it: its records say that it is over, and where they are gone, too, nothing is
left to start it for.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from dbos import DBOSClient, DBOSPortableJSONSerializer, WorkflowStatusString
from sqlalchemy.exc import SQLAlchemyError

from bot.errors import StoreError


class DbosEnded:
    """Forgets phases; works beside running engines and without one, once one has been launched on the database."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    async def forget(self, before: datetime, limit: int) -> int:
        """Forget the oldest that ended before this moment, at most `limit`; return how many that were. Raises `StoreError`."""
        try:
            return await asyncio.to_thread(self._forget, before, limit)
        except SQLAlchemyError as error:
            raise StoreError(f"What the engine remembers of ended work could not be removed: {error}") from error

    def _forget(self, before: datetime, limit: int) -> int:
        client = DBOSClient(
            system_database_url=self._url,
            serializer=DBOSPortableJSONSerializer(),
            system_database_pool_size=1,
            lazy=True,
            retry_connection_errors=False,
        )
        try:
            found = client.list_workflows(
                status=WorkflowStatusString.SUCCESS.value,
                completed_before=before.isoformat(),
                limit=limit,
                load_input=False,
                load_output=False,
            )
            client.delete_workflows([one.workflow_id for one in found])
            return len(found)
        finally:
            client.destroy()
