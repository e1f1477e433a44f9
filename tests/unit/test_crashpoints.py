"""The list of crash points is the list in the code, and nothing happens at one unless a test listens."""

import ast
from collections.abc import Generator
from pathlib import Path

import pytest

import bot
from bot import crashpoints
from bot.crashpoints import Point
from bot.lab.crashing import Listener, armed_at

SOURCE = Path(bot.__file__).parent


@pytest.fixture(autouse=True)
def _nobody_listens() -> Generator[None]:
    yield
    crashpoints.listen(None)


def called(file: Path) -> set[str]:
    """The points that a file says are reached."""
    calls = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
    named = (ast.unparse(call) for call in calls if ast.unparse(call.func).rpartition(".")[2] == "reached")
    return {text.partition("Point.")[2].rstrip(")") for text in named}


def test_every_point_of_the_list_stands_in_the_code_outside_the_lab():
    found = {point for file in SOURCE.rglob("*.py") if "lab" not in file.parts for point in called(file)}
    assert found == {point.name for point in Point}


def test_the_list_is_that_of_the_reference_without_a_gap():
    assert [point.value for point in Point] == [f"P{number:02}" for number in range(17)]


def test_nothing_happens_where_nobody_listens():
    for point in Point:
        crashpoints.reached(point)


def test_a_listener_hears_the_points_in_order():
    heard: list[Point] = []
    crashpoints.listen(heard.append)
    for point in (Point.P11, Point.P12, Point.P11):
        crashpoints.reached(point)
    assert heard == [Point.P11, Point.P12, Point.P11]


def test_a_listener_logs_what_it_hears_and_kills_only_at_what_is_armed(tmp_path: Path):
    log = tmp_path / "log"
    listener = Listener([(Point.P11, 3)], log)
    for point in (Point.P11, Point.P12, Point.P11):
        listener(point)
    assert log.read_text().split() == ["P11", "P12", "P11"]


def test_what_is_no_point_can_not_be_armed():
    assert armed_at("P11") == (Point.P11, 1)
    assert armed_at("P14:2") == (Point.P14, 2)
    with pytest.raises(ValueError, match="P99"):
        armed_at("P99")
