"""Makes servers load a changed nats.conf: asks again and again, because the kubelet brings a changed ConfigMap to a pod only after a minute or two.

A reload is idempotent, and its answer is often lost: the server dials its routes anew, and the answer may have come over one of them. So only what
VARZ shows afterwards counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from bot.actions._facts import look
from bot.actions._servers import MESH, runs_with
from bot.errors import NotApplied, OutcomeUnknown, ServerRefused, WriteDenied
from bot.model import Endpoint, Snapshot
from bot.model.mesh import read_mesh
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


async def load_everywhere(
    readers: Readers, writers: Writers | None, servers: Collection[str], addresses: Collection[str], sleep: Sleep
) -> tuple[str, ...]:
    """Ask the servers that do not run with these routes to load their file, as far as one look after another finds them, and return those that still
    do not show them. Without `writers` they are only looked at. Raises `Unreadable`, `WriteDenied`, `ServerRefused`.
    """
    late = dict.fromkeys(servers)
    for _ in range(LOOKS * len(late)):
        snapshot = await look_at(readers, late)
        mesh, pause = read_mesh(snapshot), GLANCE
        for server in snapshot.servers:
            if server.name not in late:
                continue
            if runs_with(mesh, server.name, addresses):
                del late[server.name]
            elif writers is not None:
                pause = PAUSE
                await ask_to_load(writers, server.id)
        if not late:
            break
        await sleep(pause)
    return tuple(late)
