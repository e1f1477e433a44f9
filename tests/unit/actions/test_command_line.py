"""Names that look like options: `nats` v0.4.0 reads them as names behind `--`, and as `--option=name` (tried by hand, as were those without: it refuses or
opens a file).
"""

from __future__ import annotations

import shlex

import pytest

from bot.actions._command_line import command, end_of_options


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["ORDERS"], "nats stream edit ORDERS --replicas 3"),
        (["my stream"], "nats stream edit 'my stream' --replicas 3"),
        (["a-b", None, "c@d", ""], "nats stream edit a-b c@d --replicas 3"),
        (["--force"], "nats stream edit --replicas 3 -- --force"),
        (["-"], "nats stream edit --replicas 3 -- -"),
        (["ORDERS", "@args"], "nats stream edit --replicas 3 -- ORDERS @args"),
        (["--"], "nats stream edit --replicas 3 -- --"),
    ],
)
def test_a_name_that_looks_like_an_option_stands_behind_the_options(names: list[str | None], line: str) -> None:
    assert command("nats", "stream", "edit", of=names, options=["--replicas", "3"]) == line


@pytest.mark.parametrize(
    ("names", "end"), [(("a",), ""), ((None, ""), ""), (("a", "-b"), "-- "), (("@a", None), "-- ")]
)
def test_the_end_of_the_options_is_said_where_a_name_needs_it(names: tuple[str | None, ...], end: str) -> None:
    assert end_of_options(*names) == end


def test_a_name_in_an_option_is_one_word_with_it() -> None:
    made = command("nats", "stream", "cluster", "step-down", of=["ORDERS"], options=["--preferred=-x y"])
    assert shlex.split(made)[-1] == "--preferred=-x y"
