"""One JetStream advisory read as an alert. Pure.

Who hears what (reference/nats.md 3.1; `jetstream_cluster.go`, `jetstream_events.go` of nats-server): elections and lost quorums are published in the owning
account and, with `account` filled, in the system account; the API limit, a full disk, a removed server and the meta leader in the system account only; a message
that was delivered too often in its owning account only, without `account`. Whoever may publish in an account can forge what is heard there, so an account's
listener takes only what belongs there, and the account is the one it listens in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from bot.adapters.nats.api import MAX_NAME, parsed
from bot.errors import BadInput
from bot.flow.incoming import IncomingAlert
from bot.flow.notices import AdvisoryAlert, fingerprint_of
from bot.model import AlertState, JsonObject

PREFIX: Final = "$JS.EVENT.ADVISORY."
TYPE_PREFIX: Final = "io.nats.jetstream.advisory.v1."

MOST_BYTES: Final = 65_536
"""A real advisory has 200 to 1,500 bytes: an id, names and one line per member of the group."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of advisory: where it is published, and what of it becomes the alert."""

    alert: AdvisoryAlert
    subject: str
    """Below `PREFIX`."""
    type: str
    """Its `type` below `TYPE_PREFIX`."""
    labels: Mapping[str, str]
    """Label to the field that must hold it; labels as `bot.flow.diagnosis.FOCUS_LABELS` knows them."""
    one_per: tuple[str, ...]
    """Labels that tell two alerts of this kind apart."""
    summary: str
    """Sentence with the labels in braces."""
    optional: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels of fields that not every server fills."""


_STREAM: Final = {"account": "account", "stream": "stream"}
_CONSUMER: Final = _STREAM | {"consumer": "consumer"}
_SERVER: Final = {"server_name": "server"}

SYSTEM_KINDS: Final = (
    Kind(
        AdvisoryAlert.STREAM_QUORUM_LOST,
        "STREAM.QUORUM_LOST.*",
        "stream_quorum_lost",
        _STREAM,
        ("account", "stream"),
        "Stream {account} > {stream} has lost its quorum and stands still.",
    ),
    Kind(
        AdvisoryAlert.CONSUMER_QUORUM_LOST,
        "CONSUMER.QUORUM_LOST.*.*",
        "consumer_quorum_lost",
        _CONSUMER,
        ("account", "stream", "consumer"),
        "Consumer {account} > {stream} > {consumer} has lost its quorum and stands still.",
    ),
    Kind(
        AdvisoryAlert.LEADER_ELECTIONS,
        "STREAM.LEADER_ELECTED.*",
        "stream_leader_elected",
        _STREAM,
        ("account", "stream"),
        "Stream {account} > {stream} elects leader after leader.",
    ),
    Kind(
        AdvisoryAlert.LEADER_ELECTIONS,
        "CONSUMER.LEADER_ELECTED.*.*",
        "consumer_leader_elected",
        _CONSUMER,
        ("account", "stream", "consumer"),
        "Consumer {account} > {stream} > {consumer} elects leader after leader.",
    ),
    Kind(
        AdvisoryAlert.META_ELECTIONS,
        "DOMAIN.LEADER_ELECTED",
        "domain_leader_elected",
        {},
        (),
        "The meta group elects leader after leader.",
    ),
    Kind(
        AdvisoryAlert.API_LIMIT_REACHED,
        "API.LIMIT_REACHED",
        "api_limit_reached",
        _SERVER,
        (),  # every request is queued on every server (reference/drills.md 5), so one burst is dropped by several
        "{server_name} drops JetStream API requests: its queue is full.",
    ),
    Kind(
        AdvisoryAlert.OUT_OF_STORAGE,
        "SERVER.OUT_OF_STORAGE",
        "server_out_of_space",
        _SERVER,
        ("server_name",),
        "{server_name} has no space left and has disabled its JetStream.",
        optional={"stream": "stream"},
    ),
    Kind(
        AdvisoryAlert.SERVER_REMOVED,
        "SERVER.REMOVED",
        "server_removed",
        _SERVER,
        ("server_name",),
        "{server_name} was removed from the meta group and has disabled its JetStream.",
    ),
)

ACCOUNT_KINDS: Final = (
    Kind(
        AdvisoryAlert.MAX_DELIVERIES,
        "CONSUMER.MAX_DELIVERIES.*.*",
        "max_deliver",
        {"stream": "stream", "consumer": "consumer"},
        ("account", "stream", "consumer"),
        "Consumer {account} > {stream} > {consumer} has given up a message that was delivered too often.",
    ),
)


def subjects_of(kinds: Sequence[Kind]) -> tuple[str, ...]:
    """Return the subjects to subscribe to, which are also the permissions that are needed."""
    return tuple(PREFIX + kind.subject for kind in kinds)


def translate(
    payload: bytes, kinds: Sequence[Kind], *, cluster: str, account: str | None, now: datetime
) -> tuple[IncomingAlert, JsonObject]:
    """Return an advisory of one of these kinds as a firing alert that starts `now`, and the advisory as it is.

    `account` is the one it was heard in, None for the system account. Raises `BadInput`, whose sentence repeats nothing of the payload.
    """
    if len(payload) > MOST_BYTES:
        raise BadInput(f"An advisory has {len(payload)} bytes, more than {MOST_BYTES}.")
    raw = parsed(payload)
    if raw is None:
        raise BadInput("An advisory is no JSON object.")
    kind = next((k for k in kinds if raw.get("type") == TYPE_PREFIX + k.type), None)
    if kind is None:
        raise BadInput("An advisory has a type that does not belong where it was heard.")
    labels = {"account": account} if account is not None else {}
    labels |= {label: _text(raw, key) for label, key in kind.labels.items()}
    labels |= {label: _text(raw, key) for label, key in kind.optional.items() if raw.get(key)}
    # The same names in another JetStream domain are other things.
    domain = _text(raw, "domain") if raw.get("domain") else ""
    alert = IncomingAlert(
        fingerprint=fingerprint_of(cluster, kind.alert, domain, *(labels[label] for label in kind.one_per)),
        state=AlertState.FIRING,
        name=kind.alert,
        labels={"cluster": cluster} | labels | ({"domain": domain} if domain else {}),
        annotations={"summary": kind.summary.format_map(labels)},
        starts_at=now,
        ends_at=None,
    )
    return alert, raw


def _text(raw: JsonObject, key: str) -> str:
    value: object = raw.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or "\0" in value:
        raise BadInput(f"An advisory has no usable `{key}`.")
    return value
