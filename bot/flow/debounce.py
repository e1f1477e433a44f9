"""Turns a stream of repeats into few alerts: the first one at once, one more per window while it goes on, resolved after silence.

Pure: time comes in with what is heard. Memory is bounded however much is heard, because whoever may publish may publish without end.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bot.flow.incoming import IncomingAlert
from bot.flow.notices import AdvisoryAlert, Notice, fingerprint_of
from bot.model import AlertState, JsonObject
from bot.settings import AdvisorySettings

COUNTED: Final = frozenset({AdvisoryAlert.LEADER_ELECTIONS, AdvisoryAlert.META_ELECTIONS})
"""One election is no incident: groups elect leaders whenever a server restarts."""

MOST_GROUPS: Final = 10_000
"""Raft groups whose elections are remembered, the least recent ones forgotten: about 5 MB. The restart of one server of a large cluster moves the leaders
of thousands of groups, once each."""


@dataclass(slots=True)
class _Case:
    """One alert that is open, or about to be."""

    alert: IncomingAlert
    evidence: JsonObject
    last_heard: datetime
    silence: timedelta
    sent_at: datetime | None = None
    unsent: int = 0


class Debouncer:
    """Of one cluster. What `due` has returned counts as sent, so the caller keeps it until it is."""

    def __init__(self, cluster: str, pace: AdvisorySettings) -> None:
        self._cluster = cluster
        self._pace = pace
        self._repeat = timedelta(seconds=pace.repeat)
        self._window = timedelta(seconds=pace.window)
        self._cases: dict[str, _Case] = {}
        self._elections: OrderedDict[str, deque[datetime]] = OrderedDict()

    def hear(self, alert: IncomingAlert, evidence: JsonObject) -> bool:
        """Take one sighting of a condition, at its `starts_at`; say whether it is news, which is due at once."""
        now = alert.starts_at
        if alert.name in COUNTED and not self._is_storm(alert.fingerprint, now):
            return False
        if alert.fingerprint not in self._cases and self._is_crowded(alert.name):
            alert = self._crowd(alert)
        case = self._cases.setdefault(alert.fingerprint, self._new(alert, now))
        case.evidence = evidence
        case.last_heard = now
        case.unsent += 1
        return case.sent_at is None

    def adopt(self, alert: IncomingAlert, now: datetime) -> None:
        """Go on with an alert that an earlier process has sent as firing: it is resolved after silence from now on."""
        case = self._cases.setdefault(alert.fingerprint, self._new(alert, now))
        case.sent_at = case.sent_at or now

    def due(self, now: datetime) -> list[Notice]:
        """Return what must be delivered by now."""
        notices: list[Notice] = []
        for fingerprint, case in list(self._cases.items()):
            if case.sent_at is not None and now - case.last_heard >= case.silence:
                del self._cases[fingerprint]
                over = {"state": AlertState.RESOLVED, "ends_at": now}
                notices.append(self._notice(case, case.alert.model_copy(update=over)))
            elif case.sent_at is None or (case.unsent and now - case.sent_at >= self._repeat):
                notices.append(self._notice(case, case.alert))
                case.sent_at = now
                case.unsent = 0
        return notices

    def _is_storm(self, group: str, now: datetime) -> bool:
        times = self._elections.setdefault(group, deque(maxlen=self._pace.elections))
        self._elections.move_to_end(group)
        if len(self._elections) > MOST_GROUPS:
            self._elections.popitem(last=False)
        times.append(now)
        return len(times) == self._pace.elections and now - times[0] <= self._window

    def _is_crowded(self, name: str) -> bool:
        crowd = self._crowd_fingerprint(name)
        open_now = sum(case.alert.name == name and key != crowd for key, case in self._cases.items())
        return open_now >= self._pace.most

    def _crowd(self, alert: IncomingAlert) -> IncomingAlert:
        """Return the one alert that stands for all beyond the first `most` of this name."""
        summary = f"{self._pace.most} of these are open already; all further ones share this one."
        return alert.model_copy(
            update={
                "fingerprint": self._crowd_fingerprint(alert.name),
                "labels": {"cluster": self._cluster},
                "annotations": {"summary": summary},
            }
        )

    def _crowd_fingerprint(self, name: str) -> str:
        return fingerprint_of(self._cluster, name, "all further ones")

    def _new(self, alert: IncomingAlert, now: datetime) -> _Case:
        silence = max(self._pace.silence, self._pace.window) if alert.name in COUNTED else self._pace.silence
        return _Case(alert, {}, now, timedelta(seconds=silence))

    def _notice(self, case: _Case, alert: IncomingAlert) -> Notice:
        return Notice(cluster=self._cluster, alert=alert, heard=max(case.unsent, 1), evidence=case.evidence)
