"""A wait at its exact ends, and on a clock that is set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.adapters.slack.waits import Wait

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
WAIT = Wait(NOW, NOW + timedelta(seconds=30))


@pytest.mark.parametrize(
    ("seconds", "lasts"), [(-600, False), (-0.001, False), (0, True), (29.999, True), (30, False), (600, False)]
)
def test_it_lasts_from_its_moment_to_its_end_and_not_before(seconds: float, lasts: bool) -> None:
    assert WAIT.lasts(NOW + timedelta(seconds=seconds)) is lasts
