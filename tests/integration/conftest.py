"""Fixtures of the conformance suite: the stand-in Kubernetes always, and a real cluster where there is one."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.integration.kubernetes_conformance import REAL, STAND_IN, World, real, stand_in

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
