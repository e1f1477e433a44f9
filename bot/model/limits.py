"""Settings that limit what clients may do to a server: where they stand in nats.conf, which versions know them, which a reload changes, and how VARZ shows them.

Measured on nats-server 2.10.26, 2.11.2, 2.11.11, 2.12.8 and 2.15.1 by writing each into nats.conf and asking for `$SYS.REQ.SERVER.<id>.RELOAD`:
`max_connections` and the keys of `mqtt` below came in force on all of them; `request_queue_limit`, `info_queue_limit` and `mqtt.js_api_timeout` were refused
by all (`config reload not supported for JetStreamRequestQueueLimit: …`, `… for MQTT: …`), and `jetstream.limits` by all but 2.15.1. A refused key refuses
the whole file, and so does one that the version does not know (`unknown field "…"`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bot.model.base import JsonObject, part
from bot.model.groups import latest
from bot.model.nats_conf.section import seconds_of
from bot.model.sample import Endpoint
from bot.model.snapshot import Snapshot

Version = tuple[int, int, int]
Value = bool | int | str
"""As it is written; a text is a duration such as `24h`."""

_ALWAYS: Final[Version] = (2, 10, 0)
"""The oldest line that was measured."""


class Setting(StrEnum):
    """A key of nats.conf by its path."""

    MAX_CONNECTIONS = "max_connections"
    MQTT_ACK_WAIT = "mqtt.ack_wait"
    MQTT_MAX_ACK_PENDING = "mqtt.max_ack_pending"
    MQTT_STREAM_REPLICAS = "mqtt.stream_replicas"
    MQTT_CONSUMER_MEMORY_STORAGE = "mqtt.consumer_memory_storage"
    MQTT_CONSUMER_INACTIVE_THRESHOLD = "mqtt.consumer_inactive_threshold"
    MQTT_JS_API_TIMEOUT = "mqtt.js_api_timeout"
    REQUEST_QUEUE_LIMIT = "jetstream.request_queue_limit"
    INFO_QUEUE_LIMIT = "jetstream.info_queue_limit"
    MAX_HA_ASSETS = "jetstream.limits.max_ha_assets"
    DEFAULT_MAX_CONSUMERS = "jetstream.limits.default_max_consumers"

    @property
    def path(self) -> tuple[str, ...]:
        """The blocks that lead to it, and its own key."""
        return tuple(self.value.split("."))


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a setting."""

    kind: type[Value]
    """`str` for a duration."""
    reloads: Version | None
    """From which version on a reload changes it; None where it takes a restart."""
    since: Version = _ALWAYS
    """First version that knows it (reference/nats.md 8)."""
    aliases: tuple[str, ...] = ()
    """Other names of its own key (server/opts.go)."""
    varz: tuple[str, ...] = ()
    """Where VARZ shows it; empty where it does not."""
    default: int | None = None
    """What VARZ shows where it is not set; None where it leaves it out then."""


TRAITS: Final = {
    Setting.MAX_CONNECTIONS: Traits(int, _ALWAYS, aliases=("max_conn",), varz=("max_connections",), default=65_536),
    Setting.MQTT_ACK_WAIT: Traits(str, _ALWAYS, aliases=("ackwait",), varz=("mqtt", "ack_wait")),
    Setting.MQTT_MAX_ACK_PENDING: Traits(
        int, _ALWAYS, aliases=("max_pending", "max_inflight"), varz=("mqtt", "max_ack_pending")
    ),
    Setting.MQTT_STREAM_REPLICAS: Traits(int, _ALWAYS),
    Setting.MQTT_CONSUMER_MEMORY_STORAGE: Traits(bool, _ALWAYS),
    Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD: Traits(str, _ALWAYS, aliases=("consumer_auto_cleanup",)),
    Setting.MQTT_JS_API_TIMEOUT: Traits(str, None, (2, 11, 3), ("api_timeout",)),
    Setting.REQUEST_QUEUE_LIMIT: Traits(int, None, (2, 10, 21)),
    Setting.INFO_QUEUE_LIMIT: Traits(int, None, (2, 14, 0)),
    Setting.MAX_HA_ASSETS: Traits(int, (2, 15, 0), varz=("jetstream", "limits", "max_ha_assets")),
    Setting.DEFAULT_MAX_CONSUMERS: Traits(
        int, (2, 15, 0), (2, 15, 0), varz=("jetstream", "limits", "default_max_consumers"), default=1_000
    ),
}


def written(value: Value) -> str:
    """Return a value as nats.conf has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def shown(snapshot: Snapshot, server: str, setting: Setting) -> int | None:
    """Return what VARZ shows of a setting, a duration in nanoseconds; None where it does not show it, or the server did not answer."""
    raw: JsonObject = latest(snapshot, server, Endpoint.VARZ) or {}
    *blocks, key = TRAITS[setting].varz or ("",)
    for block in blocks:
        raw = part(raw, block)
    value = raw.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_shown(setting: Setting, value: Value) -> int | None:
    """Return what VARZ shows once a server runs with a value; None where it shows nothing of it."""
    if not TRAITS[setting].varz:
        return None
    if isinstance(value, str):
        seconds = seconds_of(value)
        return None if seconds is None else round(seconds * 1e9)
    return int(value)
