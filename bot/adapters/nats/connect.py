"""Builds readers and writers of one cluster. Nothing connects before the first question, so an unreachable cluster stops nobody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from bot.adapters.nats.connection import Connection
from bot.adapters.nats.context import read_context
from bot.adapters.nats.login import login_of, login_of_context
from bot.adapters.nats.monitoring import MonitoringCollector
from bot.adapters.nats.readers import NatsReaders
from bot.adapters.nats.writers import NatsWriters
from bot.errors import SettingsError
from bot.ports import Clock
from bot.settings import ClusterSettings, NatsSettings

DEFAULT_TIMEOUT: Final[float] = NatsSettings.model_fields["timeout_seconds"].default
"""Seconds a request waits where no settings file says otherwise."""


async def connect_cluster(
    settings: ClusterSettings, clock: Clock, environ: Mapping[str, str] | None = None
) -> tuple[NatsReaders, NatsWriters | None]:
    """Return the readers of a cluster, and its writers where any account has one. The caller closes both (`aclose`).

    `environ` (default: the process's) says where `nats` contexts live. Raises `SettingsError` for a context that can't be used.
    """
    env = os.environ if environ is None else environ
    nats = settings.nats
    timeout = nats.timeout_seconds

    system = Connection(nats.servers, login_of(nats.system, env), "system reader", timeout) if nats.system else None
    readers = {
        name: Connection(nats.servers, login_of(account.reader, env), f"reader of account {name}", timeout)
        for name, account in nats.accounts.items()
    }
    writers = {
        name: Connection(nats.servers, login_of(account.writer, env), f"writer of account {name}", timeout)
        for name, account in nats.accounts.items()
        if account.writer is not None
    }
    monitoring = (
        MonitoringCollector(settings.name, settings.monitoring, clock, timeout) if settings.monitoring else None
    )
    return (
        NatsReaders(settings.name, clock, timeout, system, readers, monitoring),
        NatsWriters(settings.name, writers) if writers else None,
    )


async def connect_context(
    name: str, clock: Clock, *, timeout_seconds: float = DEFAULT_TIMEOUT, environ: Mapping[str, str] | None = None
) -> NatsReaders:
    """Return readers that use a context of the `nats` command as their system user. Raises `SettingsError`."""
    context = read_context(name, os.environ if environ is None else environ)
    if not context.servers:
        raise SettingsError(f"The nats context {name!r} has no url, so there is no server to ask.")
    system = Connection(context.servers, login_of_context(context), f"nats context {name}", timeout_seconds)
    return NatsReaders(name, clock, timeout_seconds, system, {}, None)
