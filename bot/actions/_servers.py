"""The servers of a StatefulSet: which pod runs which, what each has loaded, and how their mesh stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bot.actions._routes import addresses_of
from bot.errors import Refused
from bot.model import Endpoint, Outcome, Snapshot, Unknown, Verification
from bot.model.groups import latest
from bot.model.kubernetes import ConfigFile, Kind, KubernetesFacts, Pod, Workload
from bot.model.mesh import Mesh, Pair, read_mesh
from bot.model.nats_conf import NatsConf

MESH: Final = frozenset({Endpoint.VARZ, Endpoint.ROUTEZ})
"""What the mesh is judged by."""

MOST_NAMED: Final = 5
"""Pairs that a sentence names."""


def facts_of(snapshot: Snapshot) -> KubernetesFacts:
    """Return the Kubernetes side. Raises `Refused` where there is none."""
    if snapshot.kubernetes is None:
        raise Refused(
            f"Cluster {snapshot.cluster} has no `kubernetes` settings, so natsmedic does not know its StatefulSet."
        )
    return snapshot.kubernetes


def workload_of(snapshot: Snapshot, name: str, uid: str) -> Workload:
    """Return the approved StatefulSet as it was read. Raises `Refused` where it is not known, gone, or another one."""
    found = facts_of(snapshot).workloads
    if isinstance(found, Unknown):
        raise Refused(f"The StatefulSet is not known: {found.detail}")
    workload = next((one for one in found if one.name == name), None)
    if workload is None:
        raise Refused(f"There is no StatefulSet {name} any more.")
    if workload.uid != uid:
        raise Refused(f"StatefulSet {name} was deleted and made anew: its uid is {workload.uid}, not {uid}.")
    return workload


def pods_of(workload: Workload) -> Sequence[Pod]:
    """Return its pods by ordinal. Raises `Refused` where they are not known."""
    if isinstance(workload.pods, Unknown):
        raise Refused(f"The pods of StatefulSet {workload.name} are not known: {workload.pods.detail}")
    return workload.pods


def conf_of(workload: Workload) -> NatsConf:
    """Return what nats.conf says. Raises `Refused` where that is not known."""
    if isinstance(workload.conf, Unknown):
        raise Refused(f"nats.conf is not known: {workload.conf.detail}")
    return workload.conf


def server_in(snapshot: Snapshot, workload: Workload, pod: Pod) -> str | None:
    """Return the name of the server in a pod: as its configuration says, else the one server whose name ends in the pod's. None where it can't be told."""
    conf = workload.conf_of(pod)
    said = None if isinstance(conf, Unknown) else conf.server_name
    if isinstance(said, str) and said in snapshot.expected:
        return said
    # A chart may put a prefix before the pod's name, by variables that only the kubelet resolves: `$(POD_NAME)` (reference/nats.md 4.1).
    ending = [name for name in snapshot.expected if name == pod.name or name.endswith(f"-{pod.name}")]
    if len(ending) == 1:
        return ending[0]
    # Servers on another island are not seen.
    return said if isinstance(said, str) and "$(" not in said else None


def servers_of(snapshot: Snapshot, workload: Workload) -> Mapping[str, str]:
    """Return the server of every pod, by the pod's name. Raises `Refused` where a pod is missing, does not run, or its server can't be told."""
    pods = pods_of(workload)
    reasons: list[str] = []
    if len(pods) != workload.replicas:
        reasons.append(f"StatefulSet {workload.name} asks for {workload.replicas} pods and has {len(pods)}.")
    found: dict[str, str] = {}
    for pod in pods:
        server = server_in(snapshot, workload, pod)
        if pod.phase != "Running" or pod.deleting:
            reasons.append(f"Pod {pod.name} does not run ({'being deleted' if pod.deleting else pod.phase}).")
        elif server is None:
            reasons.append(f"Which server runs in pod {pod.name} can't be told.")
        else:
            found[pod.name] = server
    answering = {server.name for server in snapshot.servers}
    if answering and not reasons and not answering & set(found.values()):
        reasons.append(
            f"None of the servers that answer ({', '.join(sorted(answering))}) runs in a pod of StatefulSet {workload.name}."
        )
    if reasons:
        raise Refused(*reasons)
    return found


def runs_with(mesh: Mesh, server: str, addresses: Iterable[str]) -> bool | None:
    """Tell whether a server has loaded exactly these routes (`cluster.urls` of VARZ); None where it does not say."""
    member = mesh.members.get(server)
    if member is None or member.routes is None:
        return None
    return set(member.routes) == set(addresses)


def loaded_the_file(snapshot: Snapshot, workload: Workload, pod: str, server: str) -> bool | None:
    """Tell whether a server has loaded nats.conf as it is now, by its digest; None where it reports none (before 2.11) or what it must be is not known."""
    reported = (latest(snapshot, server, Endpoint.VARZ) or {}).get("config_digest")
    file = workload.config_file
    expected = () if isinstance(file, Unknown) else file.digests.get(pod, ())
    return reported in expected if reported and expected else None


def comes_along(snapshot: Snapshot, workload: Workload, servers: Mapping[str, str]) -> list[str]:
    """Say which of these servers, by pod, will load more than the change at hand."""
    late = [server for pod, server in servers.items() if loaded_the_file(snapshot, workload, pod, server) is False]
    if not late:
        return []
    return [
        f"{', '.join(late)} did not load the file as it stands now: with the change, whatever else was changed in it comes in force."
    ]


def asked_by(workload: Workload) -> list[str]:
    """Say what it takes that servers load a changed file."""
    if workload.reloader is not None:
        return []
    return ["Without a reloader natsmedic asks the servers itself, which needs `nats.system_writer`."]


def editable_file(workload: Workload, reasons: list[str], source: str = "") -> ConfigFile | None:
    """Return the file where it can be edited in place; otherwise say why not, and what to do instead. `source` says more about a chart's way."""
    file = workload.config_file
    if isinstance(file, Unknown):
        reasons.append(f"{file.detail}.")
        return None
    if file.kind is Kind.SECRET:
        reasons.append(
            f"nats.conf lies in Secret {file.name}, which natsmedic never writes: change it at its source{source} and roll the pods."
        )
    elif not file.uid and file.unknown is None:
        reasons.append(f"Which ConfigMap {file.name} was read is not known.")
    if not file.live:
        reasons.append(
            f"{file.path} is mounted by subPath: a change never reaches a running pod, so the pods must be rolled."
        )
    if file.immutable:
        reasons.append(f"ConfigMap {file.name} is immutable: make a new one, and roll the pods to it.")
    return file


def lists(workload: Workload, addresses: Sequence[str]) -> bool:
    """Tell whether nats.conf lists exactly these routes."""
    conf = workload.conf
    return not isinstance(conf, Unknown) and addresses_of(conf) == tuple(addresses)


def mesh_among(snapshot: Snapshot, servers: Sequence[str]) -> Verification:
    """Judge the mesh among these servers, pair by pair: every slot of the pool and every pinned account, as both ends show them."""
    mesh = read_mesh(snapshot)
    due = len(servers) * (len(servers) - 1) // 2
    pairs = [pair for pair in mesh.pairs if set(pair.names) <= set(servers)]
    broken = [pair for pair in pairs if pair.whole is False]
    whole = sum(1 for pair in pairs if pair.whole)
    # Nobody who answered shows a route with these: down, or shut out.
    lonely = sorted(set(servers) - set(mesh.alive)) if mesh.alive else []
    numbers: dict[str, str | int | None] = {"pairs": due, "complete pairs": whole}
    numbers |= {f"routes of {name}": _routes(mesh, name) for name in servers}
    if broken or lonely:
        told = [f"{len(broken)} of {due} pairs of servers lack connections: {_named(broken)}."] if broken else []
        told += [f"No server has a route with {', '.join(lonely)}."] if lonely else []
        return Verification(outcome=Outcome.FAILED, sentence=" ".join(told), numbers=numbers)
    if whole < due:
        unseen = [pair for pair in pairs if pair.whole is None]
        text = f"{due - whole} of {due} pairs of servers could not be judged: {_named(unseen) or 'no server answered'}."
        return Verification(outcome=Outcome.CANNOT_TELL, sentence=text, numbers=numbers)
    text = f"All {due} pairs of {', '.join(servers)} have every connection." if due else f"{servers[0]} answers."
    return Verification(outcome=Outcome.VERIFIED, sentence=text, numbers=numbers)


def _routes(mesh: Mesh, name: str) -> int | None:
    member = mesh.members.get(name)
    return None if member is None or member.links is None else sum(link.count for link in member.links.values())


def _named(pairs: Sequence[Pair]) -> str:
    named = ", ".join(f"{one} with {other}" for one, other in (pair.names for pair in pairs[:MOST_NAMED]))
    return named + (f" and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else "")
