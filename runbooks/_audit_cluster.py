"""The audit of what servers are together: meta group, gateways, leafnodes, accounts, memory, Raft groups. Pure functions of snapshot and thresholds."""

from __future__ import annotations

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, Subject
from bot.runbook import Thresholds
from runbooks._audit_views import Audit, Facts, by_servers, clusters, few, known, on, read, size, whitespace

META_OFFLINE = Audit("AUDIT_META_OFFLINE", Layer.META, "META_001")
META_LEADER = Audit("AUDIT_META_LEADER", Layer.META, "META_002")
MEMORY = Audit("AUDIT_MEMORY_OUTLIER", Layer.STORAGE, "CLUSTER_001")
GATEWAYS = Audit("AUDIT_GATEWAYS", Layer.ROUTES, "CLUSTER_002")
HA_ASSETS = Audit("AUDIT_HA_ASSETS", Layer.STORAGE, "CLUSTER_003")
CLUSTER_NAME = Audit("AUDIT_CLUSTER_NAME", Layer.ROUTES, "CLUSTER_004")
LEAF_NAME = Audit("AUDIT_LEAF_NAME", Layer.ROUTES, "LEAF_001")
ACCOUNTS = Audit("AUDIT_ACCOUNT_LIMITS", Layer.CLIENTS, "ACCOUNTS_001")

LIMITS = (
    ("client connections", "client_connections", "conn", "account_connections"),
    ("leaf connections", "leafnode_connections", "leaf", "account_connections"),
    ("subscriptions", "subscriptions", "subs", "account_subscriptions"),
)
"""What it is called, the field that counts it in ACCOUNTZ, its limit in the account's JWT, our threshold."""


def meta_members_online(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No member of a meta group is offline. Only the leader lists the members before 2.15."""
    facts = read(snapshot, Endpoint.JSZ).running()
    said: dict[str, list[str]] = {}
    listed = 0
    for server, jsz in facts.answers.items():
        for replica in facts.rows(server, facts.part(server, jsz, "meta_cluster"), "replicas"):
            listed += 1
            if facts.flag(server, replica, "offline"):
                said.setdefault(str(replica.get("name") or replica.get("peer") or "unnamed"), []).append(server)
    found: list[Finding] = []
    for member, servers in sorted(said.items()):
        text = (
            f"Member {member} of the meta group is offline, say {few(servers)}. If it is being restarted, wait until it is back; "
            "a server that is gone for good still counts for the quorum until it is removed."
        )
        found.append(
            META_OFFLINE.finding(on(snapshot, member), Severity.CRITICAL, text, {"said by": servers}, cause=True)
        )
    if not listed and _clustered(facts) and not facts.complaints:
        facts.complain("the meta leader", "no list of the meta group's members")
    return META_OFFLINE.result(snapshot, found, [facts], "No member of the meta group is offline.")


def one_meta_leader(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """All servers of a cluster name one meta leader; one reading during an election does not count against it."""
    facts, varz = read(snapshot, Endpoint.JSZ).running(), Facts(Endpoint.VARZ)
    varz.answers = read(snapshot, Endpoint.VARZ).answers
    found: list[Finding] = []
    for cluster in _clusters_of(varz, facts):
        rounds = [_leaders(snapshot, facts, cluster, n) for n in range(snapshot.rounds)]
        now = rounds[-1] if rounds else {}
        if not now or _agree(now):
            continue
        lasts = all(seen and not _agree(seen) for seen in rounds)
        text = f"The servers do not agree on one meta leader: {by_servers(now)}"
        text += (
            "; seen in every reading." if lasts else "; seen in the last reading only: an election takes seconds, wait."
        )
        level = Severity.CRITICAL if lasts else Severity.WARNING
        where = Subject(cluster=snapshot.cluster)
        # Never a cause: a broken mesh, a lost quorum or a dead server is, and a check of their own names it.
        found.append(META_LEADER.finding(where, level, text, {"leaders": now}))
    return META_LEADER.result(snapshot, found, [facts], "All servers name the same meta leader.")


def _clusters_of(varz: Facts, facts: Facts) -> list[list[str]]:
    """The servers by cluster; those whose VARZ is not known are one more cluster."""
    groups = list(clusters(varz).values())
    placed = {s for servers in groups for s in servers}
    return [*groups, sorted(facts.answers.keys() - placed)]


def _leaders(snapshot: Snapshot, facts: Facts, servers: list[str], at: int) -> dict[str, str]:
    """Whom each clustered server named in a round, empty for nobody."""
    found: dict[str, str] = {}
    for server in servers:
        answer = snapshot.data(server, Endpoint.JSZ, at)
        if server in facts.answers and answer is not None and answer.get("meta_cluster") is not None:
            leader = facts.text(server, facts.part(server, answer, "meta_cluster"), "leader", "")
            if leader is not None:
                found[server] = leader
    return found


def _agree(leaders: dict[str, str]) -> bool:
    return len(set(leaders.values())) == 1 and "" not in leaders.values()


def _clustered(facts: Facts) -> bool:
    return any(isinstance(jsz.get("meta_cluster"), dict) for jsz in facts.answers.values()) and len(facts.answers) > 1


def memory_is_even(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No server uses much more memory than the mean of its cluster."""
    facts, factor = read(snapshot, Endpoint.VARZ), thresholds["memory_outlier"]
    found: list[Finding] = []
    for cluster, servers in clusters(facts).items():
        read_now = {s: facts.number(s, facts.answers[s], "mem") for s in servers}
        memory = {s: used for s, used in read_now.items() if used is not None}
        mean = sum(memory.values()) / len(memory) if memory else 0.0
        for server, used in memory.items():
            if used > mean * factor:
                text = f"Server {server} uses {size(used)} of memory, the mean of cluster {cluster!r} is {size(mean)} (more than {factor:g} times)."
                found.append(
                    MEMORY.finding(on(snapshot, server), Severity.WARNING, text, {"memory": memory, "mean": mean})
                )
    return MEMORY.result(
        snapshot, found, [facts], f"No server uses more than {factor:g} times the mean memory of its cluster."
    )


def gateways_are_uniform(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """All servers of a cluster have the same gateways configured. A server whose VARZ names no gateway has none."""
    varz = read(snapshot, Endpoint.VARZ)
    without = {s for s, raw in varz.answers.items() if not varz.part(s, raw, "gateway").get("name")}
    facts = read(snapshot, Endpoint.GATEWAYZ, known(snapshot) - without)
    sets = {s: _gateways(facts, s) for s in (*sorted(without), *facts.answers)}
    found: list[Finding] = []
    for cluster, servers in clusters(varz).items():
        for index, direction in enumerate(("outbound", "inbound")):
            seen = {s: few(sets[s][index], most=20) for s in servers if s in sets}
            if len(set(seen.values())) > 1:
                text = f"The servers of cluster {cluster!r} have different {direction} gateways configured: {by_servers(seen)}."
                where = Subject(cluster=snapshot.cluster)
                found.append(GATEWAYS.finding(where, Severity.CRITICAL, text, {"configured": seen}))
    healthy = "No server has a gateway." if not facts.answers else "All servers have the same gateways configured."
    return GATEWAYS.result(snapshot, found, [facts, varz], healthy)


def _gateways(facts: Facts, server: str) -> tuple[list[str], list[str]]:
    """The configured outbound and inbound gateways of a server."""
    raw: JsonObject = facts.answers.get(server, {})
    out, into = facts.part(server, raw, "outbound_gateways"), facts.part(server, raw, "inbound_gateways")
    outbound = [name for name in sorted(out) if facts.flag(server, facts.part(server, out, name), "configured")]
    inbound = [
        name
        for name in sorted(into)
        if any(facts.flag(server, row, "configured") for row in facts.rows(server, into, name))
    ]
    return outbound, inbound


def few_ha_assets(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """A server carries no more Raft groups than it can keep a heartbeat with."""
    facts, limit = read(snapshot, Endpoint.JSZ).running(), thresholds["ha_assets"]
    found: list[Finding] = []
    for server, jsz in facts.answers.items():
        count = facts.number(server, jsz, "ha_assets", 0)
        if count is not None and count > limit:
            text = f"Server {server} runs {count} Raft groups, more than {limit:,.0f}."
            found.append(HA_ASSETS.finding(on(snapshot, server), Severity.WARNING, text, {"ha_assets": count}))
    return HA_ASSETS.result(snapshot, found, [facts], f"No server runs more than {limit:,.0f} Raft groups.")


def cluster_names_are_plain(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """A cluster's name is part of subjects, so it holds no blank."""
    facts = read(snapshot, Endpoint.VARZ)
    found = [
        CLUSTER_NAME.finding(
            Subject(cluster=snapshot.cluster),
            Severity.CRITICAL,
            f"The name of cluster {name!r} has a blank in it ({few(servers)}).",
        )
        for name, servers in clusters(facts).items()
        if whitespace(name)
    ]
    return CLUSTER_NAME.result(snapshot, found, [facts], "No cluster has a blank in its name.")


def leaf_names_are_plain(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No leafnode has a blank in its name. A server whose VARZ counts no leafnode needs no LEAFZ."""
    varz = read(snapshot, Endpoint.VARZ)
    without = {s for s, raw in varz.answers.items() if varz.number(s, raw, "leafnodes", 0) == 0}
    facts = read(snapshot, Endpoint.LEAFZ, known(snapshot) - without)
    found: list[Finding] = []
    seen = 0
    for server, leafz in facts.answers.items():
        for leaf in facts.rows(server, leafz, "leafs"):
            seen += 1
            name = facts.text(server, leaf, "name", "")
            if name is not None and whitespace(name):
                text = f"A leafnode of server {server} has a blank in its name: {name!r}."
                found.append(LEAF_NAME.finding(on(snapshot, server), Severity.CRITICAL, text))
    return LEAF_NAME.result(snapshot, found, [facts, varz], f"None of {seen} leafnodes has a blank in its name.")


def accounts_below_limits(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """No account comes near the limits of its JWT. Without a trusted operator there are no JWTs and so no such limits."""
    varz = read(snapshot, Endpoint.VARZ)
    without = {s for s, raw in varz.answers.items() if not _operator(raw)}
    facts = read(snapshot, Endpoint.ACCOUNTZ, known(snapshot) - without)
    found: list[Finding] = []
    for server, accountz in facts.answers.items():
        details = facts.rows(server, accountz, "account_details")
        if "account_detail" in accountz:
            details.append(facts.part(server, accountz, "account_detail"))
        if not details:
            facts.complain(server, "no account_details, so the limits of the accounts are not known")
        for detail in details:
            found += _account(snapshot, thresholds, facts, server, detail)
    healthy = (
        "Accounts have no limits of their own here."
        if not facts.answers
        else "No account comes near a limit of its JWT."
    )
    return ACCOUNTS.result(snapshot, found, [facts, varz], healthy)


def _operator(varz: JsonObject) -> bool:
    return bool(varz.get("trusted_operators_jwt") or varz.get("trusted_operators_claim"))


def _account(
    snapshot: Snapshot, thresholds: Thresholds, facts: Facts, server: str, detail: JsonObject
) -> list[Finding]:
    claim = facts.part(server, facts.part(server, facts.part(server, detail, "decoded_jwt"), "nats"), "limits")
    name = str(detail.get("name_tag") or detail.get("account_name") or "")
    found: list[Finding] = []
    for what, used_key, limit_key, threshold in LIMITS:
        used, limit = facts.number(server, detail, used_key, 0), facts.number(server, claim, limit_key, 0)
        if used is None or limit is None or limit <= 0 or used <= int(limit * thresholds[threshold]):
            continue
        text = f"Account {name} has {used} of {limit} {what} on server {server} ({used * 100 / limit:.1f} %)."
        where = Subject(cluster=snapshot.cluster, account=name, server=server)
        level = Severity.CRITICAL if used > limit else Severity.WARNING
        found.append(ACCOUNTS.finding(where, level, text, {"used": used, "limit": limit}))
    return found
