"""Builds readers and writers of one cluster. Nothing connects before the first question, so an unreachable cluster stops nobody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from bot.adapters.nats.api import read
from bot.adapters.nats.connection import Connection
from bot.adapters.nats.context import read_context
from bot.adapters.nats.delivery import DeliveryProbe
from bot.adapters.nats.login import Login, login_of, login_of_context
from bot.adapters.nats.monitoring import MonitoringCollector
from bot.adapters.nats.readers import NatsReaders
from bot.adapters.nats.writers import NatsWriters
from bot.errors import SettingsError, Unreachable, Unreadable
from bot.model import part
from bot.ports import Clock
from bot.settings import ClusterSettings
from bot.settings.target import INBOX, Target


async def connect_cluster(
    settings: ClusterSettings, clock: Clock, environ: Mapping[str, str] | None = None
) -> tuple[NatsReaders, NatsWriters | None]:
    """Return the readers of a cluster, and its writers where any account has one, the system account included. The caller closes both (`aclose`).

    `environ` (default: the process's) says where `nats` contexts live. Raises `SettingsError` for a context that can't be used.
    """
    env = os.environ if environ is None else environ
    nats = settings.nats
    timeout = nats.timeout_seconds

    system_login = login_of(nats.system, env) if nats.system else None
    system = Connection(nats.servers, system_login, "system reader", timeout) if system_login else None
    logins = {name: login_of(account.reader, env) for name, account in nats.accounts.items()}
    readers = {
        name: Connection(nats.servers, login, f"reader of account {name}", timeout) for name, login in logins.items()
    }
    writers = {
        name: Connection(nats.servers, login_of(account.writer, env), f"writer of account {name}", timeout)
        for name, account in nats.accounts.items()
        if account.writer is not None
    }
    reloader = (
        Connection(nats.servers, login_of(nats.system_writer, env), "system writer", timeout)
        if nats.system_writer
        else None
    )
    monitoring = (
        MonitoringCollector(settings.name, settings.monitoring, clock, timeout) if settings.monitoring else None
    )
    probe = DeliveryProbe(logins, system_login, nats.servers, timeout)
    return (
        NatsReaders(settings.name, clock, timeout, system, readers, monitoring, probe),
        NatsWriters(settings.name, writers, reloader) if writers or reloader else None,
    )


async def connect_target(target: Target, clock: Clock, environ: Mapping[str, str] | None = None) -> NatsReaders:
    """Return readers for a cluster named on the command line. Raises `SettingsError` for a context that can't be used.

    One user is all there is: it is asked as a user of the system account first, and as one of its own account where it is none.
    """
    monitoring = (
        MonitoringCollector(target.name, target.monitoring, clock, target.timeout) if target.monitoring else None
    )
    if not target.servers and not target.context:
        nobody = DeliveryProbe({}, None, (), target.timeout)
        return NatsReaders(target.name, clock, target.timeout, None, {}, monitoring, nobody)
    login = _login(target, os.environ if environ is None else environ)
    servers = target.servers or login.servers
    if not servers:
        raise SettingsError(f"The nats context {target.context!r} has no url, so there is no server to ask.")
    connection = Connection(servers, login, "user", target.timeout)
    accounts = await _own_account(connection, login)
    probe = DeliveryProbe(dict.fromkeys(accounts or {_nameless(login)}, login), None, servers, target.timeout)
    return NatsReaders(target.name, clock, target.timeout, connection, accounts, monitoring, probe)


def _login(target: Target, environ: Mapping[str, str]) -> Login:
    """Return the context's login, with what the command line says in place of what the context says."""
    base = Login(inbox_prefix=INBOX)
    if target.context:
        base = login_of_context(read_context(target.context, environ), target.inbox_prefix)
    login = replace(
        base,
        inbox_prefix=target.inbox_prefix or base.inbox_prefix,
        ca_file=target.ca or base.ca_file,
        cert_file=target.cert or base.cert_file,
        key_file=target.key or base.key_file,
    )
    if not (target.user or target.creds or target.nkey):
        return login
    return replace(
        login,
        user=target.user if target.password else None,
        password=target.password,
        token=None if target.password else target.user,
        creds_file=target.creds,
        nkey_seed_file=target.nkey,
    )


async def _own_account(connection: Connection, login: Login) -> dict[str, Connection]:
    """Return the connection under its account's name, or its user's where it may not ask; nothing where there is no connection."""
    try:
        answer = await read(connection, "$SYS.REQ.USER.INFO")
    except Unreachable:
        return {}
    except Unreadable:
        answer = None
    account = part(answer or {}, "data").get("account")
    return {account if isinstance(account, str) and account else _nameless(login): connection}


def _nameless(login: Login) -> str:
    return f"account of {login}"
