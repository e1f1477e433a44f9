"""What a runbook author needs: Runbook, Check, Threshold. Records and plain functions; no decorators, no base class.

A runbook file ends in one record named `RUNBOOK`; `bot.registry` finds it. `examine` and `propose` are pure functions of snapshot and thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bot.action import Draft
from bot.model import Chart, Endpoint, Finding, Focus, Layer, Snapshot, Subject

__all__ = ["Charts", "Check", "Draft", "Examine", "Propose", "Proposed", "Runbook", "Threshold", "Thresholds", "Unit"]


class Unit(StrEnum):
    """Units of thresholds; a default outside its unit's range is refused at start."""

    SECONDS = "s"
    RATIO = "ratio"
    COUNT = "count"
    OPERATIONS = "ops"
    DAYS = "d"
    FACTOR = "x"
    """A multiple of something observed, e.g. of the mean."""


Thresholds = Mapping[str, float]
"""Threshold name to its value, defaults replaced by settings."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number a check compares with; settings and help come from here."""

    name: str
    default: float
    unit: Unit
    meaning: str


Examine = Callable[[Snapshot, Thresholds, Focus], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about a healthy cluster and the function that looks for its opposite."""

    code: str
    layer: Layer
    healthy: str
    """The sentence that is true when nothing is wrong."""
    needs: frozenset[Endpoint]
    examine: Examine
    trend: frozenset[Endpoint] = frozenset()
    """What it compares over time, of its needs. Where its first look is not OK, these are read again, `Runbook.rounds` times in all; where every check is
    content after the first look, nothing is read twice. So with one round `examine` must not call *OK* what only a second look could clear.
    """

    counterpart: str | None = None
    """The check of `nats audit analyze` that says the same, e.g. META_001; its findings name it too."""
    of_kubernetes: bool = False
    """True where it judges `Snapshot.kubernetes`: where there is none it is not asked, and so says neither *healthy* nor *unknown*."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Return what it looks at, for people: endpoints, and Kubernetes."""
        return (*sorted(self.needs), *(("Kubernetes",) if self.of_kubernetes else ()))

    def applies(self, snapshot: Snapshot) -> bool:
        """Tell whether the snapshot has the side that this check judges."""
        return snapshot.kubernetes is not None or not self.of_kubernetes


@dataclass(frozen=True, slots=True)
class Proposed:
    """A draft and the thing it repairs."""

    subject: Subject
    draft: Draft


Propose = Callable[[Snapshot, Sequence[Finding], Thresholds, Focus], Sequence[Proposed]]
"""Return proposals in order of risk, the least destructive first; a cause that is still there comes first of all."""

Charts = Callable[[Snapshot, Sequence[Finding], Thresholds, Focus], Sequence[Chart]]
"""Return what is easier to see than to read, the most telling first; nothing where a sentence says it as well, so nothing for a healthy cluster."""


def no_charts(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> Sequence[Chart]:  # noqa: ARG001 - the contract's parameters
    """Return nothing."""
    return ()


@dataclass(frozen=True, slots=True)
class Runbook:
    """One file, one record."""

    code: str
    title: str
    alerts: frozenset[str]
    """Alert names it answers."""
    thresholds: tuple[Threshold, ...]
    checks: tuple[Check, ...]
    propose: Propose
    rounds: int = 1
    """How often the endpoints that its checks name as their `trend` are read, where the first look finds something."""
    interval: float = 0.0
    """Seconds between rounds."""
    sources: tuple[str, ...] = ()
    """What its judgements rest on, for people: upstream issues and fixes, server files, the peer's checks."""
    charts: Charts = no_charts

    @property
    def needs(self) -> frozenset[Endpoint]:
        """Everything its checks need."""
        return frozenset(endpoint for check in self.checks for endpoint in check.needs)

    def values(self, overrides: Thresholds | None = None) -> Thresholds:
        """Return every threshold's value, settings before defaults."""
        return {t.name: t.default for t in self.thresholds} | dict(overrides or {})

    def applies(self, snapshot: Snapshot) -> bool:
        """Tell whether any of its checks applies."""
        return any(check.applies(snapshot) for check in self.checks)
