"""Which subjects a pattern matches, and which patterns lie within another."""

import pytest

from bot.model.subjects import PATTERN, lies_within, overlap


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        ("orders.>", "orders.eu.new", True),
        ("orders.*", "orders.eu.new", False),
        ("orders.*.new", "orders.eu.*", True),
        ("orders.eu", "orders.us", False),
        (">", "a", True),
        ("orders", "orders.>", False),
    ],
)
def test_filters_overlap_where_one_subject_can_match_both(a: str, b: str, both: bool) -> None:
    assert (overlap(a, b), overlap(b, a)) == (both, both)


@pytest.mark.parametrize(
    ("subject", "pattern", "within"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.*", True),
        ("a.b", "a.>", True),
        ("a.b", ">", True),
        ("a.*", "a.*", True),
        ("a.*", "a.b", False),
        ("a.>", "a.>", True),
        ("a.>", "a.*", False),
        ("a.b.>", "a.>", True),
        (">", "a.>", False),
        ("a", "a.>", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("*.b", "*.*", True),
        ("a.b", "b.*", False),
    ],
)
def test_a_subscription_lies_within_a_pattern_where_the_pattern_matches_all_that_it_takes(
    subject: str, pattern: str, within: bool
) -> None:
    assert lies_within(subject, pattern) is within


@pytest.mark.parametrize(
    ("written", "valid"),
    [
        ("orders.new", True),
        ("orders.*.x", True),
        ("orders.>", True),
        (">", True),
        ("$MQTT.sub.x", True),
        ("", False),
        ("a..b", False),
        (".a", False),
        ("a.", False),
        ("a.>.b", False),
        ("a b", False),
        ("a.b*", False),
        ("a>", False),
        ("a\n", False),
    ],
)
def test_a_pattern_has_no_empty_token_and_wildcards_stand_alone(written: str, valid: bool) -> None:
    assert (PATTERN.fullmatch(written) is not None) is valid
