"""What can be done about each kind of audit finding: exact commands for people, and changes of replicas that natsmedic makes itself. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.actions._command_line import end_of_options
from bot.model import Finding, Focus, Severity, Snapshot, Subject
from bot.runbook import Draft, Proposed, Thresholds
from runbooks._audit_cluster import (
    ACCOUNTS,
    CLUSTER_NAME,
    GATEWAYS,
    HA_ASSETS,
    LEAF_NAME,
    MEMORY,
    META_LEADER,
    META_OFFLINE,
)
from runbooks._audit_connections import connection_offers
from runbooks._audit_metadata import CONSUMER_WATCH, STREAM_WATCH
from runbooks._audit_replicas import REPLICAS, replica_offers
from runbooks._audit_servers import (
    ANSWERS,
    API,
    AUTH,
    CONNECTIONS,
    CPU,
    DOMAIN,
    HEALTH,
    MEMORY_LIMIT,
    RESOURCES,
    SLOW,
    TLS,
)
from runbooks._audit_streams import LAG, STREAM_LIMITS, SUBJECTS
from runbooks._audit_versions import CLOCKS, DEFECTS, DRIFT, MIX, VERSIONS


@dataclass(frozen=True, slots=True)
class Guide:
    """A title, and lines in which `{server}`, `{account}`, `{stream}` and `{consumer}` stand for the finding's names, quoted for a shell; `{end}` comes before
    the names that a command ends in.
    """

    title: str
    lines: tuple[str, ...]


_ONE_BY_ONE = "One server at a time; each must be healthy (`nats server report health`) before the next."

GUIDES: Mapping[str, Guide] = {
    ANSWERS.code: Guide(
        "Bring the silent server back",
        (
            "See who answers: nats server list",
            "On the machine of {server}: does the process run, does its log end in an error, is its disk full, do the other servers reach its ports?",
            "Do not take another server down meanwhile: every group on it has one member less.",
        ),
    ),
    VERSIONS.code: Guide(
        "Run one version on all servers",
        ("See the versions: nats server list", "Upgrade the older servers to the newest version in use.", _ONE_BY_ONE),
    ),
    CLOCKS.code: Guide(
        "Set the clocks right",
        (
            "On the machine of {server}: chronyc tracking (or: timedatectl timesync-status); start the time service where it does not run.",
            "Until then the times of messages, max_age, duplicate windows and certificates are judged wrongly there.",
        ),
    ),
    META_OFFLINE.code: Guide(
        "Bring the missing member of the meta group back",
        (
            "See the group: nats server report jetstream",
            "Start {server} again. Only if it is gone for good, and the others have quorum: nats server cluster peer-remove {end}{server}",
            "A removed server's own replicas are lost: first see that no stream has its only replica there.",
        ),
    ),
    META_LEADER.code: Guide(
        "Give the meta group one leader",
        (
            "See whom each server names: nats server report jetstream",
            "Check the routes between the servers first: nats server report routes",
            "With quorum, a new election: nats server cluster step-down",
        ),
    ),
    HEALTH.code: Guide(
        "See why the server says it is not healthy",
        (
            "All complaints of all servers: nats server report health",
            "Groups that catch up need time; look again in a minute before anything is restarted.",
        ),
    ),
    MIX.code: Guide(
        "Run JetStream where it belongs",
        (
            "See where it runs: nats server report jetstream",
            "Where a server switched it off itself, its log says why (`out of resources`, `permission denied`): make room, then restart that one server.",
            "Where it was never configured: add the jetstream block to its nats.conf, or keep the server out of this cluster.",
        ),
    ),
    API.code: Guide(
        "Find who overloads the JetStream API",
        (
            "Requests and errors by server: nats server report jetstream",
            "Who asks for what: nats server watch js",
            "Usual causes are loops that list or create consumers; stop those before servers are restarted.",
        ),
    ),
    GATEWAYS.code: Guide(
        "Configure the same gateways on all servers",
        (
            "See them: nats server report gateways",
            "Make the gateway block of every server's nats.conf the same, then restart them.",
            _ONE_BY_ONE,
        ),
    ),
    CLUSTER_NAME.code: Guide(
        "Name the cluster without blanks",
        ("Set cluster.name without blanks in every server's nats.conf, and restart them.", _ONE_BY_ONE),
    ),
    LEAF_NAME.code: Guide(
        "Name the leafnode without blanks",
        ("See them: nats server report leafnodes", "Set server_name without blanks on the leafnode, and restart it."),
    ),
    DRIFT.code: Guide(
        "Run all servers with one configuration",
        (
            "See what a server runs with: nats server info {end}{server}",
            "Compare the files, then reload those that differ: nats server config reload <server id>",
            "Not every setting is reloadable; the log says `config reload not supported for` where a restart is needed.",
        ),
    ),
    CPU.code: Guide(
        "Take load off the server, or give it CPU",
        (
            "See all servers: nats server report cpu",
            "See which connections work it: nats server report connections",
            "Move leaders away: nats stream cluster step-down <stream>, or all at once: nats stream cluster balance",
            "Where a container limits it, raise the CPU limit, or set GOMAXPROCS to it.",
        ),
    ),
    MEMORY.code: Guide(
        "See why one server needs more memory",
        (
            "See all servers: nats server report mem",
            "Connections and slow ones among them: nats server report connections",
            "Leaders and streams per server: nats server report jetstream",
        ),
    ),
    MEMORY_LIMIT.code: Guide(
        "Give the server memory",
        (
            "See all servers: nats server report mem",
            "Raise the memory limit and GOMEMLIMIT (about 80 % of it), or move streams in memory and clients away from {server}.",
        ),
    ),
    RESOURCES.code: Guide(
        "Make room for JetStream",
        (
            "See what uses it: nats server report jetstream; nats stream report",
            "Bound streams that have no limit: nats stream edit <stream> --max-bytes <size> (or --max-age <time>); the oldest messages go then.",
            "Or raise jetstream.max_file_store (max_memory_store) in nats.conf and reload: nats server config reload <server id>",
        ),
    ),
    DOMAIN.code: Guide(
        "Name the JetStream domain without blanks",
        ("Set jetstream.domain without blanks in nats.conf of every server, and restart them.", _ONE_BY_ONE),
    ),
    HA_ASSETS.code: Guide(
        "Run fewer Raft groups",
        (
            "See how many each server has: nats server report jetstream",
            "Consumers in the group of a stream with 3 replicas cost one each: nats consumer report <stream>; delete what nobody uses.",
            "Give consumers that need no safety one replica, let idle ones go (inactive_threshold), or add servers.",
        ),
    ),
    LAG.code: Guide(
        "Let the replica catch up",
        (
            "See its state: nats stream info {end}{stream}",
            "If the lag does not shrink: disk and network of {server}, then restart {server} alone, or move the leader: nats stream cluster step-down {end}{stream}",
        ),
    ),
    SUBJECTS.code: Guide(
        "Hold fewer subjects in one stream",
        (
            "See them: nats stream subjects {end}{stream}",
            "Let messages age (nats stream edit --max-age <time> {end}{stream}), or spread the subjects over several streams.",
        ),
    ),
    STREAM_LIMITS.code: Guide(
        "Give the stream room",
        (
            "See its use: nats stream info {end}{stream}",
            "Raise what is short: nats stream edit --max-msgs <n> --max-bytes <size> {end}{stream} (max_consumers can't be changed).",
            "Consumers that nobody uses: nats consumer report {end}{stream}",
        ),
    ),
    STREAM_WATCH.code: Guide(
        "Bring the stream to what its owner asked for",
        (
            "Its state and its metadata: nats stream info {end}{stream}",
            "The same check alone: nats server check stream --stream={stream}",
        ),
    ),
    CONSUMER_WATCH.code: Guide(
        "Bring the consumer to what its owner asked for",
        (
            "Its state and its metadata: nats consumer info {end}{stream} {consumer}",
            "The same check alone: nats server check consumer --stream={stream} --consumer={consumer}",
        ),
    ),
    SLOW.code: Guide(
        "Find the slow clients",
        (
            "Pending bytes by connection: nats server report connections",
            "The log of {server} names each (`Slow Consumer Detected`). Spread its work over a queue group, or raise its reading speed; write_deadline only hides it.",
        ),
    ),
    CONNECTIONS.code: Guide(
        "Make room for connections",
        (
            "See who holds them: nats server report accounts; nats server report connections",
            "Spread them: nats server cluster balance 2m",
            "Or raise max_connections and the limit of open files above it.",
        ),
    ),
    ACCOUNTS.code: Guide(
        "Raise the account's limits, or use less",
        (
            "See its use: nats server report accounts",
            "Raise them: nsc edit account --name={account} --conns <n> --leaf-conns <n> --subscriptions <n>, then: nsc push --account={account}",
        ),
    ),
    TLS.code: Guide(
        "Renew the certificate",
        (
            "See which listener: nats server info {end}{server}",
            "Put the new certificate in place and reload: nats server config reload <server id>",
        ),
    ),
    AUTH.code: Guide(
        "Require authentication",
        (
            "Add accounts or an authorization block to nats.conf of {server}, without a no_auth_user, and reload: nats server config reload <server id>",
            "Give clients their credentials first: those without are refused from then on.",
        ),
    ),
    DEFECTS.code: Guide(
        "Upgrade nats-server",
        (
            "See the versions: nats server list",
            "Take the newest version of your line, or of the next one; from 2.10, first read the notes of 2.11 on the way back.",
            _ONE_BY_ONE,
        ),
    ),
}


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:  # noqa: ARG001 - the contract's parameters
    """Return what helps against each kind of finding: causes first, then by layer, the worst first."""
    sick = [f for f in findings if f.severity in {Severity.CRITICAL, Severity.WARNING}]
    kinds: dict[str, list[Finding]] = {}
    for finding in sorted(sick, key=lambda f: (not f.cause, f.layer, -f.severity.rank)):
        if finding.check in GUIDES or finding.check == REPLICAS.code:
            kinds.setdefault(finding.check, []).append(finding)
    return [one for code, found in kinds.items() for one in _offers(snapshot, code, found, thresholds)]


def _offers(snapshot: Snapshot, code: str, found: Sequence[Finding], thresholds: Thresholds) -> list[Proposed]:
    if code == REPLICAS.code:
        return replica_offers(snapshot, thresholds)
    offered = _proposed(snapshot, GUIDES[code], found)
    if code != CONNECTIONS.code:
        return [offered]
    return [Proposed(offered.subject, draft) for draft in connection_offers(snapshot, found, offered.draft)]


def _proposed(snapshot: Snapshot, guide: Guide, found: Sequence[Finding]) -> Proposed:
    subject = found[0].subject
    words = {
        name: shlex.quote(value) if value else f"<{name}>"
        for name, value in (
            ("server", subject.server),
            ("account", subject.account),
            ("stream", subject.stream),
            ("consumer", subject.consumer),
        )
    }
    words["end"] = end_of_options(subject.server, subject.stream, subject.consumer)
    why = found[0].sentence + (f" {len(found) - 1} more findings of this kind." if len(found) > 1 else "")
    where = subject if len(found) == 1 else Subject(cluster=snapshot.cluster)
    return Proposed(
        where, Draft(title=guide.title, why=why, guidance=tuple(line.format(**words) for line in guide.lines))
    )
