"""The registry finds what is there and refuses what is wrong, naming the file."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.registry import RegistryError, load

RUNBOOK = """
from bot.model import Endpoint, Layer
from bot.runbook import Check, Runbook, Threshold, Unit

def examine(snapshot, thresholds, focus):
    return []

def propose(snapshot, findings, thresholds, focus):
    return []

RUNBOOK = Runbook(
    code="{code}", title="t", alerts=frozenset({{"{alert}"}}),
    thresholds=(Threshold("share", {default}, Unit.{unit}, "m"),),
    checks=(Check("{check}", Layer.CONSUMERS, "healthy", frozenset({{Endpoint.JSZ}}), examine),),
    propose=propose,
)
"""
ACTION = """
from bot.actions.consumer_delete import ConsumerDelete

class Mine(ConsumerDelete):
    kind = "{kind}"
{more}

ACTION = Mine()
"""

Package = Callable[[dict[str, str]], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Writes a package of the given modules and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(modules: dict[str, str]) -> str:
        name = f"made_{tmp_path.name}_{len(list(tmp_path.iterdir()))}".replace("-", "_")
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(text)
        sys.modules.pop(name, None)
        return name

    return write


def runbook(
    code: str = "A", check: str = "A_1", alert: str = "Alert", default: float = 0.5, unit: str = "RATIO"
) -> str:
    return RUNBOOK.format(code=code, check=check, alert=alert, default=default, unit=unit)


def action(kind: str = "a.b", more: str = "") -> str:
    return ACTION.format(kind=kind, more=more)


def test_the_projects_own_runbooks_and_actions_are_found() -> None:
    registry = load()
    assert registry.runbook("STUCK_CONSUMER") is not None
    assert {"consumer.create", "consumer.delete", "consumer.step_down"} <= set(registry.actions)


def test_modules_with_a_leading_underscore_are_not_asked_for_a_record(package: Package) -> None:
    assert load(package({"a": runbook(), "_shared": ""}), package({"b": action()})).runbooks[0].code == "A"


@pytest.mark.parametrize(
    ("runbooks", "problem"),
    [
        ({"a": runbook("X", "A_1", "One"), "b": runbook("X", "B_1", "Two")}, "Runbook code X is used by"),
        ({"a": runbook("A", "SAME", "One"), "b": runbook("B", "SAME", "Two")}, "Check code SAME is used by"),
        ({"a": runbook("A", "A_1", "One"), "b": runbook("B", "B_1", "One")}, "Alert One is answered by"),
        ({"a": runbook(default=1.5)}, "threshold share = 1.5 is outside 0..1 ratio"),
        ({"a": runbook(default=-1, unit="SECONDS")}, "outside 0..86400 s"),
        ({"a": runbook(default=0.5, unit="COUNT")}, "must be a whole number of count"),
        ({"a": "X = 1"}, "must end in a record RUNBOOK"),
    ],
)
def test_bad_runbooks_are_refused_with_the_reason(package: Package, runbooks: dict[str, str], problem: str) -> None:
    with pytest.raises(RegistryError, match=problem):
        load(package(runbooks), package({"b": action()}))


def test_two_runbooks_may_have_the_very_same_check(package: Package) -> None:
    shared = runbook("A", "A_1", "One").replace("RUNBOOK = Runbook(", "CHECK = Runbook(")
    second = runbook("B", "B_1", "Two").replace("checks=(Check", "checks=(SHARED, Check")
    name = package({"_shared": shared + "SHARED = CHECK.checks[0]\n", "a": "", "b": ""})
    folder = Path(importlib.import_module(name).__path__[0])
    take = f"from {name}._shared import SHARED\n"
    (folder / "a.py").write_text(take + runbook("A", "A_2", "One").replace("checks=(Check", "checks=(SHARED, Check"))
    (folder / "b.py").write_text(take + second)
    registry = load(name, package({"c": action()}))
    assert [[check.code for check in r.checks] for r in registry.runbooks] == [["A_1", "A_2"], ["A_1", "B_1"]]


def test_a_runbook_that_has_one_check_twice_is_refused(package: Package) -> None:
    twice = runbook("A", "A_1", "One").replace("RUNBOOK = Runbook(", "ONCE = Runbook(")
    twice += "from dataclasses import replace\nRUNBOOK = replace(ONCE, checks=ONCE.checks * 2)\n"
    with pytest.raises(RegistryError, match="runbook A has check A_1 twice"):
        load(package({"a": twice}), package({"b": action()}))


@pytest.mark.parametrize(
    ("actions", "problem"),
    [
        ({"a": action("same"), "b": action("same")}, "Action kind same is used by"),
        ({"a": action(more="    apply = None")}, "no coroutine apply"),
        ({"a": action(more="    def verify(self, readers, params, operation): ...")}, "no coroutine verify"),
        ({"a": action(more="    title = ''")}, "no title"),
        ({"a": action(more="    risk = 'low'")}, "no risk"),
        ({"a": action(more="    params = dict")}, "no params record"),
        ({"a": action(more="    settle = 99.0")}, "settle < patience"),
        ({"a": "X = 1"}, "must end in ACTION"),
        ({"a": "COMPOSES = ('no.such',)"}, "composes no.such, which no action is"),
    ],
)
def test_bad_actions_are_refused_with_the_reason(package: Package, actions: dict[str, str], problem: str) -> None:
    with pytest.raises(RegistryError, match=problem):
        load(package({"a": runbook()}), package(actions))


ASKING = """
from bot.runbook import Runbook
from ._shared import CHECK

RUNBOOK = Runbook("{code}", "t", frozenset({{"{code}"}}), (), (CHECK,) * {times}, lambda *_: [])
"""


def asking(times: int) -> dict[str, str]:
    """Two runbooks that ask one and the same check, the second of them so many times."""
    shared = runbook("A", "COMMON", "One").replace("RUNBOOK = ", "A = ") + "\nCHECK = A.checks[0]\n"
    return {"_shared": shared, "one": ASKING.format(code="ONE", times=1), "two": ASKING.format(code="TWO", times=times)}


def test_runbooks_may_share_a_check(package: Package) -> None:
    one, two = load(package(asking(1)), package({"b": action()})).runbooks
    assert one.checks[0] is two.checks[0]


def test_a_runbook_asks_a_check_once(package: Package) -> None:
    with pytest.raises(RegistryError, match="has check COMMON twice"):
        load(package(asking(2)), package({"b": action()}))


def test_all_problems_are_named_at_once(package: Package) -> None:
    with pytest.raises(RegistryError) as refused:
        load(package({"a": runbook(default=2), "b": "X = 1"}), package({"c": action(more="    title = ''")}))
    assert len(str(refused.value).splitlines()) == 3
