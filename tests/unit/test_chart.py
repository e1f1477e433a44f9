"""Charts as data: what can't be drawn is refused when it is made, and equal pictures have equal digests."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from bot.model import Bar, Cell, Chart, Limit, Matrix, Series, Severity
from tests.unit.charts import bars, lines, matrix


@pytest.mark.parametrize("chart", [matrix(), lines(), bars()], ids=lambda chart: chart.kind)
def test_a_chart_reads_back_equal_with_the_same_digest(chart: Chart) -> None:
    again = TypeAdapter[Chart](Chart).validate_json(chart.model_dump_json())
    assert again == chart
    assert again.digest == chart.digest


def test_another_number_is_another_digest() -> None:
    assert matrix(text="3/4").digest != matrix(text="4/4").digest


@pytest.mark.parametrize(
    "change",
    [
        {"rows": ("n0",)},
        {"columns": ("n0", "n1", "n2")},
        {"rows": (), "columns": (), "cells": ()},
        {"cells": ((Cell(), Cell()), (Cell(),))},
    ],
)
def test_a_matrix_with_another_number_of_fields_than_pairs_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Matrix.model_validate(matrix().model_dump() | change)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        Series(name="n0", label="n0", points=((0.0, value),))
    with pytest.raises(ValidationError):
        Bar(group="n0", name="queue", value=value, severity=Severity.OK)


def test_a_bar_below_nothing_and_a_limit_of_nothing_are_refused() -> None:
    with pytest.raises(ValidationError):
        Bar(group="n0", name="queue", value=-1, severity=Severity.OK)
    with pytest.raises(ValidationError):
        Limit(name="limit", value=0)


def test_two_lines_of_one_series_have_the_same_times() -> None:
    points = ((0.0, 1.0), (5.0, 2.0))
    assert Series(name="n0", label="n0", points=points, lower=points)
    with pytest.raises(ValidationError, match="same times"):
        Series(name="n0", label="n0", points=points, lower=points[:1])
