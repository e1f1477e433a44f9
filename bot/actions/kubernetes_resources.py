"""Sets requests, limits and GOMEMLIMIT of the container that runs nats-server. What is not named stays."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from bot.actions._statefulset import raw_container, with_container
from bot.actions._template_edit import EditParams, TemplateEdit
from bot.errors import Refused
from bot.model import JsonObject, part, parts
from bot.model.kubernetes.containers import Container

GOMEMLIMIT: Final = "GOMEMLIMIT"
_ROOM: Final = 0.95
"""Of the limit that GOMEMLIMIT may be: the chart recommends about 80 % (reference/nats.md 1.A), and above this Go collects too late to help."""

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$", max_length=20)]
GoMemory = Annotated[str, Field(pattern=r"^[0-9]+(B|KiB|MiB|GiB|TiB)$", max_length=20)]
"""The format of GOMEMLIMIT (Go's package runtime)."""


class ResourcesParams(EditParams):
    """Amounts as Kubernetes writes them; None leaves one as it is."""

    cpu_request: Quantity | None = None
    memory_request: Quantity | None = None
    cpu_limit: Quantity | None = None
    memory_limit: Quantity | None = None
    gomemlimit: GoMemory | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.amounts and self.gomemlimit is None:
            raise ValueError("no amount is named")
        return self

    @property
    def amounts(self) -> dict[tuple[str, str], str]:
        """What is named, as `(kind, resource) -> amount`."""
        given = {
            ("requests", "cpu"): self.cpu_request,
            ("requests", "memory"): self.memory_request,
            ("limits", "cpu"): self.cpu_limit,
            ("limits", "memory"): self.memory_limit,
        }
        return {where: amount for where, amount in given.items() if amount is not None}


def edit(template: JsonObject, params: ResourcesParams) -> JsonObject:
    """Return the template with these amounts. Raises `Refused` where GOMEMLIMIT comes from elsewhere."""
    container = raw_container(template, params.target.container)
    resources = part(container, "resources")
    for (kind, resource), amount in params.amounts.items():
        resources = resources | {kind: part(resources, kind) | {resource: amount}}
    made = container | {"resources": resources}
    if params.gomemlimit is not None:
        made |= {"env": _with_variable(container, params.gomemlimit)}
    return with_container(template, made)


def touches(params: ResourcesParams) -> tuple[str, ...]:
    """Return the resources and the one variable."""
    prefix = f"container.{params.target.container}"
    return f"{prefix}.resources", f"{prefix}.env.{GOMEMLIMIT}"


def summary(params: ResourcesParams) -> str:
    """Say every amount."""
    told = [f"{kind}.{resource} {amount}" for (kind, resource), amount in params.amounts.items()]
    told += [f"{GOMEMLIMIT} {params.gomemlimit}"] if params.gomemlimit else []
    return f"Resources of {params.target.statefulset}: {', '.join(told)}"


def objections(template: JsonObject, params: ResourcesParams) -> list[str]:
    """What would not start, or be killed: requests above limits, and a GOMEMLIMIT that leaves no room below the limit."""
    container = Container(raw_container(edit(template, params), params.target.container))
    found, reasons = container.resources, list[str]()
    pairs = (
        ("memory", found.memory_request, found.memory_limit),
        ("CPU", found.cpu_request, found.cpu_limit),
    )
    for name, request, limit in pairs:
        if request is not None and limit is not None and request > limit:
            reasons.append(f"The {name} request would be {request:g} and its limit {limit:g}: no pod starts so.")
    if container.gomemlimit is not None and found.memory_limit is not None:
        share = container.gomemlimit / found.memory_limit
        if share > _ROOM:
            reasons.append(
                f"GOMEMLIMIT would be {share:.0%} of the memory limit; above {_ROOM:.0%} the kernel kills the server before Go collects."
            )
    return reasons


def _with_variable(container: JsonObject, value: str) -> list[JsonObject]:
    entries = parts(container, "env")
    present = next((entry for entry in entries if entry.get("name") == GOMEMLIMIT), None)
    if present is not None and "valueFrom" in present:
        raise Refused(f"{GOMEMLIMIT} comes from elsewhere (valueFrom): change it there.")
    made: JsonObject = {"name": GOMEMLIMIT, "value": value}
    return [*entries, made] if present is None else [made if entry is present else entry for entry in entries]


ACTION: Final = TemplateEdit(
    kind="kubernetes.resources",
    title="Change of resources",
    params=ResourcesParams,
    edit=edit,
    touches=touches,
    summary=summary,
    objections=objections,
)
