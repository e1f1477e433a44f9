"""Whether the NATS container has the CPU and memory it needs, for certain, and whether Go knows its limit. Pure functions of snapshot and thresholds.

The official chart sets none of these; its README asks for 2 CPU and 8 GiB, requests equal to limits, and GOMEMLIMIT at 80 % of the memory limit. The Bitnami
chart's preset `nano` has 150m and 192 MiB (reference/nats.md 1.A, 4.1, 4.4).
"""

from __future__ import annotations

from bot.model import Endpoint, Finding, Focus, Layer, Snapshot, Unknown, part
from bot.model.base import Json
from bot.model.kubernetes import Container, Pod
from bot.runbook import Thresholds
from runbooks._audit_views import few, size
from runbooks._deploy_views import Look, Topic

RESOURCES = Topic("DEPLOY_RESOURCES", Layer.CLIENTS)
MEMORY = Topic("DEPLOY_MEMORY", Layer.CLIENTS)

CPU = "cpu_millicores"
"""Threshold: thousandths of a core below which a CPU limit throttles."""

LEAST_MEMORY = "memory_mib"
"""Threshold: MiB below which a memory limit is too small for JetStream."""

LOW, HIGH = "gomemlimit_low", "gomemlimit_high"
"""Thresholds: shares of the memory limit between which GOMEMLIMIT should be."""

MIB = 2**20
NO_LIMIT = 2**62
"""Go's own default for GOMEMLIMIT is math.MaxInt64, which stands for none (runtime/debug, SetMemoryLimit)."""


def resources_are_certain(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """The container has requests equal to limits for CPU and memory, large enough, and so its pod is Guaranteed."""

    def judge(look: Look) -> None:
        found = look.nats.resources
        missing = [
            name
            for name, value in (
                ("requests.cpu", found.cpu_request or found.cpu_limit),
                ("requests.memory", found.memory_request or found.memory_limit),
                ("limits.memory", found.memory_limit),
                ("limits.cpu", found.cpu_limit),
            )
            if not value
        ]
        evidence = look.in_container("resources", found.raw, "requests equal to limits")
        evidence |= {"qos": {pod.name: pod.qos for pod in _pods(look)}, "missing": missing}
        if missing:
            look.warn(
                f"Container {look.nats.name} of {look.name} has no {few(missing)}: its CPU and memory are what its neighbours leave, and under memory pressure it is "
                "among the first to be killed.",
                evidence,
            )
        elif _unequal(look.nats):
            look.warn(
                f"Container {look.nats.name} of {look.name} requests less than its limits ({few(_unequal(look.nats))}): what is above is not certain, and its pod is "
                "not Guaranteed.",
                evidence,
            )
        else:
            _judge_sidecars(look)
        _judge_small(look, thresholds)

    return RESOURCES.judge(snapshot, judge, "The NATS container has certain and sufficient CPU and memory.")


def memory_fits(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """GOMEMLIMIT is set below the container's limit, and streams in memory fit below both."""

    def judge(look: Look) -> None:
        limit = look.nats.resources.memory_limit
        if not limit:
            # Said by the resources check; without a limit there is nothing to compare with.
            return
        soft = _gomemlimit(look)
        variable = look.nats.environment.get("GOMEMLIMIT")
        evidence = look.in_container(
            "env[name=GOMEMLIMIT]", soft, f"{thresholds[LOW]:.0%} to {thresholds[HIGH]:.0%} of {limit}"
        )
        evidence |= {"limit": limit}
        if soft is None and variable is not None:
            look.complain(f"GOMEMLIMIT of {look.name}, which comes from {variable.source}")
        elif soft is None:
            look.warn(
                f"GOMEMLIMIT is not set for container {look.nats.name} of {look.name}: Go does not know its limit of {size(limit)}, and lets garbage grow past it.",
                evidence,
            )
        elif not thresholds[LOW] <= soft / limit <= thresholds[HIGH]:
            side = (
                "leaves too little for what is not Go's"
                if soft / limit > thresholds[HIGH]
                else "makes the server collect garbage all the time"
            )
            look.warn(
                f"GOMEMLIMIT of {look.name} is {size(soft)}, {soft / limit:.0%} of its memory limit of {size(limit)}: that {side}.",
                evidence,
            )
        _judge_memory_store(look, limit, soft)

    return MEMORY.judge(snapshot, judge, "Go knows its memory limit, and streams in memory fit below it.")


def _pods(look: Look) -> tuple[Pod, ...]:
    found = look.workload.pods
    return () if isinstance(found, Unknown) else found


def _unequal(container: Container) -> list[str]:
    """Requests below limits. A request that is not there counts as its limit (API server defaulting)."""
    found = container.resources
    pairs = (("cpu", found.cpu_request, found.cpu_limit), ("memory", found.memory_request, found.memory_limit))
    return [name for name, request, limit in pairs if request is not None and request != limit]


def _judge_sidecars(look: Look) -> None:
    """Guaranteed is a pod only if all of its containers are."""
    loose = [
        c.name
        for c in (*look.workload.pod_spec.containers, *look.workload.pod_spec.init_containers)
        if _unequal(c) or not (c.resources.cpu_limit and c.resources.memory_limit)
    ]
    if loose:
        look.warn(
            f"The pods of {look.name} are not Guaranteed, because of {few(loose)}, which has no limits equal to its requests: under memory pressure they are killed "
            "before others.",
            look.seen(
                look.workload,
                f"spec.template.spec.containers[name={loose[0]}].resources",
                None,
                "requests equal to limits",
            )
            | {"containers": loose, "qos": {pod.name: pod.qos for pod in _pods(look)}},
        )


def _judge_small(look: Look, thresholds: Thresholds) -> None:
    cpu, memory = look.nats.resources.cpu_limit, look.nats.resources.memory_limit
    if cpu is not None and cpu * 1000 < thresholds[CPU]:
        look.warn(
            f"Container {look.nats.name} of {look.name} may use {cpu * 1000:g}m CPU: it is throttled as soon as it has work, and its heartbeats come late; "
            f"less than {thresholds[CPU]:g}m is too little for JetStream.",
            look.in_container("resources.limits.cpu", cpu, thresholds[CPU] / 1000),
        )
    if memory is not None and memory < thresholds[LEAST_MEMORY] * MIB:
        look.warn(
            f"Container {look.nats.name} of {look.name} may use {size(memory)}: less than {thresholds[LEAST_MEMORY]:g} MiB is too little for JetStream.",
            look.in_container("resources.limits.memory", memory, thresholds[LEAST_MEMORY] * MIB),
        )


def _gomemlimit(look: Look) -> int | None:
    """In bytes: as the template says, else the lowest that a server reports (VARZ, 2.10.28 and 2.11.2)."""
    if (written := look.nats.gomemlimit) is not None:
        return written
    reported: list[Json] = [varz.get("gomemlimit") for varz in look.answers(Endpoint.VARZ).values()]
    return min(
        (n for n in reported if isinstance(n, int) and not isinstance(n, bool) and 0 < n < NO_LIMIT), default=None
    )


def _judge_memory_store(look: Look, limit: int, soft: int | None) -> None:
    allowed = max(
        (
            n
            for jsz in look.answers(Endpoint.JSZ).values()
            if (n := _whole(part(jsz, "config").get("max_memory"))) is not None
        ),
        default=None,
    )
    source = "max_memory of JSZ"
    if allowed is None:
        conf = look.workload.conf
        written = None if isinstance(conf, Unknown) or conf.jetstream is None else conf.jetstream.max_memory
        allowed, source = (written, "max_memory_store of nats.conf") if isinstance(written, int) else (None, "")
        if allowed is None and not _without_jetstream(look):
            look.complain(f"what JetStream of {look.name} may keep in memory")
    bound, named = (soft, "GOMEMLIMIT") if soft is not None and soft < limit else (limit, "the memory limit")
    if allowed is not None and allowed > bound:
        look.warn(
            f"JetStream of {look.name} may keep {size(allowed)} of streams in memory ({source}), and {named} is {size(bound)}: the container is killed before JetStream "
            "says that it is full.",
            look.in_conf("jetstream.max_memory_store", allowed, f"less than {bound}")
            | {"from": source, "limit": limit, "gomemlimit": soft},
        )


def _without_jetstream(look: Look) -> bool:
    conf = look.workload.conf
    return not isinstance(conf, Unknown) and (conf.jetstream is None or conf.jetstream.enabled is False)


def _whole(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
