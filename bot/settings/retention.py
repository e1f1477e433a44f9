"""How long records are kept. The audit log is kept for ever."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from bot.settings.section import Section, problem

SHORTEST: Final = 30
"""Days. A sender's numbered event that comes again within 30 days must be known (reference/safety.md, T3), and an incident that goes on in its old thread
does so within 7 (`threads.reopen_within`)."""


def _days(value: int) -> int:
    if value != 0 and value < SHORTEST:
        raise problem(f"is {value}", f"0, which keeps for ever, or {SHORTEST} days and more", "correct it")
    return value


Days = Annotated[
    int,
    AfterValidator(_days),
    WithJsonSchema({"type": "integer", "anyOf": [{"const": 0}, {"minimum": SHORTEST}]}),
]


class RetentionSettings(Section):
    """Days; 0 keeps for ever. What an open incident, an undecided proposal or an unfinished repair rests on stays, however old."""

    incidents: Days = 365
    """Incidents that are over, since their last change, with their alerts, diagnoses, proposals, approvals and repairs."""
    snapshots: Days = 90
    """The archives of facts that diagnoses were made from; their digests stay in the audit log."""
    deliveries: Days = 90
    """Requests of webhooks, once no alert of a kept incident came with them."""
