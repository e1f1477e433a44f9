"""CloudEvents 1.0 (cloudevents/spec, cloudevents/spec.md and bindings/http-protocol-binding.md): binary mode becomes structured, so that one body is stored.

Structured: the body is the event, with its payload below `data`. Binary: the attributes are `ce-*` headers and the body is the payload.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from bot.adapters.webhooks.strict_json import parse_object
from bot.errors import BadInput
from bot.model import Json, JsonObject, digest

SPEC_VERSION: Final = "1.0"
REQUIRED: Final = ("id", "source", "type")
BATCH: Final = "application/cloudevents-batch+json"
_PREFIX: Final = "ce-"
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]{1,64}")
"""Attribute names are small letters and digits; the specification advises 20 of them and allows more."""


def is_binary(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Say whether the headers carry an event's attributes."""
    return any(name.lower() == b"ce-specversion" for name, _ in headers)


def structured(headers: Sequence[tuple[bytes, bytes]], body: str) -> str:
    """Return a binary event as a structured one. Raises BadInput where an attribute or the body is malformed."""
    attributes: JsonObject = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if not name.startswith(_PREFIX):
            continue
        attribute = name.removeprefix(_PREFIX)
        if not _ATTRIBUTE.fullmatch(attribute) or attribute in {"data", *attributes}:
            raise BadInput("The request has a ce- header twice, or one that is no CloudEvents attribute.")
        try:
            attributes[attribute] = unquote(raw_value.decode("ascii"), errors="strict")
        except UnicodeError:
            raise BadInput("The request has a ce- header that is not percent-encoded UTF-8.") from None
    try:
        return json.dumps(attributes | {"data": parse_object(body)}, allow_nan=False)
    except ValueError:
        raise BadInput("The body holds a number that is too large.") from None


def event_key(raw: JsonObject) -> str | None:
    """Return what is unique per distinct event (its source and id), None for JSON that is no CloudEvent. Raises BadInput for a malformed event."""
    if "specversion" not in raw:
        return None
    if raw["specversion"] != SPEC_VERSION:
        raise BadInput(f"The body is not a CloudEvent of version {SPEC_VERSION}: its `specversion` is another.")
    values: list[Json] = [raw.get(name) for name in REQUIRED]
    for name, value in zip(REQUIRED, values, strict=True):
        if not isinstance(value, str) or not value:
            raise BadInput(f"The body is not a CloudEvent: its `{name}` is missing or not a text.")
    return digest([raw["source"], raw["id"]])
