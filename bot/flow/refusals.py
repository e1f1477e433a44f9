"""The one row that every refused gesture of a person leaves, and how rows name the account behind a person."""

from __future__ import annotations

from bot.model import AuditDraft, IncidentId, JsonObject, SlackUser


def refusal(
    user: SlackUser, actor: str, sentence: str, *, incident: IncidentId | None, subject: str, **data: str
) -> AuditDraft:
    """Return the row. `data` holds the `code` of the reason, and what was pressed as `choice` or `gesture`."""
    told: JsonObject = {**data, **account(user)}
    return AuditDraft(
        kind="click.refused", actor=actor, incident_id=incident, subject=subject, sentence=sentence, data=told
    )


def nobody_known(user: SlackUser) -> str:
    """Return the actor of a row about somebody who was not looked up."""
    return f"{user.team_id}/{user.user_id}"


def account(user: SlackUser | None) -> JsonObject:
    """Return the account behind the person of a row, in the terminal the OS user; empty where none is known."""
    return {"team": user.team_id, "user": user.user_id} if user is not None else {}
