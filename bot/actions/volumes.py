"""Composes larger volumes for the whole store; and tells people how to move a store to another storage class, which natsmedic never does. Pure."""

from __future__ import annotations

import shlex

from bot.action import Composed
from bot.actions._command_line import command
from bot.actions._servers import conf_of, servers_of
from bot.actions.kubernetes_grow_volume import GrowParams, GrowVolume, cannot_grow, request_of
from bot.errors import Refused
from bot.model import JsonObject, Snapshot, Unknown
from bot.model.groups import groups, standing, stream_replicas
from bot.model.kubernetes import Claim, Workload

COMPOSES = (GrowVolume.kind,)


SURVIVES = 3
"""Replicas with which a stream outlives a server that starts with an empty store: it is copied back from the other two (reference/drills.md 3.6)."""


def compose_growth(snapshot: Snapshot, workload: Workload, size: str) -> Composed:
    """Return one stage for each claim of the store that requests less than `size`, e.g. `20Gi`. Raises `Refused` with every reason."""
    claims = store_claims_of(workload)
    small = [claim for claim in claims if request_of(claim) != size]
    if not small:
        raise Refused(f"Every claim of {workload.name} requests {size} already.")
    reasons: list[str] = []
    stages: list[tuple[str, JsonObject]] = []
    for claim in small:
        try:
            reasons += cannot_grow(snapshot, claim, size)
        except Refused as refused:
            reasons += refused.reasons
        params = GrowParams(
            claim=claim.name,
            uid=claim.uid,
            storage_class=claim.storage_class,
            former=request_of(claim),
            size=size,
        )
        stages.append((GrowVolume.kind, params.model_dump(mode="json")))
    if reasons:
        raise Refused(*dict.fromkeys(reasons))
    return Composed(tuple(stages), (*(owner.reverts for owner in workload.owners), *_stays_behind(workload, size)))


def move_storage_guidance(snapshot: Snapshot, workload: Workload, storage_class: str) -> tuple[str, ...]:
    """Return how people move the store to another storage class, e.g. from NFS to block storage, as exact commands: pod after pod, copied back by the others.

    Claim templates can't be changed, so the StatefulSet is made anew around its running pods (reference/nats.md 1.B, remedy). Raises `Refused` where
    the store lies on no claims, or where the servers can't be told.
    """
    claims, servers = store_claims_of(workload), servers_of(snapshot, workload)
    namespace, name = shlex.quote(workload.namespace), shlex.quote(workload.name)
    kubectl = f"kubectl -n {namespace}"
    told = [
        "Streams with fewer than 3 replicas exist once: back them up first, they do not come back by themselves.",
        *_backups(snapshot),
        f"{kubectl} get statefulset {name} -o yaml > statefulset.yaml",
        (
            f"In statefulset.yaml set spec.volumeClaimTemplates[].spec.storageClassName to {shlex.quote(storage_class)}, and remove status, uid and resourceVersion. "
            "Under Helm make the same change in the values (official chart: config.jetstream.fileStore.pvc.storageClassName)."
        ),
        f"{kubectl} delete statefulset {name} --cascade=orphan   # the pods run on",
        f"{kubectl} apply -f statefulset.yaml   # it takes the running pods over",
    ]
    by_pod = {pod: claim for claim in claims for pod in servers if claim.name.endswith(f"-{pod}")}
    for pod in sorted(by_pod, key=lambda one: -int(one.rpartition("-")[2])):
        claim = by_pod[pod]
        told += [
            f"{servers[pod]}: only while every other server is healthy and every replica current: nats server report health; nats server report jetstream",
            f"kubectl patch pv {shlex.quote(claim.volume_name)} -p "
            + shlex.quote('{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}')
            + "   # the old data stays",
            f"{kubectl} delete pvc {shlex.quote(claim.name)} --wait=false && {kubectl} delete pod {shlex.quote(pod)}",
            f"Wait until {servers[pod]} has everything again: all replicas current, first and last sequences as before. Then the next one.",
        ]
    told.append("When all have moved and a week has passed: delete the released volumes (kubectl get pv).")
    return tuple(told)


def store_claims_of(workload: Workload) -> tuple[Claim, ...]:
    """Return the claims that JetStream's store lies on. Raises `Refused` where they are not known or there are none."""
    claims = workload.store_claims
    if isinstance(claims, Unknown):
        raise Refused(f"The claims of the store are not known: {claims.detail}")
    if not claims:
        raise Refused(f"The store of {workload.name} lies on no claims of its own.")
    return claims


def _stays_behind(workload: Workload, size: str) -> list[str]:
    jetstream = conf_of(workload).jetstream
    limit = jetstream.max_file if jetstream else None
    told = [
        (
            f"volumeClaimTemplates of {workload.name} can't be changed: a pod that is added later gets a volume of the old size, to be grown then. "
            f"For good, make the StatefulSet anew with {size} in it: kubectl delete statefulset --cascade=orphan, then apply."
        )
    ]
    if isinstance(limit, int):
        told.append(
            f"JetStream stays at max_file_store {limit} bytes until that is raised in nats.conf and loaded; a reload can raise it."
        )
    return told


def _backups(snapshot: Snapshot) -> list[str]:
    told: list[str] = []
    for key, views in sorted(snapshot.streams(snapshot.rounds - 1).items()):
        replicas = stream_replicas(views)
        if replicas < SURVIVES:
            members = standing(groups(views), replicas).members or frozenset(views)
            backup = command("nats", "stream", "backup", of=[key.stream, f"backup-{key.stream}"])
            told.append(f"{backup}   # {key}, on {', '.join(sorted(members))}")
    return told
