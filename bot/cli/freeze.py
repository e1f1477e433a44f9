"""`natsmedic freeze`: stops every change, also while Slack is down."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from bot.cli import draw
from bot.cli.session import ConfigFile, Format, FormatOption, run, settings_of
from bot.errors import BadInput
from bot.model import LIFTERS, Freeze
from bot.model.span import EXAMPLES, span
from bot.settings import Settings

app = typer.Typer(help="Stop changes, and let them go on.", no_args_is_help=True)

Reason = Annotated[str, typer.Argument(metavar="REASON", help="Read by whoever is stopped; kept in the audit log.")]
FOREVER = "lifted"


@app.command(name="set")
def set_freeze(
    context: typer.Context,
    lasts: Annotated[str, typer.Argument(metavar="DURATION", help=f"{EXAMPLES}, or `{FOREVER}`: until it is lifted.")],
    reason: Reason,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Only this cluster.")] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="Only this kind of action, e.g. consumer.delete.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Freeze: nothing new is sent from now on, and what has begun stops before its next stage."""
    settings = settings_of(context, config)
    if cluster is not None:
        settings.cluster(cluster)
    draw.lines([("", f"{run(_freeze(settings, _lasts(lasts), reason, cluster, action))}")])


@app.command(name="list")
def list_freezes(context: typer.Context, format_: FormatOption = Format.TABLE, config: ConfigFile = None) -> None:
    """List what is frozen."""
    found = run(_active(settings_of(context, config)))
    if format_ is Format.JSON:
        draw.as_json([freeze.model_dump(mode="json") for freeze in found])
        return
    columns = ("id", "set", "cluster", "action", "until", "lifted by", "person", "reason")
    draw.table("Freezes", columns, (_row(freeze) for freeze in found))


@app.command()
def lift(
    context: typer.Context,
    freeze: Annotated[str, typer.Argument(metavar="ID")],
    reason: Reason,
    config: ConfigFile = None,
) -> None:
    """Lift a freeze. Two different people must."""
    lifted = run(_lift(settings_of(context, config), freeze, reason))
    if lifted.lifted:
        draw.lines([("", f"Freeze {freeze} is lifted.")])
    else:
        draw.lines([("", f"Recorded, {len(lifted.lifts)} of {LIFTERS}: another person must lift it as well.")])


async def _freeze(
    settings: Settings, lasts: timedelta | None, reason: str, cluster: str | None, action: str | None
) -> str:
    from bot.bootstrap.reading import registry
    from bot.bootstrap.terminal import open_counter
    from bot.flow.freeze import freeze
    from bot.policy import may_freeze

    known = registry().actions
    if action is not None and action not in known:
        raise BadInput(f"No action is called {action!r}. Known: {', '.join(sorted(known))}.")
    async with open_counter(settings) as counter:
        person = await counter.admission.admit(counter.user, may_freeze, "freeze")
        made = await freeze(
            counter.store,
            counter.clock,
            person.key,
            reason,
            cluster=cluster,
            action=action,
            lasts=lasts,
            by=counter.user,
        )
    return f"{made.id}: {made}."


async def _active(settings: Settings) -> Sequence[Freeze]:
    from bot.adapters.clock import SystemClock
    from bot.bootstrap.storing import open_store

    async with open_store(settings, read_only=True) as store:
        return [freeze for freeze in await store.freezes() if freeze.active(SystemClock().now())]


async def _lift(settings: Settings, freeze: str, reason: str) -> Freeze:
    from bot.bootstrap.terminal import open_counter
    from bot.flow.freeze import lift
    from bot.policy import may_lift

    async with open_counter(settings) as counter:
        person = await counter.admission.admit(counter.user, may_lift, "unfreeze")
        return await lift(counter.store, counter.clock, freeze, person.key, reason, by=counter.user)


def _row(freeze: Freeze) -> Sequence[str]:
    until = draw.when(freeze.until) if freeze.until else "lifted"
    people = ", ".join(lift.person for lift in freeze.lifts)
    return (
        freeze.id,
        draw.when(freeze.at),
        freeze.cluster or "all",
        freeze.action or "all",
        until,
        people,
        freeze.person,
        freeze.reason,
    )


def _lasts(text: str) -> timedelta | None:
    if text == FOREVER:
        return None
    found = span(text)
    if not found:
        raise BadInput(f"{text!r} is no duration; expected {EXAMPLES}, or `{FOREVER}`: until it is lifted.")
    return found
