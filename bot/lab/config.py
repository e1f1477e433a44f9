"""The nats.conf of a lab server, its ports, and who may log in to it.

Two accounts, as the bot meets them in production: APP holds the streams, SYS is the system account. The bot's own
users carry exactly the permissions of reference/safety.md 5.7, so that a test which needs more than that fails here
first.
"""

import json
import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the lab. Its replies arrive below `inbox_prefix`; the limited users may subscribe to nothing else."""

    user: str
    password: str
    account: str
    inbox_prefix: str


APP: Final = Login("app", "app", "APP", "_INBOX")
READER: Final = Login("reader", "reader", "APP", "_INBOX_reader")
WRITER: Final = Login("writer", "writer", "APP", "_INBOX_writer")
SYS: Final = Login("sys", "sys", "SYS", "_INBOX")
SYSREADER: Final = Login("sysreader", "sysreader", "SYS", "_INBOX_sysreader")
SYSWRITER: Final = Login("syswriter", "syswriter", "SYS", "_INBOX_syswriter")


def tenant(account: str) -> Login:
    """The user of a further account, who may do what the delivery probe does and nothing else."""
    return Login(account.lower(), account.lower(), account, f"_INBOX_{account.lower()}")


READER_PUBLISH: Final = (
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.CONSUMER.NAMES.*",
    "$JS.API.CONSUMER.LIST.*",
    "$JS.API.CONSUMER.INFO.*.*",
)
WRITER_PUBLISH: Final = (
    *READER_PUBLISH,
    "$JS.API.STREAM.UPDATE.*",
    "$JS.API.STREAM.CREATE.natsmedic-probe",
    "$JS.API.STREAM.DELETE.natsmedic-probe",
    "$JS.API.STREAM.LEADER.STEPDOWN.*",
    "$JS.API.CONSUMER.CREATE.*.>",
    "$JS.API.CONSUMER.DELETE.*.*",
    "$JS.API.CONSUMER.LEADER.STEPDOWN.*.*",
    "$JS.API.STREAM.PEER.REMOVE.*",
    "$JS.API.CONSUMER.RESET.*.*",
    "$JS.API.CONSUMER.PAUSE.*.*",
    "$JS.API.CONSUMER.UNPIN.*.*",
)
SYSTEM_ENDPOINTS: Final = (
    "VARZ",
    "JSZ",
    "HEALTHZ",
    "ROUTEZ",
    "RAFTZ",
    "STATSZ",
    "CONNZ",
    "ACCOUNTZ",
    "GATEWAYZ",
    "LEAFZ",
    "IPQUEUESZ",
    "SUBSZ",
)
"""What the bot reads of each server, and all that it may."""
SYSREADER_PUBLISH: Final = (
    "$SYS.REQ.SERVER.PING",
    # `*` stands for a server id and for PING. The end points are named one by one: `PING.*` would open PROFILEZ.
    *(f"$SYS.REQ.SERVER.*.{endpoint}" for endpoint in SYSTEM_ENDPOINTS),
)
SYSWRITER_PUBLISH: Final = (
    "$SYS.REQ.SERVER.*.RELOAD",
    "$SYS.REQ.SERVER.*.KICK",
    "$SYS.REQ.SERVER.*.LDM",
    "$JS.API.META.LEADER.STEPDOWN",
    "$JS.API.SERVER.REMOVE",
)

READER_SUBSCRIBE: Final = ("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.*.*",)
SYSREADER_SUBSCRIBE: Final = (
    "$JS.EVENT.ADVISORY.STREAM.QUORUM_LOST.*",
    "$JS.EVENT.ADVISORY.CONSUMER.QUORUM_LOST.*.*",
    "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.*",
    "$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED.*.*",
    "$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED",
    "$JS.EVENT.ADVISORY.API.LIMIT_REACHED",
    "$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE",
    "$JS.EVENT.ADVISORY.SERVER.REMOVED",
)
"""The advisories that the bot listens to, and all that it may; its replies come beside them."""

HOST: Final = "127.0.0.1"

LOWEST_PORT: Final = 20_000
HIGHEST_PORT: Final = 32_000
"""Listen ports stay below 32768, where outgoing connections begin (drills.md, traps)."""

_handed_out: set[int] = set()


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports of one server on `HOST`."""

    client: int
    monitor: int
    route: int
    mqtt: int = 0
    """0 where the server takes no MQTT clients."""


@dataclass(frozen=True, slots=True)
class ClusterBlock:
    """What one server's `cluster {}` block says; the defaults are those of a healthy lab cluster."""

    name: str | None = None
    """Another cluster name than the lab's."""
    routes: tuple[str, ...] | None = None
    """`host:port` of the servers it dials; None lists every server of the lab."""
    listen: str | None = None
    """`host:port`; None is the server's own route port on `HOST`."""
    pool_size: int | None = None
    """Connections per pair of servers; -1 turns pooling off, None is the server's default of 3."""
    accounts: tuple[str, ...] = ()
    """Accounts with a connection of their own."""
    advertise: str | None = None
    """`host:port` that the others are told by gossip."""
    no_advertise: bool = False
    authorization: tuple[str, str] | None = None
    """User and password that routes must have, and that this server dials with."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now and that this process has not handed out before."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.sample(range(LOWEST_PORT, HIGHEST_PORT), HIGHEST_PORT - LOWEST_PORT):
            if port in _handed_out:
                continue
            listener = held.enter_context(socket.socket())
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                _handed_out.update(found)
                return found
    raise OSError(f"no {count} free ports between {LOWEST_PORT} and {HIGHEST_PORT}")


def server_tag(name: str) -> str:
    """The server's own tag, by which a stream is placed on it."""
    return f"node:{name}"


def server_config(
    *,
    cluster: str,
    name: str,
    directory: Path,
    ports: Ports,
    routes: Sequence[str],
    max_ha_assets: int,
    jetstream: Mapping[str, int | str],
    block: ClusterBlock,
    tenants: Sequence[str] = (),
) -> str:
    """The text of a nats.conf. `routes` are the route addresses of all servers, which `block` may replace, `max_ha_assets`
    0 means no limit, `jetstream` is further keys of the jetstream block (`request_queue_limit: 200`), `tenants` are further accounts.
    """
    extra = "\n".join(f"  {key}: {json.dumps(value)}" for key, value in jetstream.items())
    limits = f"  limits {{\n    max_ha_assets: {max_ha_assets}\n  }}" if max_ha_assets else ""
    return f"""\
server_name: {json.dumps(name)}
server_tags: [{json.dumps(server_tag(name))}]
listen: "{HOST}:{ports.client}"
http: "{HOST}:{ports.monitor}"
log_file: {json.dumps(str(directory / "nats.log"))}
jetstream {{
  store_dir: {json.dumps(str(directory / "store"))}
{limits}
{extra}
}}
{_cluster_block(cluster, ports, routes, block)}
{_mqtt_block(ports)}
{accounts(tenants)}
"""


def accounts(tenants: Sequence[str] = ()) -> str:
    """The accounts and their users: those who may do everything, and the bot's own with the permissions that it needs. `tenants` are further accounts."""
    further = "\n".join(f"  {account} {{ users: [{_tenant_user(account)}] }}" for account in tenants)
    return f"""\
system_account: SYS
accounts {{
  APP {{
    jetstream: enabled
    users: [
      {_user(APP)}
      {_user(READER, READER_PUBLISH, READER_SUBSCRIBE)}
      {_user(WRITER, WRITER_PUBLISH)}
    ]
  }}
  SYS {{
    users: [
      {_user(SYS)}
      {_user(SYSREADER, SYSREADER_PUBLISH, SYSREADER_SUBSCRIBE)}
      {_user(SYSWRITER, SYSWRITER_PUBLISH)}
    ]
  }}
{further}
}}"""


def _cluster_block(cluster: str, ports: Ports, routes: Sequence[str], block: ClusterBlock) -> str:
    user = "".join(f"{quote(word, safe='')}{end}" for word, end in zip(block.authorization or (), ":@", strict=False))
    lines = [
        f"name: {json.dumps(block.name or cluster)}",
        f"listen: {json.dumps(block.listen or f'{HOST}:{ports.route}')}",
    ]
    lines += ["routes: [", *(f"  nats-route://{user}{address}" for address in (block.routes or routes)), "]"]
    if block.pool_size is not None:
        lines.append(f"pool_size: {block.pool_size}")
    if block.accounts:
        lines.append(f"accounts: {json.dumps(block.accounts)}")
    if block.advertise:
        lines.append(f"cluster_advertise: {json.dumps(block.advertise)}")
    if block.no_advertise:
        lines.append("no_advertise: true")
    if block.authorization:
        name, password = map(json.dumps, block.authorization)
        lines.append(f"authorization {{ user: {name}, password: {password} }}")
    return "\n".join(["cluster {", *(f"  {line}" for line in lines), "}"])


def _tenant_user(account: str) -> str:
    login = tenant(account)
    return _user(login, [f"{login.inbox_prefix}.natsmedic.probe.>"])


def _mqtt_block(ports: Ports) -> str:
    return f'mqtt {{ listen: "{HOST}:{ports.mqtt}" }}' if ports.mqtt else ""


def _user(login: Login, publish: Sequence[str] | None = None, subscribe: Sequence[str] = ()) -> str:
    """One entry of an account's users; without `publish` the user may do everything. `subscribe` comes beside its inbox."""
    entry = f"user: {json.dumps(login.user)}, password: {json.dumps(login.password)}"
    if publish is not None:
        heard = json.dumps([f"{login.inbox_prefix}.>", *subscribe])
        entry += f", permissions: {{ publish: {{ allow: {json.dumps(publish)} }}, subscribe: {{ allow: {heard} }} }}"
    return f"{{ {entry} }}"
