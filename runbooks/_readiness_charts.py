"""The gap of the meta group as the readiness runbook judges it, reading by reading. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.model import Endpoint, Finding, Focus, Lines, Severity, Snapshot, Subject
from bot.runbook import Thresholds
from runbooks._meta_gap import GAP
from runbooks._meta_views import Trend, read_meta
from runbooks._raft_charts import lag_chart
from runbooks._series import Values


def readiness_charts(
    snapshot: Snapshot,
    findings: Sequence[Finding],
    thresholds: Thresholds,
    focus: Focus,  # noqa: ARG001 - the contract's parameters
) -> list[Lines]:
    """Return how far each server was behind, where the gap is what is wrong; a server that applies nothing is the trouble."""
    if not any(f.check == GAP.code and f.severity in {Severity.WARNING, Severity.CRITICAL} for f in findings):
        return []
    members = read_meta(snapshot, thresholds).members

    def gaps(number: int) -> Values:
        taken = ((m.name, r.round, gap) for m in members for r, gap in zip(m.readings, m.gaps, strict=True))
        return {name: gap for name, round_, gap in taken if round_ == number}

    chart = lag_chart(
        snapshot,
        gaps,
        Endpoint.RAFTZ,
        code="META_LAG",
        subject=Subject(cluster=snapshot.cluster),
        what="Meta group",
        unit="entries",
        wrong=frozenset(m.name for m in members if m.trend is Trend.STUCK),
    )
    return [chart] if chart else []
