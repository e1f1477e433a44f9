"""Whatever a server answers, no check of any runbook crashes, and a field that a check needs and can't read is unknown by its name."""

from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.bootstrap import registry, report_on
from bot.flow.examination import judge
from bot.model import Finding, Focus, Snapshot, canonical_json
from tests.unit.snapshots import Raw, recorded, recordings

REGISTRY = registry()
CALM = settings(
    max_examples=1500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

Place = tuple[Any, Any]
"""A container in an answer, and the key or index in it."""


def nested(depth: int, inner: Any = 1) -> Any:
    for level in range(depth):
        inner = [inner] if level % 2 else {"state": inner}
    return inner


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, 1e308, -0.0])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "",
            "n0",
            "ORDERS",
            "true",
            "2.11.0",
            "v999999.0.0",
            "1m",
            "-1s",
            "ÄÖÜ 日本 \u2028",
            "\ud800",
            "\x00",
            "{server}",
        ]
    )
    | st.sampled_from(
        ["0001-01-01T00:00:00Z", "2026-11-21T10:00:00Z", "2026-11-21T10:00:00", "9999-12-31T23:59:59.999999999-23:59"]
    )
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
) | st.sampled_from([30, 300, 900]).map(nested)
"""900 levels: a JSON parser gives up at 1,024 (orjson)."""


@st.composite
def places(draw: st.DrawFn, answer: Raw) -> Place | None:
    """A place that a walk down from the root comes to; lists of hundreds weigh no more than one field."""
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
    """Spoil one place of an answer; returns how."""
    place = draw(places(answer))
    how = draw(st.sampled_from(["missing", "extra", "other", "wrapped", "listed", "moved"]))
    if place is None:
        answer[draw(st.text(max_size=8))] = draw(JUNK)
        return "extra"
    container, key = place
    match how:
        case "missing":
            del container[key]
        case "extra" if isinstance(container, dict):
            container[draw(st.text(max_size=8))] = draw(JUNK)
        case "wrapped":
            container[key] = {str(key): container[key]}
        case "listed":
            container[key] = [container[key]]
        case "moved":
            other = draw(places(answer))
            container[key] = deepcopy(other[0][other[1]]) if other is not None else None
        case _:
            container[key] = draw(JUNK)
    return how


def examined(snapshot: Snapshot) -> dict[str, list[Finding]]:
    """All findings by check, straight from the checks; what a check raises is raised."""
    return {
        check.code: list(check.examine(snapshot, runbook.values(), Focus()))
        for runbook in REGISTRY.runbooks
        for check in runbook.checks
    }


def say_something(snapshot: Snapshot) -> None:
    """Every check says something that can be stored, every proposal can be made, and the report can be shown."""
    found = examined(snapshot)
    for code, findings in found.items():
        assert findings, f"{code} says nothing"
        for finding in findings:
            assert finding.check == code
            canonical_json(finding.model_dump(mode="json"))
    for runbook in REGISTRY.runbooks:
        mine = [f for check in runbook.checks for f in found[check.code]]
        for offer in runbook.propose(snapshot, mine, runbook.values(), Focus()):
            assert offer.draft.stages or offer.draft.guidance
    canonical_json(
        report_on(snapshot, judge(snapshot, REGISTRY.runbooks, {}, Focus()), REGISTRY).model_dump(mode="json")
    )


@CALM
@given(name=st.sampled_from(recordings()), data=st.data())
def test_no_spoiled_answer_of_a_real_server_breaks_a_check(name: str, data: st.DataObject) -> None:
    def change(raw: Raw) -> None:
        by_endpoint: dict[str, list[Raw]] = {}
        for sample in raw["samples"]:
            if sample["data"] is not None:
                by_endpoint.setdefault(sample["endpoint"], []).append(sample["data"])
        for _ in range(data.draw(st.integers(1, 4))):
            of_one = by_endpoint[data.draw(st.sampled_from(sorted(by_endpoint)))]
            data.draw(spoiled(data.draw(st.sampled_from(of_one))))

    say_something(recorded(name, change))
