"""The meta group as each lab server sees it."""

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
