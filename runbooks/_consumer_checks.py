"""The checks of the stuck-consumer runbook, from the lowest layer up. Pure functions of snapshot and thresholds."""

from __future__ import annotations

from bot.model import ConsumerKey, Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, Subject
from bot.model.groups import Standing, ha_assets, latest, meta_standing, unreadable_configs
from bot.model.snapshot import names
from bot.model.versions import version
from bot.runbook import Thresholds
from runbooks._audit_views import Facts, few, known
from runbooks._consumer_views import (
    ISSUE_6838,
    Missing,
    consumer_standing,
    count,
    doubtful_consumers,
    how_long,
    lacks_6851,
    leader_state,
    listed,
    missing_nodes,
    or_ok,
    persistent,
    severity,
    silent_servers,
    speaks_against,
    stream_standing,
    subject,
)


def servers_answer(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """A dead or frozen server is the cause of what follows on the groups it belongs to."""
    check, layer = "SERVER_ANSWERS", Layer.REACHABILITY
    found = [
        Finding(
            check=check,
            layer=layer,
            subject=Subject(cluster=snapshot.cluster, server=server),
            severity=Severity.CRITICAL if speaks_against(snapshot, server) else Severity.UNKNOWN,
            sentence=f"Server {server} did not tell what it holds ({why})."
            + (" If it is being restarted, wait until it is back." if speaks_against(snapshot, server) else ""),
            evidence={"expected": sorted(snapshot.expected), "why": why},
            cause=speaks_against(snapshot, server),
        )
        for server, why in silent_servers(snapshot).items()
    ]
    found += [
        Finding(
            check=check,
            layer=layer,
            subject=Subject(cluster=snapshot.cluster),
            severity=Severity.UNKNOWN,
            sentence=f"A fact about the whole cluster could not be read ({unknown.reason.value}: {unknown.detail}).",
        )
        for unknown in snapshot.unknown
    ]
    versions = listed({s.version for s in snapshot.servers})
    return or_ok(snapshot, check, layer, found, f"{len(snapshot.servers)} servers answered, version {versions}.")


def meta_agrees(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """Without a meta leader nothing can be created or deleted."""
    meta, complaints = meta_standing(snapshot), _meta_complaints(snapshot)
    problem = f"The meta group has {meta.problem}." if meta.problem else ""
    if not problem and not meta.quorum:
        problem = f"The meta group has no quorum: {meta.counted}."
    told = any(speaks_against(snapshot, s) for s in snapshot.expected) or meta.voters
    if complaints:
        told, problem = False, f"{problem} Could not be read: {few(complaints)}.".strip()
    found = [
        Finding(
            check="META_QUORUM",
            layer=Layer.META,
            subject=Subject(cluster=snapshot.cluster),
            severity=Severity.CRITICAL if told else Severity.UNKNOWN,
            sentence=problem,
            cause=True,
        )
    ]
    return or_ok(
        snapshot, "META_QUORUM", Layer.META, found if problem else [], f"Meta leader is {meta.leader}, {meta.counted}."
    )


def _meta_complaints(snapshot: Snapshot) -> list[str]:
    """What the servers that answered say of the meta group in another way than servers do."""
    facts = Facts(Endpoint.JSZ)
    for server in sorted(known(snapshot)):
        meta = facts.part(server, latest(snapshot, server, Endpoint.JSZ) or {}, "meta_cluster")
        facts.text(server, meta, "leader", "")
        facts.number(server, meta, "cluster_size", 0)
        for peer in facts.rows(server, meta, "replicas"):
            facts.text(server, peer, "name", "")
            facts.number(server, peer, "active", 0)
            facts.flag(server, peer, "current")
            facts.flag(server, peer, "offline")
    return list(dict.fromkeys(facts.complaints))


def room_for_groups(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """A server at its max_ha_assets refuses Raft groups, and nothing but its log says so (reference/drills.md 3.3)."""
    sick = _servers_with_missing_nodes(snapshot)
    found: list[Finding] = []
    for server in sorted(names(snapshot.servers)):
        assets, lacking = ha_assets(snapshot, server), listed(str(k) for k in sick.get(server, ()))
        where = Subject(cluster=snapshot.cluster, server=server)
        evidence = {"ha_assets": assets.count, "max_ha_assets": assets.limit, "lacking": lacking}
        if assets.refuses(1):
            sentence = f"Server {server} runs {assets.count} Raft groups and its max_ha_assets is {assets.limit}: it refuses every further one"
            sentence += f", so it has none for {lacking}." if lacking else "."
            level = Severity.CRITICAL if lacking else Severity.WARNING
            found.append(_finding("HA_ASSETS", Layer.STORAGE, where, level, sentence, evidence, cause=bool(lacking)))
        elif lacking and assets.limit is None:
            sentence = (
                f"Server {server} ({version(snapshot, server)}) does not report its max_ha_assets; it runs {assets.count} Raft groups and has none for "
                f"{lacking}. If its log says *Maximum HA Assets limit reached*, that is the cause."
            )
            found.append(_finding("HA_ASSETS", Layer.STORAGE, where, Severity.UNKNOWN, sentence, evidence, cause=True))
    return or_ok(snapshot, "HA_ASSETS", Layer.STORAGE, found, "No server is known to be at its limit of Raft groups.")


def consumer_exists(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001
    """What the alert names is there at all."""
    asked = count(snapshot, focus)
    silent = silent_servers(snapshot)
    if focus.consumer is None or asked:
        return or_ok(snapshot, "CONSUMER_EXISTS", Layer.CONSUMERS, [], f"{asked} consumers are reported.")
    named = " > ".join(filter(None, (focus.account, focus.stream, focus.consumer)))
    level = Severity.UNKNOWN if silent or not snapshot.servers else Severity.CRITICAL
    text = f"No server that answered reports consumer {named}" + (
        f"; {listed(silent)} did not tell." if silent else "."
    )
    where = Subject(cluster=snapshot.cluster, account=focus.account, stream=focus.stream, consumer=focus.consumer)
    return [_finding("CONSUMER_EXISTS", Layer.CONSUMERS, where, level, text)]


def consumers_have_leader(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """A consumer's group: one leader that a majority names, and quorum."""
    found: list[Finding] = []
    asked = count(snapshot, focus)
    for key in doubtful_consumers(snapshot, focus):
        problem, always = persistent(snapshot, lambda n, key=key: _leaderless(snapshot, key, n))
        if problem:
            level, sentence = problem
            level = level if level is Severity.UNKNOWN else severity(snapshot, thresholds, always=always)
            text = f"Consumer {key} {sentence}; {how_long(snapshot, always=always)}."
            found.append(_finding("CONSUMER_LEADER", Layer.CONSUMERS, subject(snapshot, key), level, text))
    return or_ok(
        snapshot,
        "CONSUMER_LEADER",
        Layer.CONSUMERS,
        found,
        f"{asked} consumers have a leader that a majority names.",
    )


def raft_nodes_exist(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """Every member runs a Raft node for the consumer (*group node missing*, told from views and RAFTZ, not from one string)."""
    found: list[Finding] = []
    asked = count(snapshot, focus)
    for key in doubtful_consumers(snapshot, focus):
        rounds = [missing_nodes(snapshot, key, n) for n in range(snapshot.rounds)]
        for server, missing in sorted(rounds[-1].items() if rounds else ()):
            always = all(server in seen for seen in rounds)
            text = f"{_missing_sentence(snapshot, key, missing)}; {how_long(snapshot, always=always)}."
            level = severity(snapshot, thresholds, always=always)
            limited = ha_assets(snapshot, server).refuses(1)
            issue = ISSUE_6838 if lacks_6851(version(snapshot, server)) and not limited else None
            where = subject(snapshot, key, server)
            found.append(_finding("CONSUMER_NODE", Layer.CONSUMERS, where, level, text, missing.evidence, issue=issue))
    return or_ok(
        snapshot,
        "CONSUMER_NODE",
        Layer.CONSUMERS,
        found,
        f"No member of {asked} consumers is known to lack its Raft node.",
    )


def one_leader(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """No second server takes itself for the leader and answers clients from its own position."""
    found: list[Finding] = []
    asked = count(snapshot, focus)
    for key in doubtful_consumers(snapshot, focus):
        ghosts, always = persistent(snapshot, lambda n, key=key: consumer_standing(snapshot, key, n).ghosts or None)
        leader = leader_state(snapshot, key, snapshot.rounds - 1)
        if not ghosts or leader is None:
            continue
        views = snapshot.consumers(snapshot.rounds - 1)[key]
        claims = [
            f"{s} (ack floor {views[s].floor_stream_seq}, delivered {views[s].delivered_stream_seq})"
            for s in (leader.server, *sorted(ghosts))
        ]
        text = (
            f"Consumer {key} has {len(claims)} servers that take themselves for its leader: {', '.join(claims)}; a majority names {leader.server}. "
            f"Clients get answers from either; {how_long(snapshot, always=always)}."
        )
        level = severity(snapshot, thresholds, always=always)
        issue = (
            ISSUE_6838
            if any(lacks_6851(version(snapshot, s)) and not ha_assets(snapshot, s).refuses(1) for s in ghosts)
            else None
        )
        found.append(_finding("CONSUMER_SPLIT", Layer.CONSUMERS, subject(snapshot, key), level, text, issue=issue))
    return or_ok(snapshot, "CONSUMER_SPLIT", Layer.CONSUMERS, found, f"{asked} consumers have no second leader.")


def members_match(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """A consumer lives on its stream's members, as many as its configuration asks for."""
    found: list[Finding] = []
    odd: list[str] = []
    asked = count(snapshot, focus)
    for key in doubtful_consumers(snapshot, focus):
        odd += _unreadable(snapshot, key)
        problem, always = persistent(snapshot, lambda n, key=key: _misplaced(snapshot, key, n))
        if problem:
            level = severity(snapshot, thresholds, always=always)
            text = f"Consumer {key} {problem}; {how_long(snapshot, always=always)}."
            found.append(_finding("CONSUMER_MEMBERS", Layer.CONSUMERS, subject(snapshot, key), level, text))
    if odd:
        text = f"How many members there must be is not known everywhere: {few(list(dict.fromkeys(odd)))}."
        where = Subject(cluster=snapshot.cluster)
        found.append(_finding("CONSUMER_MEMBERS", Layer.CONSUMERS, where, Severity.UNKNOWN, text))
    return or_ok(
        snapshot, "CONSUMER_MEMBERS", Layer.CONSUMERS, found, f"{asked} consumers live where their streams do."
    )


def _unreadable(snapshot: Snapshot, key: ConsumerKey) -> list[str]:
    """What can't be read of the configurations of a consumer and its stream."""
    last = snapshot.rounds - 1
    consumers, streams = snapshot.consumers(last).get(key) or {}, snapshot.streams(last).get(key.stream_key) or {}
    told = ((key, unreadable_configs(consumers)), (key.stream_key, unreadable_configs(streams)))
    return [f"{name} {problem}" for name, problems in told for problem in problems]


def group_problem(snapshot: Snapshot, group: Standing) -> tuple[Severity, str] | None:
    """What is wrong with a group; unknown where the servers that could settle it may not be asked."""
    if group.leader is None:
        asked = all(speaks_against(snapshot, s) for s in silent_servers(snapshot))
        return (Severity.CRITICAL if asked else Severity.UNKNOWN), f"has {group.problem}"
    if group.replicas > 1 and not group.quorum:
        return Severity.CRITICAL, f"has no quorum: {group.counted}"
    return None


def _leaderless(snapshot: Snapshot, key: ConsumerKey, round: int) -> tuple[Severity, str] | None:  # noqa: A002 - the field's word
    views = snapshot.consumers(round).get(key)
    return (
        group_problem(snapshot, consumer_standing(snapshot, key, round))
        if views
        else (Severity.WARNING, "is not reported by any server")
    )


def _misplaced(snapshot: Snapshot, key: ConsumerKey, round: int) -> str | None:  # noqa: A002
    stream, group = stream_standing(snapshot, key.stream_key, round), consumer_standing(snapshot, key, round)
    if stream.leader is None or group.leader is None:
        return None
    if strangers := group.members - stream.members:
        return f"has members that its stream has not: {listed(strangers)} (stream: {listed(stream.members)})"
    if len(group.members) != group.replicas:
        return (
            f"has {len(group.members)} members ({listed(group.members)}), its configuration asks for {group.replicas}"
        )
    return None


def _missing_sentence(snapshot: Snapshot, key: ConsumerKey, missing: Missing) -> str:
    server, assets = missing.server, ha_assets(snapshot, missing.server)
    text = f"Server {server} has no Raft node for consumer {key} (group node missing)"
    if missing.ghost:
        text += " and serves it alone, as its leader, from position 0"
    if assets.limit is None:
        text += (
            f"; the usual cause is its max_ha_assets, which {version(snapshot, server) or 'this server'} does not report: "
            "its log would say *Maximum HA Assets limit reached*"
        )
    return text


def _servers_with_missing_nodes(snapshot: Snapshot) -> dict[str, list[ConsumerKey]]:
    """Consumers by the server that lacks their Raft node, over all consumers: a limit hits more than the one the alert names."""
    found: dict[str, list[ConsumerKey]] = {}
    for key in doubtful_consumers(snapshot, Focus()):
        for server in missing_nodes(snapshot, key, snapshot.rounds - 1):
            found.setdefault(server, []).append(key)
    return found


def _finding(
    check: str,
    layer: Layer,
    where: Subject,
    level: Severity,
    sentence: str,
    evidence: JsonObject | None = None,
    *,
    cause: bool = False,
    issue: str | None = None,
) -> Finding:
    return Finding(
        check=check,
        layer=layer,
        subject=where,
        severity=level,
        sentence=sentence,
        evidence=evidence or {},
        cause=cause,
        issue=issue,
    )
