"""Whatever a server answers, no check of any runbook crashes, and a field that a check needs and can't read is unknown by its name."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.bootstrap import report_on
from bot.flow.examination import judge
from bot.model import Endpoint, Focus, Snapshot, canonical_json
from tests.exhaustive import examples
from tests.unit.junk import JUNK, TEXTS, spoiled
from tests.unit.runbooks.every_check import CHECKS, OPT_IN, REGISTRY, examine
from tests.unit.snapshots import Raw, answered, raw_of, recorded, recordings

CALM = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def say_something(snapshot: Snapshot) -> None:
    """Every check says something that can be stored, every proposal can be made, and the report can be shown."""
    found = {code: examine(snapshot, code) for code in CHECKS}
    for code, findings in found.items():
        assert findings or code in OPT_IN, f"{code} says nothing"
        for finding in findings:
            assert finding.check == code
            canonical_json(finding.model_dump(mode="json"))
    for runbook in REGISTRY.runbooks:
        mine = [f for check in runbook.checks for f in found.get(check.code, ())]
        for offer in runbook.propose(snapshot, mine, runbook.values(), Focus()):
            assert offer.draft.stages or offer.draft.guidance
    canonical_json(
        report_on(snapshot, judge(snapshot, REGISTRY.runbooks, {}, Focus()), REGISTRY).model_dump(mode="json")
    )


@CALM
@given(name=st.sampled_from(recordings()), data=st.data())
def test_no_spoiled_answer_of_a_real_server_breaks_a_check(name: str, data: st.DataObject) -> None:
    def change(raw: Raw) -> None:
        said: dict[tuple[str, str], list[Raw]] = {}
        for sample in raw["samples"]:
            if sample["data"] is not None:
                said.setdefault((sample["endpoint"], sample["server"]), []).append(sample["data"])
        for _ in range(data.draw(st.integers(1, 4))):
            # The last round is what most checks judge by.
            of_one = said[data.draw(st.sampled_from(sorted(said)))]
            data.draw(spoiled(data.draw(st.sampled_from([of_one[-1], *of_one]))))

    say_something(recorded(name, change))


def fields(value: Any) -> set[str]:
    """All names of fields in an answer."""
    if isinstance(value, dict):
        return set(value).union(*(fields(item) for item in value.values()))
    return set[str]().union(*(fields(item) for item in value)) if isinstance(value, list) else set()


KINDS = [sample for sample in raw_of("kinds_2.15.1")["samples"] if sample["data"] is not None]
FIELDS = sorted(
    set[str]().union(*(fields(s["data"]) for s in KINDS))
    - set[str]().union(*(s["data"] for s in KINDS if s["endpoint"] == "IPQUEUESZ"))
)
INVENTED = st.recursive(
    JUNK | st.sampled_from(["n0", "n1", "n2", "APP", "ORDERS", "worker"]) | TEXTS,
    lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner | st.lists(inner, max_size=2), max_size=4),
    max_leaves=12,
)


@CALM
@given(
    given=st.dictionaries(
        st.sampled_from(["n0", "n1", "n2", ""]),
        st.dictionaries(
            st.sampled_from(list(Endpoint)), st.dictionaries(st.sampled_from(FIELDS), INVENTED, max_size=8), max_size=6
        ),
    ),
    versions=st.dictionaries(st.sampled_from(["n0", "n1"]), st.sampled_from(["2.15.1", "2.11.11", "2.9.1", "", "x"])),
)
def test_no_invented_answer_of_real_fields_breaks_a_check(
    given: dict[str, dict[Endpoint, Raw]], versions: dict[str, str]
) -> None:
    say_something(answered(given, versions=versions, expected=frozenset({"n0", "n1", "n2"})))
