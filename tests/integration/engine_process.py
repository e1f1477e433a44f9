"""A phase of three steps in a process of its own, for the kill tests. Arguments: URL of the database, log file, `hang` or `go`.

Every step that begins and ends is a line in the log. With `hang`, the second step never ends.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from bot.adapters.engine import DbosEngine
from bot.ports import Phase, Steps


async def main(database: str, log: Path, mode: str) -> None:
    ended = asyncio.Event()

    def write(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    async def step(name: str) -> str:
        write(f"begin {name}")
        if mode == "hang" and name == "two":
            await asyncio.Event().wait()
        write(f"end {name}")
        return name.upper()

    async def phase(key: str, steps: Steps) -> None:
        write(f"results {' '.join([await steps.run(name, partial(step, name)) for name in ('one', 'two', 'three')])}")
        ended.set()

    engine = DbosEngine(database, "replica-a", {Phase.EXECUTION: phase})
    await engine.launch()
    if mode == "hang":
        await engine.start(Phase.EXECUTION, "exec_1")
    await ended.wait()
    await engine.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
