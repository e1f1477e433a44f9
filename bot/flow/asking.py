"""A person asks for a look at a cluster. It takes the way of every alert: one stored delivery, an incident, a diagnosis; its proposals bear who asked."""

from __future__ import annotations

import re
from typing import Final

from pydantic import ValidationError

from bot.errors import BadInput
from bot.flow.incoming import IncomingAlert, ParsedDelivery
from bot.flow.intake import Intake
from bot.flow.notices import fingerprint_of
from bot.model import AlertState, AuditDraft, AuditFilter, Focus, Incident, Record
from bot.model.subjects import PATTERN, SUBJECT_LABEL
from bot.ports import Clock, Engine, Phase, Store

COMMAND: Final = "natsmedic/command"
"""Source. No webhook can have such a name: a route's name holds no slash (`bot.settings.webhooks.RouteName`)."""
ANYTHING: Final = "Diagnosis asked for"
"""Title where no runbook is named; it is no alert's name, so the runbook with the most checks looks."""
ASKED: Final = "diagnosis.asked"
"""Kind of the audit row of a second look."""
TITLE_LIMIT: Final = 250
OBJECT: Final = "ACCOUNT/STREAM, ACCOUNT/STREAM/CONSUMER, a server's name or subject:PATTERN"
_SUBJECT: Final = "subject:"

_NAME: Final = re.compile(r"[^\s/\\.*>\x00-\x1f\x7f]{1,255}")
"""A stream's or consumer's name (server/stream.go and consumer.go: no blank, dot, star, greater-than or path separator)."""
_SERVER: Final = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._$-]{0,127}")
"""A server's or an account's name as people write them; a stricter rule than the server's, so that no prose is taken for one."""


class Asked(Record):
    """The body of a delivery of ours."""

    cluster: str
    person: str
    event: str
    alert: IncomingAlert


def parse_asked(body: str) -> ParsedDelivery:
    """Return what was asked. Raises `BadInput` for any other body."""
    try:
        asked = Asked.model_validate_json(body)
    except ValidationError as error:
        raise BadInput(f"The body is no question of natsmedic ({error.error_count()} mistakes).") from None
    return ParsedDelivery(alerts=(asked.alert,), cluster=asked.cluster, asked_by=asked.person, event=asked.event)


def focus_from(written: str) -> Focus:
    """Return the object that a person named. Raises `BadInput`."""
    if written.startswith(_SUBJECT) and PATTERN.fullmatch(pattern := written.removeprefix(_SUBJECT)):
        return Focus(subject=pattern)
    account, *assets = written.split("/")
    if _SERVER.fullmatch(account) and all(_NAME.fullmatch(asset) for asset in assets):
        match assets:
            case []:
                return Focus(server=account)
            case [stream]:
                return Focus(account=account, stream=stream)
            case [stream, consumer]:
                return Focus(account=account, stream=stream, consumer=consumer)
            case _:
                pass
    raise BadInput(f"{written[:80]!r} is no object; expected {OBJECT}.")


class Asking:
    """Takes questions."""

    def __init__(self, *, store: Store, engine: Engine, clock: Clock, intake: Intake) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._intake = intake

    async def ask(
        self, person: str, event: str, cluster: str, title: str, focus: Focus | None = None, message: str = ""
    ) -> str:
        """Store a question and return its fingerprint; the same event is one question. Raises `StoreError`.

        Each person has an incident of their own: whoever asks has requested what comes of it, so two who ask the same must not count as one of them.
        `message` names the chat message it is about, so that each has an incident of its own.
        """
        focus = focus or Focus()
        named = {"account": focus.account, "stream": focus.stream, "consumer": focus.consumer}
        named |= {"server_name": focus.server, SUBJECT_LABEL: focus.subject}
        labels = {name: value for name, value in named.items() if value}
        fingerprint = fingerprint_of(person, cluster, message or title, *sorted(labels.values()))
        alert = IncomingAlert(
            fingerprint=fingerprint,
            state=AlertState.FIRING,
            name=title[:TITLE_LIMIT],
            labels=labels,
            annotations={"summary": f"{person} asks."},
            starts_at=self._clock.now(),
            ends_at=None,
        )
        asked = Asked(cluster=cluster, person=person, event=event, alert=alert)
        await self._intake.accept(COMMAND, asked.model_dump_json())
        return fingerprint

    async def incident(self, fingerprint: str) -> Incident | None:
        """Return the newest incident of a question once there is one."""
        return next(iter(await self._store.incidents(limit=1, source=COMMAND, fingerprint=fingerprint)), None)

    async def again(self, person: str, event: str, incident: Incident) -> None:
        """Diagnose an incident once more; the same event does so once."""
        known = AuditFilter(kind=ASKED, incident=incident.id, words=(event,))
        if not await self._store.newest_audit_lines(limit=1, wanted=known):
            draft = AuditDraft(
                kind=ASKED,
                actor=person,
                incident_id=incident.id,
                subject=incident.title,
                sentence=f"{person} asks for another look.",
                data={"event": event},
            )
            async with self._store.begin() as tx:
                await tx.audit(draft)
        await self._engine.start(Phase.DIAGNOSIS, f"{incident.id}/asked {event}")
