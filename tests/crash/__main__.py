"""`python -m tests.crash [--runs 500] [--seed 1] [--only NUMBER ...] [--scene WORD] [--database postgresql]`: the kill matrix. It ends with 1 where an invariant was violated, or a run could not be begun."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bot.lab.postgres import running_postgres
from bot.model import ExecutionState
from tests.crash.databases import Databases, PostgresDatabases
from tests.crash.lanes import Lane, carried_out
from tests.crash.matrix import Report, planned
from tests.crash.scenes import LANES, SCENES
from tests.crash.trial import Run, Told

RUNS = 500
"""As many as the proof asks for (issue 5)."""


def main() -> int:
    """Run, print the report, and return the exit code."""
    arguments = _arguments()
    runs = planned(SCENES, arguments.seed, arguments.runs)
    if arguments.scene:
        runs = [run for run in runs if arguments.scene in run.scene.name]
    if arguments.only:
        runs = [run for run in planned(SCENES, arguments.seed, max(arguments.only)) if run.number in arguments.only]
    needed = {run.scene.where for run in runs}
    logging.basicConfig(
        level=logging.CRITICAL
    )  # clients of the lab that lose a server say so, and the bot's own log is no part of the report
    report = Report(arguments.seed)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="natsmedic-crash-"))
    lanes = [lane for lane in LANES if lane.where in needed]
    if arguments.database == "postgresql":
        with running_postgres(fsync=True) as server:
            _carry_out(runs, lanes, folder, report, PostgresDatabases(server))
    else:
        _carry_out(runs, lanes, folder, report)
    print(f"\n{report}\n{time.monotonic() - began:.0f} s; databases of runs with a violation stay in {folder}")
    return 1 if report.violated or report.unplayed else 0


def _carry_out(
    runs: Sequence[Run], lanes: Sequence[Lane], folder: Path, report: Report, databases: Databases | None = None
) -> None:
    def heard(told: Told) -> None:
        report.told.append(told)
        mark = "VIOLATION" if told.judged.violations else "not played" if told.unplayed else told.judged.end
        print(
            f"{len(report.told):>4}/{len(runs)} {told.seconds:5.1f} s  run {told.run.number:<4} {mark:<12} {told.run.told}"
        )
        if told.judged.end is not ExecutionState.DONE:
            print(f"       {told.judged.sentence}")
        for violation in told.judged.violations:
            print(f"       {violation}")
        sys.stdout.flush()

    asyncio.run(carried_out(runs, lanes, folder, heard, databases))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="how many; never less than every point of every action")
    parser.add_argument("--seed", type=int, default=1, help="of the runs that are drawn by chance")
    parser.add_argument(
        "--only", type=int, nargs="+", default=[], metavar="NUMBER", help="these runs of the seed again"
    )
    parser.add_argument("--scene", default="", metavar="WORD", help="only scenes with this word in their name")
    parser.add_argument(
        "--database", choices=["sqlite", "postgresql"], default="sqlite", help="what the bot keeps its records in"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
