"""Recorded snapshots for unit tests, and the few ways in which tests vary them. How they were recorded: tests/unit/runbooks/record.py."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from bot.model import Endpoint, Sample, ServerIdentity, Snapshot, SnapshotId, Unknown

FIXTURES = Path(__file__).parent / "runbooks" / "fixtures"
Raw = dict[str, Any]


def recorded(name: str, change: Callable[[Raw], None] | None = None) -> Snapshot:
    """The snapshot of that file; `change` may edit the raw JSON before it is read."""
    raw: Raw = json.loads((FIXTURES / f"{name}.json").read_text())
    if change:
        change(raw)
    samples = tuple(sample(s) for s in raw["samples"])
    return Snapshot(
        id=SnapshotId("snap_recorded"),
        cluster=raw["cluster"],
        taken_at=datetime.fromisoformat(raw["taken_at"]),
        via="system account",
        servers=tuple(ServerIdentity.model_validate(s) for s in raw["servers"]),
        samples=samples,
        expected=frozenset(raw["expected"]),
    )


def sample(raw: Raw) -> Sample:
    """A sample of its recorded form."""
    where = (raw["server"], Endpoint(raw["endpoint"]), datetime.fromisoformat(raw["taken_at"]))
    if raw["data"] is None:
        return Sample(*where, None, Unknown.model_validate(raw["unknown"]), raw["round"])
    return Sample.of(*where, raw["data"], raw["round"])


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


def streams(raw: Raw, server: str | None = None, at: int | None = None) -> list[Raw]:
    """Every server's raw view of ORDERS, by round."""
    details = [a for jsz in answers(raw, "JSZ", server, at) for a in jsz.get("account_details") or []]
    return [stream for account in details for stream in account["stream_detail"] if stream["name"] == "ORDERS"]


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
