"""An incident from the alert to the verified repair: real nats-servers in a stand-in Kubernetes, a stand-in Slack with a web page, and the bot on SQLite.

`--scenario` chooses the incident. The visitor reads the thread and presses the button. `--headless` has scripted people press it, prints the thread as text,
and exits 0 only if the repair is proven and the audit chain verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

from bot.lab.kubernetes_demo import run
from bot.lab.kubernetes_scenarios import SCENARIOS
from bot.lab.process import LabError

DEFAULT = "stuck-consumer"


def say(line: str) -> None:
    """Print one line at once; the demo is read while it runs."""
    print(line, flush=True)


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="natsmedic demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--headless", action="store_true", help="scripted people approve; exit 0 only if it is repaired"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep natsmedic.yaml, natsmedic.db and logs there")
    parser.add_argument(
        "--scenario",
        choices=tuple(SCENARIOS),
        default=DEFAULT,
        help="which incident (default: %(default)s); they need Linux, for their stand-in Kubernetes",
    )
    parser.add_argument("--port", type=int, default=0, help="port of the Slack page on 127.0.0.1 (default: a free one)")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory: Path = arguments.data or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="natsmedic-demo-"))
        )
        if (directory / "natsmedic.db").exists():
            parser.error(f"{directory} holds a former demo: name a new directory, or remove it")
        directory.mkdir(parents=True, exist_ok=True)
        playing = run(
            directory.resolve(), arguments.scenario, scripted=arguments.headless, port=arguments.port, say=say
        )
        try:
            asyncio.run(playing)
        except LabError as error:
            print(f"The demo failed: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            say("\nStopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
