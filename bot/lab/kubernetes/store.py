"""What etcd holds: objects with their versions, and the log of changes that watches are fed from."""

import asyncio
import copy
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bot.lab.kubernetes.kinds import Kind
from bot.lab.kubernetes.objects import Clock, Raw, name_of, namespace_of, now, stamp
from bot.lab.kubernetes.refusals import already_exists

LOG_LENGTH: Final = 10_000
"""Changes that are remembered. etcd is compacted every five minutes; a lab makes fewer changes than this in that time."""

FIRST_REVISION: Final = 1000
"""Where counting begins, so that nobody takes a resourceVersion for a small number or an age."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `previous` is the object before it, None when it was created."""

    revision: int
    type: str  # ADDED, MODIFIED, DELETED
    kind: Kind
    object: Raw
    previous: Raw | None


class Store:
    """Objects by kind, namespace and name. Everything that it returns belongs to it: copy before changing."""

    def __init__(self, clock: Clock = now) -> None:
        self.clock = clock
        self.revision = FIRST_REVISION
        self.oldest = FIRST_REVISION
        """Changes after this revision are known; a watch from before it is expired."""
        self._objects: dict[Kind, dict[tuple[str, str], Raw]] = {}
        self._log: deque[Change] = deque()
        self._changed = asyncio.Event()

    def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        return self._objects.get(kind, {}).get((namespace, name))

    def list(self, kind: Kind, namespace: str = "") -> list[Raw]:
        """All objects of a kind, of one namespace or all, in the order of their keys."""
        found = self._objects.get(kind, {})
        return [found[key] for key in sorted(found) if namespace in ("", key[0])]

    def create(self, kind: Kind, raw: Raw) -> Raw:
        """Stores a new object and returns it with what a server gives it. Raises `Refused` where the name is taken."""
        if self.get(kind, namespace_of(raw), name_of(raw)) is not None:
            raise already_exists(kind, name_of(raw))
        made = self.born(kind, raw)
        self._write("ADDED", kind, made, None)
        return made

    def born(self, kind: Kind, raw: Raw) -> Raw:
        """A copy with uid, creation time and, where its kind counts them, generation."""
        made = copy.deepcopy(raw)
        meta = made["metadata"]
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = stamp(self.clock())
        if kind.generation:
            meta["generation"] = 1
        return made

    def replace(self, kind: Kind, raw: Raw) -> Raw:
        """Stores a changed object and returns it with its new resourceVersion."""
        previous = self.get(kind, namespace_of(raw), name_of(raw))
        assert previous is not None, "only what exists is replaced"
        made = raw | {"metadata": dict(raw["metadata"])}
        self._write("MODIFIED", kind, made, previous)
        return made

    def remove(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        """Forgets an object and returns it as it was last; None where there is none."""
        previous = self.get(kind, namespace, name)
        if previous is None:
            return None
        last = previous | {"metadata": dict(previous["metadata"])}
        self._write("DELETED", kind, last, previous)
        return last

    def compact(self) -> None:
        """Forgets all changes up to now: watches and pages from before are expired."""
        self._log.clear()
        self.oldest = self.revision

    def since(self, revision: int) -> Iterator[Change]:
        """Changes after a revision, oldest first."""
        return (change for change in tuple(self._log) if change.revision > revision)

    async def after(self, revision: int) -> None:
        """Returns once there is a change after that revision."""
        while self.revision <= revision:
            await self._changed.wait()

    def _write(self, change: str, kind: Kind, raw: Raw, previous: Raw | None) -> None:
        self.revision += 1
        raw["metadata"]["resourceVersion"] = str(self.revision)
        key = namespace_of(raw), name_of(raw)
        if change == "DELETED":
            del self._objects[kind][key]
        else:
            self._objects.setdefault(kind, {})[key] = raw
        self._log.append(Change(self.revision, change, kind, raw, previous))
        if len(self._log) > LOG_LENGTH:
            self.oldest = self._log.popleft().revision
        self._changed.set()
        self._changed = asyncio.Event()
