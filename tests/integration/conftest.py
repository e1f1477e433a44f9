"""Audit rows are checked as they are appended; and Kubernetes: a stand-in alone, and for the conformance suite a real cluster beside it where there is one."""

import sys
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from pathlib import Path
from types import FrameType

import httpx
import pytest
import pytest_asyncio

from bot.adapters.database import SqlStore
from bot.adapters.database.revisions import Revisions
from bot.adapters.database.transaction import SqlTransaction
from bot.lab.http import http_client
from bot.lab.kubernetes import StandInKubernetes
from bot.model import AuditDraft, AuditEntry
from bot.model.audit_kinds import flaw_of
from tests.audit_census import claimed_by
from tests.integration.kubernetes_conformance import REAL, STAND_IN, World, real, stand_in
from tests.integration.migrating import grown_in
from tests.integration.store_records import FixedClock
from tests.rights import on_record

APPEND = SqlTransaction.audit_all


@pytest.fixture(autouse=True)
def known_kinds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every row that the bot appends holds the data that its kind names, and a test sees the kinds that the census names it for.

    What a test appends itself is its own affair.
    """
    written: set[str] = set()

    async def audit_all(self: SqlTransaction, drafts: Sequence[AuditDraft]) -> Sequence[AuditEntry]:
        if writer().startswith("bot."):
            assert [flaw for draft in drafts if (flaw := flaw_of(draft.kind, draft.data))] == []
            written.update(draft.kind for draft in drafts)
        return await APPEND(self, drafts)

    monkeypatch.setattr(SqlTransaction, "audit_all", audit_all)
    yield
    assert claimed_by(request.path, request.node.originalname) - written == set(), (
        "what tests/audit_census.py says of it"
    )


def writer() -> str:
    """The module that appends a row, itself or by way of the transaction's `audit`."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == SqlTransaction.__module__:
        frame = frame.f_back
    return "" if frame is None else str(frame.f_globals.get("__name__"))


@pytest.fixture(autouse=True, scope="session")
def known_rights() -> Generator[None]:
    """Whatever natsmedic asks of a stand-in API server is in the record that the roles of deploy/ are held against."""
    with on_record():
        yield


BOTH = [STAND_IN, pytest.param(REAL, marks=pytest.mark.kubernetes)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BOTH)
async def opened_kubernetes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[World]:
    """One cluster for the tests of a module."""
    async with real() if request.param == REAL else stand_in(tmp_path_factory.mktemp("kube")) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(opened_kubernetes: World) -> AsyncGenerator[World]:
    """The cluster, in a namespace of the test's own."""
    async with opened_kubernetes.new_namespace() as inside:
        yield inside


@pytest_asyncio.fixture(loop_scope="module")
async def kube(tmp_path: Path) -> AsyncGenerator[StandInKubernetes]:
    async with StandInKubernetes(tmp_path, config_delay=0.2, first_back_off=0.5) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def http(kube: StandInKubernetes) -> AsyncGenerator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {kube.token}"}
    async with http_client(10.0, base_url=kube.url, headers=headers) as client:
        yield client


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind that the store can live in."""
    return (
        f"sqlite:///{tmp_path}/natsmedic.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )


@pytest.fixture
def grown(tmp_path: Path) -> Revisions:
    """The revisions of the tables that a natsmedic to come has: ours, and two more."""
    return grown_in(tmp_path / "grown")


@pytest.fixture
async def store(url: str) -> AsyncGenerator[SqlStore]:
    async with SqlStore.open(url, FixedClock()) as opened:
        yield opened
