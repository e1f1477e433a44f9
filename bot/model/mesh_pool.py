"""How many connections a pair of servers must have, and which accounts each carries. Pure (reference/nats.md 1.C and 6)."""

from __future__ import annotations

from dataclasses import dataclass

from bot.model.base import Json
from bot.model.sample import Endpoint
from bot.model.snapshot import Snapshot

Version = tuple[int, int, int]

FIRST_POOLING: Version = (2, 10, 0)
"""First version with route pooling and pinned accounts; a pair with an older server has one connection (reference/nats.md 6)."""

FIRST_NEGOTIATING: Version = (2, 11, 2)
"""First version that accepts another pool size and uses the larger; older ones refuse the route (reference/nats.md 6)."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one end of a route says about itself."""

    version: Version
    pool_size: int
    """Below 1: pooling is off."""

    @property
    def pools(self) -> bool:
        """True where this end opens a pool and connections of pinned accounts."""
        return self.version >= FIRST_POOLING and self.pool_size > 0


@dataclass(frozen=True, slots=True)
class Expected:
    """How many connections a pair must have: `slots` without an account, and one for each account in `pinned`."""

    slots: int
    pinned: frozenset[str] = frozenset()
    refused: bool = False
    """True where the ends refuse each other because their pool sizes differ."""


def expected(one: Side, other: Side, pinned: frozenset[str]) -> Expected:
    """Return what a complete pair has, by both ends' versions and pool sizes. `pinned` are the accounts that both pin."""
    if not (one.pools and other.pools):
        return Expected(1)
    if one.pool_size != other.pool_size and min(one.version, other.version) < FIRST_NEGOTIATING:
        return Expected(0, refused=True)
    return Expected(max(one.pool_size, other.pool_size), pinned)


def slot_of(account: str, pool_size: int) -> int:
    """Return the pool slot that carries an account's messages: FNV-1a of its name modulo the pool size (reference/nats.md 1.C)."""
    if pool_size <= 1:
        return 0
    hashed = 0x811C9DC5
    for byte in account.encode():
        hashed = (hashed ^ byte) * 0x01000193 & 0xFFFFFFFF
    return hashed % pool_size


def known_accounts(snapshot: Snapshot) -> frozenset[str]:
    """Return the accounts that ACCOUNTZ and JSZ name, by the name that is hashed: the id where a server shows one (operator mode)."""
    found: set[str] = set()
    for sample in snapshot.samples:
        if sample.data is None:
            continue
        if sample.endpoint is Endpoint.ACCOUNTZ:
            listed: Json = sample.data.get("accounts")
            found |= {a for a in (listed if isinstance(listed, list) else []) if isinstance(a, str)}  # pyright: ignore[reportUnknownVariableType]
        elif sample.endpoint is Endpoint.JSZ:
            found |= {a.id or a.name for a in (sample.assets.accounts if sample.assets else ()) if a.id or a.name}
    return frozenset(found)


def accounts_by_slot(snapshot: Snapshot, slots: int, pinned: frozenset[str]) -> dict[int, list[str]]:
    """Return the known accounts by the slot that carries them; pinned ones have a connection of their own."""
    found: dict[int, list[str]] = {slot: [] for slot in range(min(slots, 1_000))}
    for account in sorted(known_accounts(snapshot) - pinned):
        found.setdefault(slot_of(account, slots), []).append(account)
    return found
