"""Three servers that a test owns, with their clients, and what becomes of one that is let go."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from bot.actions.clients_shed import ShedParams
from bot.actions.shedding import Pace, compose_shed
from bot.errors import OutcomeUnknown, ServerRefused
from bot.model import Endpoint, JsonObject, Sample, ServerIdentity, Snapshot, SnapshotId
from bot.model.clients import ClientKind, Selection
from bot.ports import Readers, Writers

START = datetime(2026, 11, 27, tzinfo=UTC)
MQTT = Selection(kinds=(ClientKind.MQTT,))
PACE = Pace(per_second=10.0, slice=20, most=1000, cpu=0.7, waiting=1000)
OWN = {"name": "natsmedic", "account": "APP", "type": "nats"}
SYSTEM = {"name": "ops", "account": "SYS", "type": "nats"}


@dataclass
class Server:
    id: str
    cpu: float = 10.0
    """Percent of one core, of which there are two."""
    waiting: int = 0
    room: int = 1000
    mqtt: bool = True
    silent: bool = False
    clients: list[JsonObject] = field(default_factory=list[JsonObject])
    closed: list[JsonObject] = field(default_factory=list[JsonObject])
    subscriptions: list[JsonObject] = field(default_factory=list[JsonObject])
    untold: int = 0
    """Subscriptions that its answer counts and does not hold."""
    behind: timedelta = timedelta()
    """How much its clock is behind."""


@dataclass
class World:
    """Three servers, their clients, and what becomes of one that is let go."""

    servers: dict[str, Server] = field(
        default_factory=lambda: {name: Server(f"ID-{name}") for name in ("n0", "n1", "n2")}
    )
    now: datetime = START
    next_cid: int = 1
    kicked: list[int] = field(default_factory=list[int])
    warned: list[int] = field(default_factory=list[int])
    faults: dict[int, Exception] = field(default_factory=dict[int, Exception])
    """By the number of the kick: raised instead of its effect, `OutcomeUnknown` after it."""
    slept: float = 0.0
    unread: frozenset[Endpoint] = frozenset()

    def arrive(self, server: str, count: int = 1, **fields: Any) -> list[int]:
        found = self.servers[server]
        cids = list(range(self.next_cid, self.next_cid + count))
        self.next_cid += count
        start = (self.now - found.behind).isoformat()
        kind = {"type": "mqtt", "account": "APP", "kind": "Client", "start": start} | fields
        found.clients += [{"cid": cid, "mqtt_client": f"device-{cid}"} | kind for cid in cids]
        return cids

    def leave(self, server: str, cids: Sequence[int], reason: str = "Kicked") -> None:
        found = self.servers[server]
        gone = [row for row in found.clients if row["cid"] in set(cids)]
        found.clients = [row for row in found.clients if row not in gone]
        found.closed += [row | {"stop": (self.now - found.behind).isoformat(), "reason": reason} for row in gone]

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += timedelta(seconds=seconds)

    @property
    def snapshot(self) -> Snapshot:
        samples: list[Sample] = []
        for name, server in self.servers.items():
            answers: dict[Endpoint, JsonObject] = {
                Endpoint.VARZ: {
                    "cpu": server.cpu,
                    "cores": 2,
                    "connections": len(server.clients),
                    "max_connections": len(server.clients) + server.room,
                    "system_account": "SYS",
                    "jetstream": {"meta": {}},
                    "mqtt": {"port": 1883} if server.mqtt else {},
                },
                Endpoint.CONNZ: {
                    "server_id": server.id,
                    "now": (self.now - server.behind).isoformat(),
                    "total": len(server.clients),
                    "connections": list(server.clients),
                },
                Endpoint.SUBSZ: {
                    "total": len(server.subscriptions) + server.untold,
                    "subscriptions_list": list(server.subscriptions),
                },
                Endpoint.IPQUEUESZ: {"JetStream API queue": {"pending": server.waiting}},
            }
            samples += [
                Sample(name, endpoint, self.now, answer)
                for endpoint, answer in answers.items()
                if not server.silent and endpoint not in self.unread
            ]
        there = tuple(
            ServerIdentity(name=n, id=s.id, version="2.11.11") for n, s in self.servers.items() if not s.silent
        )
        expected = frozenset(self.servers)
        return Snapshot(SnapshotId("snap"), "prod", self.now, "system account", there, tuple(samples), expected)

    async def gather(self, needs: frozenset[Endpoint], *, again: object = None) -> Snapshot:
        del needs, again
        return self.snapshot

    async def closed_clients(self, server_id: str) -> Sequence[JsonObject]:
        return next(s.closed for s in self.servers.values() if s.id == server_id)

    async def kick_client(self, server_id: str, cid: int) -> None:
        self.kicked.append(cid)
        fault = self.faults.get(len(self.kicked) - 1)
        if fault is not None and not isinstance(fault, OutcomeUnknown):
            raise fault
        name = next(n for n, s in self.servers.items() if s.id == server_id)
        if cid not in {row["cid"] for row in self.servers[name].clients}:
            raise ServerRefused(f"disconnect client {cid}", 500, "no such client or leafnode id")
        self.leave(name, [cid])
        if fault is not None:
            raise fault

    async def warn_client(self, server_id: str, cid: int) -> None:
        del server_id
        self.warned.append(cid)

    @property
    def ports(self) -> tuple[Readers, Writers]:
        return cast("Readers", self), cast("Writers", self)

    def slices(self, selection: Selection = MQTT, pace: Pace = PACE) -> list[ShedParams]:
        return [
            ShedParams.model_validate(params) for _, params in compose_shed(self.snapshot, "n0", selection, pace).stages
        ]


def crowded(count: int = 90) -> World:
    """So many MQTT clients on n0 that connected an hour ago, none elsewhere; and natsmedic's own and the system account's connections."""
    world = World()
    for fields in (OWN, SYSTEM):
        world.arrive("n0", 1, **fields, mqtt_client="")
    world.arrive("n0", count)
    world.now += timedelta(hours=1)
    return world
