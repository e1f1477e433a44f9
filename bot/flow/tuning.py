"""Another value than was proposed: a new proposal that takes the old one's place, asked for by the person who wants it, who so can't approve it.

Bounds are the action's own, in the proposal as data. What follows from the value is judged as for every proposal: check and preview look anew, the world is
taken anew, and the approvals of the old one count for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from bot.action import Draft
from bot.errors import BadInput
from bot.flow.approval import INCOMPLETE, Answer
from bot.flow.endings import end_proposal
from bot.flow.refusals import nobody_known, refusal
from bot.flow.stages import Plan, Stages
from bot.limits import Limits
from bot.model import (
    AuditDraft,
    Person,
    Proposal,
    ProposalId,
    ProposalState,
    Record,
    SlackUser,
    Tunable,
    new_id,
)
from bot.policy import Decision, may_withdraw
from bot.ports import Chat, Clock, Directory, Readers, Store, Transaction
from bot.settings import PolicySettings

UNKNOWN = "This button belongs to no proposal natsmedic knows."
NOTHING_TO_SET = "This proposal has no value that a person may set."
SAME = "This is what is proposed already."

log = structlog.get_logger(__name__)


class TuningForm(Record):
    """What may be set, with the present values and bounds."""

    proposal: Proposal


class Tuning:
    """Makes edited proposals."""

    def __init__(
        self,
        *,
        store: Store,
        directory: Directory,
        readers: Mapping[str, Readers],
        stages: Stages,
        rules: PolicySettings,
        limits: Limits,
        clock: Clock,
        chat: Chat,
    ) -> None:
        self._store = store
        self._directory = directory
        self._readers = readers
        self._stages = stages
        self._rules = rules
        self._limits = limits
        self._clock = clock
        self._chat = chat

    async def open(self, user: SlackUser, button: str) -> TuningForm | Answer:
        """Answer the button: what may be set, or the refusal."""
        found = await self._allowed(user, button)
        return TuningForm(proposal=found[0]) if isinstance(found, tuple) else found

    async def propose(self, user: SlackUser, button: str, typed: Mapping[str, str]) -> Answer:
        """Propose with these values instead, texts by the name of their tunable; `errors` by name. Raises `StoreError`."""
        found = await self._allowed(user, button)
        if isinstance(found, Answer):
            return found
        proposal, person = found
        values = {one.name: typed.get(one.name, one.value).strip() for one in proposal.tunables}
        wrong = {one.name: said for one in proposal.tunables if (said := one.problem(values[one.name]))}
        changed = [one for one in proposal.tunables if values[one.name] != one.value]
        if not wrong and not changed:
            wrong = {one.name: SAME for one in proposal.tunables}
        if wrong:
            return await self._mistaken(user, proposal, person, wrong)
        return await self._plan(user, proposal, person, changed, values)

    async def refuse(self, user: SlackUser, sentence: str) -> None:
        """Audit a gesture that is wrong in itself: a button on a message that is not its own."""
        await self._refused(user, None, sentence, "wrong_message")

    async def _allowed(self, user: SlackUser, button: str) -> tuple[Proposal, Person] | Answer:
        proposal = await self._store.proposal_by_button(button)
        if proposal is None:
            return await self._refused(user, None, UNKNOWN, "unknown_button")
        person = await self._directory.look_up(user)
        decision = self._judge(proposal, person)
        if not decision.allowed:
            return await self._refused(user, proposal, decision.sentence, decision.reason, person)
        if not proposal.tunables or proposal.state is not ProposalState.PENDING:
            return await self._refused(user, proposal, NOTHING_TO_SET, "nothing_to_set", person)
        return proposal, person

    def _judge(self, proposal: Proposal, person: Person) -> Decision:
        """To replace a proposal is to take it back."""
        return may_withdraw(proposal, person, self._rules, self._clock.now())

    async def _plan(
        self, user: SlackUser, old: Proposal, person: Person, changed: list[Tunable], values: Mapping[str, str]
    ) -> Answer:
        told = ", ".join(f"{one.title} {values[one.name]} instead of {one.value}" for one in changed)
        try:
            stages = self._stages.tuned([(stage.kind, stage.params) for stage in old.stages], values)
        except BadInput as error:
            return await self._mistaken(user, old, person, {changed[0].name: str(error)})
        draft = Draft(title=f"{old.title} ({told})", why=f"{person.key} asks for {told}. {old.why}", stages=stages)
        plan = await self._stages.plan(self._readers[old.cluster], draft)
        if not plan.stages:
            sentence = f"Nothing was proposed with {told}. {' '.join(plan.guidance)}"
            return await self._refused(user, old, sentence, "not_offered", person)
        new = self._edited(old, draft, plan, person, self._clock.now())
        refused = await self._replace(old, new, person, told)
        if refused is not None:
            return await self._refused(user, old, refused.sentence, refused.reason, person)
        self._chat.nudge(old.incident_id)
        return Answer(accepted=True, sentence=f"Proposed with {told}. You asked for it, so somebody else approves it.")

    def _edited(self, old: Proposal, draft: Draft, plan: Plan, person: Person, now: datetime) -> Proposal:
        """The new proposal. Guidance and files of the old one hold its value, so they are left out; a caution says of the rest that it was written for it."""
        expiry = self._rules.for_cluster(old.cluster).expiry_seconds[plan.risk]
        before = ", ".join(f"{one.title} {one.value}" for one in old.tunables)
        return Proposal(
            id=ProposalId(new_id("prop")),
            incident_id=old.incident_id,
            diagnosis_id=old.diagnosis_id,
            cluster=old.cluster,
            subject=old.subject,
            title=draft.title,
            why=draft.why,
            risk=plan.risk,
            stages=plan.stages,
            rung=old.rung,
            cautions=(f"The cautions besides this one were written for {before}.", *old.cautions),
            tunables=plan.tunables,
            origin=old.offer,
            world=plan.world,
            state=ProposalState.PENDING,
            button=new_id("btn"),
            requested_by=person.key,
            created_at=now,
            expires_at=now + timedelta(seconds=expiry),
        )

    async def _replace(self, old: Proposal, new: Proposal, person: Person, told: str) -> Decision | None:
        """Commit both together; the refusal where the old one can't be replaced any more."""
        async with self._store.begin() as tx:
            current = await tx.get(Proposal, old.id) or old
            decision = self._judge(current, person)
            if not decision.allowed:
                return decision
            new = await self._limited(tx, new)
            reason = f"{person.key} asks for another value: {told}."
            replaced = current.model_copy(update={"superseded_by": new.id})
            await end_proposal(tx, replaced, ProposalState.SUPERSEDED, reason, actor=person.key)
            await tx.put(new)
            await tx.touch(new.incident_id)
            data = {"digest": new.digest, "proposal": new.model_dump(mode="json", exclude={"button"})}
            draft = AuditDraft(
                kind="proposal.created",
                actor=person.key,
                incident_id=new.incident_id,
                subject=new.id,
                sentence=f"{person.key} proposes: {new.title}",
                data=data | {"instead_of": old.id},
            )
            await tx.audit(draft)
        return None

    async def _limited(self, tx: Transaction, new: Proposal) -> Proposal:
        """One that may not start yet says so."""
        ruling = await self._limits.start(tx, new)
        return new if ruling.allowed else new.model_copy(update={"cautions": (ruling.sentence, *new.cautions)})

    async def _mistaken(self, user: SlackUser, proposal: Proposal, person: Person, wrong: dict[str, str]) -> Answer:
        """Say at its fields what is wrong with a form; it is a row like every other refusal."""
        await self._refused(user, proposal, INCOMPLETE, "incomplete", person)
        return Answer(accepted=False, sentence="", errors=wrong)

    async def _refused(
        self, user: SlackUser, proposal: Proposal | None, sentence: str, code: str, person: Person | None = None
    ) -> Answer:
        log.info("another value refused", code=code, user=user.user_id)
        actor = person.key if person else nobody_known(user)
        incident, subject = (proposal.incident_id, proposal.id) if proposal else (None, "")
        draft = refusal(user, actor, sentence, incident=incident, subject=subject, code=code, gesture="tune")
        async with self._store.begin() as tx:
            await tx.audit(draft)
        return Answer(accepted=False, sentence=sentence)
