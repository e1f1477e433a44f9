"""Types and columns of the revisions. What stands here never changes: old revisions are made of it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKey, String

PLAIN: Final = String().with_variant(String(collation="C"), "postgresql")
"""A text that sorts by its bytes (`rows.PlainText`)."""


def key(name: str = "id") -> Column[str]:
    """Return the key of a table."""
    return Column(name, PLAIN, primary_key=True)


def plain(name: str, *, index: bool = False, unique: bool = False) -> Column[str]:
    """Return a text that is asked for."""
    return Column(name, PLAIN, nullable=False, index=index, unique=unique)


def reference(name: str, target: str, *, nullable: bool = False) -> Column[str]:
    """Return a foreign key that is checked at commit, with an index."""
    return Column(name, PLAIN, deferred(target), nullable=nullable, index=True)


def deferred(target: str) -> ForeignKey:
    """Return a reference that is checked at commit, so that a transaction may write its records in any order."""
    return ForeignKey(target, deferrable=True, initially="DEFERRED")
