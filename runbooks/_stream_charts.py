"""The members of a stream that are behind, over the rounds of a snapshot. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.model import Finding, Focus, Lines, Severity, Snapshot, StreamKey
from bot.runbook import Thresholds
from runbooks._raft_charts import stream_lag
from runbooks._stream_checks import LAG

MOST_STREAMS = 2
"""Streams with a picture; when more of them lag, the cause is a server's and shows in each."""


def stream_charts(
    snapshot: Snapshot,
    findings: Sequence[Finding],
    thresholds: Thresholds,  # noqa: ARG001 - the contract's parameters
    focus: Focus,  # noqa: ARG001
) -> list[Lines]:
    """Return the gap of the streams that a finding about lag names one by one; one about many streams has none to draw."""
    bad = {Severity.WARNING, Severity.CRITICAL}
    named = dict.fromkeys(
        StreamKey(f.subject.account, f.subject.stream)
        for f in findings
        if f.check == LAG.code and f.severity in bad and f.subject.account and f.subject.stream
    )
    drawn = (stream_lag(snapshot, key) for key in list(named)[:MOST_STREAMS])
    return [chart for chart in drawn if chart is not None]
