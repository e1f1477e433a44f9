"""Sets the image of the container that runs nats-server: another version of the same image. Sidecars stay as they are.

A server of an older minor version does not read what a newer one wrote as it stands (2.10 rebuilds its state from the messages of 2.11, reference/nats.md
1.A "Downgrade"), and its API may lack what streams now use (section 8): such a way back is a person's decision, message by message.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

from bot.actions._statefulset import raw_container, with_container
from bot.actions._template_edit import EditParams, TemplateEdit
from bot.model import JsonObject, RiskClass
from bot.model.kubernetes.containers import Container, Image

Version = tuple[int, int, int]

_TAG: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-(?!(?i:.*(?:rc|beta|preview|dev)))[A-Za-z0-9._-]+)?")
"""`2.11.11`, `2.11.11-alpine`; a release candidate is no version to upgrade to."""

_OLDEST: Final[Version] = (2, 10, 0)
"""Before it RAFTZ, the reasons in HEALTHZ and the server's own reload are missing (section 8): natsmedic can't tell whether a pod is back."""


class ImageParams(EditParams):
    """Which image, and which version its server must then report."""

    image: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][\w./:@-]*$", max_length=300)]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    running: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    """The lowest version that a server runs when this is proposed."""


def edit(template: JsonObject, params: ImageParams) -> JsonObject:
    """Return the template with the image."""
    container = raw_container(template, params.target.container)
    return with_container(template, container | {"image": params.image})


def touches(params: ImageParams) -> tuple[str, ...]:
    """Return the one field."""
    return (f"container.{params.target.container}.image",)


def summary(params: ImageParams) -> str:
    """Say both versions."""
    return f"nats-server of {params.target.statefulset}: {params.running} becomes {params.version} ({params.image})"


def objections(template: JsonObject, params: ImageParams) -> list[str]:
    """Another image, a tag that says another version, and a way across versions that can't be gone back."""
    present, wanted = Container(raw_container(template, params.target.container)).image, Image(params.image)
    reasons: list[str] = []
    if wanted.base_name != present.base_name:
        reasons.append(
            f"{wanted.base_name} is another image than {present.base_name}; its paths and its user may differ."
        )
    tagged = version_of_tag(wanted.tag)
    if not tagged and not wanted.digest:
        reasons.append(f"{params.image} is pinned to no version: its pods would run what is pulled on the day.")
    if tagged and tagged != params.version:
        reasons.append(f"The tag {wanted.tag} says {tagged}, not {params.version}.")
    return reasons + version_objections(params.running, params.version)


def version_objections(running: str, wanted: str) -> list[str]:
    """Return why natsmedic does not go from one version of nats-server to another."""
    now, then = parsed(running), parsed(wanted)
    if now is None or then is None:
        return [f"{running} and {wanted} must be versions like 2.11.11."]
    if now < _OLDEST or then < _OLDEST:
        return [f"From {running} to {wanted}: natsmedic judges servers from {'.'.join(map(str, _OLDEST))} on only."]
    if then[0] != now[0]:
        return [f"From {running} to {wanted} is another major version."]
    if then[:2] < now[:2]:
        return [
            f"From {running} back to {wanted} is a downgrade over a minor version: the older server rebuilds its state, and streams may use what it lacks."
        ]
    return []


def version_of_tag(tag: str) -> str:
    """Return the version that a tag says, without its flavour; empty where it says none."""
    found = _TAG.fullmatch(tag)
    return ".".join(found.groups()) if found else ""


def parsed(version: str) -> Version | None:
    """Return a version as numbers, None where it is none."""
    found = _TAG.fullmatch(version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


ACTION: Final = TemplateEdit(
    kind="kubernetes.image",
    title="Change of the server's version",
    params=ImageParams,
    edit=edit,
    touches=touches,
    summary=summary,
    objections=objections,
    effects=(
        "After the first pod has started the new version, its files are written by it: a way back makes an older server rebuild its state from the messages.",
        "Each pod must be in full health, and current in every Raft group, before the next one goes.",
    ),
    risk=RiskClass.MEDIUM,
)
