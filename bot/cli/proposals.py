"""`natsmedic proposals`: what was offered, who decided, and how it went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from bot.cli import draw
from bot.cli.session import ConfigFile, Format, FormatOption, run, settings_of
from bot.errors import BadInput, Refused
from bot.model import Approval, Choice, Execution, IncidentId, JsonObject, Proposal, Record, Stage
from bot.settings import Settings

app = typer.Typer(help="Proposals, and deciding on them where Slack is down.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")]
STARTS = (
    "`natsmedic serve` starts it within 5 s; where it does not run, as soon as it does, until the proposal expires."
)
LOOK_AGAIN = "No new diagnosis is started from here: ask for one in the thread or with `/nats diagnose`."


class Offer(Record):
    """A proposal with what became of it."""

    proposal: Proposal
    approvals: tuple[Approval, ...]
    execution: Execution | None


@app.command(name="list")
def list_proposals(
    context: typer.Context,
    incident: Annotated[
        str | None, typer.Option("--incident", metavar="ID", help="Only those of this incident.")
    ] = None,
    active: Annotated[bool, typer.Option("--active", help="Leave out those in a final state.")] = False,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """List proposals, oldest first."""
    found = run(_proposals(settings_of(context, config), incident, active=active))
    if format_ is Format.JSON:
        draw.as_json([_public(proposal) for proposal in found])
        return
    columns = ("id", "created", "state", "risk", "subject", "title")
    rows = ((p.id, draw.when(p.created_at), p.state, p.risk, str(p.subject), p.title) for p in found)
    draw.table("Proposals", columns, rows)


@app.command()
def show(
    context: typer.Context,
    proposal: Annotated[str, typer.Argument(metavar="ID")],
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Show one proposal: stages, diff, who decided, and the execution."""
    offer = run(_offer(settings_of(context, config), proposal))
    if format_ is Format.JSON:
        draw.as_json(offer.model_dump(mode="json") | {"proposal": _public(offer.proposal)})
    else:
        draw.lines(_told(offer))


@app.command()
def approve(
    context: typer.Context,
    proposal: Id,
    reason: Why,
    typed: Annotated[
        str, typer.Option("--typed-name", help="Name of the object, which a destructive change asks for.")
    ] = "",
    code: Annotated[
        str,
        typer.Option(
            "--code", envvar="NATSMEDIC_CODE", help="Of your authenticator, where policy.second_factor asks for one."
        ),
    ] = "",
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="Approve alone, announced; only people of policy.break_glass may.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Approve a proposal as the person that `policy.terminal` names for your OS user."""
    settings = settings_of(context, config)
    _say(run(_decide(settings, proposal, Choice.APPROVE, reason, typed, code, break_glass=break_glass)))


@app.command()
def deny(context: typer.Context, proposal: Id, reason: Why, config: ConfigFile = None) -> None:
    """Deny a proposal: it ends, whoever approved it."""
    _say(run(_decide(settings_of(context, config), proposal, Choice.DENY, reason, "", "")))


@app.command()
def withdraw(context: typer.Context, proposal: Id, reason: Why, config: ConfigFile = None) -> None:
    """Take back a proposal that you asked for or may decide on."""
    _say(run(_withdraw(settings_of(context, config), proposal, reason)))


def _say(sentences: Sequence[str]) -> None:
    draw.lines(("", sentence) for sentence in sentences)


def _public(proposal: Proposal) -> JsonObject:
    """Return the proposal with its digest, which approvals name, and without the buttons' id."""
    return proposal.model_dump(mode="json", exclude={"button"}) | {"digest": proposal.digest}


def _told(offer: Offer) -> Iterator[tuple[str, str]]:
    proposal = offer.proposal
    yield "proposal", proposal.id
    yield "title", proposal.title
    yield "why", proposal.why
    yield "subject", str(proposal.subject)
    yield "risk", proposal.risk
    yield "state", f"{proposal.state} {proposal.state_reason}".strip()
    yield "digest", proposal.digest
    yield "expires", draw.when(proposal.expires_at)
    for number, stage in enumerate(proposal.stages, start=1):
        yield from _told_stage(number, stage)
    for sentence in proposal.guidance:
        yield "by hand", sentence
    if proposal.rung is not None:
        yield "may not be enough", proposal.rung.not_enough
        yield "go on when", proposal.rung.go_on
    for sentence in proposal.cautions:
        yield "caution", sentence
    for patch in proposal.patches:
        yield patch.name, patch.text
    for approval in offer.approvals:
        yield (
            f"{approval.choice} {draw.when(approval.at)}",
            f"{approval.person} ({', '.join(approval.groups)}): {approval.reason}{f' (void: {approval.void})' if approval.void else ''}",
        )
    if offer.execution is not None:
        yield "execution", f"{offer.execution.id} {offer.execution.state} {offer.execution.sentence}".strip()
        for run_ in offer.execution.stages:
            yield f"stage {run_.index + 1}", f"{run_.state} {run_.sentence}".strip()


def _told_stage(number: int, stage: Stage) -> Iterator[tuple[str, str]]:
    yield f"stage {number}", f"{stage.kind}: {stage.preview.summary}"
    yield "  blast radius", stage.preview.blast_radius
    yield "  way back", stage.preview.way_back
    for effect in stage.preview.effects:
        yield "  effect", effect
    if stage.preview.diff:
        yield "", stage.preview.diff


async def _proposals(settings: Settings, incident: str | None, *, active: bool) -> Sequence[Proposal]:
    from bot.bootstrap.storing import open_store

    async with open_store(settings, read_only=True) as store:
        return await store.proposals(IncidentId(incident) if incident else None, active_only=active)


async def _offer(settings: Settings, proposal: str) -> Offer:
    from bot.bootstrap.storing import open_store

    async with open_store(settings, read_only=True) as store:
        found = await store.get(Proposal, proposal)
        if found is None:
            raise BadInput(f"There is no proposal {proposal}. `natsmedic proposals list` shows what there is.")
        return Offer(
            proposal=found,
            approvals=tuple(await store.approvals(proposal)),
            execution=await store.execution_of(proposal),
        )


async def _decide(
    settings: Settings,
    proposal: str,
    choice: Choice,
    reason: str,
    typed: str,
    code: str,
    *,
    break_glass: bool = False,
) -> Sequence[str]:
    from bot.bootstrap.terminal import open_matter
    from bot.flow.approval import Click
    from bot.ports import Phase

    async with open_matter(settings, proposal) as matter:
        click = Click(user=matter.counter.user, button=matter.proposal.button, choice=choice, break_glass=break_glass)
        answer = await matter.desk.decide(click, reason, typed, code)
        left = set(matter.left.phases)
    if not answer.accepted:
        wrong = [f"--{field.replace('_', '-')}: {sentence}" for field, sentence in answer.errors.items()]
        again = [LOOK_AGAIN] if Phase.DIAGNOSIS in left else []
        raise Refused(" ".join([answer.sentence, *wrong, *again]).strip())
    return [answer.sentence, *([STARTS] if Phase.EXECUTION in left else [])]


async def _withdraw(settings: Settings, proposal: str, reason: str) -> Sequence[str]:
    from bot.bootstrap.terminal import open_matter

    async with open_matter(settings, proposal) as matter:
        answer = await matter.desk.withdraw(matter.counter.user, matter.proposal.id, reason)
    if not answer.accepted:
        raise Refused(answer.sentence)
    return [answer.sentence]
