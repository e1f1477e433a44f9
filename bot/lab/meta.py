"""The meta group as each lab server sees it."""

import asyncio
from collections.abc import Mapping

import httpx
from pydantic import BaseModel


class Replica(BaseModel):
    name: str
    current: bool = False
    offline: bool = False
    active: int = 0
    """Nanoseconds since the leader heard from it; 0 where it never did."""


class MetaView(BaseModel):
    """What one server says about the meta group; only the leader lists replicas."""

    leader: str = ""
    cluster_size: int = 0
    replicas: list[Replica] = []

    @property
    def current(self) -> set[str]:
        return {replica.name for replica in self.replicas if replica.current and not replica.offline}


class _Jsz(BaseModel):
    meta_cluster: MetaView = MetaView()


async def meta_view(http: httpx.AsyncClient, monitor: str) -> MetaView | None:
    """What the server at that monitoring address says; None where it does not answer."""
    try:
        answer = await http.get(f"{monitor}/jsz")
    except httpx.HTTPError:
        return None
    return _Jsz.model_validate_json(answer.content).meta_cluster


async def views_of(http: httpx.AsyncClient, monitors: Mapping[str, str]) -> dict[str, MetaView | None]:
    """What each server says, by its name; `monitors` are monitoring addresses."""
    answers = await asyncio.gather(*(meta_view(http, monitor) for monitor in monitors.values()))
    return dict(zip(monitors, answers, strict=True))


def whole(answers: Mapping[str, MetaView | None], size: int) -> tuple[str, str]:
    """The meta leader, and what is still missing before all these servers agree on a group of `size` whose members are current."""
    if silent := [name for name, view in answers.items() if view is None]:
        return "", f"no answer from {', '.join(silent)}"
    views = {name: view for name, view in answers.items() if view}
    leaders = {name: view.leader for name, view in views.items()}
    leader = next(iter(leaders.values()), "")
    if leader not in views or set(leaders.values()) != {leader}:
        return "", f"the servers name different or dead meta leaders: {leaders}"
    sizes = {name: view.cluster_size for name, view in views.items()}
    if set(sizes.values()) != {size}:
        return leader, f"meta group sizes are {sizes}, not {size}"
    behind = set(views) - views[leader].current - {leader}
    return leader, f"not current with meta leader {leader}: {sorted(behind)}" if behind else ""
