"""`python -m tests.chaos.replica [--newer] --config FILE serve`: the very same bot, with the chaos lab's runbook beside its own, and in a hurry.

How long a condition must hold and how fast Slack may be called are not what is tested here, and would make each repair take half a minute.
"""

from __future__ import annotations

import dataclasses
import sys

from bot.adapters.slack import api
from bot.bootstrap import serving
from bot.bootstrap.reading import registry
from bot.cli import main
from bot.registry import Registry
from tests.chaos.wishes import RUNBOOK
from tests.crash.child import quick
from tests.newer import NewerEngine

CALLS_PER_SECOND = 50.0
"""Far more than the clusters of the lab need together."""


def hurried() -> Registry:
    """Return what the bot finds, with short settle times, and the lab's own runbook."""
    found = registry()
    return dataclasses.replace(found, runbooks=(*found.runbooks, RUNBOOK), actions=quick(found.actions))


CHANGED = (
    (serving, "registry", hurried),
    (api, "POSTS_PER_SECOND", CALLS_PER_SECOND),
    (api, "EDITS_PER_SECOND", CALLS_PER_SECOND),
)

if __name__ == "__main__":
    for module, name, value in CHANGED:
        setattr(module, name, value)
    if "--newer" in sys.argv:
        sys.argv.remove("--newer")
        serving.DbosEngine = NewerEngine
    main()
