"""Sets and lifts freezes: anyone who may operate sets one, two different people lift it (design/safety.md, Approving 5)."""

from __future__ import annotations

from datetime import timedelta

from bot.errors import BadInput
from bot.flow.refusals import account
from bot.model import LIFTERS, AuditDraft, Freeze, FreezeId, Lift, SlackUser, digest, new_id
from bot.ports import Clock, Store


async def freeze(
    store: Store,
    clock: Clock,
    person: str,
    reason: str,
    *,
    cluster: str | None = None,
    action: str | None = None,
    lasts: timedelta | None = None,
    by: SlackUser | None = None,
    event: str = "",
) -> Freeze:
    """Stop everything, a cluster or a kind of action, until it is lifted or `lasts` is over. Raises `BadInput` where there is no reason.

    `by` is kept in the audit row: the account behind the person, in the terminal the OS user. The same `event`, Slack's id of a gesture, is one freeze,
    however often it is delivered: the first is returned as it stands by now.
    """
    now = clock.now()
    made = Freeze(
        id=FreezeId(f"frz_{digest(event)[:26]}" if event else new_id("frz")),
        cluster=cluster,
        action=action,
        reason=_reason(reason),
        person=person,
        at=now,
        until=now + lasts if lasts is not None else None,
    )
    async with store.begin() as tx:
        earlier = await tx.get(Freeze, made.id) if event else None
        if earlier is not None:
            return earlier
        await tx.put(made)
        await tx.audit(_row("freeze.set", person, made, f"{made}.", by))
    return made


async def lift(
    store: Store, clock: Clock, freeze_id: str, person: str, reason: str, *, by: SlackUser | None = None
) -> Freeze:
    """Record that `person` lifts a freeze; it ends with the second of them. `by` as above.

    Raises `BadInput` where there is no such freeze, it is over, no reason is given, or this person has lifted it already.
    """
    async with store.begin() as tx:
        found = await tx.get(Freeze, freeze_id)
        now = clock.now()
        if found is None:
            raise BadInput(f"There is no freeze {freeze_id}: /nats status and `natsmedic freeze list` show those there are.")
        if not found.active(now):
            raise BadInput(f"Freeze {freeze_id} is over already.")
        if any(given.person == person for given in found.lifts):
            raise BadInput(f"{person} has lifted freeze {freeze_id} already; {LIFTERS} different people must.")
        lifted = found.model_copy(update={"lifts": (*found.lifts, Lift(person=person, reason=_reason(reason), at=now))})
        await tx.put(lifted)
        kind = "freeze.lifted" if lifted.lifted else "freeze.lift"
        sentence = f"{person} lifts it ({len(lifted.lifts)} of {LIFTERS}): {reason.strip()}"
        await tx.audit(_row(kind, person, lifted, sentence, by))
    return lifted


def _reason(text: str) -> str:
    if not text.strip():
        raise BadInput("A reason is needed: whoever is stopped by the freeze reads it.")
    return text.strip()


def _row(kind: str, person: str, freeze_: Freeze, sentence: str, by: SlackUser | None) -> AuditDraft:
    data = freeze_.model_dump(mode="json") | account(by)
    return AuditDraft(kind=kind, actor=person, subject=freeze_.id, sentence=sentence, data=data)
