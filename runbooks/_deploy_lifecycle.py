"""Whether a server goes in peace when its pod is deleted, and whether the image is what people believe it is. Pure functions of snapshot and thresholds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from bot.model import Endpoint, Finding, Focus, Layer, Snapshot, Unknown, part
from bot.model.kubernetes import Image, Pod
from bot.model.nats_conf import Variable
from bot.runbook import Thresholds
from runbooks._audit_versions import version_of
from runbooks._audit_views import few
from runbooks._deploy_views import Look, Topic

SHUTDOWN = Topic("DEPLOY_SHUTDOWN", Layer.CLIENTS)
IMAGE = Topic("DEPLOY_IMAGE", Layer.CLIENTS)

MARGIN = "shutdown_margin"
"""Threshold: seconds that the grace period must be longer than lame duck mode."""

LAME_DUCK: Final = 120.0
"""Seconds of `lame_duck_duration` where nats.conf does not set it (server/const.go, DEFAULT_LAME_DUCK_DURATION)."""

NO_VERSION: Final = re.compile(
    r"\d+(\.\d+)?(-[a-z0-9.]+)?|alpine|scratch|linux|latest.*|stable|main|master|edge|nightly|dev(el)?|synadia",
    re.IGNORECASE,
)
"""Tags that are moved to a newer image with each release: a line, or a name. A tag of another form may be anybody's own build."""


def servers_leave_in_peace(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Before its end a server goes into lame duck mode, and the pod waits for it to end (reference/nats.md 1.B, 4.1)."""

    def judge(look: Look) -> None:
        workload = look.workload
        hook = part(part(look.nats.raw, "lifecycle"), "preStop")
        if not hook:
            look.warn(
                f"Container {look.nats.name} of {look.name} has no preStop hook: a server whose pod is deleted closes all clients at once and hands over nothing it leads, "
                "instead of going into lame duck mode.",
                look.in_container("lifecycle.preStop", None, "nats-server -sl=ldm=<pid file>"),
            )
        conf = look.conf() if hook else None
        if conf is None:
            return
        written = conf.lame_duck_duration
        if isinstance(written, Variable):
            look.complain(f"lame_duck_duration of nats.conf, which stands in {written}")
            return
        duration = LAME_DUCK if written is None else written
        needed = duration + thresholds[MARGIN]
        if workload.grace_seconds < needed:
            by = "the server's default" if written is None else "nats.conf"
            look.warn(
                f"Pods of {look.name} get {workload.grace_seconds} s to end, and lame duck mode lasts {duration:g} s ({by}): the server is killed while it still moves "
                f"clients; {needed:g} s are needed.",
                look.seen(workload, "spec.template.spec.terminationGracePeriodSeconds", workload.grace_seconds, needed)
                | {"lame_duck_duration": duration},
            )

    return SHUTDOWN.judge(snapshot, judge, "A server goes into lame duck mode before its end, and has the time for it.")


def image_is_pinned(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """The image has a tag with a whole version or a digest, and the servers run what it says. Versions that differ are the cluster audit's to judge."""

    def judge(look: Look) -> None:
        image = look.nats.image
        if not image.digest and (not image.tag or NO_VERSION.fullmatch(image.tag)):
            what = f"tag {image.tag!r}, which moves with each release" if image.tag else "no tag, which means latest"
            look.warn(
                f"Image {image.reference or '(none)'} of container {look.nats.name} has {what}: pods that start on different days run different versions.",
                look.in_container("image", image.reference, "a tag with the whole version, or a digest"),
            )
        look.miss("the version that runs in the pods", look.answers(Endpoint.VARZ))
        other = dict(_unlike(look))
        if other:
            told = few([f"{name} {why}" for name, why in sorted(other.items())])
            look.warn(
                f"Servers of {look.name} run another version than their image's tag says: {told}.",
                look.in_container("image", image.reference) | {"pods": other},
            )

    return IMAGE.judge(snapshot, judge, "The image names its version, and the servers run it.")


def _unlike(look: Look) -> Iterator[tuple[str, str]]:
    """Pods whose server is of another version than the tag of their own image, which may be older than the template's."""
    found = look.workload.pods
    for pod in () if isinstance(found, Unknown) else found:
        varz, image = look.answer(pod, Endpoint.VARZ), _image(look, pod)
        running = str(varz.get("version", "")) if varz else ""
        tagged = version_of(image.tag) if image else None
        if image and tagged and running and version_of(running) != tagged:
            yield pod.name, f"runs {running} and its image is {image.reference}"


def _image(look: Look, pod: Pod) -> Image | None:
    container = pod.pod_spec.container(look.nats.name)
    return container.image if container else None
