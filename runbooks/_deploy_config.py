"""Whether the servers run with the nats.conf that Kubernetes holds, and what would make them load a changed one. Pure functions of snapshot and thresholds.

From 2.11 on a server reports the digest of its configuration, and equal digests prove it. Before that there are times and routes to compare. The kubelet
brings a changed ConfigMap to the pods within one to two minutes, and a reloader tells the server (reference/nats.md 4.2).
"""

from __future__ import annotations

from datetime import datetime

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Snapshot, Unknown, part
from bot.model.base import Json
from bot.model.kubernetes import ConfigFile, Kind, Object, Pod, Workload
from bot.model.kubernetes.objects import moment
from bot.runbook import Thresholds
from runbooks._audit_views import few
from runbooks._deploy_views import Look, Topic, lasting, shown

CONFIG = Topic("DEPLOY_CONFIG", Layer.ROUTES)
"""Below streams: servers with an older configuration may lack routes and accounts."""
RELOAD = Topic("DEPLOY_RELOAD", Layer.CLIENTS)

ARRIVAL = "arrival"
"""Threshold: seconds until a changed ConfigMap is loaded."""

CHECKSUM, STAKATER = "checksum/", "reloader.stakater.com/"
"""Beginnings of annotations by which a changed configuration rolls the pods: of the pod template, by charts, and of the StatefulSet, for Stakater's Reloader."""


def configuration_is_loaded(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Every server runs with the present nats.conf."""

    def judge(look: Look) -> None:
        file = look.known(look.workload.config_file)
        if file is None:
            return
        if file.text is None:
            look.complain(file.unknown.detail if file.unknown else f"{file.path} was not read")
            return
        changed = _changed_at(look, file)
        age = look.age(changed)
        look.miss("the configuration that runs in the pods", look.answers(Endpoint.VARZ))
        old = {pod.name: why for pod in look.pods() if (why := _not_loaded(look, file, pod, changed))}
        if not old:
            return
        if age is not None and age <= thresholds[ARRIVAL] and file.live:
            look.remarks.append(
                f"{file.kind}/{file.name} changed {lasting(age)} ago and is on its way to {few(sorted(old))}."
            )
            return
        since = f" changed {lasting(age)} ago and" if age is not None else ""
        evidence = look.in_conf("", None) | {"pods": old, "changed": changed.isoformat() if changed else None}
        digests = {name: varz.get("config_digest") for name, varz in look.answers(Endpoint.VARZ).items()}
        evidence |= {"live": file.live, "digests": {name: shown(digests.get(name)) for name in old}}
        because = "" if file.live else " It is mounted by subPath, so it never changes in a running pod."
        look.warn(
            f"{file.kind}/{file.name}{since} is not what {few(sorted(old))} of {look.name} runs with: {few(list(dict.fromkeys(old.values())))}.{because}",
            evidence,
        )

    return CONFIG.judge(snapshot, judge, "Every server runs with the present nats.conf.")


def changes_arrive(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """A changed nats.conf reaches running pods, and something makes the servers load it, or rolls the pods."""

    def judge(look: Look) -> None:
        workload = look.workload
        file = workload.config_file
        if isinstance(file, Unknown):
            # A configuration that is part of the image changes with the image; there is nothing to load.
            return
        if _rolls(workload):
            return
        if not file.live:
            evidence = look.in_container("volumeMounts.subPath", file.path, "a mount of the whole volume")
            look.warn(
                f"{file.path} is mounted by subPath: a changed {file.kind}/{file.name} never reaches a running pod, and no reload can load it.",
                evidence,
            )
        elif workload.reloader is None:
            evidence = look.seen(
                workload, "spec.template.spec.containers", [c.name for c in workload.pod_spec.containers]
            )
            look.warn(
                f"Nothing makes the servers load a changed {file.kind}/{file.name}: {look.name} has no config-reloader container, and no checksum annotation that "
                "rolls the pods.",
                evidence | {"expected": "a container config-reloader, or an annotation checksum/… of the pods"},
            )
        elif workload.pod_spec.raw.get("shareProcessNamespace") is not True:
            look.warn(
                f"Container {workload.reloader.name} can't signal nats-server: the pods of {look.name} do not share one process namespace.",
                look.seen(workload, "spec.template.spec.shareProcessNamespace", value=False, expected=True),
            )

    return RELOAD.judge(snapshot, judge, "A changed nats.conf reaches the servers.")


def _rolls(workload: Workload) -> bool:
    return any(key.startswith((CHECKSUM, STAKATER)) for key in workload.pod_annotations) or any(
        key.startswith(STAKATER) for key in workload.annotations
    )


def _not_loaded(look: Look, file: ConfigFile, pod: Pod, changed: datetime | None) -> str:
    """Why the server in a pod runs with another configuration; empty where it does not, or can't be asked."""
    varz = look.answer(pod, Endpoint.VARZ)
    if varz is None:
        return ""
    digest: Json = varz.get("config_digest")
    wanted = file.digests.get(pod.name, ())
    if isinstance(digest, str) and digest and wanted:
        return "" if digest in wanted else "config_digest is another one"
    return _other_routes(look, pod, varz) or _older(varz, changed)


def _other_routes(look: Look, pod: Pod, varz: JsonObject) -> str:
    conf = look.workload.conf_of(pod)
    routes = None if isinstance(conf, Unknown) or conf.cluster is None else conf.cluster.routes
    urls: Json = part(varz, "cluster").get("urls")
    if not isinstance(routes, tuple) or not isinstance(urls, list):
        return ""
    written, running = {route.address for route in routes}, {str(url) for url in urls}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    return "" if written == running else f"it runs with routes {few(sorted(running)) or 'to nobody'}"


def _older(varz: JsonObject, changed: datetime | None) -> str:
    loaded = moment(varz.get("config_load_time"))
    if changed is None or loaded is None or loaded >= changed:
        return ""
    return f"it last loaded a configuration at {loaded:%Y-%m-%d %H:%M:%S} UTC, before the change"


def _changed_at(look: Look, file: ConfigFile) -> datetime | None:
    """When the file's object last changed, by what the API server notes of its fields; None where it does not tell."""
    kind = Kind.CONFIG_MAP if file.kind is Kind.CONFIG_MAP else Kind.SECRET
    found = look.facts.of(kind)
    objects = () if isinstance(found, Unknown) else tuple(map(Object, found))
    one = next((o for o in objects if o.name == file.name), None)
    times = [manager.at for manager in one.managers("data") if manager.at] if one else []
    return max(times, default=None)
