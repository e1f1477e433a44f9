"""Asks the meta leader to step down: another server answers requests to create, change, move and delete. Messages flow on."""

from __future__ import annotations

from bot.actions._elections import Found, Kind, Led, StepDown, Succession, meta_led
from bot.actions._elections import hindrances as of_any_group
from bot.errors import Refused
from bot.model import Snapshot
from bot.ports import Writers


class MetaStepDownParams(Succession):
    """Who leads the meta group, and who belongs to it."""


def step_down_stage(snapshot: Snapshot, preferred: str = "") -> MetaStepDownParams:
    """Return the parameters for stepping down the present meta leader, for the server `preferred` where one is named. Raises `Refused`."""
    led = meta_led(snapshot)
    return MetaStepDownParams(
        leader=led.leader, members=tuple(sorted(led.standing.members)), term=led.term, preferred=preferred
    )


def whole_meta(snapshot: Snapshot) -> Led:
    """Return the meta group where its leader may step down. Raises `Refused` with every reason against it."""
    led = meta_led(snapshot)
    if against := [*_not_whole(led), *of_any_group(led)]:
        raise Refused(*against)
    return led


def _not_whole(led: Led) -> list[str]:
    """Unlike one stream's election, this one holds up everybody: nobody is spared."""
    return [f"The meta group is not whole: {led.standing.counted}."] if led.standing.lagging else []


def _find(snapshot: Snapshot, params: MetaStepDownParams) -> Found:  # noqa: ARG001 - there is one meta group
    led = meta_led(snapshot)
    found = led.standing
    members = ", ".join(sorted(found.members))
    return Found(
        led,
        {"meta.leader": found.leader, "meta.members": members},
        tuple(_not_whole(led)),
        {"leader": found.leader, "members": len(found.members), "current": found.current},
    )


async def _ask(writers: Writers, params: MetaStepDownParams) -> None:
    await writers.step_down_meta(params.preferred)


ACTION = StepDown(
    Kind(
        action="meta.step_down",
        title="Meta leader step-down",
        stall="requests to create, change and delete wait",
        effect="Streams and consumers keep their leaders; publishing and delivery go on.",
    ),
    MetaStepDownParams,
    _find,
    _ask,
    lambda params: "the meta group",  # noqa: ARG005 - there is one
)
