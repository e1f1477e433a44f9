"""Reads the little that the collectors themselves must know out of raw answers. Pure.

Field presence decides how to parse; the version only decides what may be asked (reference/nats.md 8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.model import Endpoint, Json, JsonObject, ServerIdentity, Unknown, UnknownReason, part, parts
from bot.model.assets import DETAILS, Assets, join
from bot.model.states import group_of

Version = tuple[int, int, int]

HEALTHZ_ONLY_READS: Final[Version] = (2, 10, 25)
"""Before it, a full health check could restart or delete Raft nodes (nats-server #6362; reference/nats.md 1.0, side effects)."""

RAFTZ_OVER_SYS: Final[Version] = (2, 10, 26)
RAFTZ_OVER_HTTP: Final[Version] = (2, 10, 17)
"""First versions with RAFTZ (reference/nats.md 3.1)."""

IPQUEUESZ_OVER_SYS: Final[Version] = (2, 10, 26)
"""First version with IPQUEUESZ over the system account (reference/nats.md 3.1); over HTTP it is older, and 404 where it is not."""

PAGE: Final = 1024
"""Items per page: the server's own default (`DefaultConnListSize` for CONNZ, also JSZ's)."""

MAX_PAGES: Final = 64
"""Pages read of one server's answer: 65,536 connections, the most that a server accepts unless `max_connections` is raised."""

MAX_SUBSCRIPTIONS: Final = 200_000
"""Subscriptions read of one server, in one answer: their order is another one in every answer (server/monitor.go, `Subsz` walks a map), so that pages
of it would repeat some and lack others. Each takes about 100 bytes."""

OPTIONS: Final[Mapping[Endpoint, JsonObject]] = {
    Endpoint.VARZ: {},
    Endpoint.JSZ: {"accounts": True, "streams": True, "consumer": True, "config": True, "raft": True},
    Endpoint.HEALTHZ: {"details": True},
    Endpoint.ROUTEZ: {},
    Endpoint.RAFTZ: {},
    Endpoint.STATSZ: {},
    Endpoint.CONNZ: {"sort": "cid", "auth": True},
    Endpoint.ACCOUNTZ: {},
    Endpoint.GATEWAYZ: {},
    Endpoint.LEAFZ: {},
    # Empty queues are left out: a server with thousands of groups has as many, and an absent queue is an empty one.
    Endpoint.IPQUEUESZ: {"all": False},
    Endpoint.SUBSZ: {"subscriptions": True, "limit": MAX_SUBSCRIPTIONS},
}
"""Bodies of the `$SYS` requests; `consumer` is singular there and plural over HTTP (reference/nats.md 3.1)."""


@dataclass(frozen=True, slots=True)
class Paged:
    """An answer that comes in pages: the list that `offset` and `limit` count, the fields that tell its items apart, and the one that counts them."""

    items: str
    keys: tuple[str, ...]
    count: str | None = None


PAGED: Final[Mapping[Endpoint, Paged]] = {
    # JSZ pages accounts, not streams (drills.md 6).
    Endpoint.JSZ: Paged(DETAILS, ("id", "name")),
    Endpoint.CONNZ: Paged("connections", ("cid",), "num_connections"),
}

ACCOUNT_DETAILS: Final = "account_details"
"""Where an ACCOUNTZ answer of ours holds the `account_detail` of each account that was asked for; in the order of the answer's `accounts`."""

MAX_ACCOUNTS: Final = 1_000
"""Accounts of a server whose details are read, one question each."""

_ACCOUNT_KEY: Final = re.compile(r"A[A-Z2-7]{55}")
"""The public key that names an account where an operator signs accounts (github.com/nats-io/nkeys)."""

_UNNAMED_PEER: Final = "Server name unknown"
"""What a server writes for a peer whose name it never learned."""

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def version_of(text: str) -> Version:
    """Return the numbers of a server version; (0, 0, 0), older than everything, where the text has none."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def identity_of(header: JsonObject) -> ServerIdentity:
    """Return who answered, from the `server` object of a `$SYS` reply."""
    return ServerIdentity(
        name=str(header.get("name") or header.get("id") or ""),
        id=str(header.get("id") or ""),
        version=str(header.get("ver") or ""),
        cluster=str(header.get("cluster") or ""),
        host=str(header.get("host") or ""),
    )


def identity_of_varz(varz: JsonObject) -> ServerIdentity:
    """Return who answered, from a VARZ answer."""
    return ServerIdentity(
        name=str(varz.get("server_name") or varz.get("server_id") or ""),
        id=str(varz.get("server_id") or ""),
        version=str(varz.get("version") or ""),
        cluster=str(part(varz, "cluster").get("name") or ""),
        host=str(varz.get("host") or ""),
    )


def linked(statsz: JsonObject) -> frozenset[str]:
    """Return the names of the servers that a STATSZ answer has a live route to."""
    return frozenset(str(route["name"]) for route in parts(statsz, "routes") if route.get("name"))


def named_in_jsz(jsz: JsonObject, assets: Assets | None) -> frozenset[str]:
    """Return the servers a JSZ answer names: leaders and replicas of the meta group and of every stream and consumer group."""
    meta = group_of(part(jsz, "meta_cluster"))
    named = (meta.members if meta else frozenset[str]()) | (assets.named if assets else frozenset[str]())
    return frozenset(name for name in named if name and not name.startswith(_UNNAMED_PEER))


def named_in_routez(routez: JsonObject) -> frozenset[str]:
    """Return the servers at the other end of a ROUTEZ answer's routes."""
    return frozenset(str(route["remote_name"]) for route in parts(routez, "routes") if route.get("remote_name"))


def accounts_in(assets: Assets | None) -> dict[str, str]:
    """Return the JetStream accounts of a JSZ answer by id; with operator mode the id is a public key, otherwise the name."""
    accounts = assets.accounts if assets else ()
    return {a.id or a.name: a.name or a.id for a in accounts if a.id or a.name}


@dataclass(frozen=True, slots=True)
class Page:
    """One answer, or one page of it."""

    data: JsonObject
    assets: Assets | None = None


def signed_accounts(accountz: JsonObject) -> list[str]:
    """Return the accounts of an ACCOUNTZ answer that have a JWT, and so limits of their own."""
    listed: Json = accountz.get("accounts")
    return [a for a in (listed if isinstance(listed, list) else []) if isinstance(a, str) and _ACCOUNT_KEY.fullmatch(a)]  # pyright: ignore[reportUnknownVariableType]


def account_detail(answer: JsonObject) -> JsonObject:
    """Return the detail of an ACCOUNTZ answer about one account, without the JWT itself, which is there decoded too."""
    return {key: value for key, value in part(answer, "account_detail").items() if key != "jwt"}


def page_is_full(page: Page, paged: Paged, limit: int) -> bool:
    """Tell whether more items may follow."""
    items = page.assets.accounts if page.assets else parts(page.data, paged.items)
    return len(items) >= limit


def merge_pages(pages: Sequence[Page], paged: Paged) -> Page:
    """Return the first page with the items of all; an item that two pages hold counts once, as last read."""
    if len(pages) == 1:
        return pages[0]
    if assets := [page.assets for page in pages if page.assets]:
        return Page(pages[0].data, join(assets))
    items: dict[str, JsonObject] = {}
    for page in pages:
        for item in parts(page.data, paged.items):
            items[str(next((item[key] for key in paged.keys if item.get(key)), None))] = item
    merged: JsonObject = {**pages[0].data, paged.items: list(items.values())}
    return Page(merged | {paged.count: len(items)} if paged.count else merged)


def cut_off(server: str, endpoint: Endpoint, paged: Paged, read: int) -> Unknown:
    """Return the note that a server has more items than are read."""
    detail = f"{server} has more {paged.items} in {endpoint} than the {read} that were read"
    return Unknown(reason=UnknownReason.UNREADABLE, detail=detail)


def cut_off_accounts(server: str, count: int) -> Unknown:
    """Return the note that a server has more signed accounts than are asked for."""
    detail = f"{server} has {count} signed accounts; the limits of the first {MAX_ACCOUNTS} are read"
    return Unknown(reason=UnknownReason.UNREADABLE, detail=detail)


def merge_raftz(base: JsonObject, per_account: Mapping[str, JsonObject], names: Mapping[str, str]) -> JsonObject:
    """Return one RAFTZ answer by account name. Without an account filter the server shows the system account only, so each account is asked
    for by id. An account without any Raft group there has an empty object: *asked, and there is none*.
    """
    merged: JsonObject = {names.get(account, account): groups for account, groups in base.items()}
    for account, answer in per_account.items():
        merged[names.get(account, account)] = answer.get(account) or {}
    return merged
