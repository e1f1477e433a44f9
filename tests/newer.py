"""`python -m tests.newer --config FILE serve`: natsmedic of a version to come, whose repairs go by steps that this version's do not have.

It finishes what this version began by this version's steps, as a release that changes them must (bot/adapters/engine/dbos.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bot.adapters.engine import DbosEngine
from bot.adapters.engine.dbos import WORKFLOW_VERSION
from bot.bootstrap import serving
from bot.cli import main
from bot.ports import Phase, PhaseHandler, Steps

NEWER_VERSION = WORKFLOW_VERSION + 1


class NewerEngine(DbosEngine):
    """The engine of that version."""

    def __init__(
        self,
        database_url: str,
        executor_id: str,
        handlers: Mapping[Phase, PhaseHandler],
        *,
        answers_for: Callable[[str], bool],
    ) -> None:
        super().__init__(
            database_url,
            executor_id,
            {**handlers, Phase.EXECUTION: with_a_step_more(handlers[Phase.EXECUTION])},
            answers_for=answers_for,
            version=NEWER_VERSION,
            earlier={WORKFLOW_VERSION: handlers},
        )


def with_a_step_more(handler: PhaseHandler) -> PhaseHandler:
    """Return a phase whose recorded steps fit the former ones nowhere: each of them has another number."""

    async def run(key: str, steps: Steps) -> None:
        await steps.run("look around", _nothing)
        await handler(key, steps)

    return run


async def _nothing() -> str:
    return ""


if __name__ == "__main__":
    serving.DbosEngine = NewerEngine
    main()
