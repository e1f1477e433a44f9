"""Changes, adds or removes one probe of the container that runs nats-server. Its port and handler stay; only what is named changes."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from bot.actions._statefulset import raw_container, with_container
from bot.actions._template_edit import EditParams, TemplateEdit
from bot.errors import Refused
from bot.model import JsonObject, Record, part, parts
from bot.model.probes import ProbeKind

MONITOR: Final = "monitor"
"""Name of the monitoring port in the official chart (reference/nats.md 4.1)."""
MONITOR_PORT: Final = 8222

_NUMBERS: Final = {
    "period": "periodSeconds",
    "timeout": "timeoutSeconds",
    "failures": "failureThreshold",
    "initial_delay": "initialDelaySeconds",
}

Seconds = Annotated[int, Field(ge=1, le=3600)]


class ProbeChange(Record):
    """What becomes of a probe. None leaves a number as it is."""

    path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=200)] | None = None
    """Path and query, e.g. `/healthz?js-enabled-only=true`."""
    period: Seconds | None = None
    timeout: Seconds | None = None
    failures: Annotated[int, Field(ge=1, le=1000)] | None = None
    initial_delay: Annotated[int, Field(ge=0, le=3600)] | None = None
    remove: bool = False

    @model_validator(mode="after")
    def _something(self) -> Self:
        named = [name for name in ("path", *_NUMBERS) if getattr(self, name) is not None]
        if self.remove == bool(named):
            raise ValueError("a probe is either removed, or something of it changes")
        return self


class ProbeParams(EditParams):
    """Which probe, and what becomes of it."""

    probe: ProbeKind
    change: ProbeChange

    @property
    def field(self) -> str:
        return f"{self.probe}Probe"


def edit(template: JsonObject, params: ProbeParams) -> JsonObject:
    """Return the template with the probe as it shall be. Raises `Refused` where the probe asks no path, or there is none to change."""
    container = raw_container(template, params.target.container)
    if params.change.remove:
        return with_container(template, {key: value for key, value in container.items() if key != params.field})
    present = part(container, params.field)
    if present and "httpGet" not in present:
        raise Refused(
            f"The {params.probe} probe of {params.target.container} asks no HTTP path, so natsmedic leaves it alone."
        )
    if not present and params.change.path is None:
        raise Refused(f"{params.target.container} has no {params.probe} probe, and no path was given for a new one.")
    asked = part(present, "httpGet") or {"port": _monitoring_port(container), "scheme": "HTTP"}
    if params.change.path is not None:
        asked = asked | {"path": params.change.path}
    numbers = {key: getattr(params.change, name) for name, key in _NUMBERS.items()}
    made = present | {"httpGet": asked} | {key: value for key, value in numbers.items() if value is not None}
    return with_container(template, container | {params.field: made})


def touches(params: ProbeParams) -> tuple[str, ...]:
    """Return the probe's own fields."""
    return (f"container.{params.target.container}.{params.field}",)


def summary(params: ProbeParams) -> str:
    """Say what becomes of the probe."""
    what = f"The {params.probe} probe of {params.target.statefulset}"
    if params.change.remove:
        return f"{what} is removed"
    named = {"path": "path"} | _NUMBERS
    told = [f"{label} {value}" for name, label in named.items() if (value := getattr(params.change, name)) is not None]
    return f"{what}: {', '.join(told)}"


def objections(template: JsonObject, params: ProbeParams) -> list[str]:
    """A server whose recovery takes long is killed in the middle of it where nothing holds the liveness probe back."""
    container = raw_container(template, params.target.container)
    if params.probe is ProbeKind.STARTUP and params.change.remove and part(container, "livenessProbe"):
        return [
            "Without a startup probe the liveness probe begins at once: a server that recovers for long is killed in the middle of it."
        ]
    return []


def _monitoring_port(container: JsonObject) -> str | int:
    named = {str(port.get("name")) for port in parts(container, "ports")}
    return MONITOR if MONITOR in named else MONITOR_PORT


ACTION: Final = TemplateEdit(
    kind="kubernetes.probe",
    title="Change of a probe",
    params=ProbeParams,
    edit=edit,
    touches=touches,
    summary=summary,
    objections=objections,
)
