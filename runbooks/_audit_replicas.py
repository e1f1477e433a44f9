"""The audit of replica counts, and the offer to change them. Pure functions of snapshot and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.actions._command_line import command
from bot.actions.stream_scaling import Scaling, Times, compose_scaling
from bot.errors import Refused
from bot.model import Endpoint, Finding, Focus, Layer, Severity, Snapshot, StreamKey, Subject
from bot.model.kubernetes.nack import kept_streams
from bot.runbook import Draft, Proposed, Threshold, Thresholds, Unit
from runbooks._audit_views import Audit, Facts, by_servers, config_of, few, read
from runbooks._nack import scaled
from runbooks._stream_glance import StreamGlance, glance_at_streams

REPLICAS = Audit("AUDIT_REPLICAS", Layer.CLIENTS)
"""In the last layer: how many replicas people chose explains nothing by itself, and must not hide what is wrong now."""

AT_TWO, SCALED, YOUNG = "scale_settle_two", "scale_settle", "scale_young"

TIMES = (
    Threshold(
        AT_TWO,
        Times().at_two,
        Unit.SECONDS,
        "How long a stream and its consumers must have been current at two replicas before the third comes; two survive no lost server.",
    ),
    Threshold(
        SCALED,
        Times().elsewhere,
        Unit.SECONDS,
        "How long they must have been current with any other number before the change counts as done.",
    ),
    Threshold(YOUNG, Times().young, Unit.SECONDS, "How long every server must have been up before replicas change."),
)

MOST_OFFERS = 5
"""Proposals of one diagnosis; there is one for each account and number of replicas."""

MOST_REASONS = 10
"""Reasons that one proposal gives for streams that it leaves out."""


def replica_counts_help(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """In a cluster every stream has an odd number of replicas above 1: one replica dies with its server, an even number survives no more than one less."""
    facts = read(snapshot, Endpoint.JSZ).running()
    single: list[str] = []
    even: dict[str, str] = {}
    streams = glance_at_streams(snapshot, facts)
    for key, views in streams.unreadable:
        for server, view in views.items():
            if view.declared.complaint:
                facts.number(server, config_of(facts, server, key, view), "num_replicas", 1)
    for key, count in _counted(streams, facts).items():
        if count == 1:
            single.append(str(key))
        elif count % 2 == 0:
            even[str(key)] = f"R{count}"
    where = Subject(cluster=snapshot.cluster)
    found: list[Finding] = []
    if single:
        text = f"{len(single)} streams have one replica and are away (or lost) with its server: {few(single)}."
        found.append(REPLICAS.finding(where, Severity.WARNING, text, {"streams": single[:100], "count": len(single)}))
    if even:
        text = f"{len(even)} streams have an even number of replicas, which survives no more lost servers than one less: {by_servers(even)}."
        found.append(REPLICAS.finding(where, Severity.WARNING, text, {"streams": list(even)[:100], "count": len(even)}))
    return REPLICAS.result(
        snapshot, found, [facts], "Every stream has an odd number of replicas above 1, or there is one server."
    )


def replica_offers(snapshot: Snapshot, thresholds: Thresholds) -> list[Proposed]:
    """Return one proposal for each account and number of replicas that its streams lack, or why it can't be made now; and those for each stream that
    NACK keeps.
    """
    facts = read(snapshot, Endpoint.JSZ).running()
    wanted: dict[tuple[str, int], list[StreamKey]] = {}
    found: list[Proposed] = []
    kept = kept_streams(snapshot.kubernetes)
    times = Times(thresholds[AT_TWO], thresholds[SCALED], thresholds[YOUNG])
    for key, count in _counted(glance_at_streams(snapshot, facts), facts).items():
        if count != 1 and count % 2 != 0:
            continue
        drafts = ()
        if key.stream in kept:
            drafts = scaled(snapshot, key, count, _better(count, len(facts.answers)), _why(count), times)
        if not drafts:
            wanted.setdefault((key.account, count), []).append(key)
        else:
            where = Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream)
            found += [Proposed(where, draft) for draft in drafts]
    direct = [
        _offer(snapshot, keys, count, _better(count, len(facts.answers)), times)
        for (_, count), keys in sorted(wanted.items())[:MOST_OFFERS]
    ]
    return direct + found[: 2 * MOST_OFFERS]


def _better(count: int, servers: int) -> int:
    """The next odd number above 1 that there are servers for; one less where there are not."""
    return count + 1 if count > 1 and count < servers else max(count - 1, 3)


def _offer(snapshot: Snapshot, keys: Sequence[StreamKey], count: int, target: int, times: Times) -> Proposed:
    subject = Subject(cluster=snapshot.cluster, account=keys[0].account)
    if len(keys) == 1:
        subject = subject.model_copy(update={"stream": keys[0].stream})
    title = f"Give {_streams(keys)} {target} replicas"
    try:
        scaling = compose_scaling(snapshot, keys, target, times)
    except Refused as refused:
        by_hand = command("nats", "stream", "edit", of=[keys[0].stream], options=["--replicas", str(target)])
        guidance = (
            *(f"Not offered: {reason}" for reason in refused.reasons[:MOST_REASONS]),
            f"What they are: {command('nats', 'stream', 'report')}. Once nothing speaks against it, one at a time and after a backup: {by_hand}",
        )
        return Proposed(subject, Draft(title=f"{title}: not now", why=_why(count), guidance=guidance))
    return Proposed(subject, _draft(title, count, scaling))


def _draft(title: str, count: int, scaling: Scaling) -> Draft:
    left_out = [f"Left out is stream {key}: {' '.join(reasons)}" for key, reasons in scaling.refused.items()]
    return Draft(
        title=title,
        why=f"{_why(count)} {scaling.why}",
        stages=scaling.stages,
        cautions=scaling.cautions,
        guidance=tuple(left_out[:MOST_REASONS]),
    )


def _why(count: int) -> str:
    if count == 1:
        return "A stream with one replica is away, or lost, with its server."
    return f"{count} replicas survive no more lost servers than {count - 1}."


def _streams(keys: Sequence[StreamKey]) -> str:
    return f"stream {keys[0].stream}" if len(keys) == 1 else f"{len(keys)} streams of account {keys[0].account}"


def _counted(streams: StreamGlance, facts: Facts) -> Mapping[StreamKey, int]:
    """The number of replicas of every stream of a cluster; one server alone is none."""
    return streams.replicas if len(facts.answers) > 1 else {}
