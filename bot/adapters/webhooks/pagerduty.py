"""PagerDuty's v3 webhooks: one event per request (developer.pagerduty.com, Webhooks Overview).

PagerDuty signs the body without a time, so a captured request stays valid: its `event.id` makes a repeat harmless (reference/safety.md T3). New event
types may come without notice (the same page), and so may the `pagey.ping` of its test button: what says nothing about an incident's state is
accepted, and changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Final, cast

from pydantic import AwareDatetime, BeforeValidator, Field, ValidationError

from bot.adapters.webhooks.payload import Part, Text, not_a_payload, storable, utc
from bot.adapters.webhooks.strict_json import parse_object
from bot.flow.incoming import IncomingAlert, ParsedDelivery
from bot.model import AlertState, Json, JsonObject

PRODUCT: Final = "a PagerDuty v3 webhook"
REOPENED: Final = "incident.reopened"
STATES: Final = {
    "incident.triggered": AlertState.FIRING,
    "incident.acknowledged": AlertState.FIRING,
    "incident.unacknowledged": AlertState.FIRING,
    REOPENED: AlertState.FIRING,
    "incident.resolved": AlertState.RESOLVED,
}
"""Acknowledged means that a person looks, not that the condition is gone."""
ALERT_NAME: Final = "alertname"
"""The custom detail that names the alert where an Alertmanager feeds PagerDuty; the title is prose, e.g. `[FIRING:1] ...`."""

Required = Annotated[Text, Field(min_length=1)]


def _flat_texts(value: Json) -> dict[str, str]:
    """Return the entries that are texts: details may hold anything, and only flat texts can be labels."""
    if not isinstance(value, dict):
        return {}
    found = cast("JsonObject", value)
    return {str(storable(key)): str(storable(text)) for key, text in found.items() if isinstance(text, str)}


class _Service(Part):
    summary: Text | None = None


class _Body(Part):
    details: Annotated[dict[str, str], BeforeValidator(_flat_texts)] = Field(default_factory=dict)


class _Incident(Part):
    id: Required
    title: Text | None = None
    urgency: Text | None = None
    created_at: AwareDatetime | None = None
    reopened_at: AwareDatetime | None = None
    service: _Service | None = None
    body: _Body | None = None
    custom_details: Annotated[dict[str, str], BeforeValidator(_flat_texts)] = Field(default_factory=dict)


class _Kind(Part):
    id: Required
    event_type: Text


class _Event(_Kind):
    occurred_at: AwareDatetime
    data: _Incident


class _AnyPayload(Part):
    event: _Kind


class _Payload(Part):
    event: _Event


def parse_pagerduty(body: str) -> ParsedDelivery:
    """Return the alert of an incident's event; none for an event that says nothing about a state. Raises BadInput like the other parsers."""
    raw = parse_object(body)
    try:
        kind = _AnyPayload.model_validate(raw).event
        state = STATES.get(kind.event_type)
        if state is None:
            return ParsedDelivery(alerts=(), event=kind.id)
        event = _Payload.model_validate(raw).event
    except ValidationError as error:
        raise not_a_payload(PRODUCT, error) from None
    return ParsedDelivery(alerts=(_incoming(event, state),), event=kind.id)


def _incoming(event: _Event, state: AlertState) -> IncomingAlert:
    incident = event.data
    own = {
        "title": incident.title,
        "service": incident.service.summary if incident.service else None,
        "urgency": incident.urgency,
    }
    details = (incident.body.details if incident.body else {}) | incident.custom_details
    started = incident.reopened_at or (event.occurred_at if event.event_type == REOPENED else incident.created_at)
    return IncomingAlert(
        fingerprint=incident.id,
        state=state,
        name=details.get(ALERT_NAME) or incident.title or "(no title)",
        labels=details | {key: text for key, text in own.items() if text is not None},
        annotations={},
        starts_at=utc(started or event.occurred_at),
        ends_at=utc(event.occurred_at) if state is AlertState.RESOLVED else None,
    )
