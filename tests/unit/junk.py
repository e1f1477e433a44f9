"""What servers never say, for properties: values of any kind, and answers of real servers that are spoiled in one place."""

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from tests.unit.snapshots import Raw

Place = tuple[Any, Any]
"""A container in an answer, and the key or index in it."""


def nested(depth: int) -> Any:
    """A 1 below so many lists and objects."""
    inner: Any = 1
    for level in range(depth):
        inner = [inner] if level % 2 else {"state": inner}
    return inner


NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([-1, 0, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, 1e308, -0.0])
)
TEXTS = (
    st.text(max_size=8)
    | st.sampled_from(
        ["", "n0", "ORDERS", "true", "2.11.0", "v999999.0.0", "1m", "-1s", "ÄÖÜ 日本 \u2028", "\ud800", "\x00"]
    )
    | st.sampled_from(
        ["0001-01-01T00:00:00Z", "2026-11-21T10:00:00Z", "2026-11-21T10:00:00", "9999-12-31T23:59:59-23:59"]
    )
)
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
) | st.sampled_from([30, 300, 900]).map(nested)
"""Any JSON, and what Python's parser takes for it. At 1,024 levels the product's own parser gives up (orjson)."""


@st.composite
def places(draw: st.DrawFn, answer: Any) -> Place | None:
    """A place that a walk down from the root comes to, so that a list of hundreds weighs no more than one field; None in an empty answer."""
    here: Any = answer
    found: Place | None = None
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here))) if isinstance(here, list) else []
        if not keys or (found is not None and draw(st.integers(0, 3)) == 0):
            return found
        found = (here, draw(st.sampled_from(keys)))
        here = here[found[1]]


@st.composite
def spoiled(draw: st.DrawFn, answer: Raw) -> str:
    """Spoil one place of this very answer: a field is gone, too much, of another type or value, nested wrongly, or a copy of another. Returns what was done."""
    place = draw(places(answer))
    done = draw(st.sampled_from(["gone", "added", "other", "wrapped", "listed", "copied"]))
    if place is None:
        return "nothing"
    container, key = place
    match done:
        case "gone":
            del container[key]
        case "added" if isinstance(container, dict):
            container[draw(st.text(max_size=8))] = draw(JUNK)
        case "wrapped":
            container[key] = {str(key): container[key]}
        case "listed":
            container[key] = [container[key]]
        case "copied":
            other = draw(places(answer))
            container[key] = deepcopy(other[0][other[1]]) if other is not None else None
        case _:
            container[key] = draw(JUNK)
    return f"{key}: {done}"
