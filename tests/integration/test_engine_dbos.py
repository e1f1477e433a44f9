"""The durable engine on a real DBOS over SQLite."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from bot.adapters.engine import DbosEngine
from bot.errors import StoreBusy
from bot.ports import Phase, PhaseHandler, Steps

pytestmark = pytest.mark.timeout(60)
FAST = (0.05,)


@asynccontextmanager
async def engine_of(
    path: Path, handlers: dict[Phase, PhaseHandler], retry_delays: Sequence[float] = FAST
) -> AsyncGenerator[DbosEngine]:
    engine = DbosEngine(f"sqlite:///{path}", "replica-a", handlers, retry_delays=retry_delays)
    await engine.launch()
    try:
        yield engine
    finally:
        await engine.shutdown()


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def status_of(path: Path, workflow: str) -> str | None:
    with sqlite3.connect(path) as connection:
        row = connection.execute("SELECT status FROM workflow_status WHERE workflow_uuid = ?", (workflow,)).fetchone()
    connection.close()
    return row[0] if row else None


async def text(value: str) -> str:
    return value


async def test_many_starts_of_one_key_give_one_run_in_our_own_loop(tmp_path: Path) -> None:
    runs: list[tuple[str, int]] = []

    async def phase(key: str, steps: Steps) -> None:
        assert await steps.run("only", partial(text, "done")) == "done"
        runs.append((key, threading.get_ident()))

    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}) as engine:
        await asyncio.gather(*(engine.start(Phase.EXECUTION, "exec_1") for _ in range(20)))
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "SUCCESS")
        await engine.start(Phase.EXECUTION, "exec_1")
        await engine.start(Phase.EXECUTION, "exec_2")
        await until(lambda: status_of(tmp_path / "db", "execution:exec_2") == "SUCCESS")
    assert runs == [("exec_1", threading.get_ident()), ("exec_2", threading.get_ident())]


async def test_a_transient_failure_is_retried_at_the_step_that_failed(tmp_path: Path) -> None:
    calls: list[str] = []

    async def flaky() -> str:
        calls.append("flaky")
        if calls.count("flaky") < 3:
            raise StoreBusy("the database was locked")
        return "ok"

    async def first() -> str:
        calls.append("first")
        return "1"

    async def phase(key: str, steps: Steps) -> None:
        calls.append(await steps.run("first", first) + await steps.run("flaky", flaky))

    async with engine_of(tmp_path / "db", {Phase.DIAGNOSIS: phase}) as engine:
        await engine.start(Phase.DIAGNOSIS, "inc_1")
        await until(lambda: status_of(tmp_path / "db", "diagnosis:inc_1") == "SUCCESS")
    assert calls == ["first", "flaky", "flaky", "flaky", "1ok"]


async def test_a_transient_failure_between_steps_is_retried(tmp_path: Path) -> None:
    calls: list[str] = []

    async def first() -> str:
        calls.append("first")
        return "1"

    async def phase(key: str, steps: Steps) -> None:
        await steps.run("first", first)
        calls.append("between")
        if calls.count("between") == 1:
            raise StoreBusy("the database was locked")

    async with engine_of(tmp_path / "db", {Phase.DIAGNOSIS: phase}) as engine:
        await engine.start(Phase.DIAGNOSIS, "inc_1")
        await until(lambda: status_of(tmp_path / "db", "diagnosis:inc_1") == "SUCCESS")
    assert calls == ["first", "between", "between"]


async def test_a_phase_that_gets_further_each_time_is_soon_started_again(tmp_path: Path) -> None:
    calls: list[str] = []

    async def phase(key: str, steps: Steps) -> None:
        for number in range(3):

            async def flaky(name: str = f"step {number}") -> str:
                calls.append(name)
                if calls.count(name) < 2:
                    raise StoreBusy("the database was locked")
                return name

            await steps.run(f"step {number}", flaky)

    # A second failure in a row would wait for longer than the test does.
    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}, retry_delays=(*FAST, 600.0)) as engine:
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "SUCCESS")
    assert calls == [f"step {number}" for number in range(3) for _ in range(2)]


async def test_another_failure_is_logged_with_its_id_and_waits_for_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    async def broken() -> str:
        calls.append("broken")
        if len(calls) == 1:
            raise ValueError("a bug")
        return "ok"

    async def phase(key: str, steps: Steps) -> None:
        await steps.run("broken", broken)

    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}) as engine:
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "ERROR")
        await asyncio.sleep(0.3)
        assert calls == ["broken"], "nobody asked for it again"
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "SUCCESS")
    assert calls == ["broken", "broken"]
    logged = capsys.readouterr()
    assert "execution:exec_1" in logged.out + logged.err
    assert "a bug" in logged.out + logged.err


async def test_a_failed_phase_is_not_restarted_before_its_delay_however_often_it_is_asked(tmp_path: Path) -> None:
    calls: list[str] = []

    async def phase(key: str, steps: Steps) -> None:
        calls.append(key)
        raise ValueError("a bug")

    engine = DbosEngine(f"sqlite:///{tmp_path / 'db'}", "replica-a", {Phase.EXECUTION: phase}, retry_delays=(3600.0,))
    await engine.launch()
    await engine.start(Phase.EXECUTION, "exec_1")
    await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "ERROR")
    for _ in range(10):
        await engine.start(Phase.EXECUTION, "exec_1")
    await asyncio.sleep(1.5)  # longer than DBOS's queue poll
    await engine.shutdown()
    assert calls == ["exec_1"]


async def test_a_phase_that_goes_on_after_a_failed_step_meets_the_same_failure(tmp_path: Path) -> None:
    seen: list[str] = []

    async def refused() -> str:
        raise ValueError("refused")

    async def phase(key: str, steps: Steps) -> None:
        try:
            await steps.run("refused", refused)
        except ValueError as error:
            seen.append(str(error))
        await steps.run("after", partial(text, "never"))
        seen.append("went on")

    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}) as engine:
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "ERROR")
    assert seen == ["refused"]


async def test_a_phase_that_calls_other_steps_when_replayed_is_started_over(tmp_path: Path) -> None:
    calls: list[str] = []

    async def note(name: str) -> str:
        calls.append(name)
        return name

    async def phase(key: str, steps: Steps) -> None:
        changed = "fail" in calls
        await steps.run("b" if changed else "a", partial(note, "b" if changed else "a"))
        if not changed:
            calls.append("fail")
            raise StoreBusy("the database was locked")

    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}) as engine:
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "ERROR" and calls.count("fail") == 1)
        async with asyncio.timeout(20):
            while status_of(tmp_path / "db", "execution:exec_1") != "SUCCESS":
                await engine.start(Phase.EXECUTION, "exec_1")
                await asyncio.sleep(0.1)
    assert calls == ["a", "fail", "b"]


async def test_a_phase_may_start_another_one(tmp_path: Path) -> None:
    done: list[str] = []
    engines: list[DbosEngine] = []

    async def execution(key: str, steps: Steps) -> None:
        await steps.run("fold", partial(text, "x"))
        await engines[0].start(Phase.DIAGNOSIS, "inc_1")
        await steps.run("more", partial(text, "y"))
        done.append("execution")

    async def diagnosis(key: str, steps: Steps) -> None:
        done.append("diagnosis")

    async with engine_of(tmp_path / "db", {Phase.EXECUTION: execution, Phase.DIAGNOSIS: diagnosis}) as engine:
        engines.append(engine)
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: len(done) == 2)
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "SUCCESS")
    with sqlite3.connect(tmp_path / "db") as connection:
        steps = connection.execute(
            "SELECT function_name FROM operation_outputs WHERE workflow_uuid = 'execution:exec_1'"
        ).fetchall()
    connection.close()
    assert sorted(steps) == [("fold",), ("more",)], "the start of another phase is no step of this one"


async def test_shutdown_leaves_a_running_phase_to_the_next_launch(tmp_path: Path) -> None:
    calls: list[str] = []
    gate = asyncio.Event()

    async def first() -> str:
        calls.append("first")
        return "1"

    async def waiting() -> str:
        calls.append("waiting")
        await gate.wait()
        return "2"

    async def phase(key: str, steps: Steps) -> None:
        await steps.run("first", first)
        await steps.run("waiting", waiting)

    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}) as engine:
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: "waiting" in calls)
    assert status_of(tmp_path / "db", "execution:exec_1") == "PENDING"
    assert await asyncio.to_thread(lambda: 1) == 1, "the loop's thread pool works after DBOS is gone"
    gate.set()
    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}):
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "SUCCESS")
    assert calls == ["first", "waiting", "waiting"]


async def test_a_parked_engine_lets_a_running_step_end_and_begins_no_other(tmp_path: Path) -> None:
    calls: list[str] = []
    gate = asyncio.Event()

    async def first() -> str:
        calls.append("first begins")
        await gate.wait()
        calls.append("first ends")
        return "1"

    async def second() -> str:
        calls.append("second")
        return "2"

    async def phase(key: str, steps: Steps) -> None:
        await steps.run("first", first)
        await steps.run("second", second)

    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}) as engine:
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: calls == ["first begins"])
        await engine.park(0.05)
        assert calls == ["first begins"], "it waits no longer than it was told"
        parked = asyncio.create_task(engine.park(30))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.wait_for(parked, 5)
        await engine.start(Phase.EXECUTION, "exec_2")
        await asyncio.sleep(0.1)
        assert calls == ["first begins", "first ends"]
    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}):
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "SUCCESS")
        await until(lambda: status_of(tmp_path / "db", "execution:exec_2") == "SUCCESS")
    assert sorted(calls) == ["first begins"] * 2 + ["first ends"] * 2 + ["second"] * 2


async def test_nothing_is_pickled_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def phase(key: str, steps: Steps) -> None:
        await steps.run("only", partial(text, "readable"))

    async with engine_of(tmp_path / "db", {Phase.EXECUTION: phase}) as engine:
        await engine.start(Phase.EXECUTION, "exec_1")
        await until(lambda: status_of(tmp_path / "db", "execution:exec_1") == "SUCCESS")
    with sqlite3.connect(tmp_path / "db") as connection:
        outputs = connection.execute("SELECT output, serialization FROM operation_outputs").fetchall()
        versions = connection.execute("SELECT application_version, executor_id, name FROM workflow_status").fetchall()
    connection.close()
    assert outputs == [('"readable"', "portable_json")]
    assert versions == [("natsmedic-1", "replica-a", "natsmedic_execution_v1")]
    printed = capfd.readouterr()
    assert "dbos.dev" not in printed.out + printed.err
    assert logging.getLogger("dbos").level == logging.ERROR


def test_a_phase_killed_in_its_second_step_goes_on_there(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = Path(__file__).with_name("engine_process.py")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, str(script), url, str(log), "hang"], env=environment) as process:
        deadline = time.monotonic() + 30
        while "begin two" not in (log.read_text() if log.exists() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    subprocess.run([sys.executable, str(script), url, str(log), "go"], env=environment, check=True, timeout=40)
    assert log.read_text().splitlines() == [
        "begin one",
        "end one",
        "begin two",
        "begin two",
        "end two",
        "begin three",
        "end three",
        "results ONE TWO THREE",
    ]
