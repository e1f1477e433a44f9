"""The audit of single servers: answers, health, CPU, memory, storage, clients, certificates. Pure functions of snapshot and thresholds."""

from __future__ import annotations

from datetime import timedelta

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, Facts, first, known, on, read, seconds_between, size, whitespace, why_not
from runbooks._consumer_views import SILENT

ANSWERS = Audit("AUDIT_SERVERS", Layer.REACHABILITY)
HEALTH = Audit("AUDIT_HEALTH", Layer.META, "SERVER_001")
CPU = Audit("AUDIT_CPU", Layer.STORAGE, "SERVER_003")
SLOW = Audit("AUDIT_SLOW_CONSUMERS", Layer.CLIENTS, "SERVER_004")
RESOURCES = Audit("AUDIT_RESOURCES", Layer.STORAGE, "SERVER_005")
DOMAIN = Audit("AUDIT_DOMAIN_NAME", Layer.STORAGE, "SERVER_006")
AUTH = Audit("AUDIT_AUTH", Layer.CLIENTS, "SERVER_007")
TLS = Audit("AUDIT_TLS", Layer.CLIENTS, "SERVER_008")
MEMORY_LIMIT = Audit("AUDIT_MEMORY_LIMIT", Layer.STORAGE)
CONNECTIONS = Audit("AUDIT_CONNECTIONS", Layer.CLIENTS)
API = Audit("AUDIT_API", Layer.META)

LISTENERS = ("cluster", "gateway", "leaf", "mqtt", "websocket")
"""Parts of VARZ that describe a listener; each has a certificate of its own, the clients' stands at the top."""


API_SECONDS = 5.0
"""The time between two readings that the threshold for API errors is made for."""


def servers_answer(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """A server that says nothing is the cause of what its groups lack."""
    found: list[Finding] = []
    facts = Facts(Endpoint.VARZ, complaints=[f"the cluster: {u.reason.value}: {u.detail}" for u in snapshot.unknown])
    silent = {s: why_not(snapshot, s, Endpoint.VARZ) for s in sorted(known(snapshot) - _answering(snapshot))}
    for server, (reason, why) in silent.items():
        if reason in SILENT:
            text = f"Server {server} does not answer ({why}). If it is being restarted, wait until it is back."
            found.append(ANSWERS.finding(on(snapshot, server), Severity.CRITICAL, text, cause=True))
        else:
            facts.complain(server, why)
    if not known(snapshot):
        facts.complaints.append("no server is known")
    return ANSWERS.result(snapshot, found, [facts], f"All {len(known(snapshot))} servers answered.")


def _answering(snapshot: Snapshot) -> frozenset[str]:
    return frozenset(read(snapshot, Endpoint.VARZ).answers)


def servers_healthy(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """The server's own health check says ok."""
    facts = read(snapshot, Endpoint.HEALTHZ)
    found: list[Finding] = []
    for server, healthz in facts.answers.items():
        status = facts.text(server, healthz, "status")
        if status is None or status == "ok":
            continue
        errors = [str(e.get("error") or "") for e in facts.rows(server, healthz, "errors")]
        said = [text for text in (*errors, str(healthz.get("error") or "")) if text]
        more = f" and {len(said) - 1} more" if len(said) > 1 else ""
        text = f"Server {server} says it is {status}" + (f": {said[0]}{more}." if said else ".")
        text += " Groups are not current for seconds after every start and scale-up: wait, and look again."
        found.append(
            HEALTH.finding(on(snapshot, server), Severity.WARNING, text, {"status": status, "errors": said[:10]})
        )
    return HEALTH.result(snapshot, found, [facts], f"{len(facts.answers)} servers say that they are healthy.")


def cpu_is_free(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """CPU per core stays below its threshold; VARZ counts in percent of one core."""
    facts, limit = read(snapshot, Endpoint.VARZ), thresholds["cpu"] * 100
    found: list[Finding] = []
    for server, varz in facts.answers.items():
        used = _cpu(facts, server, varz)
        if used is None or used <= limit:
            continue
        earlier = first(snapshot, server, Endpoint.VARZ)
        before = _cpu(facts, server, earlier) if earlier is not None else used
        lasts = before is not None and before > limit
        text = f"Server {server} uses {used:.1f} % of each of its cores, the limit is {limit:g} %; "
        text += "seen in every reading." if lasts else f"{before or 0:.1f} % in the reading before."
        level = Severity.CRITICAL if lasts else Severity.WARNING
        found.append(CPU.finding(on(snapshot, server), level, text, {"cpu": used, "before": before}))
    return CPU.result(snapshot, found, [facts], f"No server uses more than {limit:g} % of its cores.")


def _cpu(facts: Facts, server: str, varz: JsonObject) -> float | None:
    cores, used = facts.number(server, varz, "cores"), facts.number(server, varz, "cpu")
    if cores is not None and cores <= 0:
        facts.complain(server, "no number of cores above 0")
    return used / cores if used is not None and cores is not None and cores > 0 else None


def no_slow_consumers(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No client is cut off for being too slow now: the counter's growth between two readings, its whole life where there is one."""
    facts, allowed = read(snapshot, Endpoint.VARZ), thresholds["slow_consumers"]
    found: list[Finding] = []
    for server, varz in facts.answers.items():
        total, earlier = facts.number(server, varz, "slow_consumers"), first(snapshot, server, Endpoint.VARZ)
        if total is None:
            continue
        grown = _grown(facts, server, earlier, varz, "slow_consumers")
        evidence = {"since start": total, "new": grown}
        if grown is None and earlier is None and total > allowed:
            text = f"Server {server} has counted {total} slow consumers since its start; one reading can't tell whether it still goes on."
            found.append(SLOW.finding(on(snapshot, server), Severity.WARNING, text, evidence))
        elif grown is not None and grown > allowed:
            seconds = seconds_between(snapshot, server, Endpoint.VARZ)
            rate = f", {grown * 60 / seconds:.0f} a minute" if seconds > 0 else ""
            text = f"Server {server} cut {grown} slow consumers off within {seconds:.1f} s{rate} ({total} since its start)."
            found.append(SLOW.finding(on(snapshot, server), Severity.WARNING, text, evidence))
    return SLOW.result(snapshot, found, [facts], f"{len(facts.answers)} servers cut no slow consumer off.")


def _grown(facts: Facts, server: str, earlier: JsonObject | None, now: JsonObject, key: str) -> float | None:
    """How far a counter grew; a server that was restarted in between counts from 0. None where there is one reading."""
    if earlier is None:
        return None
    was, is_now = facts.number(server, earlier, key, 0), facts.number(server, now, key, 0)
    if was is None or is_now is None:
        return None
    return is_now - was if is_now >= was else is_now


def resources_suffice(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """JetStream's use of memory and storage stays below its share of what the server may use."""
    facts = read(snapshot, Endpoint.JSZ).running()
    found: list[Finding] = []
    for server, jsz in facts.answers.items():
        config = facts.part(server, jsz, "config")
        for kind, used_key, limit_key in (("memory", "memory", "max_memory"), ("store", "storage", "max_storage")):
            used, limit = facts.number(server, jsz, used_key), facts.number(server, config, limit_key, 0)
            if used is None or limit is None or limit <= 0 or used <= int(limit * thresholds[kind]):
                continue
            text = (
                f"Server {server} uses {size(used)} of {size(limit)} JetStream {used_key} ({used * 100 / limit:.1f} %)."
            )
            evidence = {"used": used, "limit": limit}
            found.append(RESOURCES.finding(on(snapshot, server), Severity.WARNING, text, evidence, cause=used >= limit))
    return RESOURCES.result(snapshot, found, [facts], f"JetStream has room on {len(facts.answers)} servers.")


def domains_are_plain(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """A JetStream domain is part of subjects, so it holds no blank."""
    facts = read(snapshot, Endpoint.JSZ).running()
    found: list[Finding] = []
    for server, jsz in facts.answers.items():
        domain = facts.text(server, facts.part(server, jsz, "config"), "domain", "")
        if domain is not None and whitespace(domain):
            text = f"Server {server} has a JetStream domain with a blank in it: {domain!r}."
            found.append(DOMAIN.finding(on(snapshot, server), Severity.WARNING, text))
    return DOMAIN.result(snapshot, found, [facts], "No JetStream domain has a blank in its name.")


def clients_authenticate(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Nobody gets in without credentials."""
    facts = read(snapshot, Endpoint.VARZ)
    open_doors = [s for s, varz in facts.answers.items() if facts.flag(s, varz, "auth_required") is False]
    found = [
        AUTH.finding(on(snapshot, s), Severity.WARNING, f"Server {s} lets clients in without authentication.")
        for s in open_doors
    ]
    return AUTH.result(snapshot, found, [facts], f"{len(facts.answers)} servers require authentication.")


def certificates_last(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No certificate of a listener ends soon. VARZ tells when from 2.11.12 and 2.12.3 on."""
    facts = read(snapshot, Endpoint.VARZ)
    warn, critical = (timedelta(days=thresholds[name]) for name in ("tls_warning", "tls_critical"))
    found: list[Finding] = []
    seen = 0
    for server, varz in facts.answers.items():
        parts = {"clients": varz} | {name: facts.part(server, varz, name) for name in LISTENERS}
        for name, listener in parts.items():
            ends, now = facts.moment(server, listener, "tls_cert_not_after"), facts.moment(server, varz, "now")
            if ends is None:
                if listener.get("tls_required") is True and "tls_cert_not_after" not in listener:
                    facts.complain(server, f"when the certificate for {name} ends (this version does not tell)")
                continue
            seen += 1
            left = ends - (now or snapshot.taken_at)
            if left < warn:
                level = Severity.CRITICAL if left < critical else Severity.WARNING
                days = left / timedelta(days=1)
                ended = f"ended {-days:.1f} days ago" if days < 0 else f"ends in {days:.1f} days"
                text = f"The certificate of server {server} for {name} {ended} ({ends.isoformat()})."
                found.append(TLS.finding(on(snapshot, server), level, text, {"not_after": ends.isoformat()}))
    return TLS.result(snapshot, found, [facts], f"No certificate ends within {warn.days} days ({seen} seen).")


def memory_below_limit(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """The process stays below its GOMEMLIMIT, beyond which Go's garbage collector takes the CPU. VARZ has it from 2.10.28 and 2.11.2."""
    return _share(snapshot, MEMORY_LIMIT, thresholds["memory_limit"], "mem", "gomemlimit", "of its memory limit")


def connections_left(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """A server takes further clients."""
    return _share(
        snapshot, CONNECTIONS, thresholds["connections"], "connections", "max_connections", "of its connections"
    )


def _share(snapshot: Snapshot, audit: Audit, share: float, used_key: str, limit_key: str, what: str) -> list[Finding]:
    facts = read(snapshot, Endpoint.VARZ)
    found: list[Finding] = []
    for server, varz in facts.answers.items():
        used, limit = facts.number(server, varz, used_key), facts.number(server, varz, limit_key, 0)
        if used is None or limit is None or limit <= 0 or used <= int(limit * share):
            continue
        shown = f"{size(used)} of {size(limit)}" if used_key == "mem" else f"{used} of {limit}"
        text = f"Server {server} uses {shown} {what} ({used * 100 / limit:.1f} %)."
        found.append(audit.finding(on(snapshot, server), Severity.WARNING, text, {"used": used, "limit": limit}))
    return audit.result(snapshot, found, [facts], f"No server uses more than {share:.0%} {what}.")


def api_keeps_up(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """The JetStream API has no backlog and answers without many errors. An underflown `inflight` counts as 0.

    VARZ tells the same as JSZ (`jetstream.stats.api`), and reading it again costs nothing. Where there is one reading, errors are judged by how many there
    were for each such time since the server's start.
    """
    facts = read(snapshot, Endpoint.VARZ)
    found: list[Finding] = []
    for server, varz in facts.answers.items():
        api, earlier = _api(facts, server, varz), first(snapshot, server, Endpoint.VARZ)
        inflight = facts.number(server, api, "inflight", 0)
        if earlier is not None:
            failed = _grown(facts, server, _api(facts, server, earlier), api, "errors")
            seconds = seconds_between(snapshot, server, Endpoint.VARZ)
        else:
            failed, seconds = _usual(facts, server, varz, api), API_SECONDS
        evidence: JsonObject = {"inflight": inflight, "new errors": failed}
        if inflight is not None and inflight > thresholds["api_inflight"]:
            text = f"Server {server} has {inflight} JetStream API requests under way."
            found.append(API.finding(on(snapshot, server), Severity.WARNING, text, evidence))
        if failed is not None and failed > thresholds["api_errors"]:
            text = f"Server {server} answered {failed:.0f} JetStream API requests with an error within {seconds:.1f} s"
            text += "." if earlier is not None else " on average since its start."
            found.append(API.finding(on(snapshot, server), Severity.WARNING, text, evidence))
    return API.result(snapshot, found, [facts], f"The JetStream API keeps up on {len(facts.answers)} servers.")


def _api(facts: Facts, server: str, varz: JsonObject) -> JsonObject:
    """The counters of the JetStream API; empty where JetStream does not run."""
    return facts.part(server, facts.part(server, facts.part(server, varz, "jetstream"), "stats"), "api")


def _usual(facts: Facts, server: str, varz: JsonObject, api: JsonObject) -> float | None:
    """Errors within `API_SECONDS` on average since the server's start."""
    errors = facts.number(server, api, "errors", 0)
    start, now = facts.moment(server, varz, "start"), facts.moment(server, varz, "now")
    if errors is None or start is None or now is None:
        return None
    return errors * API_SECONDS / max((now - start).total_seconds(), API_SECONDS)
