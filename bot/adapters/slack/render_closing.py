"""The report of an incident, attached once to each of its closings."""

from __future__ import annotations

from bot.adapters.slack.text import fallback
from bot.adapters.slack.wanted import Case, File, WantedMessage
from bot.model import IncidentState, Severity


def closing(case: Case) -> tuple[WantedMessage, ...]:
    """Return the report of a closed incident: when nothing of it runs any more, and no silence holds. A question that found nothing needs none."""
    incident = case.incident
    if incident.state is not IncidentState.CLOSED or case.pace is not None or incident.silence is not None:
        return ()
    if incident.requested_by is not None and not _found_something(case):
        return ()
    number = 1 + (incident.relapses[-1].number if incident.relapses else 0)
    words = "Closed. The report of this incident: what was seen, decided and done, and the rows of the audit log that say so."
    file = File(name=f"report-{incident.id}-{number}.md", title="Incident report", report=incident.id)
    return (WantedMessage(key=f"report:{incident.id}:{number}", text=fallback(words), file=file),)


def _found_something(case: Case) -> bool:
    return bool(case.proposals) or any(one.verdict.severity is not Severity.OK for one in case.diagnoses)
