"""What natsmedic offers to change in Kubernetes for what the checks find: exact stages, in the owner's source first where somebody keeps the object. Pure.

Where an action refuses, the guide for people stays, with the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from bot.action import Composed, Draft
from bot.actions._routes import wanted_addresses
from bot.actions._servers import server_in
from bot.actions.kubernetes_budget import compose_budget
from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.mesh_repair import compose_routes
from bot.actions.rollout import compose_image, compose_probe, compose_resources, compose_restart, compose_spread
from bot.actions.scale import compose_scale_out, scale_in_guidance
from bot.actions.volumes import compose_growth, move_storage_guidance
from bot.errors import Refused
from bot.model import Finding, JsonObject, Rung, Snapshot, Unknown, part
from bot.model.kubernetes import Workload
from bot.model.kubernetes.charts import (
    BudgetWish,
    ImageWish,
    ProbeWish,
    ReplicasWish,
    ResourcesWish,
    RoutesWish,
    SpreadWish,
    Wish,
)
from bot.model.probes import ENABLED_ONLY, OFFICIAL_CHART, ProbeKind
from runbooks._audit_versions import version_of
from runbooks._deploy_probes import KILLS, PROBES
from runbooks._deploy_resources import MEMORY
from runbooks._deploy_routes import ROUTES
from runbooks._deploy_settings import TIMES
from runbooks._deploy_size import SIZE
from runbooks._deploy_spread import BUDGET, SPREAD
from runbooks._deploy_storage import STORAGE, VOLUMES
from runbooks._ownership import owned

GO_SHARE: Final = 0.8
"""Of the memory limit: GOMEMLIMIT as the official chart's README has it (reference/nats.md 1.A)."""
_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB

BLOCK: Final = "CLASS-OF-BLOCK-STORAGE"
"""Which class that is nobody can tell from the cluster; people put its name in."""

UPGRADES: Final[Mapping[tuple[int, int], str]] = {(2, 10): "2.11.11"}
"""From the line of the lowest server to the release of the next one that this house's drills run on."""


@dataclass(frozen=True, slots=True)
class Way:
    """One change: what shall hold, and the stages that make it so. `compose` raises `Refused`."""

    title: str
    wish: Wish | None
    """None where no chart has a value for it."""
    compose: Callable[[], Composed]
    cautions: tuple[str, ...] = ()
    """What people must know of it besides what composing says."""


def offered(snapshot: Snapshot, workload: Workload | None, found: Sequence[Finding], guide: Draft) -> tuple[Draft, ...]:
    """Return the drafts for findings of one guide: the changes that may be made, or the guide itself with what speaks against them."""
    if workload is None:
        return (guide,)
    codes = {finding.check for finding in found}
    if SIZE.code in codes:
        return (*possible(workload, [scale_way(snapshot, workload)], guide.why), smaller(snapshot, workload, guide))
    if STORAGE.code in codes:
        return (moved(snapshot, workload, guide),)
    return drafts(workload, list(_ways(snapshot, workload, found)), guide)


def drafts(workload: Workload | None, ways: Sequence[Way], guide: Draft) -> tuple[Draft, ...]:
    """Return a draft for each way that can be gone, and the guide where one can't, with what speaks against it."""
    made, against = _composed(workload, ways, guide.why, guide.rung)
    if made and not against:
        return tuple(made)
    told = tuple(f"natsmedic does not offer it now: {reason}" for reason in dict.fromkeys(against))
    return (*made, guide.model_copy(update={"guidance": (*guide.guidance, *told)}))


def possible(workload: Workload, ways: Sequence[Way], why: str) -> tuple[Draft, ...]:
    """Return a draft for each way that can be gone."""
    return tuple(_composed(workload, ways, why)[0])


def _composed(
    workload: Workload | None, ways: Sequence[Way], why: str, rung: Rung | None = None
) -> tuple[list[Draft], list[str]]:
    made: list[Draft] = []
    against: list[str] = []
    for way in ways:
        try:
            composed = way.compose()
        except Refused as refused:
            against += refused.reasons
            continue
        cautions = (*way.cautions, *composed.cautions)
        direct = Draft(title=way.title, why=why, stages=composed.stages, rung=rung, cautions=cautions)
        made += owned(workload, way.wish, direct) if workload is not None and way.wish is not None else (direct,)
    return made, against


def workload_of(snapshot: Snapshot) -> Workload | None:
    """Return the one StatefulSet of the servers; None where Kubernetes was not read, or has not exactly one."""
    found = snapshot.kubernetes.workload if snapshot.kubernetes is not None else None
    return found if isinstance(found, Workload) else None


def restart_way(snapshot: Snapshot, workload: Workload, server: str) -> Way | None:
    """Return the restart of the pod in which a server runs; None where that can't be told."""
    pods = workload.pods
    pod = (
        None
        if isinstance(pods, Unknown)
        else next((p for p in pods if server_in(snapshot, workload, p) == server), None)
    )
    if pod is None:
        return None
    compose = partial(compose_restart, snapshot, workload, pod)
    return Way(f"Restart pod {pod.name}", None, compose)


def probe_way(snapshot: Snapshot, workload: Workload, kind: ProbeKind, change: ProbeChange) -> Way:
    """Return the change of one probe."""
    compose = partial(compose_probe, snapshot, workload, kind, change)
    return Way(_probe_title(kind, change), ProbeWish(kind, _whole_probe(workload, kind, change)), compose)


def upgrade_way(snapshot: Snapshot, workload: Workload) -> Way | None:
    """Return the upgrade to the next line; None where the drills know none, or the image has no plain tag."""
    versions = [found for server in snapshot.servers if (found := version_of(server.version))]
    version = UPGRADES.get(min(versions)[:2]) if versions else None
    image = workload.nats.image
    if version is None or not image.tag or image.digest:
        return None
    _, dash, suffix = image.tag.partition("-")
    tag = f"{version}{dash}{suffix}"
    compose = partial(compose_image, snapshot, workload, f"{image.repository}:{tag}", version)
    return Way(f"Upgrade nats-server of {workload.name} to {version}", ImageWish(tag), compose)


def routes_way(snapshot: Snapshot, workload: Workload, cautions: tuple[str, ...] = ()) -> Way:
    """Return the explicit list of routes, loaded by one server after another."""
    conf = workload.conf
    routes: tuple[str, ...] = ()
    if not isinstance(conf, Unknown):
        try:
            routes = tuple(f"nats://{address}" for address in wanted_addresses(conf, workload, workload.replicas))
        except Refused:
            routes = ()  # composing says why
    compose = partial(compose_routes, snapshot, workload)
    return Way("Name every pod in cluster.routes and reload", RoutesWish(routes), compose, cautions)


def scale_way(snapshot: Snapshot, workload: Workload) -> Way:
    """Return the next larger odd number of servers: an even one tolerates no more losses than one less (reference/nats.md 4.3)."""
    target = workload.replicas + 1 + workload.replicas % 2
    compose = partial(compose_scale_out, snapshot, workload, target)
    cautions = (
        "New servers take nothing over by themselves: leaders and clients are moved to them afterwards.",
        "The way back is work for people: what the servers hold is moved first, and a peer that is gone counts for quorum until it is removed.",
    )
    return Way(f"Add servers: {target} instead of {workload.replicas}", ReplicasWish(target), compose, cautions)


def moved(snapshot: Snapshot, workload: Workload, guide: Draft) -> Draft:
    """Return the move to another storage class as exact commands, where the claims are known; it is never automatic."""
    try:
        lines = move_storage_guidance(snapshot, workload, BLOCK)
    except Refused:
        return guide  # an emptyDir has no claims to move
    return guide.model_copy(update={"guidance": (*lines, guide.guidance[-1])})


def smaller(snapshot: Snapshot, workload: Workload, guide: Draft) -> Draft:
    """Return the guide with the commands by which people take one server away, or with what speaks against it."""
    fewer = workload.replicas - 1
    try:
        lines = (f"To {fewer}:", *scale_in_guidance(snapshot, workload, fewer))
    except Refused as refused:
        lines = tuple(f"Not to {fewer}: {reason}" for reason in refused.reasons)
    return guide.model_copy(update={"guidance": (*guide.guidance, *lines)})


def _ways(snapshot: Snapshot, workload: Workload, found: Sequence[Finding]) -> Iterator[Way]:
    """Yield what the findings call for, by rising risk."""
    codes = {finding.check for finding in found}
    if ROUTES.code in codes:
        yield routes_way(snapshot, workload)
    if BUDGET.code in codes:
        yield _budget(snapshot, workload)
    if codes & {KILLS.code, PROBES.code}:
        yield from _probes(snapshot, workload, found)
    if MEMORY.code in codes and (way := _gomemlimit(snapshot, workload)) is not None:
        yield way
    if SPREAD.code in codes:
        yield _spread(snapshot, workload)
    if VOLUMES.code in codes:
        yield from _volumes(snapshot, workload, found)


def _budget(snapshot: Snapshot, workload: Workload) -> Way:
    compose = partial(compose_budget, snapshot, workload)
    return Way(f"Let one pod of {workload.name} go at a time", BudgetWish(), compose)


def _probes(snapshot: Snapshot, workload: Workload, found: Sequence[Finding]) -> Iterator[Way]:
    for kind in ProbeKind:
        mine = [f for f in found if f.evidence.get("probe") == kind.value]
        if not mine:
            continue
        strict = any("seconds" not in f.evidence for f in mine)
        slow = any("seconds" in f.evidence for f in mine)
        times = TIMES[kind.value]
        absent = any(f.evidence.get("absent") for f in mine)
        path = OFFICIAL_CHART[kind] if absent else ENABLED_ONLY if strict else None
        change = ProbeChange(
            path=path,
            period=times["periodSeconds"] if slow else None,
            failures=times["failureThreshold"] if slow else None,
        )
        yield probe_way(snapshot, workload, kind, change)


def _probe_title(kind: ProbeKind, change: ProbeChange) -> str:
    if change.path is not None:
        return f"Let the {kind} probe ask {change.path}" + (", with time to recover" if change.failures else "")
    return f"Give the {kind} probe more time"


def _whole_probe(workload: Workload, kind: ProbeKind, change: ProbeChange) -> JsonObject:
    """Return the probe as it shall be; values of charts replace it whole."""
    container = workload.nats
    present = {
        ProbeKind.STARTUP: container.startup,
        ProbeKind.READINESS: container.readiness,
        ProbeKind.LIVENESS: container.liveness,
    }[kind]
    raw: JsonObject = dict(present.raw) if present else {"httpGet": {"port": 8222}} | dict(TIMES[kind.value])
    if change.path is not None:
        raw["httpGet"] = dict(raw.get("httpGet") or {"port": 8222}) | {"path": change.path}
    numbers = {"periodSeconds": change.period, "failureThreshold": change.failures}
    return raw | {key: value for key, value in numbers.items() if value is not None}


def _gomemlimit(snapshot: Snapshot, workload: Workload) -> Way | None:
    resources = workload.nats.resources
    limit = resources.memory_limit
    if not limit:
        return None
    share = int(limit * GO_SHARE)
    amount = f"{share // _GIB}GiB" if share % _GIB == 0 else f"{share // _MIB}MiB"
    compose = partial(compose_resources, snapshot, workload, {}, amount)
    wish = ResourcesWish(_amounts(resources.raw, "requests"), _amounts(resources.raw, "limits"), amount)
    return Way(f"Set GOMEMLIMIT to {amount}, 80 % of the memory limit", wish, compose)


def _amounts(resources: JsonObject, side: str) -> dict[str, str]:
    return {resource: str(amount) for resource, amount in part(resources, side).items()}


def _spread(snapshot: Snapshot, workload: Workload) -> Way:
    compose = partial(compose_spread, snapshot, workload, {"required": True})
    return Way(f"Keep the pods of {workload.name} on different nodes", SpreadWish(), compose)


def _volumes(snapshot: Snapshot, workload: Workload, found: Sequence[Finding]) -> Iterator[Way]:
    needed = [int(f.evidence["max_file_store"]) for f in found if isinstance(f.evidence.get("max_file_store"), int)]
    if not needed:
        return
    size = f"{-(-max(needed) // _GIB)}Gi"
    compose = partial(compose_growth, snapshot, workload, size)
    yield Way(f"Grow the volumes to {size}", None, compose)
