"""A second process on the same database, for the store's tests. Arguments: the URL of the database and a verb.

`half` writes half a transaction, says so and waits to be killed; `serve` takes the process lock and waits; `append N` appends N audit entries.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from bot.adapters.database import SqlStore
from bot.errors import StoreBusy
from tests.integration.store_records import FixedClock, draft, incident

ROOT = Path(__file__).parents[2]


def other_process(url: str, *arguments: str) -> subprocess.Popen[str]:
    """Start this file as a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, url, *arguments],
        env={**os.environ, "PYTHONPATH": f"{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )


async def main(database: str, verb: str, count: int) -> None:
    async with SqlStore.open(database, FixedClock()) as store:
        if verb == "append":
            for number in range(count):
                for _ in range(10):
                    try:
                        async with store.begin() as tx:
                            await tx.audit(draft(f"{number} of another process"))
                        break
                    except StoreBusy:
                        continue
            return
        if verb == "serve":
            await store.acquire_process_lock()
            print("serving", flush=True)
            await asyncio.Event().wait()
        async with store.begin() as tx:
            await tx.put(incident("half"))
            await tx.audit(draft("half"))
            print("half", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0))
