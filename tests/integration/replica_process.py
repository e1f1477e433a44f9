"""A process with an engine of its own on a shared database, told what to do on its standard input.

`start KEY` begins a phase of three steps, of which the second waits until `go on`; `adopt OWNER` takes over. What happens is said on standard output, and each
step that begins is a line in a file that all processes share.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from bot.adapters.engine import DbosEngine
from bot.ports import Phase, PhaseHandler, Steps

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds in which something must be heard; a start takes 2 s, and thirty where the machine is busy."""


class Beginner:
    """The test's side of one such process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().strip())

    async def ask(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n".encode())
        await self.process.stdin.drain()

    async def heard(self, *words: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not set(words) <= set(self.lines):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"heard {self.lines}, not {words}") from None


@asynccontextmanager
async def beginner(url: str, name: str, log: Path, *, version: int = 1) -> AsyncGenerator[Beginner]:
    """Run one while the block does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        url,
        name,
        str(log),
        str(version),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    mine = Beginner(process)
    reading = asyncio.create_task(mine.read())
    try:
        await mine.heard(f"{name} is ready")
        yield mine
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


class Worker:
    """What runs in the process."""

    def __init__(self, url: str, name: str, log: Path, version: int) -> None:
        self.name = name
        self.log = log
        self.goes_on = asyncio.Event()
        earlier = {number: self.handlers() for number in range(1, version)}
        self.engine = DbosEngine(url, name, self.handlers(), version=version, earlier=earlier, retry_delays=(600.0,))

    def handlers(self) -> dict[Phase, PhaseHandler]:
        return dict.fromkeys(Phase, self.phase)

    def say(self, words: str) -> None:
        print(f"{self.name} {words}", flush=True)

    async def phase(self, key: str, steps: Steps) -> None:
        try:
            for number in (1, 2, 3):
                await steps.run(f"step {number}", partial(self.step, key, number))
        except BaseException:
            self.say(f"was fenced in {key}")
            raise
        self.say(f"ended {key}")

    async def step(self, key: str, number: int) -> str:
        with self.log.open("a") as file:
            file.write(f"{self.name}:{number}\n")
        if number == 2:
            self.say(f"in 2 of {key}")
            await self.goes_on.wait()
        return ""

    async def obey(self, verb: str, word: str) -> None:
        if verb == "start":
            await self.engine.start(Phase.DIAGNOSIS, word)
        elif verb == "adopt":
            self.say(f"adopted {await self.engine.adopt(word)}")
        else:
            self.goes_on.set()

    async def run(self) -> None:
        await self.engine.launch()
        self.say("is ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            verb, _, word = line.strip().partition(" ")
            await self.obey(verb, word)


if __name__ == "__main__":
    asyncio.run(Worker(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])).run())
