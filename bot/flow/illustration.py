"""The charts that belong to a diagnosis: what its runbook finds easier to see than to read. Pure."""

from __future__ import annotations

from typing import Final

import structlog

from bot.flow.examination import Judgement
from bot.model import Chart, Focus
from bot.runbook import Thresholds

MOST_CHARTS: Final = 3
"""Charts of one diagnosis: a thread is read on a phone, and the archive has everything."""

log = structlog.get_logger(__name__)


def illustrate(judged: Judgement, overrides: Thresholds | None, focus: Focus) -> tuple[Chart, ...]:
    """Return the runbook's charts of its findings. A chart that can't be made costs the picture, never the diagnosis."""
    snapshot, runbook = judged.snapshot, judged.runbook
    if snapshot is None:
        return ()
    try:
        return tuple(runbook.charts(snapshot, judged.findings, runbook.values(overrides), focus))[:MOST_CHARTS]
    except Exception:  # as for a check: the findings stand without it, and the log has the mistake whole
        log.exception("the charts of a runbook failed", runbook=runbook.code, snapshot=snapshot.id)
        return ()
