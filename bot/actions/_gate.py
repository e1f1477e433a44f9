"""May this pod go now? What Kubernetes' readiness can't know: whether every Raft group keeps quorum without the server in it (reference/nats.md 7).

And whether a pod that was replaced is back: ready, its server answering, and current in every group that it is a member of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bot.actions._facts import NEEDS
from bot.actions._statefulset import Target, pod_in, pods_in, workload_in
from bot.errors import Refused
from bot.model import Endpoint, Outcome, Snapshot, UnknownReason, Verification, part, parts
from bot.model.absence import absence, raft_groups
from bot.model.groups import latest
from bot.model.kubernetes import ContainerState, ContainerStatus, Pod
from bot.model.probes import Depth, health
from bot.model.snapshot import names
from bot.ports import Readers

FATAL: Final = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
        *("CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
"""Reasons of waiting that no further waiting ends (kubelet: pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime)."""


@dataclass(frozen=True, slots=True)
class Strictness:
    """How whole the cluster must be. An upgrade asks every server for full health; any other rollout is content with JetStream enabled and the leaders'
    word on their members: HEALTHZ of 2.10 says *not current* for moments under load, and the probe that is changed may be what suffers from it.
    """

    full: bool
    version: str = ""
    """What a replaced server must run; empty where that stays."""


ANY: Final = Strictness(full=False)

_NAMED: Final = 5
"""Names in a sentence."""

NOTHING: Final = frozenset[Endpoint]()
"""What is asked of servers where Kubernetes alone can tell."""


def server_of(snapshot: Snapshot, pod: str) -> str:
    """Return the name of the server in a pod: the pod's own, or one that ends in it (`server_name` of the charts). Raises `Refused` where it can't be told."""
    known = snapshot.expected | names(snapshot.servers)
    if pod in known:
        return pod
    ending = sorted(name for name in known if name.endswith(f"-{pod}"))
    if len(ending) == 1:
        return ending[0]
    seen = f"{', '.join(ending)} end in it" if ending else f"none of {', '.join(sorted(known)) or 'no servers'} does"
    raise Refused(f"Which server runs in pod {pod} can't be told by its name: {seen}.")


def hindrances(snapshot: Snapshot, target: Target, ordinal: int, strict: Strictness) -> list[str]:
    """Reasons why this pod must not be replaced now; none where it may. Raises `Refused` where the StatefulSet is gone, and `Unreadable`."""
    others = [target.pod(other) for other in range(target.replicas) if other != ordinal]
    reasons = absent(snapshot, target, ordinal)
    try:
        server = server_of(snapshot, target.pod(ordinal))
        reasons += [said for pod in others for said in _sick(snapshot, server_of(snapshot, pod), strict)]
    except Refused as refused:
        return [*reasons, *refused.reasons]
    reasons += [*standstill(snapshot, server), *losses(snapshot, target, server)]
    for group in raft_groups(snapshot):
        if not strict.full and server not in group.servers:
            continue
        if group.standing.leader is None:
            reasons.append(f"{group.name} has {group.standing.problem}.")
        behind = {name: why for name, why in group.standing.lagging.items() if name != server}
        reasons += [f"{name} is not current in {group.name}: {why}." for name, why in sorted(behind.items())]
    return list(dict.fromkeys(reasons))


def absent(snapshot: Snapshot, target: Target, ordinal: int) -> list[str]:
    """Say which pods other than this one are not there, as far as Kubernetes alone knows."""
    pods = {pod.ordinal: pod for pod in pods_in(snapshot, target)}
    reasons: list[str] = []
    for other in (one for one in range(target.replicas) if one != ordinal):
        name, pod = target.pod(other), pods.get(other)
        if pod is None:
            reasons.append(f"Pod {name} is not there.")
        elif pod.deleting:
            reasons.append(f"Pod {name} is being replaced.")
        elif not pod.ready:
            reasons.append(f"Pod {name} is not ready: {_unready(pod)}.")
    return reasons


def standstill(snapshot: Snapshot, server: str) -> list[str]:
    """Say what would stand still without a server, and what nobody knows of it."""
    found = absence(snapshot, server)
    reasons = [f"Without {server} {group} would stand still: {why}." for group, why in found.stalled.items()]
    return reasons + [f"What a server holds is unknown: {silent}." for silent in found.unknown]


def losses(snapshot: Snapshot, target: Target, server: str) -> list[str]:
    """Say what would be gone for good with a server's pod: what it alone holds, in a store that ends with the pod (reference/nats.md 1.B). Raises as
    `workload_in` does.
    """
    found = absence(snapshot, server)
    held = [name for name in found.alone if name not in found.fleeting]
    told = part(latest(snapshot, server, Endpoint.JSZ) or {}, "config").get("store_dir")
    if not held or not workload_in(snapshot, target).store_passes(told if isinstance(told, str) else ""):
        return []
    return [
        f"The store of {server} ends with its pod, and it alone holds {some(held)}: lost for good. Give them replicas on other servers first, or back them up."
    ]


def cannot_spare(snapshot: Snapshot, target: Target) -> Iterator[str]:
    """Say why some pod could not go: a rollout that must stop half-way is not begun."""
    for ordinal in range(target.first, -1, -1):
        try:
            server = server_of(snapshot, target.pod(ordinal))
        except Refused as refused:
            yield from refused.reasons
            continue
        yield from standstill(snapshot, server)
        yield from losses(snapshot, target, server)


def unseen_losses(snapshot: Snapshot, target: Target, pod: Pod) -> list[str]:
    """The same for a pod whose server does not run, so that nobody can say what lies in its store; nothing where it never ran. Raises as `losses` does."""
    status = pod.statuses.get(target.container)
    begun = status is not None and bool(status.restarts or status.last_termination)
    if status is None or (status.state is ContainerState.WAITING and not begun):
        return []
    if not workload_in(snapshot, target).store_passes():
        return []
    return [f"The store of {pod.name} ends with it, and what lies there is unknown while its server does not run."]


def left_alone(snapshot: Snapshot, server: str) -> list[str]:
    """Say what is away while a server restarts because it lives there alone, and what does not come back."""
    found = absence(snapshot, server)
    away = [name for name in found.alone if name not in found.fleeting]
    told = [f"Away with {server}, since it lives there alone: {some(away)}."] if away else []
    if found.fleeting:
        told.append(f"Lost with {server}, since it is kept in memory there alone: {some(found.fleeting)}.")
    return told


def placed(snapshot: Snapshot, target: Target, ordinal: int, revisions: Sequence[str]) -> Verification | None:
    """Say why the pod is not ready, or not of one of these revisions, as far as Kubernetes alone knows; None where it is."""
    name = target.pod(ordinal)
    pod = pod_in(snapshot, target, ordinal)
    if pod is None or pod.deleting:
        return _failed(f"{name} is not there yet.")
    if pod.revision not in revisions:
        return _failed(f"{name} still runs revision {pod.revision}.")
    if why := fatal(pod):
        return _failed(f"{name} can't run: {why}.", final=True)
    return None if pod.ready else _failed(f"{name} is not ready: {_unready(pod)}.")


async def returned(
    readers: Readers, target: Target, ordinal: int, revisions: Sequence[str], strict: Strictness
) -> Verification:
    """Say whether the pod runs one of these revisions and its server is whole again. Raises `Refused` and `Unreadable`.

    Servers are asked what they hold only once the pod is ready: that is a large answer, and a pod may take minutes.
    """
    alone = await readers.gather(NOTHING)
    early = placed(alone, target, ordinal, revisions)
    if early is not None:
        pod = pod_in(alone, target, ordinal)
        return early.model_copy(update={"numbers": {target.pod(ordinal): pod.revision if pod else None}})
    snapshot = await readers.gather(NEEDS)
    found = placed(snapshot, target, ordinal, revisions) or _whole(snapshot, target.pod(ordinal), strict)
    return found.model_copy(update={"numbers": runs(snapshot, target, ordinal)})


def runs(snapshot: Snapshot, target: Target, ordinal: int) -> dict[str, str | int | None]:
    """Return what a pod runs, as people compare it before and after: `nats-2: 2.11.11, nats-5d67464cd5`."""
    name = target.pod(ordinal)
    pod = pod_in(snapshot, target, ordinal)
    try:
        version = _version(snapshot, server_of(snapshot, name)) or "no server"
    except Refused:
        version = "no server"
    return {name: f"{version}, {pod.revision}" if pod else None}


def _whole(snapshot: Snapshot, pod: str, strict: Strictness) -> Verification:
    """Say whether the server of a pod that is ready answers, is what it shall be, and has caught up."""
    try:
        server = server_of(snapshot, pod)
    except Refused as refused:
        return _failed(str(refused))
    version = _version(snapshot, server)
    if latest(snapshot, server, Endpoint.JSZ) is None:
        return _failed(f"{pod} is ready, and server {server} does not answer yet.")
    if strict.version and version != strict.version:
        return _failed(f"{server} runs {version}, not {strict.version}.")
    if behind := _sick(snapshot, server, strict) + _behind(snapshot, server):
        return _failed(" ".join(behind))
    count = sum(1 for group in raft_groups(snapshot) if server in group.servers)
    said = f"{pod} runs {version}, is ready and current in all {count} Raft groups it belongs to."
    return Verification(outcome=Outcome.VERIFIED, sentence=said)


def _version(snapshot: Snapshot, server: str) -> str:
    return next((one.version for one in snapshot.servers if one.name == server), "")


def stuck(pod: Pod, container: str) -> bool:
    """Tell whether no server runs in a pod, so that deleting it takes nothing away."""
    status = pod.statuses.get(container)
    return status is None or status.state is not ContainerState.RUNNING


def fatal(pod: Pod) -> str:
    """Return why a pod will never run as it is; empty where it may."""
    begun = [ContainerStatus(raw) for raw in parts(pod.status, "initContainerStatuses")]
    waiting = [s for s in (*begun, *pod.statuses.values()) if s.waiting_reason in FATAL]
    return ", ".join(f"container {s.name} waits with {s.waiting_reason}" for s in waiting)


def leaderships(snapshot: Snapshot, server: str) -> list[str]:
    """Return the Raft groups that this server leads."""
    return [group.name for group in raft_groups(snapshot) if group.standing.leader == server]


def some(things: Sequence[str]) -> str:
    """Return the first of many names, and how many more there are: thousands of consumers may live on a server."""
    more = f" and {len(things) - _NAMED} more" if len(things) > _NAMED else ""
    return ", ".join(things[:_NAMED]) + more


def _sick(snapshot: Snapshot, server: str, strict: Strictness) -> list[str]:
    sample = snapshot.sample(server, Endpoint.HEALTHZ)
    if sample is None or sample.data is None:
        # Versions whose health check does more than read are not asked (reference/nats.md 1.0); then the Raft groups speak alone.
        unsafe = (
            sample is not None and sample.unknown is not None and sample.unknown.reason is UnknownReason.NOT_IN_VERSION
        )
        return [] if unsafe or not strict.full else [f"{server} did not say whether it is healthy."]
    now = health(sample.data)
    if now.failed is None or (not strict.full and now.failed > Depth.ENABLED):
        return []
    return [f"{server} is not healthy: {now.said}."]


def _behind(snapshot: Snapshot, server: str) -> list[str]:
    reasons: list[str] = []
    for group in (one for one in raft_groups(snapshot) if server in one.servers):
        if group.standing.leader is None:
            reasons.append(f"{group.name} has {group.standing.problem}.")
        elif server in group.standing.lagging:
            reasons.append(f"{server} is not current in {group.name}: {group.standing.lagging[server]}.")
    return reasons


def _unready(pod: Pod) -> str:
    scheduled = pod.conditions.get("PodScheduled")
    if scheduled is not None and scheduled.holds is False:
        return f"no node takes it, {scheduled.message}"
    waiting = [f"{s.name} waits with {s.waiting_reason}" for s in pod.statuses.values() if s.waiting_reason]
    return ", ".join(waiting) or f"phase {pod.phase or 'unknown'}, restarts {pod.restarts}"


def _failed(sentence: str, *, final: bool = False) -> Verification:
    return Verification(outcome=Outcome.FAILED, sentence=sentence, final=final)
