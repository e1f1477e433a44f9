"""The newest executions are found without looking at all that there ever were."""

from __future__ import annotations

from alembic.operations import Operations

revision, down_revision, effect = "0003", "0002", "expand"

INDEX = "ix_executions_started_at"


def upgrade(op: Operations) -> None:
    op.create_index(INDEX, "executions", ["started_at"])


def downgrade(op: Operations) -> None:
    op.drop_index(INDEX, "executions")
