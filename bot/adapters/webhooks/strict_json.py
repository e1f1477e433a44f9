"""JSON from strangers: one meaning or none. Duplicate keys, NaN, Infinity and deep nesting are refused."""

from __future__ import annotations

import json
from typing import Final, NoReturn, cast

from bot.errors import BadInput
from bot.model import Json, JsonObject

MAX_DEPTH: Final = 32
"""An Alertmanager payload is 4 deep; a parser that recurses must not be led further than this."""


def parse_object(text: str) -> JsonObject:
    """Return the JSON object in `text`. Raises BadInput, whose sentence never repeats the text."""
    try:
        value: Json = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise BadInput(f"The body is not JSON: {error.msg} in line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise BadInput(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError:  # int() refuses more than 4300 digits
        raise BadInput("The body holds a number that is too long.") from None
    if not isinstance(value, dict):
        raise BadInput("The body is JSON, but not an object.")
    found = cast("JsonObject", value)
    _check_depth(found)
    return found


def _unique(pairs: list[tuple[str, Json]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadInput("The body has an object with the same key twice.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadInput(f"The body holds {name}, which is not JSON.")


def _check_depth(root: JsonObject) -> None:
    level: list[Json] = [root]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise BadInput(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _children(value: Json) -> list[Json]:
    if isinstance(value, dict):
        return list(cast("JsonObject", value).values())
    return cast("list[Json]", value) if isinstance(value, list) else []
