"""A configuration of nats-server, as far as a diagnosis needs it. Option names and meanings: server/opts.go of nats-server 2.15.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bot.model.nats_conf.fingerprint import fingerprints
from bot.model.nats_conf.section import Section, Setting
from bot.model.nats_conf.tree import Block, Include, Node, Variable, grow, no_include

_ROUTE: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<credentials>.*)@)?(?P<host>\[[^]]+]|[^:/?#@\[\]]+)(?::(?P<port>[0-9]{1,5}))?(?:[/?#].*)?"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is written: `text[start:end]` of `file`, which is empty for the configuration itself."""

    start: int
    end: int
    file: str = ""
    reference: str | None = None
    """The variable that stands at this place instead of the value."""

    @property
    def editable(self) -> bool:
        """Whether replacing `text[start:end]` of the configuration itself changes the value."""
        return not self.file and self.reference is None


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of `cluster.routes`. `address` never carries user or password."""

    host: str
    port: int | None
    scheme: str = "nats"
    credentials: str | None = field(default=None, repr=False)
    """`user:password`, as written; `[redacted]` in evidence."""

    @property
    def address(self) -> str:
        """`host:port`, or the host alone."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClusterConf:
    """Block `cluster`."""

    name: Setting[str]
    host: Setting[str]
    port: Setting[int]
    routes: Setting[tuple[Route, ...]]
    routes_place: Place | None
    """Where the array of routes is written; None where there is none."""
    advertise: Setting[str]
    no_advertise: Setting[bool]
    pool_size: Setting[int]
    """Connections per route; 3 where it is not set, -1 for one as before 2.10 (server/route.go)."""
    accounts: Setting[tuple[str, ...]]
    """Accounts with a route connection of their own."""
    connect_retries: Setting[int]


@dataclass(frozen=True, slots=True)
class JetStreamLimits:
    """Block `jetstream.limits`."""

    max_ack_pending: Setting[int] = None
    max_ha_assets: Setting[int] = None
    max_request_batch: Setting[int] = None
    duplicate_window: Setting[float] = None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class JetStreamConf:
    """`jetstream`, as a switch or a block. Sizes in bytes; where they are not set the server takes 75 % of memory and of the free disk."""

    enabled: Setting[bool]
    store_dir: Setting[str]
    max_memory: Setting[int] = None
    max_file: Setting[int] = None
    domain: Setting[str] = None
    sync_interval: Setting[float] = None
    """Seconds; 0 for `always`."""
    unique_tag: Setting[str] = None
    request_queue_limit: Setting[int] = None
    encrypted: bool = False
    limits: JetStreamLimits = field(default_factory=JetStreamLimits)


@dataclass(frozen=True, slots=True)
class MqttConf:
    """Block `mqtt`."""

    port: Setting[int]
    ack_wait: Setting[float]
    """Seconds."""
    max_ack_pending: Setting[int]
    js_api_timeout: Setting[float]
    """Seconds."""
    stream_replicas: Setting[int]
    consumer_memory_storage: Setting[bool]
    consumer_inactive_threshold: Setting[float]
    """Seconds."""
    reject_qos2_publish: Setting[bool]


@dataclass(frozen=True, slots=True)
class NatsConf:
    """What a configuration says. Durations in seconds, sizes in bytes."""

    root: Block = field(repr=False)
    server_name: Setting[str]
    client_port: Setting[int]
    http_port: Setting[int]
    """Port of the monitoring endpoint."""
    lame_duck_duration: Setting[float]
    """Over which clients are closed; 120 where it is not set (server/const.go)."""
    lame_duck_grace_period: Setting[float]
    """Before the first client is closed; 10 where it is not set (server/const.go)."""
    max_connections: Setting[int]
    """65,536 where it is not set (server/const.go)."""
    accounts: Setting[tuple[str, ...]]
    """Names of the accounts that the configuration defines; those of an operator's resolver are not in it."""
    system_account: Setting[str]
    cluster: ClusterConf | None
    """None where the server is not clustered."""
    jetstream: JetStreamConf | None
    """None where the configuration does not mention it, and so it is off."""
    mqtt: MqttConf | None
    problems: tuple[str, ...] = ()
    """Settings that the server would refuse, one sentence each without their values."""
    missing_includes: tuple[str, ...] = ()
    """Included files that could not be read: what they say is unknown."""
    unresolved: tuple[str, ...] = ()
    """Names of variables that are defined neither in the configuration nor in the known environment."""
    digests: tuple[str, ...] = ()
    """What a 2.11+ server may report as `config_digest` after loading this, by version; none where a part of it is not known."""


def read_conf(text: str, environment: Mapping[str, str] | None = None, include: Include = no_include) -> NatsConf:
    """Return what a configuration says. Raises `ConfError` where nats-server could not parse it."""
    tree = grow(text, environment or {}, include)
    problems: list[str] = []
    top = Section(tree.root, problems)
    return NatsConf(
        root=tree.root,
        server_name=top.text("server_name"),
        client_port=_address(top, "listen", "port")[1],
        http_port=_address(top, "http", "http_port", "monitor_port")[1],
        lame_duck_duration=top.seconds("lame_duck_duration"),
        lame_duck_grace_period=top.seconds("lame_duck_grace_period"),
        max_connections=top.number("max_connections", "max_conn"),
        accounts=top.texts("accounts"),
        system_account=top.text("system_account", "system"),
        cluster=_cluster(top.section("cluster"), problems),
        jetstream=_jetstream(top),
        mqtt=_mqtt(top.section("mqtt")),
        problems=tuple(dict.fromkeys(problems)),
        missing_includes=tuple(dict.fromkeys(tree.missing)),
        unresolved=tuple(dict.fromkeys(tree.unresolved)),
        digests=fingerprints(tree),
    )


def _cluster(section: Section | None, problems: list[str]) -> ClusterConf | None:
    if section is None:
        return None
    host, port = _address(section, "listen", "port")
    node = section.node("routes")
    return ClusterConf(
        name=section.text("name"),
        host=host,
        port=port,
        routes=_routes(node, problems),
        routes_place=Place(node.start, node.end, node.file, node.reference) if node else None,
        advertise=section.text("cluster_advertise", "advertise"),
        no_advertise=section.flag("no_advertise"),
        pool_size=section.number("pool_size"),
        accounts=section.texts("accounts"),
        connect_retries=section.number("connect_retries"),
    )


def _jetstream(top: Section) -> JetStreamConf | None:
    node = top.node("jetstream")
    if node is None:
        return None
    outside = top.text("store_dir", "storedir")
    section = top.section("jetstream")
    if section is None:
        return JetStreamConf(enabled=_switch(node), store_dir=outside)
    enabled = section.flag("enabled", "enable")
    inside = section.text("store_dir", "store", "storedir")
    limits = section.section("limits")
    sync = section.node("sync_interval", "sync")
    always = sync is not None and str(sync.value).lower() == "always"
    return JetStreamConf(
        enabled=True if enabled is None else enabled,
        store_dir=outside if inside is None else inside,
        max_memory=section.bytes("max_memory_store", "max_mem_store", "max_mem"),
        max_file=section.bytes("max_file_store", "max_file"),
        domain=section.text("domain"),
        sync_interval=0.0 if always else section.seconds("sync_interval", "sync"),
        unique_tag=section.text("unique_tag"),
        request_queue_limit=section.number("request_queue_limit"),
        encrypted=section.node("key", "ek", "encryption_key") is not None,
        limits=_limits(limits) if limits else JetStreamLimits(),
    )


def _mqtt(section: Section | None) -> MqttConf | None:
    if section is None:
        return None
    return MqttConf(
        port=_address(section, "listen", "port")[1],
        ack_wait=section.seconds("ack_wait", "ackwait"),
        max_ack_pending=section.number("max_ack_pending", "max_pending", "max_inflight"),
        js_api_timeout=section.seconds("js_api_timeout", "api_timeout"),
        stream_replicas=section.number("stream_replicas"),
        consumer_memory_storage=section.flag("consumer_memory_storage"),
        consumer_inactive_threshold=section.seconds("consumer_inactive_threshold", "consumer_auto_cleanup"),
        reject_qos2_publish=section.flag("reject_qos2_publish"),
    )


def _limits(section: Section) -> JetStreamLimits:
    return JetStreamLimits(
        max_ack_pending=section.number("max_ack_pending"),
        max_ha_assets=section.number("max_ha_assets"),
        max_request_batch=section.number("max_request_batch"),
        duplicate_window=section.seconds("duplicate_window"),
    )


def _switch(node: Node) -> Setting[bool]:
    """Read `jetstream: enabled`."""
    if isinstance(node.value, bool | Variable):
        return node.value
    return {"enabled": True, "enable": True, "disabled": False, "disable": False}.get(str(node.value).lower())


def _address(section: Section, listen: str, *ports: str) -> tuple[Setting[str], Setting[int]]:
    """Return host and port, out of `host:port` in one setting or out of two."""
    node = section.node(listen)
    if node is None:
        return section.text("host", "net"), section.number(*ports)
    if isinstance(node.value, Variable):
        return node.value, node.value
    if not isinstance(node.value, str):
        return None, section.number(listen)
    host, _, port = node.value.rpartition(":")
    return host.strip("[]"), int(port) if port.isascii() and port.isdigit() else None


def _routes(node: Node | None, problems: list[str]) -> Setting[tuple[Route, ...]]:
    if node is None:
        return None
    if isinstance(node.value, Variable):
        return node.value
    entries = node.value if isinstance(node.value, tuple) else ()
    unknown = next((entry.value for entry in entries if isinstance(entry.value, Variable)), None)
    if unknown is not None:
        return unknown
    routes = tuple(_route(entry.value) for entry in entries if isinstance(entry.value, str))
    found = tuple(route for route in routes if route is not None)
    if not isinstance(node.value, tuple) or len(found) != len(entries):
        problems.append("cluster.routes is not a list of addresses")
    return found


def _route(text: str) -> Route | None:
    found = _ROUTE.fullmatch(text.strip())
    if found is None:
        return None
    port = found["port"]
    return Route(found["host"].strip("[]"), int(port) if port else None, found["scheme"], found["credentials"])
