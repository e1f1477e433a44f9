"""Several meters as one, none of which can stand in the way of what it measures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from bot.model import Incident
from bot.ports import Call, Commit, Meter

log = structlog.get_logger(__name__)


class Meters:
    """Tells each meter. A defect of one is logged, and neither the others nor the caller notice."""

    def __init__(self, *meters: Meter) -> None:
        self._meters = meters

    def committed(self, commit: Commit) -> None:
        self._each(lambda meter: meter.committed(commit))

    def called(self, call: Call) -> None:
        self._each(lambda meter: meter.called(call))

    def shown(self, incident: Incident, at: datetime) -> None:
        self._each(lambda meter: meter.shown(incident, at))

    def _each(self, tell: Callable[[Meter], None]) -> None:
        for meter in self._meters:
            try:
                tell(meter)
            except Exception:  # what is measured has happened, and must not fail for it
                log.exception("a meter failed", meter=type(meter).__name__)
