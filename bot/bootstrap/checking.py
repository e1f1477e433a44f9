"""The checks of `natsmedic doctor`: what is asked where, as the settings say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bot.adapters.checkpoints import FileSink
from bot.adapters.database import SqlStore, sqlite_path
from bot.adapters.database.checkup import try_to_write
from bot.adapters.nats.checkup import (
    ACCOUNT_READER,
    ACCOUNT_WRITER,
    SYSTEM_READER,
    SYSTEM_WRITER,
    Tried,
    permissions,
    server_time,
)
from bot.adapters.nats.connection import Connection
from bot.adapters.nats.login import login_of
from bot.adapters.slack.checkup import ask_slack, knock
from bot.adapters.webhooks.app import SLACK_PATH
from bot.adapters.webhooks.checkup import look_at, served_at
from bot.errors import StoreError
from bot.flow import doctor
from bot.flow.doctor import Check
from bot.model import parts
from bot.model.checkup import CheckupLine, Health
from bot.ports import Clock
from bot.settings import ClusterSettings, Credentials, KubernetesSettings, Mode, Settings, SlackSettings, Transport

ANSWER: Final = 2.0
"""Seconds for one answer of a NATS server, so that connecting and asking stay within a check's five."""
TOKENS: Final = ("xoxb-", "xapp-", "xoxp-", "xoxe")
"""How Slack's tokens begin (docs.slack.dev/authentication/tokens)."""
NATS_WAY_OUT: Final = "give this user the permissions of deploy/nats-permissions.conf and reload the servers"


def checks_of(settings: Settings, clock: Clock, only: str | None = None) -> dict[str, Check]:
    """Return all checks by name; with `only`, those of one cluster. Raises `SettingsError` where there is no such cluster."""
    chosen = settings.clusters if only is None else (settings.cluster(only),)
    found: dict[str, Check] = {} if only is not None else _own(settings, clock)
    for cluster in chosen:
        if settings.mode is Mode.APPROVE:
            found[f"{cluster.name}: writers"] = partial(_writers, cluster)
        found |= _nats(cluster, settings.mode, clock) | _kubernetes(cluster, clock)
    return found


def audit_checks(settings: Settings, clock: Clock) -> dict[str, Check]:
    """Return the checks of the audit log: its database, its head, and its checkpoints."""
    return {"Database": partial(_database, settings, clock), "Checkpoints": partial(_checkpoints, settings, clock)}


def _own(settings: Settings, clock: Clock) -> dict[str, Check]:
    found = audit_checks(settings, clock) | {
        "Listening address": partial(_listening, settings.webhooks.listen),
        "Alert sources": partial(_sources, settings),
    }
    return found | (_slack(settings, settings.slack, clock) if settings.slack is not None else {})


def _slack(settings: Settings, slack: SlackSettings, clock: Clock) -> dict[str, Check]:
    ask = partial(ask_slack, slack.bot_token.get_secret_value(), slack.api_url)

    async def token() -> Sequence[CheckupLine]:
        reply = await ask("auth.test")
        judged = doctor.judge_token(reply, slack.workspaces) + doctor.judge_scopes(reply)
        return judged + doctor.judge_clock("Slack", reply.date, clock.now())

    async def app_token() -> Sequence[CheckupLine]:
        given = slack.app_token.get_secret_value() if slack.app_token else ""
        return doctor.judge_app_token(await ask_slack(given, slack.api_url, "apps.connections.open"))

    async def channel(name: str, users: str) -> Sequence[CheckupLine]:
        reply = await ask("conversations.history", verb="GET", channel=name, limit="1")
        return doctor.judge_channel(name, users, reply)

    async def group(name: str, where: str) -> Sequence[CheckupLine]:
        return doctor.judge_group(name, where, await ask("usergroups.users.list", verb="GET", usergroup=name))

    async def person(user: str, where: str) -> Sequence[CheckupLine]:
        return doctor.judge_person(user, where, await ask("users.info", verb="GET", user=user))

    async def signing_secret() -> Sequence[CheckupLine]:
        given = slack.signing_secret.get_secret_value() if slack.signing_secret else ""
        serves = (await look_at(settings.webhooks.listen)).ready is not None
        address = served_at(settings.webhooks.listen) + SLACK_PATH
        status = await knock(address, given, clock.now()) if serves else None
        return doctor.judge_signing_secret(status, token=given.startswith(TOKENS), serves=serves)

    found: dict[str, Check] = {"Slack bot token": token}
    if slack.transport is Transport.SOCKET:
        found["Slack app token"] = app_token
    else:
        found["Slack signing secret"] = signing_secret
    for name, users in _channels(settings).items():
        found[f"Slack channel {name}"] = partial(channel, name, users)
    for name, rules in settings.policy.groups.items():
        found |= {f"Slack user group {one}": partial(group, one, name) for one in rules.usergroups}
    for user, where in _people(settings).items():
        found[f"Slack user {user}"] = partial(person, user, where)
    return found


def _channels(settings: Settings) -> dict[str, str]:
    """Return every configured channel and what it is for."""
    named = {cluster.channel: f"clusters: {cluster.name}" for cluster in settings.clusters}
    kept = {one.channel: "audit.checkpoints" for one in settings.audit.checkpoints if one.channel is not None}
    return named | kept


def _people(settings: Settings) -> dict[str, str]:
    """Return every Slack user whom the settings name, and where."""
    named = {user: f"policy.persons.{key}" for key, users in settings.policy.persons.items() for user in users}
    grouped = {
        user: f"policy.groups.{key}.users" for key, group in settings.policy.groups.items() for user in group.users
    }
    return grouped | named


def _nats(cluster: ClusterSettings, mode: Mode, clock: Clock) -> dict[str, Check]:
    nats = cluster.nats
    users: list[tuple[str, Credentials | None, Sequence[Tried]]] = [
        ("system reader", nats.system, SYSTEM_READER),
        ("system writer", nats.system_writer, SYSTEM_WRITER),
    ]
    for name, account in nats.accounts.items():
        users.append((f"reader of account {name}", account.reader, ACCOUNT_READER))
        users.append((f"writer of account {name}", account.writer, ACCOUNT_WRITER))

    async def user(purpose: str, login: Credentials, tried: Sequence[Tried]) -> Sequence[CheckupLine]:
        connection = Connection(nats.servers, login_of(login, os.environ), f"{cluster.name}: {purpose}", ANSWER)
        try:
            seen = await permissions(connection, tried)
            lines = [doctor.judge_permission(one, NATS_WAY_OUT) for one in seen]
            if login is nats.system:
                lines += doctor.judge_clock(f"NATS of {cluster.name}", await server_time(connection), clock.now())
            if mode is Mode.OBSERVE and "writer" in purpose:
                lines.append(_needless(f"{cluster.name}: {purpose}"))
            return lines
        finally:
            await connection.aclose()

    return {
        f"{cluster.name}: {purpose}": partial(user, purpose, login, tried)
        for purpose, login, tried in users
        if login is not None
    }


def _kubernetes(cluster: ClusterSettings, clock: Clock) -> dict[str, Check]:
    if cluster.kubernetes is None:
        return {}
    # The client library takes a second to import, and many clusters have no Kubernetes.
    from bot.adapters.kubernetes.checkup import APPLIER, READER, Asked, rights, server_time  # noqa: PLC0415

    async def user(who: str, settings: KubernetesSettings, asked: Sequence[Asked], file: str) -> Sequence[CheckupLine]:
        seen = await rights(who, settings, asked)
        lines = [doctor.judge_permission(one, f"compare the roles with deploy/{file} and apply it") for one in seen]
        if settings is cluster.kubernetes:
            lines += doctor.judge_clock(f"Kubernetes of {cluster.name}", await server_time(settings), clock.now())
        return lines

    reader, applier = f"{cluster.name}: Kubernetes reader", f"{cluster.name}: Kubernetes applier"
    found: dict[str, Check] = {
        reader: partial(user, reader, cluster.kubernetes, READER, "kubernetes-reader.yaml"),
    }
    if (writing := cluster.kubernetes.as_applier) is not None:
        found[applier] = partial(user, applier, writing, APPLIER, "kubernetes-applier.yaml")
    return found


async def _writers(cluster: ClusterSettings) -> Sequence[CheckupLine]:
    found = ["nats.system_writer"] if cluster.nats.system_writer is not None else []
    found += [f"nats.accounts.{name}.writer" for name, one in cluster.nats.accounts.items() if one.writer is not None]
    if cluster.kubernetes is not None and cluster.kubernetes.applier is not None:
        found.append("kubernetes.applier")
    return [doctor.judge_writers(cluster.name, found)]


async def _database(settings: Settings, clock: Clock) -> Sequence[CheckupLine]:
    path = sqlite_path(settings.database.url)
    lines = [] if path is None else await _database_file(path)
    if any(line.health is not Health.OK for line in lines):
        return lines
    expected = "the schema of this version and an intact head of the audit chain"
    try:
        async with SqlStore.open(settings.database.url, clock, read_only=True) as store:
            newest = await store.newest_audit_lines(limit=1)
            gap = await store.audit_gap()
            if store.takes_several:
                said = f"replicas on its list: {len(await store.replicas())}"
                lines.append(doctor.line("Database", Health.OK, said, "can be read"))
    except StoreError as error:
        way_out = "see `natsmedic audit verify`, and which version of natsmedic wrote this database"
        return [*lines, doctor.line("Audit log", Health.FAIL, str(error), expected, way_out)]
    if gap is not None:
        way_out = "look at what is missing, then `natsmedic audit acknowledge --reason TEXT`"
        lines.append(doctor.line("Audit log", Health.FAIL, gap.sentence, expected, way_out))
    elif newest and newest[0].computed_hash() != newest[0].hash:
        said = f"row {newest[0].seq} does not have the hash it must have"
        lines.append(doctor.line("Audit log", Health.FAIL, said, expected, "natsmedic audit verify"))
    else:
        said = f"row {newest[0].seq} is intact" if newest else "it has no rows yet"
        lines.append(doctor.line("Audit log", Health.OK, said, expected))
    return lines


async def _database_file(path: Path) -> list[CheckupLine]:
    found = await asyncio.to_thread(try_to_write, path)
    if found.problem:
        way_out = "free the disk, or give natsmedic's user the right to write it and its folder"
        return [doctor.line("Database", Health.FAIL, f"{path}: {found.problem}", "can be written", way_out)]
    if not found.exists:
        said = f"there is none at {path} yet"
        return [doctor.line("Database", Health.WARN, said, "a database", "start `natsmedic serve`, which makes it")]
    held = f"; process {found.holder} serves with it" if found.holder is not None else ""
    return [doctor.line("Database", Health.OK, f"{path} can be written{held}", "can be written")]


async def _listening(listen: str) -> Sequence[CheckupLine]:
    found = await look_at(listen)
    expected = f"{listen} is free, or natsmedic's"
    if found.problem:
        way_out = "stop what holds it, or name another address in webhooks.listen"
        return [doctor.line("Listening address", Health.FAIL, found.problem, expected, way_out)]
    if found.ready is None:
        return [doctor.line("Listening address", Health.OK, "free: no natsmedic serves", expected)]
    problems = [str(one) for one in found.ready.get("problems") or ()]
    if problems:
        way_out = "mend what it says"
        return [
            doctor.line(
                "Listening address", Health.FAIL, f"natsmedic is not ready: {'; '.join(problems)}", expected, way_out
            )
        ]
    return [doctor.line("Listening address", Health.OK, "natsmedic serves and is ready", expected)]


async def _checkpoints(settings: Settings, clock: Clock) -> Sequence[CheckupLine]:
    """A serving bot says how old its checkpoints are; without one, those in files are read."""
    if not settings.audit.checkpoints:
        way_out = "name a place below audit.checkpoints: without one nobody notices a rewritten audit log"
        return [doctor.line("Checkpoints", Health.WARN, "kept nowhere", "at least one place outside", way_out)]
    ready = (await look_at(settings.webhooks.listen)).ready
    if ready is not None:
        return [
            doctor.judge_checkpoint(str(one.get("place")), one.get("age_seconds"), one.get("problem"))
            for one in parts(ready, "checkpoints")
        ]
    lines: list[CheckupLine] = []
    for place in settings.audit.checkpoints:
        if place.file is not None:
            newest = await FileSink(place.file).newest()
            age = (clock.now() - newest.at).total_seconds() if newest is not None and newest.at is not None else None
            lines.append(doctor.judge_checkpoint(str(place.file), age, None))
    return lines or [
        doctor.line(
            "Checkpoints",
            Health.UNKNOWN,
            "no natsmedic serves, and the places are no files",
            "an age",
            "start natsmedic",
        )
    ]


async def _sources(settings: Settings) -> Sequence[CheckupLine]:
    """Loading the settings has insisted on a secret for each source (bot/settings/webhooks.py)."""
    sources = settings.webhooks.sources
    expected = "a way in for alerts, each with its own secret"
    if sources:
        return [doctor.line("Alert sources", Health.OK, f"{', '.join(sources)}, each with a secret", expected)]
    if any(c.hears_advisories or c.schedule for c in settings.clusters):
        return [doctor.line("Alert sources", Health.OK, "no webhooks; advisories or a schedule notice", expected)]
    way_out = "add webhooks.sources.alertmanager with a bearer, or a schedule"
    return [doctor.line("Alert sources", Health.FAIL, "none", expected, way_out)]


def _needless(who: str) -> CheckupLine:
    expected = "no credentials that can change anything in mode observe"
    return doctor.line(who, Health.WARN, "configured", expected, "remove it, or set mode: approve")
