"""What natsmedic notices by itself takes the way of every alert: one delivery with one alert, stored before anything follows from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import ValidationError

from bot.errors import BadInput
from bot.flow.incoming import IncomingAlert, ParsedDelivery
from bot.model import JsonObject, Record, digest

ADVISORIES: Final = "natsmedic/advisories"
SCHEDULE: Final = "natsmedic/schedule"
"""Sources. No webhook can have such a name: a route's name holds no slash (`bot.settings.webhooks.RouteName`)."""

FINGERPRINT_DIGITS: Final = 32


class AdvisoryAlert(StrEnum):
    """Names of the alerts that advisories raise, for runbooks to claim."""

    STREAM_QUORUM_LOST = "NatsStreamQuorumLost"
    CONSUMER_QUORUM_LOST = "NatsConsumerQuorumLost"
    API_LIMIT_REACHED = "NatsJetStreamApiLimitReached"
    LEADER_ELECTIONS = "NatsLeaderElectionStorm"
    """Of one stream or consumer."""
    META_ELECTIONS = "NatsMetaLeaderElectionStorm"
    MAX_DELIVERIES = "NatsConsumerMaxDeliveries"
    OUT_OF_STORAGE = "NatsJetStreamOutOfStorage"
    SERVER_REMOVED = "NatsServerRemoved"


class Notice(Record):
    """The body of a delivery of ours. Every text of it may come from outside."""

    cluster: str
    alert: IncomingAlert
    changed: bool = False
    """See `ParsedDelivery.changed`."""
    heard: int = 1
    """How often it was noticed since the delivery before."""
    evidence: JsonObject = {}
    """What was noticed last, raw."""


def parse_notice(body: str) -> ParsedDelivery:
    """Return the alert of a stored notice. Raises `BadInput` for any other body."""
    try:
        notice = Notice.model_validate_json(body)
    except ValidationError as error:
        raise BadInput(f"The body is no notice of natsmedic ({error.error_count()} mistakes).") from None
    return ParsedDelivery(alerts=(notice.alert,), cluster=notice.cluster, changed=notice.changed)


def fingerprint_of(*parts: str) -> str:
    """Return what stays the same from firing to resolved."""
    return digest(parts)[:FINGERPRINT_DIGITS]
