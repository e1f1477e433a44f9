"""`natsmedic lab drill`: plays a scenario script on real servers of this machine and says what was done, expected and seen, each with its time.

Exit code 0: everything was seen as expected; 1: something was not, or the drill could not be staged; 2: there is no such drill, or it can't run here; 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bot.lab import scenario_scripts, scripts
from bot.lab.process import LabError
from bot.lab.script import Script, run

SCRIPTS: Final[dict[str, Script[Any]]] = {
    script.name: script for script in (*scenario_scripts.SCRIPTS, *scripts.SCRIPTS)
}
"""Every drill by its name; they play in worlds of different types."""
PASSED, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def say(line: str) -> None:
    """Print one line at once; a drill is read while it runs."""
    print(line, flush=True)


def listing() -> str:
    """Every drill and what it is about."""
    width = max(map(len, SCRIPTS))
    lines = [f"{script.name:<{width}}  {script.told}" for script in SCRIPTS.values()]
    return "\n".join(lines)


async def drill(script: Script[Any], directory: Path) -> int:
    """Play one drill; SIGTERM ends it as Ctrl-C does, with everything that it has started."""
    playing = asyncio.current_task()
    if playing is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    say(f"drill {script.name}: {script.told}\n  expected after {script.source}")
    try:
        report = await run(script, directory, say)
    except LabError as error:
        say(f"FAILED: the drill could not be staged: {error}")
        return FAILED
    say(report.verdict)
    return PASSED if report.passed else FAILED


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="natsmedic lab drill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="list | run NAME")
    commands.add_parser("list", help="name every drill").set_defaults(name=None)
    running = commands.add_parser("run", help="play one drill")
    running.add_argument("name", metavar="NAME", help="one of those that `list` names")
    running.add_argument("--data", type=Path, metavar="DIR", help="keep what the servers wrote there")
    arguments = parser.parse_args()
    if arguments.name is None:
        say(listing())
        return PASSED
    script = SCRIPTS.get(arguments.name)
    if script is None:
        print(f"There is no drill {arguments.name}; `natsmedic lab drill list` names them.", file=sys.stderr)
        return REFUSED
    if why := script.hindrance():
        print(f"Drill {script.name} can't run here: {why}.", file=sys.stderr)
        return REFUSED
    with contextlib.ExitStack() as stack:
        directory: Path = arguments.data or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="natsmedic-drill-"))
        )
        if arguments.data and directory.exists() and any(directory.iterdir()):
            print(f"{directory} is not empty: name a new directory.", file=sys.stderr)
            return REFUSED
        directory.mkdir(parents=True, exist_ok=True)
        try:
            return asyncio.run(drill(script, directory.resolve()))
        except (KeyboardInterrupt, asyncio.CancelledError):
            say("\nStopped.")
            return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
