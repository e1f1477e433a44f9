"""`natsmedic policy`: who may decide what, and why somebody may or may not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from bot.cli import draw
from bot.cli.session import ConfigFile, Format, FormatOption, run, settings_of
from bot.errors import BadInput
from bot.model import Approval, Choice, Person, Proposal, Record
from bot.policy import Explanation, enrolment, explain, new_secret, required_groups
from bot.settings import GroupSettings, PolicySettings, Settings
from bot.settings.policy import DECIDED_RISKS

app = typer.Typer(help="Who may decide what, and why not.", no_args_is_help=True)


class Told(Record):
    """An explanation with what it is about."""

    person: Person
    proposal: str
    choice: Choice
    explanation: Explanation


@app.command(name="explain")
def explain_(
    context: typer.Context,
    person: Annotated[str, typer.Option("--person", metavar="PERSON", help="Key of policy.persons, or Slack user id.")],
    proposal: Annotated[str, typer.Option("--proposal", metavar="ID")],
    choice: Annotated[Choice, typer.Option("--choice", help="What the person would choose.")] = Choice.APPROVE,
    break_glass: Annotated[bool, typer.Option("--break-glass", help="As if the person approved alone.")] = False,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Show what would be decided if this person chose now, and every reason."""
    told = run(_explain(settings_of(context, config), person, proposal, choice, break_glass=break_glass))
    if format_ is Format.JSON:
        answer = told.explanation.model_dump(mode="json")
        draw.as_json(
            told.model_dump(mode="json", exclude={"explanation"})
            | answer
            | {"allowed": told.explanation.decision.allowed}
        )
        return
    draw.lines(_lines(told))
    rows = (
        (one.asks, "yes" if one.decision.allowed else "NO", one.decision.sentence, one.decision.reason)
        for one in told.explanation.reasons
    )
    draw.table("Questions, in the order asked", ("question", "answer", "why", "code"), rows)


@app.command()
def enrol(
    person: Annotated[str, typer.Option("--person", metavar="KEY", help="Key of policy.persons.")],
) -> None:
    """Make a second factor's secret, shown this once: as a QR code for the person's authenticator, and for the settings. Nothing is stored."""
    import segno

    secret = new_secret()
    typer.echo("For the authenticator:")
    segno.make(enrolment(person, secret), micro=False).terminal(compact=True)
    typer.echo(f"For the settings, as a secret of their own: policy.second_factor.secrets.{person}\n{secret}")


@app.command()
def show(
    context: typer.Context,
    cluster: Annotated[str | None, typer.Option("--cluster", help="As it holds on this cluster.")] = None,
    format_: FormatOption = Format.TABLE,
    config: ConfigFile = None,
) -> None:
    """Show the policy: whose approvals each risk class needs, until when, and who is in the groups."""
    settings = settings_of(context, config)
    rules = settings.policy.for_cluster(settings.cluster(cluster).name) if cluster else settings.policy
    if format_ is Format.JSON:
        draw.as_json(rules.model_dump(mode="json", exclude={"clusters"} if cluster else None))
        return
    risks = (
        (risk, ", ".join(required_groups(rules, risk)) or "nobody", f"{rules.expiry_seconds[risk]} s")
        for risk in DECIDED_RISKS
    )
    draw.table("Risk classes", ("risk", "one approval each of", "expires after"), risks)
    draw.table("Groups", ("group", "people"), ((name, _people(group)) for name, group in rules.groups.items()))
    persons = (
        (name, ", ".join(ids), ", ".join(user for user, key in rules.terminal.items() if key == name))
        for name, ids in rules.persons.items()
    )
    draw.table("Persons", ("person", "Slack users", "OS users"), persons)
    draw.lines(_places_and_times(rules, one_cluster=cluster is not None))


def _people(group: GroupSettings) -> str:
    parts = [*group.users, *group.persons, *(f"user group {one}" for one in group.usergroups)]
    if group.on_call is not None:
        parts.append(f"on call: {', '.join(group.on_call.persons)}")
    return ", ".join(parts) or "nobody"


def _places_and_times(rules: PolicySettings, *, one_cluster: bool) -> Iterator[tuple[str, str]]:
    yield "change windows", "; ".join(map(str, rules.change_windows)) or "always"
    yield "may break the glass", ", ".join(rules.break_glass) or "nobody"
    for risk, groups in rules.escalation.items():
        first = f"{rules.escalation_share:.0%} of the time"
        yield f"called for {risk}", f"{', then '.join(groups)}; the first after {first}" if groups else "nobody"
    if (factor := rules.second_factor) is not None:
        yield "a code is asked for", ", ".join(factor.risks) or "nothing"
        yield "have a second factor", ", ".join(sorted(factor.secrets)) or "nobody"
    for owner in rules.data_owners:
        where = [f"account {owner.account}"] if owner.account else []
        where += [f"streams {', '.join(owner.streams)}"] if owner.streams else []
        yield "data owner", f"{owner.group}: {', '.join(where) or 'everything'}"
    if not one_cluster and rules.clusters:
        yield "different on", f"{', '.join(sorted(rules.clusters))} (show with --cluster)"


def _lines(told: Told) -> Iterator[tuple[str, str]]:
    decision, standing = told.explanation.decision, told.explanation.standing
    yield "decision", "allowed" if decision.allowed else f"refused ({decision.reason}): {decision.sentence}"
    yield "person", told.person.key
    yield "groups", ", ".join(sorted(told.person.groups)) or "none"
    if told.person.note:
        yield "note", told.person.note
    missing = f"; missing: {', '.join(standing.missing)}" if standing.missing else ""
    yield "approvals", f"{standing.given} of {standing.needed}{missing}"


async def _explain(settings: Settings, name: str, proposal_id: str, choice: Choice, *, break_glass: bool) -> Told:
    from bot.adapters.clock import SystemClock
    from bot.bootstrap.storing import open_store
    from bot.bootstrap.terminal import directory_for

    clock = SystemClock()
    async with open_store(settings, read_only=True) as store:
        proposal = await store.get(Proposal, proposal_id)
        if proposal is None:
            raise BadInput(f"There is no proposal {proposal_id}. `natsmedic proposals list` shows what there is.")
        approvals: Sequence[Approval] = await store.approvals(proposal_id)
    person = await directory_for(settings, clock).named(name)
    if person is None:
        known = ", ".join(sorted(settings.policy.persons)) or "none"
        raise BadInput(f"No person is called {name!r}; expected a key of policy.persons ({known}) or a Slack user id.")
    found = explain(proposal, approvals, person, settings.policy, clock.now(), choice=choice, break_glass=break_glass)
    return Told(person=person, proposal=proposal_id, choice=choice, explanation=found)
