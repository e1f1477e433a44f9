"""What a person may want otherwise: which typed values are taken, and what they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model import Measure, Tunable


def tunable(measure: Measure, least: str, most: str) -> Tunable:
    return Tunable(name="x", title="X", measure=measure, unit="of them", value=least, least=least, most=most)


RATE = tunable(Measure.NUMBER, "0.1", "50")


@pytest.mark.parametrize(
    ("one", "taken", "refused"),
    [
        (RATE, ["0.1", "0.5", "50", "5e1"], ["0.09", "50.1", "", "ten", "nan", "inf", "-1"]),
        (tunable(Measure.WHOLE, "-1", "100"), ["-1", "0", "100"], ["-2", "101", "1.5", "--1", "１", "²"]),
        (tunable(Measure.DURATION, "1m", "720h"), ["1m", "60s", "720h", "1h30m"], ["59s", "721h", "5", "1 h", "-2h"]),
    ],
)
def test_values_at_the_bounds_are_taken_and_those_beyond_are_not(
    one: Tunable, taken: list[str], refused: list[str]
) -> None:
    assert [text for text in taken if one.problem(text)] == []
    assert [text for text in refused if not one.problem(text)] == []


def test_a_refusal_says_what_was_seen_and_what_is_expected() -> None:
    assert RATE.problem("900") == "'900' is outside; expected a number, from 0.1 to 50 of them."


def test_a_number_becomes_a_number_and_what_has_a_unit_stays_a_text() -> None:
    assert Measure.NUMBER.typed("2.5") == 2.5
    assert Measure.WHOLE.typed("-1") == -1
    assert Measure.DURATION.typed("24h") == "24h"


@given(st.sampled_from(Measure), st.text())
def test_no_text_makes_a_measure_fail_and_what_it_takes_can_be_typed(measure: Measure, text: str) -> None:
    if measure.amount(text) is not None:
        measure.typed(text)
