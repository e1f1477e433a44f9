"""What servers never answer: junk in recorded answers, for the tests which prove that no check breaks on it."""

from typing import Any

from hypothesis import strategies as st

from tests.unit.snapshots import Raw

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["0001-01-01T00:00:00Z", "2026-11-21T10:00:00Z", "2026-11-21T10:00:00", "true", "2.11.0", "n1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


def spoil(raw: Raw, data: st.DataObject) -> None:
    """Removes or replaces one to five values anywhere in the answers."""
    for _ in range(data.draw(st.integers(1, 5))):
        found = [place for sample in raw["samples"] for place in places(sample["data"])]
        if not found:
            return
        container, key = found[data.draw(st.integers(0, len(found) - 1))]
        if data.draw(st.booleans()):
            del container[key]
        else:
            container[key] = data.draw(JUNK)
