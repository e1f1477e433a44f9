"""What a Kubernetes probe against nats-server's monitoring port checks, by path and server version, and what it would answer now. Pure.

One answer for two sides: runbooks say which probe fails on a server, and whoever reads a StatefulSet says whether its probe is too strict. Source:
`HandleHealthz` and `healthz` in server/monitor.go, reference/nats.md 1.0 and 4; every path in the tests was asked of 2.10.26, 2.11.11 and 2.15.1 while
their meta layer hung.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from bot.model.base import JsonObject, parts

Version = tuple[int, int, int]


class Depth(IntEnum):
    """How far a probe looks. A server that fails at one depth fails at all that are deeper."""

    HTTP = 0
    """The monitoring port answers."""
    PORTS = 1
    """All listeners take connections."""
    ENABLED = 2
    """JetStream, where it is configured, is on."""
    META = 3
    """The meta leader is known and this server has applied what it committed."""
    ASSETS = 4
    """Every stream and consumer on this server is current."""


class ProbeKind(StrEnum):
    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


class ProbeOutcome(StrEnum):
    PASSES = "passes"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a path asks of a server of one version."""

    path: str
    depth: Depth | None
    """None where it depends on the version, and the version is not known."""
    always: ProbeOutcome | None = None
    """What it answers whatever the server's state is; None where the state decides."""
    note: str = ""
    """What people who wrote the path may not know; empty where there is nothing."""


@dataclass(frozen=True, slots=True)
class Health:
    """How far a server is known to be healthy at one moment."""

    sound: Depth | None
    """Everything up to here holds; None where nothing is known."""
    failed: Depth | None = None
    """Here and deeper it does not hold; None where no failure is known."""
    said: str = ""
    """The server's own words for the failure; untrusted."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a probe suits its kind."""

    why: str = ""
    """One sentence on what the probe does to a pod that only catches up; empty where it does nothing of that kind."""
    better: str = ""
    """The path to use instead; empty where the present one may stay."""

    @property
    def too_strict(self) -> bool:
        """True where the path should be another one."""
        return bool(self.better)


FULL: Final = "/healthz"
ENABLED_ONLY: Final = "/healthz?js-enabled-only=true"
SERVER_ONLY: Final = "/healthz?js-server-only=true"

OFFICIAL_CHART: Final[Mapping[ProbeKind, str]] = {
    ProbeKind.STARTUP: FULL,
    ProbeKind.READINESS: SERVER_ONLY,
    ProbeKind.LIVENESS: ENABLED_ONLY,
}
"""Probes of the official chart, the same from 1.0.0 to 2.14.2 (reference/nats.md 4.1)."""

BITNAMI_LIVENESS: Final = FULL
"""Liveness probe of the Bitnami chart from 8.2.2; its readiness probe asks for `/` (reference/nats.md 4.4)."""

NO_CONTACT: Final = "JetStream has not established contact with a meta leader"
NOT_CURRENT: Final = "JetStream is not current with the meta leader"
RECOVERING: Final = "JetStream is still recovering meta layer"

RELAXED: Final[Version] = (2, 11, 0)
"""From here `js-server-only` ends after the ports (nats-server #5296) and `js-meta-only` exists."""

DETAILS_FAIL: Final[Version] = (2, 10, 24)
"""Before it `details=true` answered HTTP 200 with the errors in its body."""

_OLDEST: Final[Version] = (0, 0, 0)

_NOT_ENABLED: Final = "JetStream not enabled"
_META: Final = frozenset({NO_CONTACT, NOT_CURRENT, RECOVERING, "JetStream meta layer is not running"})
_META_WRITE: Final = "JetStream meta layer write error:"
_PORTS: Final = "failed to be ready for connections after"
_ASSETS: Final = (
    "JetStream stream '",
    "JetStream consumer '",
    "JetStream account '",
    "JetStream can not lookup account",
)
_ASSET_TYPES: Final = frozenset({"STREAM", "CONSUMER", "ACCOUNT"})

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})
"""Go's `strconv.ParseBool`; a parameter without a value counts as absent."""

_STOPS: Final[Mapping[str, Depth]] = {
    "js-enabled": Depth.ENABLED,  # deprecated name of the next one
    "js-enabled-only": Depth.ENABLED,
    "js-server-only": Depth.META,
    "js-meta-only": Depth.META,
}
"""After which depth a parameter ends the check, before `RELAXED`."""


def read_probe(path: str, version: Version | None) -> Probe:
    """Return what an HTTP probe with this path and query checks on a server of this version."""
    if version is not None:
        return _read(path, version)
    answers = [_read(path, of) for of in (_OLDEST, DETAILS_FAIL, RELAXED)]
    if len({(probe.depth, probe.always) for probe in answers}) == 1:
        return answers[-1]
    return Probe(path, None, note="what it checks depends on the server's version, which is not known")


def health(healthz: JsonObject | None, meta: JsonObject | None = None) -> Health:
    """Return how far a server is healthy, from a HEALTHZ answer without narrowing options, or from `_meta_` of RAFTZ where there is none.

    RAFTZ alone never proves a follower current: the health check also asks when it last heard from its leader.
    """
    if healthz is not None:
        return _from_healthz(healthz)
    if meta is None:
        return Health(None)
    if meta.get("state") == "LEADER":
        return Health(Depth.META)
    if meta.get("leader") == "":
        return Health(Depth.ENABLED, Depth.META, NO_CONTACT)
    return Health(Depth.ENABLED)


def probe_outcome(probe: Probe, now: Health) -> ProbeOutcome:
    """Return what the probe answers on a server in this state."""
    if probe.always is not None:
        return probe.always
    if probe.depth is not None and now.failed is not None and probe.depth >= now.failed:
        return ProbeOutcome.FAILS
    if probe.depth is not None and now.sound is not None and probe.depth <= now.sound:
        return ProbeOutcome.PASSES
    return ProbeOutcome.UNKNOWN


def fit(kind: ProbeKind, probe: Probe) -> Fit:
    """Return whether a probe is too strict for what its kind does to a pod. A probe of unknown depth is not accused."""
    if probe.always is ProbeOutcome.FAILS:
        return Fit(f"It fails on every server: {probe.note}.", ENABLED_ONLY)
    if probe.always is not None or probe.depth is None or probe.depth < Depth.META:
        return Fit()
    match kind:
        case ProbeKind.READINESS:
            why = "A server that is behind the meta leader for a moment leaves the Service, although it still serves its clients."
            return Fit(why, ENABLED_ONLY)
        case ProbeKind.LIVENESS:
            why = "A server that only catches up is killed, and then has more to catch up with."
            return Fit(why, ENABLED_ONLY)
        case ProbeKind.STARTUP:
            what = (
                "one stream or consumer that stays behind" if probe.depth is Depth.ASSETS else "a meta gap that stays"
            )
            return Fit(
                f"The pod counts as starting until the check passes once: {what} holds up a rollout (nats-io/k8s #1140).",
            )


def _read(path: str, version: Version) -> Probe:
    # With a host before it, since a path may begin with two slashes, which the server redirects to one.
    address = urlsplit(f"http://server/{path.lstrip('/')}")
    if not address.path.endswith("/healthz"):
        return _not_healthz(path, address.path)
    # Like Go's url.Values.Get: the first value counts; a pair with a semicolon is dropped.
    pairs = parse_qsl("&".join(p for p in address.query.split("&") if ";" not in p), keep_blank_values=True)
    asked = dict(reversed(pairs))
    known = {name: value for name, value in asked.items() if name in _STOPS or name == "details"}
    if version < RELAXED:
        known.pop("js-meta-only", None)
    if wrong := [name for name, value in known.items() if value not in _TRUE | _FALSE]:
        return Probe(
            path, Depth.HTTP, ProbeOutcome.FAILS, f"{wrong[0]} must be true or false, so the answer is HTTP 400"
        )
    if "account" not in asked and (asked.get("stream") or asked.get("consumer")):
        return Probe(path, Depth.HTTP, ProbeOutcome.FAILS, "a stream needs its account, so the answer is HTTP 400")
    if version < DETAILS_FAIL and known.get("details") in _TRUE:
        note = "before 2.10.24 details=true answers HTTP 200 whatever is wrong"
        return Probe(path, Depth.HTTP, ProbeOutcome.PASSES, note)
    stops = {name: _depth(name, version) for name, value in known.items() if name in _STOPS and value in _TRUE}
    return Probe(path, min(stops.values(), default=Depth.ASSETS), note=_note(asked, version, stops))


def _not_healthz(path: str, resource: str) -> Probe:
    if resource.rstrip("/").lower().endswith("/healthz"):
        return Probe(
            path, Depth.HTTP, ProbeOutcome.FAILS, "only the exact path /healthz exists, so the answer is HTTP 404"
        )
    return Probe(path, Depth.HTTP, note="it only asks whether the monitoring port answers, not whether JetStream runs")


def _depth(parameter: str, version: Version) -> Depth:
    return Depth.PORTS if parameter == "js-server-only" and version >= RELAXED else _STOPS[parameter]


def _note(asked: Mapping[str, str], version: Version, stops: Mapping[str, Depth]) -> str:
    """Say where the path asks for something else than it seems to."""
    if stops:
        return ""
    if version < RELAXED and asked.get("js-meta-only") in _TRUE:
        return "js-meta-only does not exist before 2.11 and is ignored, so this is the full check"
    if named := [name for name in asked if name in _STOPS and asked[name] == ""]:
        return f"{named[0]} without =true is ignored, so this is the full check"
    return ""


def _from_healthz(healthz: JsonObject) -> Health:
    if healthz.get("status") == "ok":
        return Health(Depth.ASSETS)
    errors = [(str(e.get("type") or ""), str(e.get("error") or "")) for e in parts(healthz, "errors")]
    if healthz.get("error"):
        errors.append(("", str(healthz["error"])))
    found = [(_failed(kind, text), text) for kind, text in errors]
    named = [(depth, text) for depth, text in found if depth is not None]
    if named:
        depth, text = min(named)
        return Health(Depth(depth - 1), depth, text)
    if errors:
        # A text that no version known here has: the full check fails, and nobody knows where.
        return Health(Depth.HTTP, Depth.ASSETS, errors[0][1])
    return Health(Depth.HTTP)


def _failed(kind: str, text: str) -> Depth | None:
    if kind == "CONNECTION" or text.startswith(_PORTS):
        return Depth.PORTS
    if text == _NOT_ENABLED:
        return Depth.ENABLED
    if text in _META or text.startswith(_META_WRITE):
        return Depth.META
    return Depth.ASSETS if kind in _ASSET_TYPES or text.startswith(_ASSETS) else None
