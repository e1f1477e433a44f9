"""The processes that serve with a PostgreSQL database."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Boolean, Column, Integer

from bot.adapters.database.migrations.columns import key

revision, down_revision, effect = "0002", "0001", "expand"


def upgrade(op: Operations) -> None:
    replicas = (
        key(),
        Column("beats", Integer, nullable=False),
        Column("leads", Boolean, nullable=False),
    )
    op.create_table("replicas", *replicas, if_not_exists=True)  # some databases from before the revisions have it


def downgrade(op: Operations) -> None:
    op.drop_table("replicas")
