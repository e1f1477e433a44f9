"""The whole bot for one test: real servers, the stand-in Slack, the bot as a process."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest

from bot.lab.servers import LabCluster
from bot.lab.slack import StandInSlack
from bot.lab.whole import WholeBot, lab_slack
from bot.model import JsonObject
from bot.model.audit_kinds import flaw_of
from tests.audit_census import claimed_by
from tests.rights import on_record

Whole = Callable[..., AbstractAsyncContextManager[WholeBot]]


@pytest.fixture(autouse=True, scope="session")
def known_rights() -> Generator[None]:
    """Whatever natsmedic asks of a stand-in API server is in the record that the roles of deploy/ are held against."""
    with on_record():
        yield


@pytest.fixture
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Whole:
    """Give servers, Slack and a config file as an async context manager; the test itself starts the bot."""
    claimed = claimed_by(request.path, request.node.originalname)

    @asynccontextmanager
    async def make(
        *,
        version: str = "2.11.11",
        room: Mapping[str, int] | None = None,
        overrides: JsonObject | None = None,
        slack: StandInSlack | None = None,
    ) -> AsyncGenerator[WholeBot]:
        limits = {"n1": 4} if room is None else room
        quick: JsonObject = {"thresholds": {"STUCK_CONSUMER": {"settle": 1}, "READINESS": {"settle": 1}}}
        workspace = slack or lab_slack()
        async with (
            LabCluster(tmp_path / "nats", version, max_ha_assets=limits) as cluster,
            workspace,
            WholeBot(tmp_path / "bot", cluster, workspace, quick | (overrides or {})) as bot,
        ):
            yield bot
        written = insist_on_known_kinds(tmp_path / "bot" / "natsmedic.db")
        assert claimed - written == set(), "what tests/audit_census.py says of it"

    return make


def insist_on_known_kinds(database: Path) -> set[str]:
    """Every row that the bot has written is of a known kind, with the data that its kind names. Returns the kinds."""
    if not database.exists():
        return set()
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as file:
        rows: list[tuple[str, str]] = file.execute("SELECT kind, data FROM audit").fetchall()
    assert {flaw for kind, data in rows if (flaw := flaw_of(kind, json.loads(data)))} == set()
    return {kind for kind, _ in rows}


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Where screenshots are kept: CI names a folder that outlives the test."""
    folder = Path(os.environ.get("NATSMEDIC_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
