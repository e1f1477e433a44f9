"""Readers that show snapshots, for actions that only look."""

from collections.abc import Callable, Sequence

from bot.model import Again, Endpoint, JsonObject, Snapshot
from bot.model.kubernetes import Change, Kind, Rehearsal


class Shows:
    """Readers that show these snapshots one after another, the last one for ever."""

    cluster = "lab"
    api_timeout = 5.0

    def __init__(self, *snapshots: Snapshot) -> None:
        self.snapshots: Sequence[Snapshot] = snapshots
        self.looks = 0
        self.absent: dict[tuple[str, str], frozenset[str] | Exception] = {}
        """What the API lists as missing, by account and stream."""

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        del needs, again
        self.looks += 1
        return self.snapshots[min(self.looks, len(self.snapshots)) - 1]

    async def look_elsewhere(self) -> None:
        raise AssertionError("nobody looks elsewhere")

    async def closed_clients(self, server_id: str) -> Sequence[JsonObject]:
        raise AssertionError("nobody asks who was let go")

    async def stream_info(self, account: str, stream: str) -> JsonObject | None:
        raise AssertionError("the servers' own views are asked for, never INFO")

    async def consumer_info(self, account: str, stream: str, consumer: str) -> JsonObject | None:
        raise AssertionError("the servers' own views are asked for, never INFO")

    async def missing(self, account: str, stream: str = "") -> frozenset[str]:
        if (account, stream) not in self.absent:
            return frozenset()
        found = self.absent[account, stream]
        if isinstance(found, Exception):
            raise found
        return found

    async def kubernetes_object(self, kind: Kind, name: str) -> JsonObject | None:
        raise AssertionError("nothing of Kubernetes is asked for")

    async def rehearse(self, change: Change) -> Rehearsal:
        raise AssertionError("nothing of Kubernetes is asked for")
