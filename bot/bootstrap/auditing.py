"""The audit log of a serving bot: its starts and stops, and the places its checkpoints go."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from bot.adapters.checkpoints import FileSink
from bot.adapters.nats.checkpoints import StreamSink
from bot.adapters.nats.connection import Connection
from bot.adapters.nats.login import login_of
from bot.adapters.slack import SlackAdapter
from bot.bootstrap.replicas import Replica
from bot.errors import SettingsError
from bot.flow import lifetime
from bot.flow.checkpoints import Checkpointer
from bot.model import digest
from bot.ports import CheckpointSink, Clock, Store
from bot.settings import CheckpointSettings, Settings


@asynccontextmanager
async def audited(
    settings: Settings, *, store: Store, clock: Clock, slack: SlackAdapter | None, replica: Replica
) -> AsyncGenerator[Checkpointer]:
    """Compare the database with the checkpoints and record the start; at the end of the block, the stop. Nothing may change before it is entered."""
    async with AsyncExitStack() as stack:
        sinks = [sink_of(place, settings, slack, clock, stack) for place in settings.audit.checkpoints]
        rules = settings.audit
        kept = Checkpointer(
            sinks, store=store, clock=clock, every_seconds=rules.every_seconds, every_rows=rules.every_rows
        )
        await kept.begin()
        name = "" if replica.only_one else replica.name
        await lifetime.started(store, running_version(), settings.mode, sections_of(settings), name)
        yield kept
        if replica.expelled.is_set():
            return
        await lifetime.stopped(store, running_version(), name)
        if replica.leading.is_set():
            await kept.sweep_all()


def sink_of(
    place: CheckpointSettings, settings: Settings, slack: SlackAdapter | None, clock: Clock, stack: AsyncExitStack
) -> CheckpointSink:
    """Return one place; the stack closes it."""
    if place.file is not None:
        return FileSink(place.file)
    if place.stream is not None:
        nats = settings.cluster(place.stream.cluster).nats
        login = login_of(place.stream.login, os.environ)
        connection = Connection(nats.servers, login, "keeper of checkpoints", nats.timeout_seconds)
        stack.push_async_callback(connection.aclose)
        return StreamSink(connection, place.stream.name, place.stream.subject)
    if slack is None or place.channel is None:
        raise SettingsError("audit.checkpoints has a Slack channel, but there is no Slack to post to: add `slack`.")
    return slack.checkpoints(place.channel, clock)


def sections_of(settings: Settings) -> dict[str, str]:
    """Return the digest of each section. A secret counts as present or absent and is in no digest, from which a short one could be guessed."""
    written = settings.model_dump(mode="json", exclude={"database"})
    return {name: digest(value) for name, value in written.items()} | {"database": digest(settings.database.shown)}


def running_version() -> str:
    """Return the version of this program."""
    try:
        return version("natsmedic")
    except PackageNotFoundError:
        return "from a checkout"
