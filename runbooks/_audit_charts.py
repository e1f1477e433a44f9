"""What of the cluster audit is easier to see than to read. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.model import Chart, Finding, Focus, Limit, Severity, Snapshot, StreamKey
from bot.runbook import Thresholds
from runbooks import _audit_servers as servers
from runbooks import _audit_streams as streams
from runbooks._queue_charts import api_load
from runbooks._raft_charts import replica_lag

MOST_STREAMS = 2
"""Streams with a picture; when more of them lag, the cause is a server's and shows in each."""


def audit_charts(
    snapshot: Snapshot,
    findings: Sequence[Finding],
    thresholds: Thresholds,
    focus: Focus,  # noqa: ARG001 - the contract's parameters
) -> list[Chart]:
    """Return the API's load where it is too high, and the gap of the streams whose replicas lag."""
    bad = [f for f in findings if f.severity in {Severity.WARNING, Severity.CRITICAL}]
    found: list[Chart | None] = []
    if any(f.check == servers.API.code for f in bad):
        found.append(api_load(snapshot, Limit(name="accepted", value=thresholds["api_inflight"] or 1)))
    lagging = dict.fromkeys((f.subject.account, f.subject.stream) for f in bad if f.check == streams.LAG.code)
    keys = [StreamKey(account, stream) for account, stream in lagging if account is not None and stream is not None]
    found += [replica_lag(snapshot, key) for key in keys[:MOST_STREAMS]]
    return [chart for chart in found if chart is not None]
