"""Alertmanager's webhook payload, version 4 (prometheus/alertmanager notify/webhook/webhook.go and template/template.go).

Unknown fields are accepted, URLs in it (`generatorURL`, `externalURL`) are never read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bot.adapters.webhooks.strict_json import parse_object
from bot.errors import BadInput
from bot.flow.intake import IncomingAlert, ParsedDelivery
from bot.model import AlertState, digest

VERSION: Final = "4"
"""The only payload version Alertmanager has sent since 0.4 (2016)."""
FINGERPRINT_DIGITS: Final = 16
"""Alertmanager's fingerprint is 64 bits in hex."""
UNNAMED: Final = "(no alertname)"
_ZERO_YEAR: Final = 1
"""Go's zero time is 0001-01-01T00:00:00Z and means *not set*."""
_MOST_TRUNCATED: Final = 10**9
_MISTAKES_SHOWN: Final = 3


def _storable(value: object) -> object:
    """Return text that every database takes: no NUL (PostgreSQL refuses it) and no lone surrogate (UTF-8 has none)."""
    if not isinstance(value, str):
        return value
    return (
        value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def _none_is_empty(value: object) -> object:
    """Go writes an empty map or list as null."""
    return {} if value is None else value


Text = Annotated[str, BeforeValidator(_storable)]
Texts = Annotated[dict[Text, Text], BeforeValidator(_none_is_empty)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _Alert(_Part):
    status: AlertState
    labels: Texts = Field(default_factory=dict)
    annotations: Texts = Field(default_factory=dict)
    startsAt: AwareDatetime  # noqa: N815  the sender's name
    endsAt: AwareDatetime | None = None  # noqa: N815
    fingerprint: Text = ""


class _Payload(_Part):
    version: Literal["4"]
    alerts: Annotated[tuple[_Alert, ...], BeforeValidator(lambda value: () if value is None else value)]
    truncatedAlerts: Annotated[int, Field(ge=0, le=_MOST_TRUNCATED)] = 0  # noqa: N815


def parse_alertmanager(body: str) -> ParsedDelivery:
    """Return the alerts of a payload, times in UTC. Raises BadInput with a sentence that names keys, never values."""
    raw = parse_object(body)
    if raw.get("version") != VERSION:
        raise BadInput(
            f"The body is not an Alertmanager payload of version {VERSION}: its `version` is missing or another."
        )
    try:
        payload = _Payload.model_validate(raw)
        return ParsedDelivery(
            alerts=tuple(_incoming(alert) for alert in payload.alerts), truncated=payload.truncatedAlerts
        )
    except ValidationError as error:
        raise BadInput(_sentence(error)) from None
    except OverflowError:
        raise BadInput("The body holds a time that lies outside the calendar in UTC.") from None


def _incoming(alert: _Alert) -> IncomingAlert:
    ended = alert.endsAt is not None and alert.endsAt.year > _ZERO_YEAR
    return IncomingAlert(
        fingerprint=alert.fingerprint or digest(alert.labels)[:FINGERPRINT_DIGITS],
        state=alert.status,
        name=alert.labels.get("alertname") or UNNAMED,
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at=_utc(alert.startsAt),
        ends_at=_utc(alert.endsAt) if ended and alert.endsAt is not None else None,
    )


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _sentence(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    # A location may hold a label's name, which is the sender's text: only its fixed part is repeated.
    places = dict.fromkeys(".".join(str(part) for part in each["loc"][:3]) + f" ({each['type']})" for each in found)
    more = f" and {len(places) - _MISTAKES_SHOWN} more" if len(places) > _MISTAKES_SHOWN else ""
    return f"The body is not an Alertmanager payload of version {VERSION}: wrong {', '.join(list(places)[:_MISTAKES_SHOWN])}{more}."
