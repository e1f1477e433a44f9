"""Which of the long tests run: a chosen few every time, and all of them with `NATSMEDIC_EXHAUSTIVE=1 make test`, which takes half an hour more.

What is left out is another version, or the second stage, of what runs anyway.
"""

import os
from collections.abc import Sequence
from typing import Any, Final

import pytest

EXHAUSTIVE: Final = os.environ.get("NATSMEDIC_EXHAUSTIVE") == "1"

_REASON: Final = "one of many: runs with NATSMEDIC_EXHAUSTIVE=1"


on_demand: Final = pytest.mark.skipif(not EXHAUSTIVE, reason=_REASON)
"""For a long test whose parts are tested every time."""


def chosen(every: Sequence[Any], often: Sequence[Any]) -> list[Any]:
    """Return all parameters of a test, those that are not among `often` skipped unless everything is asked for."""
    return [one if one in often else _marked(one, on_demand) for one in every]


def _marked(one: Any, mark: pytest.MarkDecorator) -> Any:
    return pytest.param(*one, marks=mark) if isinstance(one, tuple) else pytest.param(one, marks=mark)


def examples(many: int) -> int:
    """Return how many examples of a property are tried: a third of them each time, other ones in each run."""
    return many if EXHAUSTIVE else many // 3
