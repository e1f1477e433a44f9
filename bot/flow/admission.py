"""Who may use a command: looked up at the moment of use, and every refusal is a row of the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from bot.errors import Refused
from bot.model import AuditDraft, Person, SlackUser
from bot.policy import Decision
from bot.ports import Directory, Store
from bot.settings import PolicySettings

Rule = Callable[[Person, PolicySettings], Decision]

UNREADABLE: Final = "Slack delivered this in a shape that natsmedic does not know, so nothing was done."

log = structlog.get_logger(__name__)


class Admission:
    """Lets people in, or says no."""

    def __init__(self, store: Store, directory: Directory, rules: PolicySettings) -> None:
        self._store = store
        self._directory = directory
        self._rules = rules

    async def admit(self, user: SlackUser, rule: Rule, what: str) -> Person:
        """Return the person as they are now. Raises `Refused` where the rule says no, and `StoreError` where that could not be recorded."""
        person = await self._directory.look_up(user)
        decision = rule(person, self._rules)
        if decision.allowed:
            return person
        log.info("command refused", code=decision.reason, what=what, user=user.user_id)
        async with self._store.begin() as tx:
            await tx.audit(
                AuditDraft(
                    kind="command.refused",
                    actor=person.key,
                    subject=what,
                    sentence=decision.sentence,
                    data={"code": decision.reason, "team": user.team_id, "user": user.user_id},
                )
            )
        raise Refused(decision.sentence)

    async def unreadable(self, user: SlackUser | None, what: str) -> None:
        """Record a gesture of a shape that Slack does not send; `user` is None where even that cannot be read. Raises `StoreError`."""
        actor = f"{user.team_id}/{user.user_id}" if user is not None else "somebody unreadable"
        log.warning("a gesture of an unknown shape was refused", what=what, actor=actor)
        async with self._store.begin() as tx:
            await tx.audit(
                AuditDraft(
                    kind="click.refused", actor=actor, subject=what, sentence=UNREADABLE, data={"code": "unreadable"}
                )
            )
