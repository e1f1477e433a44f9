"""A made-up cluster of five servers of which one is dead."""

from dataclasses import dataclass, field, replace
from typing import Any

from bot.model import Endpoint, Snapshot, StreamKey
from tests.unit.snapshots import Raw, answered

SERVERS = ("n0", "n1", "n2", "n3", "n4")
DEAD = "n2"
STREAM = StreamKey("APP", "ORDERS")
HOUR = 3_600_000_000_000


def peer(name: str, **fields: Any) -> Raw:
    return {"name": name, "current": True, "active": 1, "peer": f"id-{name}"} | fields


def away(**fields: Any) -> Raw:
    return peer(DEAD, current=False, offline=True, active=HOUR) | fields


@dataclass
class World:
    """Five servers; n2 is dead, and ORDERS lives on n0 (its leader), n1 and n2. A test changes what it is about."""

    members: list[Raw] = field(default_factory=lambda: [peer("n1"), away()])
    meta: list[Raw] = field(default_factory=lambda: [peer("n1"), away(), peer("n3"), peer("n4")])
    config: Raw = field(default_factory=lambda: {"num_replicas": 3})
    state: Raw = field(default_factory=lambda: {"messages": 9, "first_seq": 1, "last_seq": 9, "bytes": 100})
    silent: set[str] = field(default_factory=lambda: {DEAD})
    jsz: dict[str, Raw] = field(default_factory=dict[str, Raw])
    tags: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    routes: dict[str, Raw | None] = field(default_factory=dict[str, Raw | None])
    streams: bool = True
    created: str = "2026-01-01T00:00:00Z"

    def snapshot(self) -> Snapshot:
        living = [name for name in SERVERS if name not in self.silent]
        answers: dict[str, Any] = {}
        for server in living:
            jsz = {"meta_cluster": self._meta(), "config": {}} | self.jsz.get(server, {})
            jsz["account_details"] = [{"id": "APP", "name": "APP", "stream_detail": self._held(server)}]
            routez = self.routes.get(server, {"routes": [{"remote_name": n} for n in living if n != server]})
            answers[server] = {Endpoint.JSZ: jsz, Endpoint.VARZ: {"tags": self.tags.get(server, [])}}
            answers[server] |= {Endpoint.ROUTEZ: routez} if routez is not None else {}
        made = answered(answers, versions=dict.fromkeys(living, "2.11.11"), expected=frozenset(SERVERS))
        servers = tuple(server.model_copy(update={"cluster": "lab"}) for server in made.servers)
        return replace(made, servers=servers)

    def _meta(self) -> Raw:
        return {"leader": "n0", "cluster_size": len(self.meta) + 1, "replicas": self.meta}

    def _held(self, server: str) -> list[Raw]:
        here = {"n0", *(row["name"] for row in self.members)}
        if not self.streams or server not in here:
            return []
        return [
            {
                "name": "ORDERS",
                "created": self.created,
                "config": {"name": "ORDERS"} | self.config,
                "cluster": {"leader": "n0", "replicas": self.members},
                "state": self.state,
                "stream_raft_group": "S",
            }
        ]


def four(**fields: Any) -> World:
    """No stream counts on n2 any more."""
    return World(members=[peer("n1"), peer("n3")], meta=[peer("n1"), away(**fields), peer("n3"), peer("n4")])
