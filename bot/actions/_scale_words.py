"""What people read before they approve a change of replicas. Pure."""

from __future__ import annotations

import difflib
import json

from bot.actions._scale_facts import ScaleParams


def difference(params: ScaleParams) -> str:
    """Return the unified diff of the configuration; the receipt is told beside it, for its value comes with the execution."""
    old, new = (
        json.dumps(params.config | {"num_replicas": count}, indent=2, sort_keys=True).splitlines()
        for count in (params.start, params.to)
    )
    return "\n".join(difflib.unified_diff(old, new, "before", "after", lineterm="", n=1))


def effects(params: ScaleParams) -> tuple[str, ...]:
    """Return the predicted consequences with their numbers."""
    copied = (
        f"{_counted(params.to - params.start, 'more server')} to copy {params.bytes} bytes."
        if params.up
        else f"{_counted(params.start - params.to, 'copy', 'copies')} less: what those servers hold of it is deleted."
    )
    stored = (
        f"Right before, the numbers of the stream ({params.messages} messages now) and the configuration and position of its {params.consumers} consumers "
        "are stored; afterwards they are compared, and a loss stops everything."
    )
    done = (
        f"It counts as done once leader, members and consumers have been current for {params.settle:.0f} s; where they are not after "
        f"{params.patience:.0f} s it has failed."
    )
    told = [copied, stored, done, "Its metadata gets a receipt, natsmedic.op; every other field stays as it is."]
    if params.to == 2:
        told.append(
            "With two replicas the stream stops when either server is away, so the next stage follows as soon as both are current."
        )
    return tuple(told)


def way_back(params: ScaleParams) -> str:
    """Return how the stage is undone, and when it is not."""
    back = f"{_counted(params.start, 'replica')} again, by the same kind of update"
    if not params.up:
        return f"{back}: the servers copy the stream anew."
    return f"{back}, while a majority of the members is current; before 2.12.10 and 2.14.2 only while all are (nats-server #8253). Never after a loss."


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
