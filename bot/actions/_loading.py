"""Makes servers load a changed nats.conf: asks again and again, because the kubelet brings a changed ConfigMap to a pod only after a minute or two.

A reload is idempotent, and its answer is often lost: the server dials its routes anew, and the answer may have come over one of them. So only what
VARZ shows afterwards counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bot.action import Receipt
from bot.actions._facts import look
from bot.actions._servers import MESH
from bot.errors import NotApplied, OutcomeUnknown, ServerRefused, Unreadable, WriteDenied
from bot.model import Endpoint, Snapshot
from bot.ports import Readers, Writers

Sleep = Callable[[float], Awaitable[None]]

PAUSE: Final = 3.0
"""Seconds between two reloads of a server: each that finds a changed file dials routes, which takes one (reference/drills.md 2)."""

PROPAGATION: Final = 150.0
"""Seconds after which a changed ConfigMap has reached every pod: the kubelet looks once a minute, and its cache may be a minute old (reference/nats.md 4.2)."""

GLANCE: Final = 1.0
"""Seconds before another look, where nobody was asked for anything."""

LOOKS: Final = 2
"""Looks per server: where the mesh is in pieces each look shows one piece, at random."""


async def ask_to_load(writers: Writers, server_id: str) -> str:
    """Ask a server to load its file and return what went wrong on the way, empty where nothing did.

    Raises `WriteDenied` where nobody may ask, and `ServerRefused` where the server keeps what it has: `config reload not supported for …`.
    """
    try:
        await writers.reload_server(server_id)
    except (WriteDenied, ServerRefused):
        raise
    except (NotApplied, OutcomeUnknown) as error:
        return str(error)
    return ""


async def look_at(readers: Readers, servers: Collection[str], needs: frozenset[Endpoint] = MESH) -> Snapshot:
    """Read every server that can be seen; where some of these can't, the next look goes through another server. Raises `Unreachable`."""
    snapshot = await look(readers, needs)
    if not set(servers) <= {server.name for server in snapshot.servers}:
        await readers.look_elsewhere()
    return snapshot


Loaded = Callable[[Snapshot, str], bool | None]
"""Whether a server runs with what is wanted, by what it reports; None where it does not say."""


async def ask_until_loaded(
    readers: Readers,
    writers: Writers | None,
    server: str,
    loaded: Loaded,
    sleep: Sleep,
    what: str,
    needs: frozenset[Endpoint] = MESH,
) -> None:
    """Ask one server to load its file until it shows `what`; without `writers` it is only looked at. What was sent and not seen to work is a definite
    no: it still runs with what it had. Raises `NotApplied`, `OutcomeUnknown`, `Unreadable`, `WriteDenied`, `ServerRefused`.
    """
    tried, sent = _Try(), False
    waited, began = 0.0, None
    while waited < PROPAGATION:
        try:
            tried = await _try(readers, writers, server, loaded, needs)
        except Unreadable as error:
            if not sent:
                raise
            tried = _Try(problem=str(error))
        if tried.loaded:
            return
        sent |= tried.asked
        pause = PAUSE if tried.asked else GLANCE
        await sleep(pause)
        waited += pause
        if tried.at is not None:
            began = began or tried.at
            waited = max(waited, (tried.at - began).total_seconds())
    seen = await seen_loaded(readers, server, loaded, needs)
    if seen is None and not sent and writers is not None:
        raise NotApplied(f"{server} was not asked, because {tried.problem}")
    if seen is None:
        raise OutcomeUnknown(f"What {server} runs with can't be read: {tried.problem}")
    if not seen:
        raise NotApplied(
            f"{server} did not load {what} within {PROPAGATION:.0f} s"
            + (f": {tried.problem}" if tried.problem else ": the changed file does not reach its pod.")
        )


async def seen_loaded(readers: Readers, server: str, loaded: Loaded, needs: frozenset[Endpoint] = MESH) -> bool | None:
    """Tell whether a server runs with what is wanted; None where nobody can say."""
    try:
        return loaded(await look_at(readers, [server], needs), server)
    except Unreadable:
        return None


def told_of_asking(*, reloader: bool) -> str:
    """Say how a server comes to load its file."""
    if reloader:
        return "The reloader in the pod sends SIGHUP once the file has changed; natsmedic waits for it."
    return f"It is asked every {PAUSE:.0f} s until it shows the change, {PROPAGATION:.0f} s at most: the kubelet brings a changed file within 1 to 2 minutes."


def receipt_of_load(loaded: bool | None) -> Receipt:  # noqa: FBT001 - three answers to one question
    """What a server runs with is the receipt: whoever made it load that, it is what was asked for."""
    if loaded is None:
        return Receipt.UNREADABLE
    return Receipt.APPLIED if loaded else Receipt.NOT_APPLIED


async def load_everywhere(
    readers: Readers, writers: Writers | None, servers: Collection[str], loaded: Loaded, sleep: Sleep
) -> tuple[str, ...]:
    """Ask the servers that do not run with what is wanted to load their file, as far as one look after another finds them, and return those that still
    do not show it. Without `writers` they are only looked at. Raises `Unreadable`, `WriteDenied`, `ServerRefused`.
    """
    late = dict.fromkeys(servers)
    for _ in range(LOOKS * len(late)):
        snapshot = await look_at(readers, late)
        pause = GLANCE
        for server in snapshot.servers:
            if server.name not in late:
                continue
            if loaded(snapshot, server.name):
                del late[server.name]
            elif writers is not None:
                pause = PAUSE
                await ask_to_load(writers, server.id)
        if not late:
            break
        await sleep(pause)
    return tuple(late)


@dataclass(frozen=True, slots=True)
class _Try:
    """One look at the server, and what came of asking it."""

    loaded: bool = False
    asked: bool = False
    problem: str = ""
    at: datetime | None = None


async def _try(
    readers: Readers, writers: Writers | None, server: str, loaded: Loaded, needs: frozenset[Endpoint]
) -> _Try:
    """Look, and ask where there is something to ask for. Raises `Unreadable`, `WriteDenied`, `ServerRefused`."""
    snapshot = await look_at(readers, [server], needs)
    at = snapshot.taken_at
    if loaded(snapshot, server):
        return _Try(loaded=True)
    identity = next((one for one in snapshot.servers if one.name == server), None)
    if identity is None:
        return _Try(problem="it does not answer.", at=at)
    if writers is None:
        return _Try(at=at)
    return _Try(asked=True, problem=await ask_to_load(writers, identity.id), at=at)
