"""Makes servers load a changed nats.conf: asks again and again, because the kubelet brings a changed ConfigMap to a pod only after a minute or two.

A reload is idempotent, and its answer is often lost: the server dials its routes anew, and the answer may have come over one of them. So only what
VARZ shows afterwards counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from bot.actions._facts import look
from bot.actions._servers import MESH, runs_with
from bot.errors import NotApplied, OutcomeUnknown, ServerRefused, WriteDenied
from bot.model import Snapshot
from bot.model.mesh import read_mesh
from bot.ports import Readers, Writers

Sleep = Callable[[float], Awaitable[None]]

PAUSE: Final = 3.0
"""Seconds between two reloads of a server: each that finds a changed file dials routes, which takes one (reference/drills.md 2)."""

PROPAGATION: Final = 150.0
"""Seconds after which a changed ConfigMap has reached every pod: the kubelet looks once a minute, and its cache may be a minute old (reference/nats.md 4.2)."""


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


async def behind(
    readers: Readers, servers: tuple[str, ...], addresses: tuple[str, ...]
) -> tuple[Snapshot, tuple[str, ...]]:
    """Return those of the servers that do not run with these routes, or do not say so. Raises `Unreadable`."""
    snapshot = await look(readers, MESH)
    mesh = read_mesh(snapshot)
    return snapshot, tuple(name for name in servers if not runs_with(mesh, name, addresses))
