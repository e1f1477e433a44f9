"""An incident from the alert to the verified repair: real nats-servers in a stand-in Kubernetes, a stand-in Slack with a web page, and the bot on SQLite, or several on PostgreSQL.

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
from bot.lab.kubernetes_scene import Where
from bot.lab.postgres import running_postgres
from bot.lab.process import LabError
from bot.lab.scenario_scripts import hindrance

DEFAULT = "stuck-consumer"
MOST_REPLICAS = 9


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
    parser.add_argument("--postgres", action="store_true", help="keep everything in a PostgreSQL instead of SQLite")
    parser.add_argument(
        "--replicas",
        type=int,
        default=1,
        metavar="N",
        help="so many bots, which needs --postgres; with --headless the one that repairs is killed in the middle",
    )
    arguments = parser.parse_args()
    if not 1 <= arguments.replicas <= MOST_REPLICAS:
        parser.error(f"--replicas {arguments.replicas}: 1 to {MOST_REPLICAS} fit on one machine")
    if arguments.replicas > 1 and not arguments.postgres:
        parser.error("--replicas needs --postgres: with SQLite one process serves")
    if why := hindrance():
        parser.error(f"the demo can't run here: {why}")
    with contextlib.ExitStack() as stack:
        directory: Path = arguments.data or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="natsmedic-demo-"))
        )
        if (directory / "natsmedic.db").exists():
            parser.error(f"{directory} holds a former demo: name a new directory, or remove it")
        directory.mkdir(parents=True, exist_ok=True)
        try:
            url = stack.enter_context(running_postgres()).url if arguments.postgres else ""
            playing = run(
                Where(directory.resolve(), arguments.port, url, arguments.replicas),
                arguments.scenario,
                scripted=arguments.headless,
                say=say,
            )
            asyncio.run(playing)
        except LabError as error:
            print(f"The demo failed: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            say("\nStopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
