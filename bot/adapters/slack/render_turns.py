"""The turns of an incident that its thread tells in one sentence each: it came back, a silence is over. None of them mentions anybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bot.adapters.slack.blocks import moment, paragraph, rich, text
from bot.adapters.slack.text import fallback
from bot.adapters.slack.wanted import WantedMessage
from bot.model import Incident, Relapse, Silence


@dataclass(frozen=True, slots=True)
class Turn:
    """One of them, at its time."""

    at: datetime
    message: WantedMessage


def turns(incident: Incident) -> list[Turn]:
    """Return them in order of time. What happened under a silence is on the board alone."""
    back = [_back(incident, one) for one in incident.relapses if incident.hush(one.at) is None]
    over = [_over(incident, one, one.ended_at) for one in incident.silences if one.ended_at is not None]
    return sorted([*back, *over], key=lambda turn: turn.at)


def _back(incident: Incident, relapse: Relapse) -> Turn:
    words = f"🔴 Back again, return number {relapse.number}: the alert fires after this incident was {relapse.after}."
    return _turn(incident, f"relapse:{incident.id}:{relapse.number}", relapse.at, words)


def _over(incident: Incident, silence: Silence, ended: datetime) -> Turn:
    over = f"The silence of {silence.person} is over"
    how = f"{over}, ended by {silence.ended_by}" if silence.ended_by else over
    words = f"🔔 {how}. Alerts that came in meanwhile: {silence.muted}."
    return _turn(incident, f"silence:{incident.id}:{int(silence.at.timestamp())}", ended, words)


def _turn(incident: Incident, key: str, at: datetime, words: str) -> Turn:
    shown = (rich(paragraph(text(f"{words} ", 600), moment(at))),)
    return Turn(at, WantedMessage(key=key, blocks=shown, text=fallback(f"{words} {incident.title}")))
