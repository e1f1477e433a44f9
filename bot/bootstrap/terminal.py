"""What a person in the terminal may do that people in Slack do: the same desk over the same database, beside a bot that serves or without one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.slack import directory_of
from bot.adapters.terminal import TerminalDirectory, operator
from bot.bootstrap.reading import open_readers, registry
from bot.bootstrap.storing import open_store
from bot.bootstrap.wiring import NoDirectory
from bot.errors import BadInput
from bot.flow.admission import Admission
from bot.flow.approval import ApprovalDesk
from bot.flow.stages import Stages
from bot.limits import Limits
from bot.model import IncidentId, Proposal, SlackUser
from bot.ports import Clock, Phase
from bot.settings import Settings


@dataclass
class Left:
    """An engine and a chat that do nothing here: the bot that serves starts what is queued and draws what has changed."""

    phases: list[Phase] = field(default_factory=list[Phase])

    async def start(self, phase: Phase, key: str) -> None:
        """Leave it to the bot that serves, whose sweep finds what is queued in the database."""
        del key
        self.phases.append(phase)

    def nudge(self, incident: IncidentId) -> None:
        """Leave it to the bot that serves, which draws every incident whose revision has risen."""
        del incident


@dataclass(frozen=True)
class Counter:
    """Where somebody in the terminal stands."""

    user: SlackUser
    store: SqlStore
    clock: Clock
    directory: TerminalDirectory
    admission: Admission


@dataclass(frozen=True)
class Matter:
    """A proposal, and the desk that decides on it."""

    counter: Counter
    proposal: Proposal
    desk: ApprovalDesk
    left: Left


def directory_for(settings: Settings, clock: Clock) -> TerminalDirectory:
    """Return who people are; Slack is asked where the settings have a token."""
    slack = directory_of(settings.slack, settings.policy, clock) if settings.slack is not None else NoDirectory()
    return TerminalDirectory(settings.policy, clock, slack)


@asynccontextmanager
async def open_counter(settings: Settings) -> AsyncGenerator[Counter]:
    """Open the database for whoever runs this process."""
    clock = SystemClock()
    async with open_store(settings) as store:
        directory = directory_for(settings, clock)
        yield Counter(operator(), store, clock, directory, Admission(store, directory, settings.policy))


@asynccontextmanager
async def open_matter(settings: Settings, proposal_id: str) -> AsyncGenerator[Matter]:
    """Open what is needed to decide on a proposal: nothing that writes to a cluster. Raises `BadInput` where there is no such proposal."""
    async with AsyncExitStack() as stack:
        counter = await stack.enter_async_context(open_counter(settings))
        proposal = await counter.store.get(Proposal, proposal_id)
        if proposal is None:
            raise BadInput(f"There is no proposal {proposal_id}. `natsmedic proposals list` shows what there is.")
        readers = await stack.enter_async_context(open_readers(settings.cluster(proposal.cluster)))
        left = Left()
        desk = ApprovalDesk(
            store=counter.store,
            directory=counter.directory,
            readers={proposal.cluster: readers},
            stages=Stages(registry().actions),
            rules=settings.policy,
            limits=Limits(settings.limits, counter.clock),
            engine=left,
            clock=counter.clock,
            chat=left,
        )
        yield Matter(counter, proposal, desk, left)
