"""The demo's incidents on Kubernetes, as a visitor runs them: broken, diagnosed, approved, repaired and proven."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bot.lab.kubernetes_scenarios import SCENARIOS
from bot.lab.process import LabError
from tests.exhaustive import chosen

pytestmark = pytest.mark.timeout(600)
"""A rollout takes a pod after the other, each until it has held for its settle time."""


@pytest.mark.parametrize("scenario", chosen(list(SCENARIOS), ["stuck-consumer"]))
async def test_a_scenario_ends_repaired_with_nothing_lost(scenario: str, tmp_path: Path) -> None:
    command = ("-m", "bot", "demo", "--headless", "--scenario", scenario, "--data", str(tmp_path / "demo"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    said = output.decode()
    if "The demo failed: " in said:
        raise LabError(said)  # a deadline that a busy machine missed: it gets a second run, and is counted
    assert process.returncode == 0, said
    assert "0 of them lost" in said
    assert "rows verify" in said
