"""Composes scaling out, one pod at a time with routes kept right; and tells people how to scale in, which natsmedic never does. Pure."""

from __future__ import annotations

import shlex

from bot.action import Composed
from bot.actions._command_line import command
from bot.actions._servers import servers_of
from bot.actions.kubernetes_routes import RouteList
from bot.actions.kubernetes_scale_out import ScaleOut, ScaleOutParams, even_size, not_now
from bot.actions.mesh_repair import route_stages
from bot.actions.nats_reload import Reload
from bot.errors import Refused
from bot.model import JsonObject, Snapshot
from bot.model.groups import groups, standing, stream_replicas
from bot.model.kubernetes import Workload

COMPOSES = (RouteList.kind, Reload.kind, ScaleOut.kind)


SMALLEST = 3
"""Servers with quorum after the loss of one."""

FEWEST = 2
"""A single server is no cluster: making it one deletes its streams 30 s later (nats-server #5467; reference/nats.md 0, fact 7)."""


def compose_scale_out(snapshot: Snapshot, workload: Workload, target: int) -> Composed:
    """Return the stages from the present number of pods to `target`: routes for all, loaded by all, then pod after pod. Raises `Refused`."""
    if workload.replicas < FEWEST:
        raise Refused(
            f"StatefulSet {workload.name} has {workload.replicas} server: one that becomes part of a cluster deletes the streams it has "
            "(nats-server #5467). Back them up, build a cluster of 3 beside it, and restore them there."
        )
    if target <= workload.replicas:
        raise Refused(
            f"StatefulSet {workload.name} has {workload.replicas} pods already. Scaling in is work for people: servers that go must be evacuated first."
        )
    servers = servers_of(snapshot, workload)
    names = tuple(servers.values())
    reasons = not_now(snapshot, workload, names)
    try:
        routes = route_stages(snapshot, workload, target)
    except Refused as refused:
        raise Refused(*reasons, *refused.reasons) from refused
    if reasons:
        raise Refused(*reasons)
    first_pod, first_server = next(iter(servers.items()))
    prefix = first_server.removesuffix(first_pod)
    stages: list[tuple[str, JsonObject]] = list(routes.stages)
    for replicas in range(workload.replicas, target):
        added = tuple(f"{prefix}{workload.name}-{i}" for i in range(workload.replicas, replicas))
        params = ScaleOutParams(
            workload=workload.name,
            workload_uid=workload.uid,
            replicas=replicas,
            servers=(*names, *added),
            server=f"{prefix}{workload.name}-{replicas}",
            routes=routes.routes,
        )
        stages.append((ScaleOut.kind, params.model_dump(mode="json")))
    cautions = [*routes.cautions]
    if even := even_size(target):
        cautions.append(f"{even} {target + 1} would tolerate one more.")
    cautions.append(
        "Until a new pod is there, the others log *Error trying to connect to route* for its address every second."
    )
    return Composed(tuple(stages), tuple(cautions))


def scale_in_guidance(snapshot: Snapshot, workload: Workload, target: int) -> tuple[str, ...]:
    """Return how people take away the pods from `target` on, the highest ordinal first, as exact commands. Raises `Refused` where that loses data or quorum.

    What a server holds is moved first; a peer that is gone counts for quorum until it is removed, and removing a live one disables its JetStream
    (reference/nats.md 4.3, reference/drills.md 3.6).
    """
    servers = servers_of(snapshot, workload)
    leaving = [(pod, server) for pod, server in servers.items() if _ordinal(pod) >= target]
    if not leaving:
        raise Refused(f"StatefulSet {workload.name} has {workload.replicas} pods already.")
    if target < SMALLEST:
        raise Refused(
            "2 servers have no quorum without either of them, and 1 with a block `cluster` never becomes healthy: stay at 3 or more."
        )
    too_wide = sorted(
        f"{key} ({replicas} replicas)"
        for key, views in snapshot.streams(snapshot.rounds - 1).items()
        if (replicas := stream_replicas(views)) > target
    )
    if too_wide:
        raise Refused(f"{target} servers can't hold these streams: {', '.join(too_wide)}.")
    told = [f"One pod after another, the highest first. {even_size(target)}".strip()]
    for pod, server in reversed(leaving):
        told += _evacuation(snapshot, server)
        told += _departure(workload, pod, server)
    told.append(
        f"Last, list {workload.name}-0 to {workload.name}-{target - 1} in cluster.routes, and reload every server."
    )
    return tuple(told)


def _evacuation(snapshot: Snapshot, server: str) -> list[str]:
    """Each stream gets its replica on another server first. A single replica is copied before it is given up (reference/drills.md 3.2b: one stream at a time)."""
    told: list[str] = []
    for key, views in sorted(snapshot.streams(snapshot.rounds - 1).items()):
        replicas = stream_replicas(views)
        if server not in (standing(groups(views), replicas).members or views.keys()):
            continue
        remove = command("nats", "stream", "cluster", "peer-remove", of=[key.stream, server])
        see = command("nats", "stream", "info", of=[key.stream])
        edit = ("nats", "stream", "edit")
        if replicas == 1:
            told += [
                f"{server} has the only replica of stream {key}. Note its last sequence, copy it, and compare before each next command ({see}):",
                f"{command(*edit, of=[key.stream], options=['--replicas', '3'])}   # wait until all replicas are current",
                f"{remove}   # wait again",
                command(*edit, of=[key.stream], options=["--replicas", "1"]),
            ]
        else:
            told.append(f"{remove}   # stream {key}; wait until all replicas are current: {see}")
    return told or [f"{server} holds no stream."]


def _departure(workload: Workload, pod: str, server: str) -> list[str]:
    namespace, name = shlex.quote(workload.namespace), shlex.quote(workload.name)
    return [
        f"kubectl -n {namespace} scale statefulset {name} --replicas {_ordinal(pod)}",
        f"kubectl -n {namespace} wait --for=delete pod/{shlex.quote(pod)} --timeout=180s",
        f"Only when the pod is gone, as a user of the system account: {command('nats', 'server', 'cluster', 'peer-remove', of=[server])}",
        "Then `nats server report jetstream` must show one meta peer less, all current, before the next pod.",
        *(
            f"kubectl -n {namespace} delete pvc {shlex.quote(f'{t.name}-{pod}')}   # its data; last of all"
            for t in workload.claim_templates
        ),
    ]


def _ordinal(pod: str) -> int:
    return int(pod.rpartition("-")[2])
