"""What the parsers of all sources share: texts every database takes, times in UTC, refusals that name keys and never values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from bot.errors import BadInput

_MISTAKES_SHOWN: Final = 3


def storable(value: object) -> object:
    """Return text that every database takes: no NUL (PostgreSQL refuses it) and no lone surrogate (UTF-8 has none)."""
    if not isinstance(value, str):
        return value
    return (
        value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def _none_is_empty(value: object) -> object:
    """Go writes an empty map or list as null."""
    return {} if value is None else value


Text = Annotated[str, BeforeValidator(storable)]
Texts = Annotated[dict[Text, Text], BeforeValidator(_none_is_empty)]


class Part(BaseModel):
    """A part of a payload; fields it does not name are accepted and not read."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


def utc(moment: datetime) -> datetime:
    """Return the moment in UTC. Raises BadInput where UTC's calendar does not hold it."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise BadInput("The body holds a time that lies outside the calendar in UTC.") from None


def not_a_payload(product: str, error: ValidationError) -> BadInput:
    """Return the refusal of a body that is not a payload of this product."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    # A location may hold a label's name, which is the sender's text: only its fixed part is repeated.
    places = dict.fromkeys(".".join(str(part) for part in each["loc"][:3]) + f" ({each['type']})" for each in found)
    more = f" and {len(places) - _MISTAKES_SHOWN} more" if len(places) > _MISTAKES_SHOWN else ""
    return BadInput(f"The body is not {product}: wrong {', '.join(list(places)[:_MISTAKES_SHOWN])}{more}.")
