"""What every action on a Kubernetes object shares: reading it guarded, changing it on the condition that it is as it was read, and its receipt.

The approved object is told by its uid: one of the same name that was made anew is another one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Final

import yaml

from bot.action import Receipt
from bot.errors import ObjectMoved, Refused
from bot.model import JsonObject, OperationId, part
from bot.model.kubernetes import Change, Kind, patch, receipt_of, signed
from bot.ports import Readers, Writers

Edit = Callable[[JsonObject], JsonObject]
"""From the object as it is to what it shall be. Raises `Refused` where it is not what was approved."""

ATTEMPTS: Final = 5
"""A controller writes the status of its object at any moment, and each such write makes ours a definite *not applied*; it is read anew then."""


async def read_object(readers: Readers, kind: Kind, name: str, uid: str) -> JsonObject:
    """Return the approved object. Raises `Refused` where it is gone or another one has its name, and `Unreadable`."""
    raw = await readers.kubernetes_object(kind, name)
    if raw is None:
        raise Refused(f"There is no {kind} {name} any more.")
    if (seen := str(part(raw, "metadata").get("uid"))) != uid:
        raise Refused(f"{kind} {name} was deleted and made anew: its uid is {seen}, not {uid}, so it is another one.")
    return raw


async def change_object(
    readers: Readers, writers: Writers, kind: Kind, name: str, uid: str, edit: Edit, operation: OperationId
) -> JsonObject:
    """Edit the object as it is now, with the receipt in the same write, and return it as it was stored.

    Where somebody else writes it meanwhile, it is read and edited anew: `edit` sees what they wrote, and refuses where that matters. Raises
    `NotApplied`, `OutcomeUnknown`, `Refused`, `Unreadable`.
    """
    for attempt in range(1, ATTEMPTS + 1):
        raw = await read_object(readers, kind, name, uid)
        if receipt_of(raw) == operation:
            return raw
        try:
            return await writers.write_object(patch(kind, raw, signed(edit(raw), operation)))
        except ObjectMoved:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError  # pragma: no cover - the loop returns or raises


async def object_receipt(readers: Readers, kind: Kind, name: str, uid: str, operation: OperationId) -> Receipt:
    """Say whether the operation changed this object. Raises `Unreadable`."""
    try:
        raw = await read_object(readers, kind, name, uid)
    except Refused:
        return Receipt.FOREIGN
    return Receipt.APPLIED if receipt_of(raw) == operation else Receipt.NOT_APPLIED


async def rehearsed(readers: Readers, change: Change) -> tuple[str, tuple[str, ...]]:
    """Return the unified diff of a change as the API server would make it, and what to say where it was not asked. Raises `Unreadable`, `Refused`."""
    rehearsal = await readers.rehearse(change)
    note = (
        ()
        if rehearsal.by_server
        else ("The API server was not asked what it makes of this: no applier may rehearse it.",)
    )
    return difference(rehearsal.before, rehearsal.after), note


def difference(before: JsonObject, after: JsonObject) -> str:
    """Return a unified diff of two objects as YAML with sorted keys; empty where they are the same."""
    old, new = _lines(before), _lines(after)
    return "\n".join(difflib.unified_diff(old, new, "before", "after", lineterm=""))


def _lines(side: JsonObject) -> list[str]:
    return yaml.safe_dump(side, sort_keys=True).splitlines() if side else []
