"""`natsmedic lab drill` as a person runs it: each drill comes out as its script says, a wrong one fails with what was seen, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.lab.drill import FAILED, INTERRUPTED, PASSED, REFUSED, SCRIPTS, drill, listing
from bot.lab.kubernetes_scenarios import SCENARIOS
from bot.lab.script import Expect, Fault, Script
from bot.lab.site import Site, finds, stage
from tests.exhaustive import chosen

ON_SERVERS = [name for name in SCRIPTS if name not in SCENARIOS]
"""The demo's incidents are drills as well; tests/e2e/test_scenarios.py plays them, by the same steps."""
VERSION = "2.11.11"


async def natsmedic(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bot",
        "lab",
        "drill",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def ran(*arguments: str) -> tuple[int, str]:
    process = await natsmedic(*arguments)
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def left(directory: Path) -> Iterator[str]:
    """The command lines of processes that name this directory."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if str(directory).encode() in words and str(os.getpid()) != entry.parent.name:
            yield words.replace(b"\0", b" ").decode(errors="replace")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", chosen(ON_SERVERS, ["ghost-split", "mesh-advertise", "two-of-two"]))
async def test_each_drill_comes_out_as_its_script_says(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await drill(SCRIPTS[name], tmp_path)
    said = capsys.readouterr().out
    assert code == PASSED, said
    expected = [step for step in SCRIPTS[name].steps if isinstance(step, Expect)]
    assert said.rstrip().endswith(f"passed: {len(expected)} of {len(expected)} expectations met")
    assert all(step.said in said for step in SCRIPTS[name].steps)
    assert list(left(tmp_path)) == []


async def test_the_list_names_every_incident_of_the_demo_and_every_family() -> None:
    code, said = await ran("list")
    assert code == PASSED
    assert said.rstrip() == listing()
    assert {line.split()[0] for line in said.splitlines()} == SCRIPTS.keys() >= SCENARIOS.keys()
    assert all(f"family {letter}" in said for letter in "ACDE")


async def test_a_drill_that_does_not_exist_is_refused() -> None:
    assert await ran("run", "nothing") == (
        REFUSED,
        "There is no drill nothing; `natsmedic lab drill list` names them.\n",
    )


async def nothing(site: Site) -> str:
    return f"{len(site.cluster.names)} servers run"


async def test_an_expectation_that_fails_makes_the_run_fail_with_what_was_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Expect("a healthy mesh is broken", finds("ROUTE_MESH", "MESH_PAIRS"), latest=1.0, tolerance=0.0)
    script = Script(
        "wrong", "expects what is not so", "nowhere", stage(VERSION, over_http=True), (Fault("nothing", nothing), wrong)
    )
    assert await drill(script, tmp_path) == FAILED
    said = capsys.readouterr().out
    assert "missed      a healthy mesh is broken (0 to 1 s after it" in said
    assert "MESH_PAIRS ok: " in said
    assert said.rstrip().endswith("FAILED: 0 of 1 expectations met")
    assert list(left(tmp_path)) == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_a_drill_that_is_interrupted_leaves_no_process_behind(ending: signal.Signals, tmp_path: Path) -> None:
    process = await natsmedic("run", "ghost-split", "--data", str(tmp_path / "drill"))
    assert process.stdout is not None
    while b"nats-servers" not in (line := await process.stdout.readline()):
        assert line, "the drill ended before it began"
    assert any("nats-server" in words for words in left(tmp_path))
    process.send_signal(ending)
    said = await process.stdout.read()
    assert await process.wait() == INTERRUPTED
    assert said.decode().rstrip().endswith("Stopped.")
    assert list(left(tmp_path)) == []
