"""Any JSON object or CloudEvent, read through the dotted paths of the settings. No expressions: what a path cannot say, the sender must."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final, cast

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from bot.adapters.webhooks.cloudevents import event_key
from bot.adapters.webhooks.payload import storable, utc
from bot.adapters.webhooks.strict_json import parse_object
from bot.errors import BadInput
from bot.flow.incoming import IncomingAlert, ParsedDelivery, Parser
from bot.model import AlertState, Json, JsonObject
from bot.settings import MappingSettings

_TIME: Final[TypeAdapter[datetime]] = TypeAdapter(AwareDatetime)


def generic_parser(mapping: MappingSettings) -> Parser:
    """Return the parser of this mapping: one alert per body. It raises BadInput with the path that finds nothing usable."""

    def parse(body: str) -> ParsedDelivery:
        raw = parse_object(body)
        event = event_key(raw)
        found = {label: _text(raw, path) for label, path in mapping.labels.items()}
        alert = IncomingAlert(
            fingerprint=_required(raw, mapping.fingerprint),
            state=_state(raw, mapping),
            name=_required(raw, mapping.name),
            labels={label: text for label, text in found.items() if text is not None},
            annotations={},
            starts_at=_time(raw, mapping.started_at),
            ends_at=None,
        )
        return ParsedDelivery(alerts=(alert,), event=event)

    return parse


def _state(raw: JsonObject, mapping: MappingSettings) -> AlertState:
    value = _required(raw, mapping.state)
    if value in mapping.firing:
        return AlertState.FIRING
    if value in mapping.resolved:
        return AlertState.RESOLVED
    raise BadInput(f"The path `{mapping.state}` holds a value that the mapping names neither firing nor resolved.")


def _time(raw: JsonObject, path: str) -> datetime:
    try:
        return utc(_TIME.validate_python(_required(raw, path)))
    except ValidationError:
        raise BadInput(f"The path `{path}` holds no time with a zone and no Unix time.") from None


def _required(raw: JsonObject, path: str) -> str:
    found = _text(raw, path)
    if not found:
        raise BadInput(f"The path `{path}` finds nothing in the body.")
    return found


def _text(raw: JsonObject, path: str) -> str | None:
    """Return the text, number or true/false at the path as text; None where nothing or null is there."""
    found = _at(raw, path.split("."))
    if isinstance(found, dict | list):
        raise BadInput(f"The path `{path}` finds an object or a list, where a text or a number is needed.")
    if isinstance(found, str):
        return str(storable(found))
    return None if found is None else json.dumps(found)


def _at(value: Json, keys: Sequence[str]) -> Json:
    for key in keys:
        if isinstance(value, dict):
            value = cast("JsonObject", value).get(key)
        elif isinstance(value, list) and key.isascii() and key.isdecimal():
            value = cast("list[Json]", value)[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value
