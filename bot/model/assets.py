"""Reads the streams and consumers out of JSZ answers: typed, the raw JSON kept as evidence, and every field that is not what it must be named.

A whole answer that is right is decoded in one go (reference/drills.md 6: three times faster and much smaller than dictionaries). Where a field is wrong it is
left out, named as a complaint, and the rest is decoded again: one bad value hides nothing else and never reads as healthy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec
from msgspec import Raw
from msgspec.structs import force_setattr

from bot.model.base import Json, JsonObject
from bot.model.states import AccountState, ConsumerKey, ConsumerState, StreamKey, StreamState, declared_in

Buffer = bytes | bytearray | Raw
"""JSON text; a `Raw` is a part of a larger message and keeps it alive."""

Streams = dict[StreamKey, dict[str, StreamState]]
Consumers = dict[ConsumerKey, dict[str, ConsumerState]]

DETAILS: Final = "account_details"
"""The list of a JSZ answer that grows with the cluster; everything else in it is small."""

MOST_COMPLAINTS: Final = 50
"""Wrong fields after which an answer is taken for no JSZ answer at all; each costs another decoding."""

_UNDERFLOW, _TOO_LARGE = 2**63, 2**64
"""An unsigned counter in between went below zero (2.10.25, reference/nats.md 1.D, EXP e8): it counts as 0."""

_ACCOUNTS: Final = msgspec.json.Decoder(tuple[AccountState, ...] | None)
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])

_WHERE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]")


@dataclass(frozen=True, slots=True, eq=False)
class Assets:
    """The `account_details` of one server's JSZ answer, page by page."""

    pages: tuple[Buffer, ...]
    """Raw JSON of each page's list, as answered."""
    accounts: tuple[AccountState, ...]
    named: frozenset[str] = frozenset()
    """Everyone whom a group of these streams and consumers names as leader or replica."""
    complaints: tuple[str, ...] = ()
    """Fields that are not what they must be, and so count as not there."""

    def details(self) -> list[Json]:
        """Return the raw list, decoded; an account on two pages counts once, as last read."""
        found: dict[str, Json] = {}
        for page in self.pages:
            decoded: Json = msgspec.json.decode(page)
            for number, account in enumerate(cast("list[Json]", decoded) if isinstance(decoded, list) else []):
                name = _identity(account) if isinstance(account, dict) else ""  # pyright: ignore[reportUnknownArgumentType]
                found[name or f"{len(found)}/{number}"] = account
        return list(found.values())

    def mentions(self, text: str) -> bool:
        """Tell whether this text stands anywhere in the raw JSON."""
        return any(re.search(re.escape(text.encode()), page) for page in self.pages)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Assets) and self.details() == other.details()

    __hash__ = None  # pyright: ignore[reportAssignmentType] - compared, never a key


def read_answer(answer: Buffer, *, jsz: bool) -> tuple[JsonObject, Assets | None] | None:
    """Return a JSON object; of JSZ without its `account_details`, and these. None where it is no JSON object."""
    try:
        if jsz:
            return read_fields(_FIELDS.decode(answer))
        whole: Json = msgspec.json.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return (cast("JsonObject", whole), None) if isinstance(whole, dict) else None


def read_fields(fields: Mapping[str, Raw]) -> tuple[JsonObject, Assets | None] | None:
    """Return the same of a JSZ answer whose fields were told apart already: each pass over a large answer counts."""
    try:
        rest: JsonObject = {key: msgspec.json.decode(raw) for key, raw in fields.items() if key != DETAILS}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return rest, read_page(fields[DETAILS]) if DETAILS in fields else None


def join(pages: Sequence[Assets]) -> Assets:
    """Return the assets of several pages as one; an account on two of them counts once, as last read."""
    if len(pages) == 1:
        return pages[0]
    accounts = {account.id or account.name: account for page in pages for account in page.accounts}
    raw = tuple(buffer for page in pages for buffer in page.pages)
    named = frozenset[str]().union(*(page.named for page in pages))
    return Assets(raw, tuple(accounts.values()), named, tuple(c for page in pages for c in page.complaints))


def read_page(page: Buffer) -> Assets:
    """Return the assets of one page."""
    try:
        accounts = _ACCOUNTS.decode(page) or ()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _repaired(page)
    # Here, because then it is done for one server's answer while those of the others are still under way.
    return Assets((page,), accounts, _named(accounts))


def streams_of(answers: Iterable[tuple[str, Assets]]) -> Streams:
    """Return every stream's state per reporting server."""
    found: Streams = {}
    for server, assets in answers:
        for account in assets.accounts:
            for stream in account.streams:
                force_setattr(stream, "server", server)
                force_setattr(stream, "declared", declared_in(stream.raw_config))
                found.setdefault(StreamKey(account.name, stream.name), {})[server] = stream
    return found


def consumers_of(holders: Mapping[str, StreamState]) -> dict[str, dict[str, ConsumerState]]:
    """Return the consumers of one stream by name, each as the servers that hold the stream see it."""
    found: dict[str, dict[str, ConsumerState]] = {}
    for server, stream in holders.items():
        raft_groups = {g.name: g.raft_group for g in stream.raft_groups_or_none or ()}
        for consumer in stream.consumers:
            force_setattr(consumer, "server", server)
            if consumer.name in raft_groups:
                force_setattr(consumer, "raft_group", raft_groups[consumer.name])
            found.setdefault(consumer.name, {})[server] = consumer
    return found


def all_consumers(streams: Streams) -> Consumers:
    """Return every consumer's state per reporting server."""
    named = ((key, consumers_of(holders)) for key, holders in streams.items())
    return {ConsumerKey(*key, name): views for key, found in named for name, views in found.items()}


def _named(accounts: Iterable[AccountState]) -> frozenset[str]:
    found: set[str | None] = set()
    for account in accounts:
        for stream in account.streams:
            for state in (stream, *stream.consumers):
                if (group := state.group) is None:
                    continue
                found.add(group.leader_or_none)
                if group.replicas_or_none:
                    found.update([peer.name for peer in group.replicas_or_none])
    return frozenset(name for name in found if name)


def _identity(account: JsonObject) -> str:
    return str(account.get("id") or account.get("name") or "")


def _repaired(page: Buffer) -> Assets:
    """Decode what is right of a page."""
    try:
        tree: Json = msgspec.json.decode(page)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Assets((b"[]",), (), complaints=(f"{DETAILS}: {error}",))
    complaints: list[str] = []
    while len(complaints) < MOST_COMPLAINTS:
        try:
            accounts = _ACCOUNTS.decode(msgspec.json.encode(tree)) or ()
            return Assets((page,), accounts, _named(accounts), tuple(complaints))
        except msgspec.ValidationError as error:
            found = _WHERE.match(str(error))
            path = found["path"] if found else None
            if not path:
                return Assets((page,), (), complaints=(f"{DETAILS}: {error}",))
            value = _removed(tree, path)
            if not (isinstance(value, int) and _UNDERFLOW <= value < _TOO_LARGE):
                complaints.append(f"{DETAILS}{path}: {found['what'] if found else error}")
    too_many = f"{DETAILS}: more than {MOST_COMPLAINTS} fields are not what they must be"
    return Assets((page,), (), complaints=(*complaints, too_many))


def _removed(tree: Json, path: str) -> Json:
    """Take the value at `path` (in msgspec's notation) out of the tree and return it."""
    holder = tree
    steps: list[str | int] = [m["key"] or int(m["index"]) for m in _STEP.finditer(path)]
    for step in steps[:-1]:
        holder = holder[step]
    return holder.pop(steps[-1])
