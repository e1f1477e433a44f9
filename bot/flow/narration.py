"""What the running work is about: ids that stand in every line that is logged meanwhile, whoever logs it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from structlog.contextvars import bound_contextvars

from bot.model import Execution, Proposal
from bot.ports import Phase

_KEYS = {Phase.DIAGNOSIS: "incident", Phase.EXECUTION: "execution"}


def of_phase(phase: Phase, key: str) -> AbstractContextManager[None]:
    """Bind the id that a phase is run for; a diagnosis' key has its reason behind it."""
    return bound_contextvars(**{_KEYS[phase]: key.partition("/")[0]})


def of_execution(execution: Execution) -> AbstractContextManager[None]:
    """Bind the three ids of a repair."""
    return bound_contextvars(incident=execution.incident_id, proposal=execution.proposal_id, execution=execution.id)


def of_proposal(proposal: Proposal) -> AbstractContextManager[None]:
    """Bind the two ids of what somebody decides on."""
    return bound_contextvars(incident=proposal.incident_id, proposal=proposal.id)
