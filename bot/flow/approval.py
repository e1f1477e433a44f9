"""Phase 3: a person's click becomes one recorded decision, or a refusal that is said and audited.

Authority is looked up at the click. The world is compared with the proposal's before an approval is recorded, and again before the first write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog

from bot import crashpoints
from bot.crashpoints import Point
from bot.errors import Unreadable
from bot.flow import narration
from bot.flow.endings import end_proposal
from bot.flow.refusals import nobody_known, refusal
from bot.flow.stages import Stages
from bot.flow.voiding import void_without_code
from bot.limits import Limits, Ruling
from bot.model import (
    Approval,
    ApprovalId,
    AuditDraft,
    Choice,
    Execution,
    ExecutionId,
    ExecutionState,
    Factor,
    JsonObject,
    OperationId,
    Person,
    Proposal,
    ProposalId,
    ProposalState,
    Record,
    SlackUser,
    StageRun,
    StageState,
    digest,
)
from bot.policy import (
    CODE_FAULTS,
    SAY_WHY,
    Decision,
    Reason,
    asks_code,
    check_code,
    check_form,
    decide,
    locked_until,
    may_withdraw,
    standing,
    stands_in,
    typed_name,
)
from bot.ports import Chat, Clock, Directory, Engine, Phase, Readers, Store, Transaction
from bot.settings import PolicySettings

WITHDRAW: Final = "withdraw"
"""What the refusal of a withdrawal names where that of a click names the choice."""
INCOMPLETE: Final = "The form is not complete."
"""What the row says where each field says what is wrong with it."""

log = structlog.get_logger(__name__)


class Click(Record):
    """A button or a submitted form. `button` is the opaque id; it authorises nothing."""

    user: SlackUser
    button: str
    choice: Choice
    break_glass: bool = False
    """The person wants to approve alone."""


class Answer(Record):
    """What the clicker alone is told; `errors` by form field (`reason`, `typed_name`)."""

    accepted: bool
    sentence: str
    errors: dict[str, str] = {}


class Form(Record):
    """What to ask the person. `typed_name` is the name that must be typed, None where none is."""

    proposal: Proposal
    ask_reason: bool = True
    typed_name: str | None = None
    ask_code: bool = False
    """A code of the person's second factor is asked for."""
    may_break: bool = False
    """The person may approve alone, for want of a second one."""


class ApprovalDesk:
    """Decides on clicks."""

    def __init__(
        self,
        *,
        store: Store,
        directory: Directory,
        readers: Mapping[str, Readers],
        stages: Stages,
        rules: PolicySettings,
        limits: Limits,
        engine: Engine,
        clock: Clock,
        chat: Chat,
    ) -> None:
        self._store = store
        self._directory = directory
        self._readers = readers
        self._stages = stages
        self._rules = rules
        self._limits = limits
        self._engine = engine
        self._clock = clock
        self._chat = chat
        self._turns: dict[str, asyncio.Lock] = {}

    async def open(self, click: Click) -> Form | Answer:
        """Answer a button: a form to fill in, or the refusal."""
        proposal = await self._store.proposal_by_button(click.button)
        if proposal is None:
            return await self._refused(
                click, None, "This button belongs to no proposal natsmedic knows.", "unknown_button"
            )
        person = await self._directory.look_up(click.user)
        approvals = await self._store.approvals(proposal.id)
        decision = self._judge(proposal, approvals, person, click)
        alone = click.model_copy(update={"break_glass": click.choice is Choice.APPROVE})
        may_break = alone.break_glass and self._judge(proposal, approvals, person, alone).allowed
        if not decision.allowed and not may_break:
            return await self._refused(click, proposal, decision.sentence, decision.reason, person)
        if click.choice is Choice.APPROVE and not (ruling := await self._may_start(proposal)).allowed:
            return await self._refused(click, proposal, ruling.sentence, ruling.stop, person)
        name = typed_name(proposal) if click.choice is Choice.APPROVE else None
        code = asks_code(proposal, click.choice, self._rules)
        return Form(proposal=proposal, typed_name=name, ask_code=code, may_break=may_break)

    async def decide(self, click: Click, reason: str, typed_name: str, code: str = "") -> Answer:
        """Record the decision of a submitted form. However often it is delivered, one person decides once."""
        proposal = await self._store.proposal_by_button(click.button)
        if proposal is None:
            return await self._refused(
                click, None, "This form belongs to no proposal natsmedic knows.", "unknown_button"
            )
        wrong = check_form(proposal, click.choice, reason, typed_name)
        if wrong:
            codes = ", ".join(code for code, _ in wrong.values())
            await self._refused(click, proposal, INCOMPLETE, codes)
            return Answer(
                accepted=False, sentence="", errors={field: sentence for field, (_, sentence) in wrong.items()}
            )
        with narration.of_proposal(proposal):
            return await self._in_turn(click, proposal, reason, typed_name, code)

    async def _in_turn(self, click: Click, proposal: Proposal, reason: str, typed_name: str, code: str) -> Answer:
        # One turn at a time per proposal: of 100 clicks the second sees what the first decided, and the cluster is read once.
        async with self._turns.setdefault(proposal.id, asyncio.Lock()):
            return await self._decide(click, proposal, reason.strip(), typed_name.strip(), code)

    async def why_not(self, proposal: Proposal, person: Person) -> str:
        """Say why this person may not approve this now; empty where they may."""
        given = await self._store.approvals(proposal.id)
        decision = decide(proposal, given, person, Choice.APPROVE, self._rules, self._clock.now())
        return decision.sentence or (await self._may_start(proposal)).sentence

    async def withdraw(self, user: SlackUser, proposal_id: ProposalId, reason: str) -> Answer:
        """Take a proposal back that still waits: who asked for it may, and anyone who may decide on it."""
        person = await self._directory.look_up(user)
        async with self._store.begin() as tx:
            proposal = await tx.get(Proposal, proposal_id)
            if proposal is None:
                sentence = f"There is no proposal {proposal_id}."
                await tx.audit(_refusal(user, WITHDRAW, None, person.key, "no_proposal", sentence))
                return Answer(accepted=False, sentence=sentence)
            decision = may_withdraw(proposal, person, self._rules, self._clock.now())
            if decision.allowed and not reason.strip():
                decision = Decision(reason=Reason.NO_REASON, sentence=SAY_WHY)
            if not decision.allowed:
                await tx.audit(_refusal(user, WITHDRAW, proposal, person.key, decision.reason, decision.sentence))
                return Answer(accepted=False, sentence=decision.sentence)
            said = f"Withdrawn by {person.key}: {reason.strip()}"
            data: JsonObject = {"team": user.team_id, "user": user.user_id}
            await end_proposal(tx, proposal, ProposalState.WITHDRAWN, said, actor=person.key, data=data)
        self._chat.nudge(proposal.incident_id)
        return Answer(accepted=True, sentence="Withdrawn. Nothing will be changed.")

    async def refuse(self, click: Click, sentence: str, code: str) -> None:
        """Audit a click that leads nowhere, e.g. on a message that does not belong to the button."""
        await self._refused(click, await self._store.proposal_by_button(click.button), sentence, code)

    async def _decide(self, click: Click, proposal: Proposal, reason: str, typed: str, code: str) -> Answer:
        person = await self._directory.look_up(click.user)
        current = await self._store.get(Proposal, proposal.id) or proposal
        decision = self._judge(current, await self._store.approvals(proposal.id), person, click)
        if not decision.allowed:
            return await self._refused(click, current, decision.sentence, decision.reason, person)
        if click.choice is Choice.APPROVE:
            ruling = await self._may_start(current)
            if not ruling.allowed:
                return await self._refused(click, current, ruling.sentence, ruling.stop, person)
            refusal = await self._world_refuses(click, current, person)
            if refusal is not None:
                return refusal
        crashpoints.reached(Point.P07)
        async with self._store.begin() as tx:
            current = await tx.get(Proposal, proposal.id) or proposal
            decision = self._judge(current, await tx.approvals(proposal.id), person, click)
            if decision.allowed and asks_code(current, click.choice, self._rules):
                decision = await self._second_factor(tx, current, person, code)
            recorded = await self._record(tx, click, current, person, reason, typed) if decision.allowed else None
        if recorded is None and decision.reason in CODE_FAULTS:
            await self._refused(click, current, decision.sentence, decision.reason, person)
            return Answer(accepted=False, sentence="", errors={"code": decision.sentence})
        if recorded is None:
            return await self._refused(click, current, decision.sentence, decision.reason, person)
        answer, execution = recorded
        crashpoints.reached(Point.P08)
        self._chat.nudge(proposal.incident_id)
        if execution is not None:
            await self._engine.start(Phase.EXECUTION, execution.id)
        return answer

    def _judge(self, proposal: Proposal, approvals: Sequence[Approval], person: Person, click: Click) -> Decision:
        now = self._clock.now()
        return decide(proposal, approvals, person, click.choice, self._rules, now, break_glass=click.break_glass)

    async def _second_factor(self, tx: Transaction, proposal: Proposal, person: Person, code: str) -> Decision:
        """Judge a person's code. What it leaves to be remembered is stored whatever the outcome, so that neither a code nor a guess counts twice."""
        now = self._clock.now()
        known = await tx.get(Factor, person.key) or Factor(id=person.key)
        left, decision = check_code(known, code, self._rules, now)
        if left != known:
            await tx.put(left)
        if locked_until(known, now) is None and (until := locked_until(left, now)) is not None:
            await tx.audit(_locked_out(proposal, left, until))
        return decision

    async def _may_start(self, proposal: Proposal) -> Ruling:
        """What the limits say now; they are asked again in the transaction that commits the first intent."""
        return await self._limits.start(self._store, proposal)

    async def _world_refuses(self, click: Click, proposal: Proposal, person: Person) -> Answer | None:
        """Compare the world with the proposal's; a difference voids the proposal and asks for a new diagnosis."""
        try:
            drift = await self._stages.drift(self._readers[proposal.cluster], proposal)
        except Unreadable as error:
            sentence = f"The cluster cannot be read right now, so nothing was recorded: {error} Try again."
            return await self._refused(click, proposal, sentence, "unreadable", person)
        if not drift:
            return None
        if not await supersede_drifted(self._store, proposal, drift):
            return None  # decided meanwhile by another replica, whose own change this may be: the last look at it refuses this click
        self._chat.nudge(proposal.incident_id)
        await self._engine.start(Phase.DIAGNOSIS, f"{proposal.incident_id}/drift of {proposal.id}")
        sentence = "The world has moved since this was proposed, so it was not recorded: " + " ".join(drift)
        return await self._refused(click, proposal, sentence, "drift", person)

    async def _record(
        self, tx: Transaction, click: Click, proposal: Proposal, person: Person, reason: str, typed: str
    ) -> tuple[Answer, Execution | None]:
        approval = Approval(
            id=ApprovalId(f"app_{digest([proposal.id, person.key])[:26]}"),
            proposal_id=proposal.id,
            proposal_digest=proposal.digest,
            choice=click.choice,
            user=click.user,
            person=person.key,
            groups=tuple(sorted(person.groups)),
            reason=reason,
            typed_name=typed,
            break_glass=click.break_glass and click.choice is Choice.APPROVE,
            factor=asks_code(proposal, click.choice, self._rules),
            at=self._clock.now(),
        )
        await tx.put(approval)
        places = stands_in(approval, proposal, self._rules) if click.choice is Choice.APPROVE else ()
        in_place = f" in place of {', '.join(places)}" if places else ""
        await tx.audit(
            AuditDraft(
                kind="approval.recorded",
                actor=person.key,
                incident_id=proposal.incident_id,
                subject=proposal.id,
                sentence=f"{person.key} chose {click.choice}{in_place}: {reason}",
                data=approval.model_dump(mode="json"),
            )
        )
        await tx.touch(proposal.incident_id)
        if click.choice is Choice.DENY:
            await tx.put(
                proposal.model_copy(
                    update={"state": ProposalState.DENIED, "state_reason": f"Denied by {person.key}: {reason}"}
                )
            )
            return Answer(accepted=True, sentence="Denied. Nothing will be changed."), None
        await void_without_code(tx, proposal, self._rules)
        now = standing(proposal, await tx.approvals(proposal.id), self._rules)
        if not now.satisfied:
            missing = ", ".join(now.missing)
            return Answer(
                accepted=True,
                sentence=f"Recorded{in_place}: {now.given} of {now.needed}. Still missing: {missing}.",
            ), None
        if now.broken_by is not None:
            await tx.audit(_broken(proposal, now.broken_by, reason, now.missing))
        await tx.put(proposal.model_copy(update={"state": ProposalState.APPROVED, "state_reason": ""}))
        execution = queued(proposal, self._clock)
        await tx.put(execution)
        glass = f" You broke the glass in place of {', '.join(now.missing)}; it is announced." if now.broken_by else ""
        return Answer(
            accepted=True, sentence=f"Recorded{in_place}: {now.given} of {now.needed}.{glass} It starts now."
        ), execution

    async def _refused(
        self, click: Click, proposal: Proposal | None, sentence: str, code: str, person: Person | None = None
    ) -> Answer:
        log.info("click refused", code=code, proposal=proposal.id if proposal else None, user=click.user.user_id)
        actor = person.key if person else nobody_known(click.user)
        async with self._store.begin() as tx:
            await tx.audit(_refusal(click.user, click.choice, proposal, actor, code, sentence))
        return Answer(accepted=False, sentence=sentence)


def _refusal(
    user: SlackUser, choice: str, proposal: Proposal | None, actor: str, code: str, sentence: str
) -> AuditDraft:
    incident, subject = (proposal.incident_id, proposal.id) if proposal else (None, "")
    return refusal(user, actor, sentence, incident=incident, subject=subject, code=code, choice=choice)


def _broken(proposal: Proposal, person: str, reason: str, missing: Sequence[str]) -> AuditDraft:
    return AuditDraft(
        kind="glass.broken",
        actor=person,
        incident_id=proposal.incident_id,
        subject=proposal.id,
        sentence=f"{person} breaks the glass and approves alone, in place of {', '.join(missing)}: {reason}",
        data={"missing": list(missing), "digest": proposal.digest},
    )


def _locked_out(proposal: Proposal, factor: Factor, until: datetime) -> AuditDraft:
    data: JsonObject = {"person": factor.id, "wrong": len(factor.wrong), "until": until.isoformat()}
    return AuditDraft(
        kind="factor.locked",
        actor="bot",
        incident_id=proposal.incident_id,
        subject=factor.id,
        sentence=f"{len(factor.wrong)} codes of {factor.id} were wrong: no further one is looked at until {until:%H:%M:%S} UTC.",
        data=data,
    )


def queued(proposal: Proposal, clock: Clock) -> Execution:
    """Return the one execution a proposal can ever have: its id and its operation ids are derived from the proposal's."""
    execution_id = ExecutionId(f"exec_{digest(proposal.id)[:26]}")
    return Execution(
        id=execution_id,
        proposal_id=proposal.id,
        incident_id=proposal.incident_id,
        cluster=proposal.cluster,
        state=ExecutionState.QUEUED,
        stages=tuple(
            StageRun(
                index=i, state=StageState.WAITING, operation_id=OperationId(f"op_{digest([execution_id, i])[:26]}")
            )
            for i in range(len(proposal.stages))
        ),
        started_at=clock.now(),
    )


async def supersede_drifted(store: Store, proposal: Proposal, drift: tuple[str, ...]) -> bool:
    """Void a proposal whose world has moved, naming what moved. Its approvals stay on record and count for nothing.

    Returns False, and does nothing, where its state is no longer the one that `proposal` has: what has begun to run moves the world itself.
    """
    reason = "The world has moved: " + " ".join(drift)
    async with store.begin() as tx:
        current = await tx.get(Proposal, proposal.id)
        if current is None or current.state is not proposal.state:
            return False
        await end_proposal(tx, proposal, ProposalState.SUPERSEDED, reason, data={"drift": list(drift)})
    return True
