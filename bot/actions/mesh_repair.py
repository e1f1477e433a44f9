"""Composes the repair of an incomplete mesh on Kubernetes: one explicit route per pod, loaded by one server after another. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.action import Composed
from bot.actions._config_edit import target_of
from bot.actions._routes import addresses_of, wanted_addresses
from bot.actions._servers import (
    asked_by,
    comes_along,
    conf_of,
    editable_file,
    mesh_among,
    runs_with,
    servers_of,
)
from bot.actions.kubernetes_routes import RouteList, RoutesParams
from bot.actions.nats_reload import Reload, ReloadParams
from bot.errors import Refused
from bot.model import JsonObject, Outcome, Snapshot, Unknown
from bot.model.kubernetes import ConfigFile, Workload
from bot.model.mesh import read_mesh

COMPOSES = (RouteList.kind, Reload.kind)

Stages = tuple[tuple[str, JsonObject], ...]


@dataclass(frozen=True, slots=True)
class RouteRepair(Composed):
    """The stages, and the list that they lead to."""

    routes: tuple[str, ...]


def compose_routes(snapshot: Snapshot, workload: Workload) -> RouteRepair:
    """Return the stages that give every server the explicit list. Raises `Refused` with every reason that speaks against it.

    Where the file has the list already, only the servers that did not load it are made to.
    """
    repair = route_stages(snapshot, workload, workload.replicas)
    if not repair.stages:
        _refuse_what_helps_nobody(snapshot, tuple(servers_of(snapshot, workload).values()))
    return repair


def route_stages(snapshot: Snapshot, workload: Workload, replicas: int) -> RouteRepair:
    """Return the stages that make every server list `replicas` pods, some of which may be yet to come; none where every server does. Raises `Refused`."""
    reasons: list[str] = []
    file = editable_file(workload, reasons, " (Bitnami: chart 8.5.4 or newer lists every pod)")
    former: tuple[str, ...] | None = None
    wanted: tuple[str, ...] = ()
    servers: Mapping[str, str] = {}
    try:
        conf = conf_of(workload)
        former, wanted = addresses_of(conf), wanted_addresses(conf, workload, replicas)
    except Refused as refused:
        reasons += refused.reasons
    try:
        servers = servers_of(snapshot, workload)
    except Refused as refused:
        reasons += refused.reasons
    reasons += _names_in_dns(workload)
    if reasons or file is None or file.text is None or former is None:
        raise Refused(*reasons or ["nats.conf is not known."])
    edit = former != wanted
    order = _order(snapshot, servers, wanted, everyone=edit)
    stages: list[tuple[str, JsonObject]] = []
    if edit:
        stages.append(_edit(workload, file, file.text, former, wanted, tuple(servers.values())))
    stages += _reloads(workload, order, servers, wanted)
    return RouteRepair(tuple(stages), _cautions(snapshot, workload, servers), wanted)


def _edit(
    workload: Workload,
    file: ConfigFile,
    text: str,
    former: tuple[str, ...],
    wanted: tuple[str, ...],
    servers: tuple[str, ...],
) -> tuple[str, JsonObject]:
    params = RoutesParams(
        **target_of(workload, file, text).model_dump(),
        former=former,
        routes=wanted,
        servers=servers,
        reloader=workload.reloader is not None,
    )
    return RouteList.kind, params.model_dump(mode="json")


def _reloads(workload: Workload, order: Sequence[str], servers: Mapping[str, str], wanted: tuple[str, ...]) -> Stages:
    """One stage for each pod of `order`; the last one asks for the whole mesh."""
    stages: list[tuple[str, JsonObject]] = []
    done = [servers[pod] for pod in servers if pod not in order]
    for pod in order:
        server = servers[pod]
        params = ReloadParams(
            workload=workload.name,
            workload_uid=workload.uid,
            pod=pod,
            server=server,
            routes=wanted,
            with_servers=tuple(done),
            reloader=workload.reloader is not None,
        )
        stages.append((Reload.kind, params.model_dump(mode="json")))
        done.append(server)
    return tuple(stages)


def _names_in_dns(workload: Workload) -> list[str]:
    """Refuse where the pods have no names of their own."""
    headless = workload.headless
    if headless is None:
        return [f"There is no service {workload.service_name}, so the pods have no names in DNS."]
    if not isinstance(headless, Unknown) and not headless.headless:
        return [f"Service {headless.name} is not headless (clusterIP: None), so the pods have no names in DNS."]
    return []


def _order(snapshot: Snapshot, servers: Mapping[str, str], wanted: tuple[str, ...], *, everyone: bool) -> list[str]:
    """Return the pods whose servers must load the list: first those that answer, because each of them then dials the others."""
    mesh = read_mesh(snapshot)
    answering = {server.name for server in snapshot.servers}
    late = [pod for pod, server in servers.items() if everyone or not runs_with(mesh, server, wanted)]
    return sorted(late, key=lambda pod: servers[pod] not in answering)


def _refuse_what_helps_nobody(snapshot: Snapshot, servers: tuple[str, ...]) -> None:
    found = mesh_among(snapshot, servers)
    if found.outcome is Outcome.VERIFIED:
        raise Refused("nats.conf lists every pod, every server has loaded it, and the mesh is complete.")
    raise Refused(
        f"nats.conf lists every pod and every server has loaded it, so a reload changes nothing: {found.sentence} "
        "Before 2.15 a server may leave a slot of the pool empty after a reconnect (nats-server #8454); restarting one server of such a pair fills it."
    )


def _cautions(snapshot: Snapshot, workload: Workload, servers: Mapping[str, str]) -> tuple[str, ...]:
    told = [*(owner.reverts for owner in workload.owners), *comes_along(snapshot, workload, servers)]
    headless = workload.headless
    if not isinstance(headless, Unknown) and headless is not None and not headless.publishes_not_ready:
        told.append(
            f"Service {headless.name} does not publish pods that are not ready: while one starts, the others can't resolve its name; set publishNotReadyAddresses."
        )
    return (*told, *asked_by(workload))
