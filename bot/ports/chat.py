"""Protocols for people: who they are, and what they are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from bot.model import Chart, IncidentId, Person, Record, SlackUser


class Directory(Protocol):
    """Knows people. Never caches longer than 60 s, and not at all at apply."""

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        """Return what is true now; a look-up that fails returns a Person with `problem` set and no groups."""
        ...


class Chat(Protocol):
    """Draws incidents. State lives in the store; `nudge` only says that there is something to draw."""

    def nudge(self, incident: IncidentId) -> None: ...


Draw = Callable[[Chart], Awaitable[bytes]]
"""Draws a chart as a PNG. May raise anything a drawing library raises: whoever shows it goes on without it."""


WriteReport = Callable[[IncidentId], Awaitable[Mapping[str, bytes]]]
"""Writes the report of an incident as it stands now: files by their ending, e.g. `md`. Raises `StoreError`."""


class Message(Record):
    """A chat message the bot keeps: `key` (e.g. `board:inc_…`, `proposal:prop_…`) is also its metadata in the chat."""

    key: str
    incident_id: IncidentId
    channel: str
    ts: str | None = None
    """None while a post is reserved or in doubt: look before posting again."""
    digest: str | None = None
    """Digest of what was last drawn; equal means nothing to do."""


class Messages(Protocol):
    """The chat adapter's own rows: which messages exist, and how far each incident has been drawn."""

    async def of(self, incident: IncidentId) -> Sequence[Message]: ...

    async def at(self, channel: str, ts: str) -> Message | None: ...

    async def save(self, message: Message) -> None:
        """Insert or replace by key; committed before it returns, so that a reserved post survives a crash."""
        ...

    async def behind(self) -> Sequence[tuple[IncidentId, int]]:
        """Return the incidents whose revision is above the drawn one, with that revision, oldest change first; those that only a storm's message
        shows are not among them.
        """
        ...

    async def caught_up(self, incident: IncidentId, revision: int) -> None:
        """Record that this revision is drawn completely."""
        ...

    async def hurry(self, incident: IncidentId) -> None:
        """Say to the process that draws, where this one does not, that a person has acted on this incident: a hint, which may get lost.

        Raises `StoreError`.
        """
        ...
