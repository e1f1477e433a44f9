"""`natsmedic unlock`: gives a cluster's lock back after a person has looked."""

from __future__ import annotations

from typing import Annotated

import typer

from bot.cli import draw
from bot.cli.session import ConfigFile, run, settings_of
from bot.flow.unlock import unlock as give_back
from bot.settings import Settings


def unlock(
    context: typer.Context,
    cluster: Annotated[str, typer.Argument(metavar="CLUSTER", help="The cluster that is held.")],
    reason: Annotated[str, typer.Option("--reason", help="What you looked at; kept in the audit log.")],
    config: ConfigFile = None,
) -> None:
    """Give a cluster's lock back after a repair whose outcome stayed unknown. Look at the cluster first; any approver may."""
    settings = settings_of(context, config)
    settings.cluster(cluster)
    draw.lines([("", run(_unlock(settings, cluster, reason)))])


async def _unlock(settings: Settings, cluster: str, reason: str) -> str:
    from bot.bootstrap.terminal import open_counter
    from bot.policy import may_lift

    async with open_counter(settings) as counter:
        person = await counter.admission.admit(counter.user, may_lift, "unlock")
        return await give_back(counter.store, cluster, person.key, reason, by=counter.user)
