"""Text from outside is inert: visible, escaped, cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.adapters.slack.text import FALLBACK_LIMIT, fallback, safe, shorten, weight
from bot.adapters.visible import visible

NASTY = st.one_of(st.text(), st.text(alphabet="<>&!@#|*_~`:\n\u202e\u200b\u0000\u2066ab"))
LIVE = re.compile(r"<[^>]*>|<|>")


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("a\u202eb", "a\\u202eb"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("nul\x00", "nul\\u0000"),
        ("line\nbreak\r", "line\\nbreak\\r"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("hangul\u3164filler", "hangul\\u3164filler"),
        ("späť 界 😀", "späť 界 😀"),
    ],
)
def test_what_cannot_be_seen_is_written_out(given_text: str, shown: str) -> None:
    assert visible(given_text) == shown


def test_a_tower_of_combining_marks_is_written_out() -> None:
    assert visible("e" + "\u0301" * 6) == "e" + "\u0301" * 3 + "\\u0301" * 3


def test_the_mark_says_how_much_was_cut() -> None:
    shown = safe("x" * 1_048_576, 300)
    assert shown.endswith("… (cut, 1,048,576 characters)")
    assert len(shown) == 300


def test_cutting_twice_keeps_the_first_number() -> None:
    assert shorten(safe("x" * 50_000, 300), 100).endswith("… (cut, 50,000 characters)")


def test_nothing_shows_as_empty_because_slack_refuses_empty_texts() -> None:
    assert safe("") == "(empty)"


@given(NASTY, st.integers(min_value=2, max_value=3000))
def test_no_text_outgrows_its_limit_however_slack_counts(words: str, limit: int) -> None:
    shown = safe(words * 50, max(limit, 10))
    assert 0 < weight(shown) <= max(limit, 10)


@given(NASTY)
def test_the_fallback_has_no_mention_and_no_link(words: str) -> None:
    shown = fallback(words)
    assert LIVE.search(shown) is None
    assert re.sub(r"&(amp|lt|gt);", "", shown).count("&") == 0
    assert len(shown) <= FALLBACK_LIMIT


def test_a_text_that_is_escaped_already_is_escaped_again() -> None:
    assert fallback("&lt;!channel&gt;") == "&amp;lt;!channel&amp;gt;"
