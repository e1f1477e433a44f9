"""Composes the change of one limit on Kubernetes: nats.conf says it, then one server after another loads it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bot.action import Composed
from bot.actions._config_edit import target_of
from bot.actions._limit_text import same, value_in, with_value
from bot.actions._limits import runs_with_limit
from bot.actions._servers import asked_by, comes_along, conf_of, editable_file, servers_of
from bot.actions.kubernetes_limit import LimitEdit, LimitParams
from bot.actions.nats_load_limit import LoadLimit, LoadLimitParams
from bot.errors import Refused
from bot.model import Endpoint, JsonObject, Snapshot
from bot.model.groups import latest
from bot.model.kubernetes import ConfigFile, Workload
from bot.model.limits import TRAITS, Setting, Value, Version, written

COMPOSES = (LimitEdit.kind, LoadLimit.kind)

DIGEST: Final[Version] = (2, 11, 0)
"""First version whose VARZ tells which file it has loaded (`config_digest`, reference/nats.md 8)."""

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def compose_limit(snapshot: Snapshot, workload: Workload, setting: Setting, value: Value) -> Composed:
    """Return the stages that make every server run with this value. Raises `Refused` with every reason that speaks against it."""
    reasons: list[str] = []
    servers: Mapping[str, str] = {}
    file = editable_file(workload, reasons)
    former: Value | None = None
    try:
        servers = servers_of(snapshot, workload)
        former = value_in(conf_of(workload).root, setting)
        if file is not None and file.text is not None:
            with_value(file.text, setting, value)
    except Refused as refused:
        reasons += refused.reasons
    for server in servers.values():
        reasons += _hindrances(snapshot, server, setting, value)
    if reasons or file is None or file.text is None:
        raise Refused(*dict.fromkeys(reasons or ["nats.conf is not known."]))
    edit = not same(setting, former, value)
    stages = [_edit(workload, file, file.text, setting, former, value, servers)] if edit else []
    for pod, server in servers.items():
        if edit or not runs_with_limit(workload.name, workload.uid, setting, value, pod, snapshot, server):
            stages.append(_load(workload, pod, server, setting, value))
    if not stages:
        raise Refused(f"nats.conf sets {setting} to {written(value)}, and every server runs with it.")
    reverts = (owner.reverts for owner in workload.owners)
    return Composed(tuple(stages), (*reverts, *comes_along(snapshot, workload, servers), *asked_by(workload)))


def limit_guidance(snapshot: Snapshot, setting: Setting, value: Value) -> tuple[str, ...]:
    """Return the exact line for nats.conf, and what brings it in force in these versions."""
    *blocks, key = setting.path
    line = f"{key}: {written(value)}"
    for block in reversed(blocks):
        line = f"{block} {{ {line} }}"
    reloads = TRAITS[setting].reloads
    versions = [version_of(server.version) for server in snapshot.servers]
    if reloads is not None and versions and all(version is not None and version >= reloads for version in versions):
        how = "then let each server load it: nats server config reload SERVER_ID"
    else:
        how = "then restart one server after another: a reload refuses this key, and with it the whole file"
    return (f"In nats.conf of every server: {line}", f"In force it comes so: {how}.")


def version_of(text: str) -> Version | None:
    """Return the numbers of a server version; None where the text has none."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _hindrances(snapshot: Snapshot, server: str, setting: Setting, value: Value) -> list[str]:
    """Reasons why a server would not come to run with it, or not be seen to."""
    traits = TRAITS[setting]
    identity = next((one for one in snapshot.servers if one.name == server), None)
    version = version_of(identity.version) if identity else None
    if version is None:
        return [f"Which version {server} runs is not known, and so not what a reload changes there."]
    named = ".".join(map(str, version))
    if version < traits.since:
        return [f"{server} runs {named}, which does not know {setting}: it would refuse the whole file."]
    if traits.reloads is None or version < traits.reloads:
        return [f"{server} runs {named}, where a reload does not change {setting}, and refuses the whole file with it."]
    if not traits.varz and version < DIGEST:
        return [f"{server} runs {named}, which does not tell whether it has loaded {setting}."]
    if setting is Setting.MAX_CONNECTIONS:
        return _would_cut(snapshot, server, value)
    return []


def _would_cut(snapshot: Snapshot, server: str, value: Value) -> list[str]:
    """A server that loads a limit below what it has closes connections until it fits (server/reload.go, maxConnOption)."""
    own = (latest(snapshot, server, Endpoint.VARZ) or {}).get("connections")
    if not isinstance(own, int):
        return [f"How many connections {server} has is not known."]
    if 0 < int(value) <= own:
        return [f"{server} has {own} connections: with {value} it takes no new one, and closes those above it."]
    return []


def _edit(
    workload: Workload,
    file: ConfigFile,
    text: str,
    setting: Setting,
    former: Value | None,
    value: Value,
    servers: Mapping[str, str],
) -> tuple[str, JsonObject]:
    params = LimitParams(
        **target_of(workload, file, text).model_dump(),
        setting=setting,
        former=former,
        value=value,
        servers=dict(servers),
        reloader=workload.reloader is not None,
    )
    return LimitEdit.kind, params.model_dump(mode="json")


def _load(workload: Workload, pod: str, server: str, setting: Setting, value: Value) -> tuple[str, JsonObject]:
    params = LoadLimitParams(
        workload=workload.name,
        workload_uid=workload.uid,
        pod=pod,
        server=server,
        setting=setting,
        value=value,
        reloader=workload.reloader is not None,
    )
    return LoadLimit.kind, params.model_dump(mode="json")
