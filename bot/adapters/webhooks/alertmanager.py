"""Alertmanager's webhook payload, version 4 (prometheus/alertmanager notify/webhook/webhook.go and template/template.go), and Grafana's, version 1.

Grafana's unified alerting embeds Alertmanager's types and adds fields (grafana.com/docs, webhook notifier: orgId, title, state, message,
values, valueString, imageURL, ...). Unknown fields are accepted, URLs (`generatorURL`, `externalURL`, `silenceURL`, ...) are never read.
"""

from __future__ import annotations

from typing import Annotated, Final, cast

from pydantic import AwareDatetime, BeforeValidator, Field, ValidationError

from bot.adapters.webhooks.payload import Part, Text, Texts, not_a_payload, utc
from bot.adapters.webhooks.strict_json import parse_object
from bot.errors import BadInput
from bot.flow.incoming import IncomingAlert, ParsedDelivery
from bot.model import AlertState, Json, JsonObject, digest

ALERTMANAGER_VERSION: Final = "4"
"""The only payload version Alertmanager has sent since 0.4 (2016)."""
GRAFANA_VERSION: Final = "1"
"""The only payload version of Grafana's unified alerting (grafana.com/docs, webhook notifier, Body)."""
FINGERPRINT_DIGITS: Final = 16
"""The fingerprint of both is 64 bits in hex."""
UNNAMED: Final = "(no alertname)"
MOST_ALERTS: Final = 10_000
"""Alerts of one body that are taken, as many as a whole storm has (reference/safety.md B4); the rest is counted as left out, as Alertmanager's own
`max_alerts` does it, because a body that is refused is never sent again."""
_ZERO_YEAR: Final = 1
"""Go's zero time is 0001-01-01T00:00:00Z and means *not set*."""
_MOST_TRUNCATED: Final = 10**9


class _Alert(Part):
    status: AlertState
    labels: Texts = Field(default_factory=dict)
    annotations: Texts = Field(default_factory=dict)
    startsAt: AwareDatetime  # noqa: N815  the sender's name
    endsAt: AwareDatetime | None = None  # noqa: N815
    fingerprint: Text = ""


class _Payload(Part):
    alerts: Annotated[tuple[_Alert, ...], BeforeValidator(lambda value: () if value is None else value)]
    truncatedAlerts: Annotated[int, Field(ge=0, le=_MOST_TRUNCATED)] = 0  # noqa: N815


def parse_alertmanager(body: str) -> ParsedDelivery:
    """Return the alerts of a payload, times in UTC. Raises BadInput with a sentence that names keys, never values."""
    return _parse(body, "an Alertmanager payload", ALERTMANAGER_VERSION)


def parse_grafana(body: str) -> ParsedDelivery:
    """Return the alerts of a payload of Grafana's unified alerting; else like `parse_alertmanager`."""
    return _parse(body, "a Grafana alerting payload", GRAFANA_VERSION)


def _parse(body: str, product: str, version: str) -> ParsedDelivery:
    wanted = f"{product} of version {version}"
    raw = parse_object(body)
    if raw.get("version") != version:
        raise BadInput(f"The body is not {wanted}: its `version` is missing or another.")
    raw, left_out = _cut(raw)
    try:
        payload = _Payload.model_validate(raw)
    except ValidationError as error:
        raise not_a_payload(wanted, error) from None
    alerts = tuple(_incoming(alert) for alert in payload.alerts)
    return ParsedDelivery(alerts=alerts, truncated=payload.truncatedAlerts + left_out, named_by_labels=True)


def _cut(raw: JsonObject) -> tuple[JsonObject, int]:
    """Return the payload with `MOST_ALERTS` alerts at most, and how many are left out."""
    alerts: Json = raw.get("alerts")
    if not isinstance(alerts, list):
        return raw, 0
    found = cast("list[Json]", alerts)
    return {**raw, "alerts": found[:MOST_ALERTS]}, max(0, len(found) - MOST_ALERTS)


def _incoming(alert: _Alert) -> IncomingAlert:
    ended = alert.endsAt is not None and alert.endsAt.year > _ZERO_YEAR
    return IncomingAlert(
        fingerprint=alert.fingerprint or digest(alert.labels)[:FINGERPRINT_DIGITS],
        state=alert.status,
        name=alert.labels.get("alertname") or UNNAMED,
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at=utc(alert.startsAt),
        ends_at=utc(alert.endsAt) if ended and alert.endsAt is not None else None,
    )
