"""`python -m tests.chaos [--operations 100] [--replicas 2] [--seed 1] [--sites 4] [--calm | --slower 5] [--mixed] [--minutes 30]`: chaos. It ends with 1 where an invariant was violated."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Plan, chaos


def main() -> int:
    """Run, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--operations", type=int, default=100, help="how many repairs")
    parser.add_argument("--replicas", type=int, default=2, help="how many bots")
    parser.add_argument("--seed", type=int, default=1, help="of the repairs and of what goes wrong")
    parser.add_argument("--sites", type=int, default=4, help="how many NATS clusters, of one server each")
    parser.add_argument("--workers", type=int, default=2, help="how many repairs of one cluster are under way at once")
    parser.add_argument("--calm", action="store_true", help="nothing goes wrong: how fast it is")
    parser.add_argument("--slower", type=float, default=1.0, help="so many times as long until the next fault comes")
    parser.add_argument("--mixed", action="store_true", help="replicas come back in another version at each start")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no further repair begins")
    given = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # the harness's own clients lose servers, and say so
    folder = Path(tempfile.mkdtemp(prefix="natsmedic-chaos-"))
    plan = Plan(**vars(given))
    report = asyncio.run(chaos(plan, folder, lambda line: print(line, flush=True)))
    print(f"\n{report}\nlogs of the replicas stay in {folder}")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
