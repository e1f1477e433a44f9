"""The picture of a stuck consumer: a second leader is a line at 0, and two servers that agree are no picture."""

import copy
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from bot.flow.examination import examine
from bot.model import Chart, ConsumerKey, Focus, Lines, Severity, Snapshot
from runbooks._consumer_charts import ENOUGH_READINGS, positions
from runbooks.stuck_consumer import RUNBOOK
from tests.unit.snapshots import Raw, both, consumers, position, recorded

KEY = ConsumerKey("APP", "ORDERS", "worker")
SPLIT, HEALTHY = "split_2.11.11", "healthy_2.15.1"


def charts(snapshot: Snapshot) -> list[Chart]:
    judged = examine(snapshot, RUNBOOK, RUNBOOK.values(), Focus())
    return list(RUNBOOK.charts(snapshot, judged.findings, RUNBOOK.values(), Focus()))


def chart(snapshot: Snapshot) -> Lines:
    (found,) = charts(snapshot)
    assert isinstance(found, Lines)
    return found


def readings(count: int, **growth: int) -> Callable[[Raw], None]:
    """A change that repeats the first round every 5 s, so many rounds in all; the leader's numbers grow by `growth` in each."""

    def change(raw: Raw) -> None:
        first = [sample for sample in raw["samples"] if sample["round"] == 0]
        raw["samples"] = [later(sample, number) for number in range(count) for sample in first]
        for number in range(count):
            for consumer in consumers(raw, at=number):
                if "leader_since" in consumer["cluster"]:  # only the leader knows since when (2.11.9)
                    for name, by in growth.items():
                        consumer[name] += by * number

    return change


def later(sample: Raw, number: int) -> Raw:
    taken = datetime.fromisoformat(sample["taken_at"]) + timedelta(seconds=5 * number)
    return copy.deepcopy(sample) | {"round": number, "taken_at": taken.isoformat()}


@pytest.mark.parametrize("name", [SPLIT, "split_2.10.26", "split_room_2.11.11"])
def test_a_second_leader_is_a_line_at_0_and_the_trouble(name: str) -> None:
    waiting, places = chart(recorded(name)).panels
    ghost = places.series[-1]
    assert (ghost.name, ghost.label, ghost.severity) == ("n1", "n1 (second leader)", Severity.CRITICAL)
    assert [value for _, value in (*ghost.points, *ghost.lower)] == [0, 0, 0, 0]
    assert {line.name: line.severity for line in waiting.series} == {"n1": Severity.CRITICAL, "n0": None}


def test_servers_that_agree_share_a_line_which_names_the_leader_first() -> None:
    _, places = chart(recorded(SPLIT)).panels
    (right,) = [line for line in places.series if line.severity is None]
    assert right.label == "n0 (leader), n2"
    assert [value for _, value in right.points] == [60.0, 60.0]
    assert [value for _, value in right.lower] == [50.0, 50.0]
    assert right.points[0][0] == 0.0


def test_title_and_description_have_the_numbers() -> None:
    found = chart(recorded(SPLIT))
    assert found.title == "Consumer worker of ORDERS: n0 stands at 60, n1 at 0"
    assert "waiting to be delivered n1 (second leader) 200, n0 (leader) 140" in found.alt
    assert "delivered up to n0 (leader), n2 60, n1 (second leader) 0" in found.alt


def test_one_reading_is_no_picture() -> None:
    def once(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if s["round"] == 0]

    assert charts(recorded(SPLIT, once)) == []


@pytest.mark.parametrize(("count", "drawn"), [(ENOUGH_READINGS - 1, False), (ENOUGH_READINGS, True)])
def test_one_line_of_two_numbers_is_a_sentence_and_of_three_a_picture(count: int, drawn: bool) -> None:
    found = positions(recorded(HEALTHY, readings(count, num_pending=100)), KEY)
    assert (found is not None) == drawn
    if found is not None:
        assert [value for _, value in found.panels[0].series[0].points] == [140, 240, 340]
        assert found.title == "Consumer worker of ORDERS: 340 messages wait, 0 delivered in 10 s"


def test_where_nothing_waits_and_nobody_disagrees_there_is_nothing_to_see() -> None:
    change = both(position(pending=0), readings(ENOUGH_READINGS))
    assert positions(recorded(HEALTHY, change), KEY) is None


def test_a_healthy_consumer_has_no_picture() -> None:
    assert charts(recorded(HEALTHY, both(position(waiting=1, pending=0)))) == []


def test_a_server_that_answered_once_has_no_line() -> None:
    def silent(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == "n2" and sample["round"] == 1:
                sample |= {"data": None, "unknown": {"reason": "timed_out", "detail": "no answer"}}

    found = positions(recorded(SPLIT, silent), KEY)
    assert found is not None
    assert [line.label for line in found.panels[1].series] == ["n0", "n1"], "and without it nobody is known to lead"


def test_a_consumer_that_is_not_there_has_no_picture() -> None:
    assert positions(recorded(SPLIT), ConsumerKey("APP", "ORDERS", "nobody")) is None
