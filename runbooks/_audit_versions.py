"""The audit of versions and configuration: skew, known defects, JetStream on and off, drift, clocks. Pure functions of snapshot and thresholds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from bot.model import Endpoint, Finding, Focus, Json, JsonObject, Layer, Severity, Snapshot, Subject, canonical_json
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, Facts, by_servers, clusters, few, on, read

VERSIONS = Audit("AUDIT_VERSIONS", Layer.REACHABILITY, "SERVER_002")
DEFECTS = Audit("AUDIT_DEFECTS", Layer.CLIENTS)
"""In the last layer: a defect that a version has explains nothing by itself, and must not hide what is wrong now."""
MIX = Audit("AUDIT_JETSTREAM_MIX", Layer.META)
DRIFT = Audit("AUDIT_CONFIG_DRIFT", Layer.ROUTES)
CLOCKS = Audit("AUDIT_CLOCKS", Layer.REACHABILITY)

Version = tuple[int, int, int]

_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})")

OWN_CLOCK = frozenset({"system account", "monitoring"})
"""Ways of reading in which `taken_at` is our clock when the answer arrived; in an archive it is not."""

SETTINGS = (
    "auth_required",
    "tls_required",
    "tls_verify",
    "max_connections",
    "max_payload",
    "max_pending",
    "max_control_line",
    "ping_interval",
    "ping_max",
    "write_deadline",
    "auth_timeout",
    "tls_timeout",
    "system_account",
)
"""Top-level settings in VARZ that the servers of one cluster share; the rest of VARZ names, addresses or counts."""

JETSTREAM_SETTINGS = ("sync_interval", "domain", "unique_tag", "strict", "compress_ok")
"""Settings of JetStream; sizes are left out, since their defaults follow each machine's memory and disk."""


@dataclass(frozen=True, slots=True)
class Defect:
    """What versions without a fix do. `fixed` is the first good version of each line that got the fix, in ascending order."""

    issue: str
    fixed: tuple[Version, ...]
    since: Version
    harm: str

    def affects(self, version: Version) -> bool:
        """True from `since` on, until the fix of its line, or of the first line that has one."""
        line = next((fix for fix in self.fixed if fix[:2] == version[:2]), None)
        return version >= self.since and version < (line or self.fixed[-1])


KNOWN = (
    Defect(
        "CVE-2025-30215",
        ((2, 10, 27), (2, 11, 1)),
        (2, 2, 0),
        "any user of any account can remove servers and purge or move other accounts' streams",
    ),
    Defect(
        "CVE-2026-33222",
        ((2, 11, 15), (2, 12, 6)),
        (2, 2, 0),
        "the authorization of the JetStream management API can be passed by",
    ),
    Defect(
        "nats-server #6362",
        ((2, 10, 25), (2, 11, 0)),
        (2, 2, 0),
        "asking for /healthz can restart or delete Raft nodes",
    ),
    Defect(
        "nats-server #5296",
        ((2, 11, 0),),
        (2, 10, 0),
        "the usual readiness probe (js-server-only) fails while JetStream catches up",
    ),
    Defect(
        "nats-server #6851",
        ((2, 10, 29), (2, 11, 3)),
        (2, 2, 0),
        "a scale-up from one replica can split a group (group node missing)",
    ),
    Defect(
        "nats-server #6856",
        ((2, 11, 4),),
        (2, 2, 0),
        "a scale-up while the only holder is offline loses the stream's data",
    ),
    Defect(
        "nats-server #8253", ((2, 12, 10), (2, 14, 2)), (2, 2, 0), "a scale-down can leave consumers without quorum"
    ),
    Defect(
        "nats-server #8454",
        ((2, 15, 0),),
        (2, 10, 0),
        "a route's pool slot can stay empty after a reconnect, and messages of some accounts are lost",
    ),
)
"""reference/nats.md 8 and 1.E, 3.2; safety.md names the CVEs' versions."""


def version_of(text: str) -> Version | None:
    """Return the numbers of a server version, None where the text has none. A pre-release counts as its release."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def one_version(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """All servers run the same version; a mix is a warning while a server started so recently that an upgrade may be under way."""
    facts = read(snapshot, Endpoint.VARZ)
    versions = _versions(facts)
    found: list[Finding] = []
    if len(set(versions.values())) > 1:
        grace = timedelta(seconds=thresholds["restart_grace"])
        young = {s: up for s in versions if (up := uptime(facts, s)) is not None and up < grace}
        text = f"The servers run {len(set(versions.values()))} different versions: {by_servers(versions)}."
        if young:
            server, up = min(young.items(), key=lambda item: item[1])
            text += (
                f" {server} started {up.total_seconds():.0f} s ago: if an upgrade is under way, wait until it is done."
            )
        level = Severity.WARNING if young else Severity.CRITICAL
        found.append(VERSIONS.finding(Subject(cluster=snapshot.cluster), level, text, {"versions": versions}))
    return VERSIONS.result(snapshot, found, [facts], f"All servers run version {few(sorted(set(versions.values())))}.")


def _versions(facts: Facts) -> dict[str, str]:
    read_now = {s: facts.text(s, varz, "version") for s, varz in facts.answers.items()}
    return {s: version for s, version in read_now.items() if version is not None}


def uptime(facts: Facts, server: str) -> timedelta | None:
    """Return how long a server runs, by its own VARZ; None where that does not tell."""
    varz = facts.answers[server]
    start, now = facts.moment(server, varz, "start"), facts.moment(server, varz, "now")
    return now - start if start and now else None


def no_known_defect(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No server runs a version with a defect that is known to do harm."""
    facts = read(snapshot, Endpoint.VARZ)
    versions: dict[str, Version] = {}
    for server, text in _versions(facts).items():
        version = version_of(text)
        if version is None:
            facts.complain(server, f"no version number in {text[:40]!r}")
        else:
            versions[server] = version
    found: list[Finding] = []
    for defect in KNOWN:
        affected = {s: _shown(v) for s, v in versions.items() if defect.affects(v)}
        if affected:
            fixes = ", ".join(_shown(fix) for fix in defect.fixed)
            text = f"{by_servers(affected)}: {defect.harm} ({defect.issue}, fixed in {fixes})."
            finding = DEFECTS.finding(Subject(cluster=snapshot.cluster), Severity.WARNING, text, {"affected": affected})
            found.append(finding.model_copy(update={"issue": f"{defect.issue}, fixed in {fixes}"}))
    return DEFECTS.result(snapshot, found, [facts], f"None of the {len(KNOWN)} known defects is in these versions.")


def _shown(version: Version) -> str:
    return ".".join(map(str, version))


def jetstream_is_uniform(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """JetStream runs on all servers of a cluster or on none; one that is off and not healthy was switched off by the server itself."""
    facts, varz = read(snapshot, Endpoint.JSZ), read(snapshot, Endpoint.VARZ)
    health = {s: raw.get("status") for s, raw in read(snapshot, Endpoint.HEALTHZ).answers.items()}
    running = facts.running().answers
    found: list[Finding] = []
    for server in sorted(facts.answers.keys() - running.keys()):
        if isinstance(health.get(server), str) and health[server] != "ok":
            text = f"JetStream is configured on server {server} and off: the server switched it off itself (out of resources, or its disk refuses writes)."
            found.append(
                MIX.finding(on(snapshot, server), Severity.CRITICAL, text, {"healthz": health[server]}, cause=True)
            )
    for cluster, servers in clusters(varz).items():
        state = {s: "on" if s in running else "off" for s in servers if s in facts.answers}
        if len(set(state.values())) > 1 and not found:
            text = f"JetStream runs on some servers of cluster {cluster!r} only: {by_servers(state)}."
            found.append(MIX.finding(Subject(cluster=snapshot.cluster), Severity.WARNING, text, {"jetstream": state}))
    return MIX.result(
        snapshot, found, [facts, varz], f"JetStream is on on {len(running)} of {len(facts.answers)} servers."
    )


def one_configuration(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """The servers of a cluster run with the same settings. The digest (2.11) tells more, where not every server has a file of its own."""
    facts = read(snapshot, Endpoint.VARZ)
    found: list[Finding] = []
    where = Subject(cluster=snapshot.cluster)
    for cluster, servers in clusters(facts).items():
        for version in {str(facts.answers[s].get("version")) for s in servers}:
            alike = [s for s in servers if str(facts.answers[s].get("version")) == version]
            found += _differences(snapshot, facts, cluster, alike)
        digests = {s: d for s in servers if (d := facts.text(s, facts.answers[s], "config_digest", ""))}
        kinds = set(digests.values())
        # As many digests as servers: each has a file of its own (with its name in it), which tells nothing.
        if 1 < len(kinds) < len(digests):
            short = {s: d.removeprefix("sha256:")[:12] for s, d in digests.items()}
            text = f"The servers of cluster {cluster!r} loaded different configurations: {by_servers(short)}. If a reload is under way, wait."
            found.append(DRIFT.finding(where, Severity.WARNING, text, {"config_digest": digests}))
    return DRIFT.result(snapshot, found, [facts], "The servers of each cluster run with the same settings.")


def _differences(snapshot: Snapshot, facts: Facts, cluster: str, servers: list[str]) -> list[Finding]:
    """Settings in which servers of one cluster and version differ; another version has other fields and defaults."""
    settings = {s: _settings(facts, s) for s in servers}
    found: list[Finding] = []
    for name in sorted({name for seen in settings.values() for name in seen}):
        values = {s: seen.get(name, "default") for s, seen in settings.items()}
        if len(set(values.values())) > 1:
            text = f"The servers of cluster {cluster!r} differ in {name}: {by_servers(values)}."
            found.append(DRIFT.finding(Subject(cluster=snapshot.cluster), Severity.WARNING, text, {name: values}))
    return found


def _settings(facts: Facts, server: str) -> Mapping[str, str]:
    """What a server is set to, as text; what it leaves out is not set."""
    varz = facts.answers[server]
    cluster = facts.part(server, varz, "cluster")
    jetstream = facts.part(server, facts.part(server, varz, "jetstream"), "config")
    pool: JsonObject = {"pool_size": cluster.get("pool_size")}
    scopes: tuple[tuple[str, JsonObject, tuple[str, ...]], ...] = (
        ("", varz, SETTINGS),
        ("cluster.", pool, ("pool_size",)),
        ("jetstream.", jetstream, JETSTREAM_SETTINGS),
    )
    # A server without JetStream, or of another version, has no such fields at all; that is told elsewhere.
    return {
        prefix + name: _text(raw[name])
        for prefix, raw, wanted in scopes
        for name in wanted
        if raw.get(name) is not None and raw[name] is not False
    }


def _text(value: Json) -> str:
    try:
        return canonical_json(value)[:80]
    except ValueError:
        return repr(value)[:80]


def clocks_agree(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """The servers' clocks agree with each other, and with ours. The way of an answer only makes a clock look late, so the best sample counts."""
    limit = thresholds["clock_skew"]
    facts = read(snapshot, Endpoint.VARZ)
    if snapshot.via not in OWN_CLOCK:
        return []
    offsets: dict[str, float] = {}
    for sample in snapshot.samples:
        now = facts.moment(sample.server, sample.data, "now") if sample.data is not None else None
        if now is not None:
            offset = (now - sample.taken_at).total_seconds()
            offsets[sample.server] = max(offset, offsets.get(sample.server, offset))
    middle = median(offsets.values()) if offsets else 0.0
    found: list[Finding] = []
    for server, offset in sorted(offsets.items()):
        if len(offsets) > 2 and abs(offset - middle) > limit:
            way = "ahead of" if offset > middle else "behind"
            text = f"The clock of server {server} is {abs(offset - middle):.1f} s {way} the other servers' clocks."
            found.append(
                CLOCKS.finding(on(snapshot, server), Severity.WARNING, text, {"offset": offset, "median": middle})
            )
    if abs(middle) > limit:
        way = "ahead of" if middle > 0 else "behind"
        text = f"The servers' clocks are {abs(middle):.1f} s {way} natsmedic's own."
        found.append(CLOCKS.finding(Subject(cluster=snapshot.cluster), Severity.WARNING, text, {"offsets": offsets}))
    for server in facts.answers.keys() - offsets.keys():
        facts.complain(server, "no time now")
    return CLOCKS.result(snapshot, found, [facts], f"The clocks of {len(offsets)} servers agree within {limit:g} s.")
