"""Snapshots for unit tests: recorded from real servers (`python -m tests.record`), varied by hand, or made of single answers."""

import lzma
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from bot.adapters.archive.content import FORMAT, Content, content_of, snapshot_of
from bot.bootstrap import snapshot_of_archive
from bot.model import Endpoint, Snapshot, Unknown

FIXTURES = Path(__file__).parent / "runbooks" / "fixtures"
AT = datetime(2026, 1, 1, tzinfo=UTC)
"""When made-up answers arrived."""

Raw = dict[str, Any]
"""A whole snapshot, or a part of it, as JSON: `bot.adapters.archive.content.Content`, every server's answers untouched."""


def recording(name: str) -> Path:
    """Where the recording of that name is."""
    return FIXTURES / f"{name}.zip.xz"


def recordings(prefix: str = "") -> list[str]:
    """The names of all recordings that begin like this."""
    return sorted(path.name.removesuffix(".zip.xz") for path in FIXTURES.glob(f"{prefix}*.zip.xz"))


def recorded(name: str, change: Callable[[Raw], None] | None = None) -> Snapshot:
    """The recorded snapshot; `change` may edit its raw JSON before it is read."""
    raw = raw_of(name)
    if change:
        change(raw)
    return snapshot_from(raw)


def raw_of(name: str) -> Raw:
    """The raw JSON of that recording, to be changed at will."""
    return orjson.loads(_json_of(name))


def snapshot_from(raw: Raw) -> Snapshot:
    """The snapshot of such JSON."""
    return snapshot_of(Content.model_validate(raw))


def answered(
    answers: Mapping[str, Mapping[Endpoint, Raw | Unknown]],
    *,
    versions: Mapping[str, str] | None = None,
    expected: frozenset[str] = frozenset(),
    via: str = "system account",
) -> Snapshot:
    """The snapshot of one round with these answers by server; a version makes a server one that is known. `expected` are further servers."""
    samples = [
        {"server": server, "endpoint": endpoint, "taken_at": AT}
        | ({"unknown": answer} if isinstance(answer, Unknown) else {"data": answer})
        for server, given in answers.items()
        for endpoint, answer in given.items()
    ]
    servers = [{"name": name, "id": f"ID{name}", "version": version} for name, version in (versions or {}).items()]
    raw: Raw = {"format": FORMAT, "id": "snap_made", "cluster": "lab", "taken_at": AT, "via": via, "servers": servers}
    raw |= {"expected": sorted(expected), "unknown": [], "api": {}, "samples": samples}
    return snapshot_from(raw)


@cache
def _json_of(name: str) -> bytes:
    snapshot = snapshot_of_archive(lzma.decompress(recording(name).read_bytes()))
    return content_of(snapshot).model_dump_json().encode()


def answers(raw: Raw, endpoint: str, server: str | None = None, at: int | None = None) -> list[Raw]:
    """The raw answers to one endpoint."""
    return [
        s["data"]
        for s in raw["samples"]
        if s["endpoint"] == endpoint
        and s["data"] is not None
        and server in {None, s["server"]}
        and at in {None, s["round"]}
    ]


def unasked(*endpoints: str) -> Callable[[Raw], None]:
    """A change that leaves what was said about these endpoints out."""

    def change(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if s["endpoint"] not in endpoints]

    return change


def streams(raw: Raw, server: str | None = None, at: int | None = None) -> list[Raw]:
    """Every server's raw view of ORDERS, by round."""
    details = [a for jsz in answers(raw, "JSZ", server, at) for a in jsz.get("account_details") or []]
    return [
        stream for account in details for stream in account.get("stream_detail") or [] if stream["name"] == "ORDERS"
    ]


def consumers(raw: Raw, server: str | None = None, at: int | None = None) -> list[Raw]:
    """Every server's raw view of the consumer `worker`."""
    return [c for s in streams(raw, server, at) for c in s.get("consumer_detail") or [] if c["name"] == "worker"]


def config(**fields: Any) -> Callable[[Raw], None]:
    """A change that sets fields of the consumer's configuration; None removes one."""

    def change(raw: Raw) -> None:
        for consumer in consumers(raw):
            consumer["config"] = {k: v for k, v in (consumer["config"] | fields).items() if v is not None}

    return change


def retention(kind: str) -> Callable[[Raw], None]:
    """A change of the stream's retention."""

    def change(raw: Raw) -> None:
        for stream in streams(raw):
            stream["config"]["retention"] = kind

    return change


def position(**fields: int) -> Callable[[Raw], None]:
    """A change of the leader's own numbers: floor, delivered, delivered_consumer, ack_pending, pending, waiting."""

    def change(raw: Raw) -> None:
        for consumer in consumers(raw):
            if "leader_since" not in consumer["cluster"]:
                continue  # only the leader knows since when (2.11.9)
            if "floor" in fields:
                consumer["ack_floor"]["stream_seq"] = fields["floor"]
            if "delivered" in fields:
                consumer["delivered"]["stream_seq"] = fields["delivered"]
            if "delivered_consumer" in fields:
                consumer["delivered"]["consumer_seq"] = fields["delivered_consumer"]
            for name in ("ack_pending", "pending", "waiting"):
                if name in fields:
                    consumer[f"num_{name}"] = fields[name]

    return change


def both(*changes: Callable[[Raw], None]) -> Callable[[Raw], None]:
    """Several changes, one after another."""

    def change(raw: Raw) -> None:
        for one in changes:
            one(raw)

    return change
