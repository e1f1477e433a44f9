"""Finds runbooks and actions by scanning their packages, and refuses bad ones at start. Nothing is registered by hand.

A module of `runbooks` ends in `RUNBOOK`; a module of `bot.actions` ends in `ACTION`, or composes actions and names their kinds in `COMPOSES`. Modules
with a leading underscore are shared pieces.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from bot.action import Action
from bot.errors import BadInput, NatsmedicError, SettingsError
from bot.model import Record, RiskClass
from bot.runbook import Check, Runbook, Threshold, Unit

AnyAction = Action[Any]
"""An action whose parameter type is known only through its `params` record."""

METHODS = ("check", "preview", "apply", "receipt", "verify", "rollback")
"""Coroutines every action has."""

RANGES: Mapping[Unit, tuple[float, float]] = {
    Unit.SECONDS: (0.0, 86_400.0),
    Unit.RATIO: (0.0, 1.0),
    Unit.COUNT: (0.0, 1e12),
    Unit.OPERATIONS: (0.0, 1e12),
    Unit.DAYS: (0.0, 3_650.0),
    Unit.FACTOR: (1.0, 1_000.0),
}
"""What a threshold of a unit may be; a check looks back a day at most."""

WHOLE = frozenset({Unit.COUNT, Unit.OPERATIONS})


class RegistryError(NatsmedicError):
    """A runbook or an action is not what it must be; the sentence names every problem with its file."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything found, checked."""

    runbooks: tuple[Runbook, ...]
    actions: Mapping[str, AnyAction]

    def runbook(self, code: str) -> Runbook | None:
        """Return the runbook with this code."""
        return next((r for r in self.runbooks if r.code == code), None)

    def check_thresholds(self, overrides: Mapping[str, Mapping[str, float]]) -> None:
        """Raise `SettingsError` for thresholds in the settings that no runbook has, or that are outside their unit."""
        problems: list[str] = []
        for code, values in overrides.items():
            runbook = self.runbook(code)
            if runbook is None:
                known = ", ".join(r.code for r in self.runbooks)
                problems.append(f"thresholds.{code} names no runbook; known: {known}.")
                continue
            thresholds = {t.name: t for t in runbook.thresholds}
            for name, value in values.items():
                if name not in thresholds:
                    problems.append(f"thresholds.{code}.{name} is unknown; {code} has: {', '.join(thresholds)}.")
                elif problem := threshold_problem(thresholds[name], value):
                    problems.append(f"thresholds.{code}: {problem}.")
        if problems:
            raise SettingsError("\n".join(problems))

    def chosen(self, codes: Sequence[str]) -> tuple[Runbook, ...]:
        """Return the runbooks with these codes, all of them where none is given. Raises `BadInput`."""
        known = {runbook.code: runbook for runbook in self.runbooks}
        if missing := [code for code in codes if code not in known]:
            raise BadInput(f"There is no runbook {', '.join(missing)}. Known: {', '.join(known)}.")
        return tuple(known[code] for code in dict.fromkeys(codes)) if codes else self.runbooks

    def check_schedules(self, runbooks: Mapping[str, Sequence[str]]) -> None:
        """Raise `SettingsError` for codes in the schedules of the settings, by cluster name, that no runbook has."""
        problems: list[str] = []
        for cluster, codes in runbooks.items():
            try:
                self.chosen(codes)
            except BadInput as error:
                problems.append(f"schedule.runbooks of cluster {cluster}: {error}")
        if problems:
            raise SettingsError("\n".join(problems))


def load(runbooks: str = "runbooks", actions: str = "bot.actions") -> Registry:
    """Scan both packages. Raises `RegistryError` with all problems at once."""
    problems: list[str] = []
    found_runbooks = _runbooks(_modules(runbooks), problems)
    found_actions = _actions(_modules(actions), problems)
    problems += _runbook_problems(found_runbooks)
    if problems:
        raise RegistryError("\n".join(problems))
    ordered = sorted((r for _, r in found_runbooks), key=lambda r: r.code)
    return Registry(tuple(ordered), {a.kind: a for _, a in found_actions})


def threshold_problem(threshold: Threshold, value: float) -> str | None:
    """Return why a value cannot be this threshold's, None where it can."""
    low, high = RANGES[threshold.unit]
    if not math.isfinite(value) or not low <= value <= high:
        return f"threshold {threshold.name} = {value:g} is outside {low:g}..{high:g} {threshold.unit.value}"
    if threshold.unit in WHOLE and value != int(value):
        return f"threshold {threshold.name} = {value:g} must be a whole number of {threshold.unit.value}"
    return None


def _modules(package: str) -> list[ModuleType]:
    root = importlib.import_module(package)
    names = sorted(info.name for info in pkgutil.iter_modules(root.__path__) if not info.name.startswith("_"))
    return [importlib.import_module(f"{package}.{name}") for name in names]


def _runbooks(modules: Iterable[ModuleType], problems: list[str]) -> list[tuple[str, Runbook]]:
    found: list[tuple[str, Runbook]] = []
    for module in modules:
        record = getattr(module, "RUNBOOK", None)
        if isinstance(record, Runbook):
            found.append((module.__name__, record))
        else:
            problems.append(f"{module.__name__}: must end in a record RUNBOOK of type bot.runbook.Runbook.")
    return found


def _runbook_problems(found: Sequence[tuple[str, Runbook]]) -> list[str]:
    problems = [
        f"Runbook code {code} is used by {files}." for code, files in _twice((r.code, file) for file, r in found)
    ]
    # One and the same check may serve several runbooks, and then means the same in all; two checks of one code would not.
    checks: dict[Check, str] = {}
    for file, runbook in found:
        for check in runbook.checks:
            checks.setdefault(check, f"{file} ({runbook.code})")
    named = ((check.code, place) for check, place in checks.items())
    problems += [f"Check code {code} is used by {files}." for code, files in _twice(named)]
    problems += [
        f"{file}: runbook {r.code} has check {code} twice."
        for file, r in found
        for code, _ in _twice((check.code, file) for check in r.checks)
    ]
    alerts = ((alert, file) for file, r in found for alert in r.alerts)
    problems += [
        f"Alert {alert} is answered by {files}; one runbook must answer it." for alert, files in _twice(alerts)
    ]
    for file, runbook in found:
        if not runbook.checks:
            problems.append(f"{file}: runbook {runbook.code} has no check.")
        if runbook.rounds < 1 or runbook.interval < 0:
            problems.append(f"{file}: rounds must be 1 or more and interval 0 or more.")
        named = ((t.name, runbook.code) for t in runbook.thresholds)
        problems += [f"{file}: threshold {name} is there twice." for name, _ in _twice(named)]
        problems += [f"{file}: {why}." for t in runbook.thresholds if (why := threshold_problem(t, t.default))]
    return problems


def _actions(modules: Iterable[ModuleType], problems: list[str]) -> list[tuple[str, AnyAction]]:
    found: list[tuple[str, AnyAction]] = []
    composed: list[tuple[str, str]] = []
    for module in modules:
        action, kinds = getattr(module, "ACTION", None), getattr(module, "COMPOSES", None)
        if action is not None:
            wrong = _action_problems(action)
            problems += [f"{module.__name__}: {why}." for why in wrong]
            if not wrong:
                found.append((module.__name__, cast("AnyAction", action)))
        elif isinstance(kinds, tuple):
            composed += [(module.__name__, str(kind)) for kind in cast("tuple[object, ...]", kinds)]
        else:
            problems.append(f"{module.__name__}: must end in ACTION, or name the kinds it composes in COMPOSES.")
    problems += [
        f"Action kind {kind} is used by {files}." for kind, files in _twice((a.kind, file) for file, a in found)
    ]
    known = {a.kind for _, a in found}
    problems += [f"{file}: composes {kind}, which no action is." for file, kind in composed if kind not in known]
    return found


def _action_problems(action: object) -> list[str]:
    """Say what the contract of bot.action.Action asks for and this object has not."""
    problems = [
        f"its action has no coroutine {name}"
        for name in METHODS
        if not inspect.iscoroutinefunction(getattr(action, name, None))
    ]
    for name in ("kind", "title"):
        value = getattr(action, name, None)
        if not isinstance(value, str) or not value:
            problems.append(f"its action has no {name}")
    if not isinstance(getattr(action, "risk", None), RiskClass):
        problems.append("its action has no risk of type RiskClass")
    params = getattr(action, "params", None)
    if not (isinstance(params, type) and issubclass(params, Record)):
        problems.append("its action has no params record")
    settle, patience = getattr(action, "settle", None), getattr(action, "patience", None)
    if not isinstance(settle, int | float) or not isinstance(patience, int | float) or not 0 <= settle < patience:
        problems.append("its action must have 0 <= settle < patience")
    return problems


def _twice(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each name that occurs more than once, with the places, in order."""
    places: dict[str, list[str]] = {}
    for name, place in pairs:
        places.setdefault(name, []).append(place)
    return [(name, ", ".join(found)) for name, found in sorted(places.items()) if len(found) > 1]
