"""One write to one Kubernetes object, as data. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from bot.model.base import JsonObject, OperationId, Record, part
from bot.model.kubernetes.listing import Kind

RECEIPT: Final = "natsmedic.io/op"
"""Annotation that holds the operation id of the last change natsmedic made to the object."""


class Verb(StrEnum):
    """What is done, by the names that RBAC uses."""

    PATCH = "patch"
    CREATE = "create"
    DELETE = "delete"


class Change(Record):
    """A write. A patch and a deletion hold for the very object that was read: of that `uid`, and where it has `resource_version` nobody wrote it since."""

    verb: Verb
    kind: Kind
    name: str
    uid: str = ""
    resource_version: str = ""
    """Empty for a deletion that only the object's identity guards: a pod's status moves all the time."""
    before: JsonObject = {}
    """The object as it was read; empty for a creation."""
    after: JsonObject = {}
    """The object as it shall be; empty for a deletion."""

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.name}"


class Rehearsal(Record):
    """What a change would do, for people: both objects without secrets, status and bookkeeping."""

    before: JsonObject
    after: JsonObject
    by_server: bool
    """Whether the API server itself said so, defaults, admission and validation included; False where nobody may ask it."""


def patch(kind: Kind, before: JsonObject, after: JsonObject) -> Change:
    """Return the change from the object as it was read to what it shall be."""
    meta = part(before, "metadata")
    return Change(
        verb=Verb.PATCH,
        kind=kind,
        name=str(meta.get("name") or ""),
        uid=str(meta.get("uid") or ""),
        resource_version=str(meta.get("resourceVersion") or ""),
        before=before,
        after=after,
    )


def creation(kind: Kind, after: JsonObject) -> Change:
    """Return the creation of an object; its name stands in its metadata."""
    return Change(verb=Verb.CREATE, kind=kind, name=str(part(after, "metadata").get("name") or ""), after=after)


def deletion(kind: Kind, before: JsonObject) -> Change:
    """Return the deletion of the very object that was read, whatever its status is by then."""
    meta = part(before, "metadata")
    return Change(
        verb=Verb.DELETE,
        kind=kind,
        name=str(meta.get("name") or ""),
        uid=str(meta.get("uid") or ""),
        before=before,
    )


def signed(raw: JsonObject, operation: OperationId) -> JsonObject:
    """Return the object with the receipt of an operation."""
    meta = part(raw, "metadata")
    return raw | {"metadata": meta | {"annotations": part(meta, "annotations") | {RECEIPT: operation}}}


def receipt_of(raw: JsonObject) -> str:
    """Return the operation that changed the object last; empty where natsmedic never did."""
    return str(part(part(raw, "metadata"), "annotations").get(RECEIPT) or "")
