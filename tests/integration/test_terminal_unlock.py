"""What lets changes go on again, in the terminal: a lock given back and a gap acknowledged, by an approver whom the settings name for the OS user."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.flow.checkpoints import GAP
from bot.model import AuditDraft, AuditEntry, ExecutionId
from tests.integration import test_terminal as support
from tests.integration.test_terminal import Told, stored

config, target, told = support.config, support.target, support.told
ACCOUNT = {"team": "terminal", "user": "adal"}


def lock(config: Path) -> None:
    async def take() -> None:
        async with stored(config) as store, store.begin() as tx:
            assert await tx.take_lock("prod", ExecutionId("exec_gone")) is not None

    asyncio.run(take())


def gap(config: Path) -> None:
    async def put() -> None:
        async with stored(config) as store, store.begin() as tx:
            checkpoint = {"seq": 9, "hash": "0" * 64}
            data = {"sink": "file", "checkpoint": checkpoint, "head": checkpoint}
            await tx.audit(AuditDraft(kind=GAP, actor="bot", sentence="It does not fit.", data=data))

    asyncio.run(put())


def rows(config: Path) -> tuple[str | None, list[AuditEntry]]:
    """Who holds the cluster, and the audit log."""

    async def read() -> tuple[str | None, list[AuditEntry]]:
        async with stored(config) as store:
            return (await store.fence("prod"))[0], list(await store.audit_entries())

    return asyncio.run(read())


def test_an_approver_gives_a_lock_back_and_the_row_names_person_and_os_user(config: Path, told: Told) -> None:
    lock(config)
    answer = told("adal", "unlock", "prod", "--reason", "looked: it is right")
    assert (answer.exit_code, "ada gave the lock of cluster prod back" in answer.stdout) == (0, True), answer.stderr
    holder, (row,) = rows(config)
    assert (holder, row.kind, row.actor) == (None, "lock.released", "ada")
    assert {name: row.data[name] for name in ACCOUNT} == ACCOUNT


def test_an_approver_acknowledges_a_gap_and_the_row_names_person_and_os_user(config: Path, told: Told) -> None:
    gap(config)
    answer = told("adal", "audit", "acknowledge", "--reason", "restored after a disk failure")
    assert answer.exit_code == 0, answer.stderr
    _, (_, row) = rows(config)
    assert (row.kind, row.actor) == ("audit.acknowledged", "ada")
    assert {name: row.data[name] for name in ACCOUNT} == ACCOUNT


@pytest.mark.parametrize("line", [("unlock", "prod"), ("audit", "acknowledge")])
def test_a_person_in_no_approver_group_lets_nothing_go_on(config: Path, told: Told, line: tuple[str, ...]) -> None:
    lock(config)
    gap(config)
    answer = told("di", *line, "--reason", "r")
    assert (answer.exit_code, "in none of the groups" in answer.stderr) == (2, True), answer.stderr
    holder, (_, row) = rows(config)
    assert (holder, row.kind, row.actor, row.data["code"]) == (
        "exec_gone",
        "command.refused",
        "di",
        "not_an_approver",
    )
