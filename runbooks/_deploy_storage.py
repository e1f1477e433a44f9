"""What JetStream's store lies on, and whether it holds what the server may write. Pure functions of snapshot and thresholds.

Network file systems are what the documentation of NATS says to avoid for JetStream (nats.docs running-a-nats-service/configuration; nats-server #2792, #5881;
reference/nats.md 1.B). How full a store is, is the cluster audit's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, Unknown, part
from bot.model.base import Json
from bot.model.groups import stream_replicas
from bot.model.kubernetes import DEFAULT_STORE, Claim, PersistentVolume, Pod, StorageClass, Volume, VolumeKind
from bot.runbook import Thresholds
from runbooks._audit_views import few, size
from runbooks._deploy_views import Look, Topic, counted, said

STORAGE = Topic("DEPLOY_STORAGE", Layer.STORAGE)
VOLUMES = Topic("DEPLOY_VOLUMES", Layer.STORAGE)

NETWORK_SOURCES: Final = frozenset({"nfs", "cephfs", "glusterfs", "azureFile"})
"""Sources of volumes that are network file systems (core/v1 PersistentVolumeSource)."""

NETWORK_DRIVER: Final = re.compile(
    r"(^|[^a-z])(nfs|efs|fsx|smb|cifs|cephfs|glusterfs?|gluster|filestore|lustre|azure-?file|gcsfuse|blobfuse|s3fs)([^a-z]|$)"
    r"|^file\.csi\.azure\.com$|^blob\.csi\.azure\.com$|^s3\.csi\.aws\.com$|nfs-subdir|nfs-client",
    re.IGNORECASE,
)
"""Names of drivers and provisioners of network file systems and of object stores that look like one: `nfs.csi.k8s.io`, `efs.csi.aws.com`,
`file.csi.azure.com`, `rook-ceph.cephfs.csi.ceph.com`, `kubernetes.io/glusterfs`, `filestore.csi.storage.gke.io`, `cluster.local/nfs-subdir-external-provisioner`."""

NFS_ISSUE: Final = "nats-server #5881, #2792"


def store_is_durable(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """JetStream's store lies on a volume of its own for each pod, on a disk and not on a network file system."""

    def judge(look: Look) -> None:
        directory = store_directory(look)
        if directory is None:
            return
        mount = look.nats.mount_of(directory)
        if mount is None:
            _passing(look, directory, "on no volume", look.in_container("volumeMounts", None, directory), "container")
            return
        if mount.volume in {template.name for template in look.workload.claim_templates}:
            _judge_claims(look, look.known(look.workload.claims(mount.volume)) or ())
            return
        volume = look.workload.volumes.get(mount.volume)
        if volume is None:
            look.complain(f"volume {mount.volume} of {look.name}, which its template does not have")
            return
        _judge_volume(look, directory, volume, apart=bool(mount.sub_path))

    return STORAGE.judge(
        snapshot, judge, "Every server has a volume of its own for JetStream, and none is on a network file system."
    )


def volumes_suffice(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """The claims of the store are bound, and no larger than its volume is what the server may write."""

    def judge(look: Look) -> None:
        directory = store_directory(look)
        mount = look.nats.mount_of(directory) if directory else None
        if mount is None or mount.volume not in {template.name for template in look.workload.claim_templates}:
            return
        for claim in look.known(look.workload.claims(mount.volume)) or ():
            if claim.phase == "Bound":
                _judge_size(look, claim)
            else:
                _tell_unbound(look, claim)

    return VOLUMES.judge(snapshot, judge, "Every volume is bound, and holds what JetStream may write.")


def store_directory(look: Look) -> str | None:
    """Return where JetStream stores, as nats.conf says; None, and a complaint where that can't be read, and none where JetStream is off."""
    conf = look.conf()
    if conf is None or conf.jetstream is None or conf.jetstream.enabled is False:
        for path in conf.missing_includes if conf is not None and conf.jetstream is None else ():
            look.complain(f"{path}, which nats.conf includes")
        return None
    directory = conf.jetstream.store_dir
    if isinstance(directory, str):
        return directory
    if directory is None:
        return DEFAULT_STORE
    look.complain(f"store_dir of nats.conf, which stands in {directory}")
    return None


def singles(look: Look) -> list[str]:
    """Return the streams with one replica in files that live on servers of this StatefulSet."""
    snapshot = look.snapshot
    mine = {look.server_of(pod) for pod in look.pods()} - {None}
    last = snapshot.rounds - 1
    return sorted(
        str(key)
        for key, views in snapshot.streams(last).items()
        if views.keys() & mine
        and stream_replicas(views) <= 1
        and next(iter(views.values())).config.get("storage", "file") == "file"
    )


# What it lies on.


def _judge_volume(look: Look, directory: str, volume: Volume, *, apart: bool) -> None:
    where = f"spec.template.spec.volumes[name={volume.name}]"
    evidence = look.seen(look.workload, where, volume.source, "a volumeClaimTemplate")
    match volume.kind:
        case VolumeKind.EMPTY_DIR:
            memory = part(volume.raw, "emptyDir").get("medium") == "Memory"
            _passing(look, directory, f"on an emptyDir{' in memory' if memory else ''}", evidence, "pod")
        case VolumeKind.HOST_PATH:
            look.warn(
                f"JetStream of {look.name} stores in {directory} on a directory of the node (hostPath): a pod that comes up on another node begins empty, and nothing "
                "keeps two pods of one node from the same directory.",
                evidence,
            )
        case VolumeKind.CLAIM:
            if look.workload.replicas > 1 and not apart:
                look.tell(
                    Severity.CRITICAL,
                    f"All {look.workload.replicas} pods of {look.name} mount one claim ({volume.claim}) as {directory}: servers that share a store destroy it.",
                    evidence,
                    cause=True,
                )
        case _:
            driver = str(part(volume.raw, volume.source).get("driver") or "")
            if volume.source in NETWORK_SOURCES or on_network(driver):
                _network(look, [f"volume {volume.name} ({driver or volume.source})"], evidence)


def _passing(look: Look, directory: str, what: str, evidence: JsonObject, life: str) -> None:
    """A store that ends with the pod, or with the container. With replicas the others bring the data back, without it is lost."""
    alone = singles(look)
    begin = f"JetStream of {look.name} stores in {directory} {what}: it ends with the {life}."
    evidence = evidence | {"streams with one replica": alone[:50], "count": len(alone)}
    if alone:
        look.tell(
            Severity.CRITICAL,
            f"{begin} {counted(len(alone), 'stream')} with one replica would be lost with the next {life}: {few(alone)}.",
            evidence,
        )
    else:
        again = (
            "Streams with replicas are copied again from the others, if a majority of them stays."
            if look.workload.replicas > 1
            else "Streams are lost with it."
        )
        look.warn(f"{begin} {again}", evidence)
    if not look.all_told():
        look.complain("the streams of every server, so it is not known which live on one of them alone")


def _judge_claims(look: Look, claims: tuple[Claim, ...]) -> None:
    if not claims and not isinstance(look.workload.pods, Unknown):
        look.complain(f"the volumes of {look.name}, which has no claim yet")
    slow: list[str] = []
    evidence: JsonObject = {}
    for claim in claims:
        volume, kind = look.workload.volume_of(claim), look.workload.class_of(claim)
        names = list(_drivers(volume, kind))
        found = next((name for name in names if name in NETWORK_SOURCES or on_network(name)), None)
        if found is not None:
            slow.append(f"claim {claim.name} ({found})")
            evidence = evidence or look.seen(claim, "spec.volumeName", claim.volume_name, "a disk") | {"driver": found}
        elif isinstance(volume, Unknown):
            # A class alone does not tell what a volume is that somebody made by hand.
            look.complain(volume.detail)
    if slow:
        _network(look, slow, evidence)


def _drivers(volume: PersistentVolume | Unknown | None, kind: StorageClass | Unknown | None) -> Iterator[str]:
    if isinstance(volume, PersistentVolume):
        yield volume.driver or volume.source
    if isinstance(kind, StorageClass):
        yield kind.provisioner


def on_network(driver: str) -> bool:
    """Tell whether a CSI driver or provisioner of this name makes network file systems."""
    return bool(NETWORK_DRIVER.search(driver))


def _network(look: Look, where: list[str], evidence: JsonObject) -> None:
    look.tell(
        Severity.WARNING,
        f"JetStream of {look.name} stores on a network file system: {few(where)}. A write that waits holds up every Raft group on the server, and one that is refused "
        "turns JetStream off.",
        evidence | {"where": where},
        issue=NFS_ISSUE,
    )


# Whether it is there and large enough.


def _tell_unbound(look: Look, claim: Claim) -> None:
    events = look.workload.events
    known = () if isinstance(events, Unknown) else events
    about = [e for e in known if (e.object_kind, e.object_name) == ("PersistentVolumeClaim", claim.name)]
    why = f": {said(about[-1].message)}" if about else ""
    phase = claim.phase or "not yet looked at"
    evidence = look.seen(claim, "status.phase", claim.phase, "Bound") | {"class": claim.storage_class}
    evidence |= {"event": about[-1].message if about else None}
    look.tell(
        Severity.CRITICAL,
        f"Claim {claim.name} of JetStream's store is {phase} and not bound{why}.",
        evidence,
        _pod_of(look, claim),
    )


def _judge_size(look: Look, claim: Claim) -> None:
    capacity = claim.capacity or claim.requested
    pod = _pod_of(look, claim)
    allowed, source = _allowed(look, pod)
    if capacity is None:
        look.complain(f"the size of claim {claim.name}")
    elif allowed is not None and allowed > capacity:
        evidence = look.seen(claim, "status.capacity.storage", capacity, allowed) | {
            "max_file_store": allowed,
            "from": source,
        }
        look.warn(
            f"JetStream may write {size(allowed)} ({source}) to claim {claim.name}, which holds {size(capacity)}: it notices only when the disk is full, and then turns "
            "itself off.",
            evidence,
            pod,
        )
    requested = claim.requested
    if requested is not None and claim.capacity is not None and claim.capacity < requested:
        look.warn(
            f"Claim {claim.name} asks for {size(requested)} and has {size(claim.capacity)}: it has not been grown yet.",
            look.seen(claim, "status.capacity.storage", claim.capacity, requested),
            pod,
        )


def _allowed(look: Look, pod: Pod | None) -> tuple[int | None, str]:
    """What the server may write, by its own word, else by nats.conf; None where neither says so."""
    jsz = look.answer(pod, Endpoint.JSZ) if pod else None
    limit: Json = part(jsz, "config").get("max_storage") if jsz else None
    if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
        return limit, "max_storage of JSZ"
    conf = look.workload.conf
    written = None if isinstance(conf, Unknown) or conf.jetstream is None else conf.jetstream.max_file
    if isinstance(written, int):
        return written, "max_file_store of nats.conf"
    if pod is not None and pod.ready:
        look.complain(f"what JetStream of {pod.name} may write")
    return None, ""


def _pod_of(look: Look, claim: Claim) -> Pod | None:
    ordinal = claim.name.rpartition("-")[2]
    found = look.workload.pods
    return None if isinstance(found, Unknown) else next((p for p in found if p.name == f"{look.name}-{ordinal}"), None)
