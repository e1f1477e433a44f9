"""What the probes of the NATS container ask of the server in a pod, and how far that server is known to be healthy. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bot.model import Endpoint
from bot.model.groups import meta_group
from bot.model.kubernetes import Pod
from bot.model.kubernetes import Probe as Declared
from bot.model.kubernetes import ProbeKind as Handler
from bot.model.probes import Depth, Health, Probe, ProbeKind, ProbeOutcome, health, probe_outcome, read_probe
from runbooks._audit_versions import version_of
from runbooks._deploy_views import Look


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe as the StatefulSet or a pod declares it, and what it asks of a server of the version at hand."""

    kind: ProbeKind
    declared: Declared
    asks: Probe | None
    """None where it is no HTTP probe."""

    @property
    def place(self) -> str:
        return f"{self.kind.value}Probe"

    @property
    def reaches(self) -> Depth:
        """How far it looks for certain. A probe of a port waits until that port is open; a command may do anything."""
        if self.asks is not None:
            return self.asks.depth or Depth.HTTP
        return Depth.PORTS if self.declared.kind is Handler.TCP else Depth.HTTP

    @property
    def words(self) -> str:
        return self.declared.path or f"a probe of kind {self.declared.kind.value}"


def asked(look: Look, pod: Pod | None = None) -> Mapping[ProbeKind, Asked]:
    """Return the probes of the NATS container: of the template, or of a pod, which may be older."""
    container = look.nats if pod is None else pod.pod_spec.container(look.nats.name)
    if container is None:
        return {}
    version = look.version() if pod is None else _version_in(look, pod)
    declared = {
        ProbeKind.STARTUP: container.startup,
        ProbeKind.READINESS: container.readiness,
        ProbeKind.LIVENESS: container.liveness,
    }
    return {
        kind: Asked(kind, probe, read_probe(probe.path, version) if probe.kind is Handler.HTTP else None)
        for kind, probe in declared.items()
        if probe is not None
    }


def health_of(look: Look, pod: Pod) -> Health:
    """Return how far the server in a pod is known to be healthy."""
    raftz = look.answer(pod, Endpoint.RAFTZ)
    group = meta_group(raftz) if raftz else None
    return health(look.answer(pod, Endpoint.HEALTHZ), group[1] if group else None)


def _version_in(look: Look, pod: Pod) -> tuple[int, int, int] | None:
    varz = look.answer(pod, Endpoint.VARZ)
    container = pod.pod_spec.container(look.nats.name)
    running = version_of(str(varz.get("version", ""))) if varz else None
    return running or (version_of(container.image.tag) if container else None)


def answer_of(look: Look, pod: Pod, kind: ProbeKind) -> tuple[Asked | None, ProbeOutcome, str]:
    """Return the probe of this kind, what it answers in the pod now, and the server's words where it fails; untrusted."""
    probe = asked(look, pod).get(kind)
    if probe is None or probe.asks is None:
        return probe, ProbeOutcome.UNKNOWN, ""
    now = health_of(look, pod)
    outcome = probe_outcome(probe.asks, now)
    return probe, outcome, now.said if outcome is ProbeOutcome.FAILS else ""
