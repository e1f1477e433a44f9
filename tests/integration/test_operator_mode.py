"""Accounts and users that an operator signed: every way in that a nats context has, and the limits in an account's JWT."""

import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.nats import connect_target
from bot.model import Endpoint, Focus, Severity, Snapshot
from bot.settings.target import Target
from runbooks.cluster_audit import RUNBOOK
from tests.integration.signed_operator import Trusting, User, clients, trusting_server

VERSIONS = ["2.10.26", "2.15.1"]


@pytest.fixture(params=VERSIONS)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Trusting]:
    async with trusting_server(tmp_path, request.param) as running:
        yield running


def by_creds(user: User, folder: Path) -> dict[str, Any]:
    return {"creds": str(user.creds(folder / "user.creds"))}


def by_jwt(user: User, folder: Path) -> dict[str, Any]:
    del folder
    return {"user_jwt": user.jwt, "user_seed": user.seed}


def by_bearer_token(user: User, folder: Path) -> dict[str, Any]:
    del folder
    return {"user_jwt": user.jwt}


async def gathered(target: Target, home: Path) -> Snapshot:
    readers = await connect_target(target, SystemClock(), {"XDG_CONFIG_HOME": str(home), "HOME": str(home)})
    try:
        return await readers.gather(RUNBOOK.needs)
    finally:
        await readers.aclose()


def context(home: Path, server: Trusting, login: dict[str, Any]) -> Target:
    folder = home / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "prod.json").write_text(json.dumps({"url": server.url, "inbox_prefix": "_INBOX", **login}))
    return Target(context="prod")


@pytest.mark.parametrize("login", [by_creds, by_jwt, by_bearer_token])
async def test_a_context_logs_in_with_signed_credentials(
    server: Trusting, login: Callable[[User, Path], dict[str, Any]], tmp_path: Path
) -> None:
    user = server.system.user("reader", bearer=login is by_bearer_token)
    snapshot = await gathered(context(tmp_path, server, login(user, tmp_path)), tmp_path)
    assert (snapshot.via, [s.name for s in snapshot.servers]) == ("system account", ["solo"])


def accounts(snapshot: Snapshot) -> list[tuple[Severity, str | None]]:
    check = next(c for c in RUNBOOK.checks if c.code == "AUDIT_ACCOUNT_LIMITS")
    return [(f.severity, f.subject.account) for f in check.examine(snapshot, RUNBOOK.values(), Focus())]


@pytest.mark.parametrize(("count", "found"), [(9, [(Severity.OK, None)]), (10, [(Severity.WARNING, "SMALL")])])
async def test_accounts_001_reads_the_limits_in_the_jwt_over_both_ways(
    server: Trusting, tmp_path: Path, count: int, found: list[tuple[Severity, str | None]]
) -> None:
    over_sys = context(tmp_path, server, by_jwt(server.system.user("reader"), tmp_path))
    async with clients(server, server.small.user("app").creds(tmp_path / "app.creds"), count):
        for target in (over_sys, Target(monitoring=(server.monitoring,))):
            snapshot = await gathered(target, tmp_path)
            assert accounts(snapshot) == found
            answer = snapshot.data("solo", Endpoint.ACCOUNTZ)
            assert answer is not None
            assert all("jwt" not in detail for detail in answer["account_details"])
