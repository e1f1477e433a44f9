"""The one row that every refused gesture of a person leaves."""

from __future__ import annotations

from bot.model import AuditDraft, IncidentId, JsonObject, SlackUser


def refusal(
    user: SlackUser, actor: str, sentence: str, *, incident: IncidentId | None, subject: str, **data: str
) -> AuditDraft:
    """Return the row. `data` holds the `code` of the reason, and what was pressed as `choice` or `gesture`."""
    told: JsonObject = {**data, "team": user.team_id, "user": user.user_id}
    return AuditDraft(
        kind="click.refused", actor=actor, incident_id=incident, subject=subject, sentence=sentence, data=told
    )


def nobody_known(user: SlackUser) -> str:
    """Return the actor of a row about somebody who was not looked up."""
    return f"{user.team_id}/{user.user_id}"
