"""Whether all copies of a stream are of one history, and whether every stream has a server that holds it. Pure functions of snapshot and thresholds.

When the only holder of a stream dies right after a scale-up, or many streams are scaled up at once, two empty members can elect one of themselves: the
group then serves a new, empty history while an old member, or a copy outside of the group, still holds the messages. Every health check says *ok*, and
a backup over the API returns the empty history (reference/drills.md 3.2; what rescues the messages is proven in tests/integration/test_stream_groups.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from bot.model import (
    ConsumerKey,
    Endpoint,
    Finding,
    Focus,
    JsonObject,
    Layer,
    Severity,
    Snapshot,
    StreamKey,
    StreamState,
    Subject,
)
from bot.model.groups import latest
from bot.model.snapshot import names
from bot.runbook import Thresholds
from runbooks._audit_views import MOST_FINDINGS, Audit, few, of_stream, on
from runbooks._consumer_views import how_long, listed, seen_for, severity, silent_servers, speaks_against
from runbooks._stream_checks import told
from runbooks._stream_views import Look, count, doubtful, lasting, scan, wanted

TIMELINE = Audit("STREAM_TIMELINE", Layer.STREAMS)
HOLDER = Audit("STREAM_HOLDER", Layer.STREAMS)

CLEAN_UP = 30
"""Seconds after it has read its meta log at which a server deletes copies without an assignment (server/jetstream_cluster.go, `checkForOrphans`)."""

STREAM_LIST, CONSUMER_LIST = "$JS.API.STREAM.LIST", "$JS.API.CONSUMER.LIST."

OUTSIDE, AHEAD, SILENT, GONE, LEFTOVER = "outside", "ahead", "silent", "gone", "leftover"
"""Kinds of a timeline finding, in its evidence: the messages are in a copy outside of the group, in a member that is not the leader, on a server that
is silent, nowhere, or in the group as well."""

SCALED_UP = "S-R1F-"
"""How the Raft group of a stream is named that had one replica at first; until 2.15 it keeps the name (reference/nats.md 1.E)."""


def one_history(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """No server holds messages of a stream that its Raft group has not, and no stream's last sequence goes back."""
    found: list[Finding] = []
    silent = frozenset(silent_servers(snapshot))
    for key, looks in doubtful(snapshot, focus):
        for server, (copy, always) in sorted(lasting(looks, lambda look: look.orphans).items()):
            if copy.messages:
                found.append(_outside(snapshot, thresholds, key, looks[-1], server, always=always))
        if ahead := _ahead(looks):
            found.append(_behind(snapshot, thresholds, key, looks, ahead))
        elif lost := _perhaps_on(looks[-1], silent):
            found.append(_suspected(snapshot, key, looks[-1], lost))
    if not scan(snapshot).raft_names:
        text = "JSZ was read without Raft groups, so a copy outside of its group can't be told from a member."
        found.append(TIMELINE.finding(Subject(cluster=snapshot.cluster), Severity.UNKNOWN, text))
    healthy = f"All copies of {count(snapshot, focus)} streams are of one history, and none went back."
    return TIMELINE.result(snapshot, found, [], healthy)


def holders_answer(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Every stream, and every consumer, has a server that answers. JSZ tells only what a server holds itself, so of what was on a silent one
    nothing is known but what an earlier reading or the lists of the API name.
    """
    silent = sorted(s for s in silent_servers(snapshot) if speaks_against(snapshot, s))
    found = [*_vanished(snapshot, focus, frozenset(silent)), *_listed_missing(snapshot, focus)]
    named = focus.stream is None or bool(wanted(snapshot, focus, scan(snapshot).keys))
    if not named:
        found.append(_unreported(snapshot, focus))
    elif focus.stream is None and silent:
        text = (
            f"What was on {listed(silent)} alone is unknown: no other server knows the streams and consumers by name whose only replica is there, and "
            "these are away. `missing` in the answer to $JS.API.STREAM.LIST names the streams of an account."
        )
        where = on(snapshot, silent[0]) if len(silent) == 1 else Subject(cluster=snapshot.cluster)
        found.append(HOLDER.finding(where, Severity.UNKNOWN, text, {"silent": silent}))
    return HOLDER.result(
        snapshot, found, [], f"None of {count(snapshot, focus)} streams is known to have lost the server that holds it."
    )


def started(snapshot: Snapshot, server: str) -> str:
    """One clause that says for how long the server had been up when VARZ was read, empty where that is not known."""
    varz = latest(snapshot, server, Endpoint.VARZ) or {}
    since, now = _moment(varz.get("start")), _moment(varz.get("now"))
    return f" (it started {(now - since).total_seconds():.0f} s ago)" if since and now else ""


def _outside(
    snapshot: Snapshot, thresholds: Thresholds, key: StreamKey, look: Look, server: str, *, always: bool
) -> Finding:
    copy = look.orphans[server]
    level = severity(snapshot, thresholds, always=always)
    reference = look.leader or max(look.views.values(), key=lambda view: view.last_seq, default=None)
    holds = f"Server {server} holds a copy of stream {key} ({_extent(copy)}) outside of any Raft group"
    deletes = f"{server} deletes it about {CLEAN_UP} s after its start{started(snapshot, server)}"
    kind = OUTSIDE
    if reference is None:
        text = (
            f"{holds}, and no other server knows the stream: it was made before the server joined this cluster, or deleted while the server was "
            f"away. {deletes}"
        )
    elif copy.last_seq <= reference.last_seq and _one_history(copy, reference):
        kind, level = LEFTOVER, Severity.WARNING
        text = f"{holds}; the group holds these messages too ({_extent(reference)} on {reference.server}), so nothing is lost when {deletes}"
    else:
        text = (
            f"{holds}, whose leader {reference.server} has another history ({_extent(reference)}): it may be the only copy of these messages, and "
            f"{deletes}"
        )
    if level is Severity.WARNING and kind is OUTSIDE:
        text += "; a server that still reads its meta log shows this for seconds: look again at once"
    evidence = {"kind": kind, "holder": server, "messages": copy.messages, "views": told(look)}
    where = of_stream(snapshot, key, server)
    return TIMELINE.finding(
        where, level, f"{text}; {how_long(snapshot, always=always)}.", evidence, cause=kind is OUTSIDE
    )


def _ahead(looks: Sequence[Look]) -> dict[str, StreamState]:
    """Return what members held at first and the leader lacks at last. Servers answer at slightly different times, so in one reading only a gap counts
    that no later answer explains: the leader stands before the first message that the member still holds.
    """
    leader = looks[-1].leader
    if leader is None:
        return {}
    return {
        server: view
        for server, view in looks[0].views.items()
        if view.created == leader.created
        and view.last_seq > leader.last_seq
        and (len(looks) > 1 or (view.messages and view.first_seq > leader.last_seq))
    }


def _behind(
    snapshot: Snapshot, thresholds: Thresholds, key: StreamKey, looks: Sequence[Look], ahead: dict[str, StreamState]
) -> Finding:
    last = looks[-1]
    leader = last.leader
    at = leader.last_seq if leader else 0
    level = severity(snapshot, thresholds, always=True)
    holders = sorted(s for s in ahead if s in last.views and last.views[s].last_seq > at)
    silent = sorted(silent_servers(snapshot).keys() & ahead)
    server = max(holders or silent or sorted(ahead), key=lambda s: ahead[s].last_seq)
    held = f"{server} held {_extent(ahead[server])} {seen_for(snapshot):.1f} s before"
    stands = f"Stream {key} has begun a new history: its leader {last.group.leader} stands at {at}"
    if holders:
        kind = AHEAD
        text = (
            f"{stands} while its member {server} still holds {_extent(last.views[server])}. The next message that is published makes {server} throw "
            f"these away; {how_long(snapshot, always=True)}"
        )
    elif silent:
        kind, text = SILENT, f"{stands}, {held} and is silent now: its files may be the only copy of these messages"
    else:
        kind, text = GONE, f"{stands}, {held}, and no server that answered holds these messages now"
    evidence: JsonObject = {
        "kind": kind,
        "holder": server,
        "messages": ahead[server].messages,
        "before": {s: view.last_seq for s, view in sorted(looks[0].held.items())},
        "views": told(last),
    }
    return TIMELINE.finding(of_stream(snapshot, key, server), level, f"{text}.", evidence, cause=True)


def _perhaps_on(look: Look, silent: frozenset[str]) -> list[str]:
    """Return the silent members of a group that had one replica at first, has more now, and never held a message: one of them may hold them all."""
    leader = look.leader
    if leader is None or look.group.replicas == 1 or any(view.last_seq for view in look.views.values()):
        return []
    return sorted(look.group.members & silent) if leader.raft_group.startswith(SCALED_UP) else []


def _suspected(snapshot: Snapshot, key: StreamKey, look: Look, lost: Sequence[str]) -> Finding:
    text = (
        f"Stream {key} was scaled up from one replica, its leader {look.group.leader} never held a message, and its member {listed(lost)} is silent: "
        f"if the stream ever held messages, the files there are their only copy."
    )
    evidence: JsonObject = {"kind": SILENT, "holder": lost[0], "messages": 0, "views": told(look)}
    return TIMELINE.finding(of_stream(snapshot, key, lost[0]), Severity.WARNING, text, evidence)


def _extent(view: StreamState) -> str:
    return (
        f"{view.messages} messages, {view.first_seq} to {view.last_seq}"
        if view.messages
        else f"no messages, last {view.last_seq}"
    )


def _one_history(one: StreamState, other: StreamState) -> bool:
    """True where the first messages of two copies fit into one history: a message with a lower sequence is not younger."""
    older, younger = sorted((one, other), key=lambda view: view.first_seq)
    since, then = _moment(older.first_ts), _moment(younger.first_ts)
    if not (one.messages and other.messages and since and then):
        return True
    return older.first_ts == younger.first_ts if older.first_seq == younger.first_seq else since <= then


def _moment(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _vanished(snapshot: Snapshot, focus: Focus, silent: frozenset[str]) -> list[Finding]:
    """What an earlier reading saw on servers that are silent now, and nobody else reports."""
    last = snapshot.rounds - 1
    found: list[Finding] = []
    for n in range(last if silent else 0):
        streams = {
            k: v for k, v in snapshot.streams(n).items() if k not in snapshot.streams(last) and silent.issuperset(v)
        }
        consumers = {
            k: v
            for k, v in snapshot.consumers(n).items()
            if k not in snapshot.consumers(last) and k.stream_key not in streams and silent.issuperset(v)
        }
        found += [_away(snapshot, key, listed(streams[key])) for key in wanted(snapshot, focus, sorted(streams))]
        asked = frozenset(wanted(snapshot, focus, (key.stream_key for key in consumers)))
        found += [_away(snapshot, key, listed(consumers[key])) for key in sorted(consumers) if key.stream_key in asked]
    return list({(f.subject, f.sentence): f for f in found}.values())


def _away(snapshot: Snapshot, key: StreamKey | ConsumerKey, holder: str) -> Finding:
    kind = "Consumer" if isinstance(key, ConsumerKey) else "Stream"
    text = f"{kind} {key} was on {holder} alone, which is silent now: it is away until {holder} is back, and its data is there."
    return HOLDER.finding(_subject(snapshot, key), Severity.CRITICAL, text, {"holder": holder})


def _listed_missing(snapshot: Snapshot, focus: Focus) -> list[Finding]:
    """What the API lists without an answer (`missing`: its leader did not answer, reference/nats.md 3.3)."""
    found: list[Finding] = []
    for request, answer in sorted(snapshot.api.items()):
        account, _, subject = request.partition(":")
        named = answer.get("missing")
        missing = sorted(map(str, cast("list[object]", named))) if isinstance(named, list) else []
        stream = subject.removeprefix(CONSUMER_LIST) if subject.startswith(CONSUMER_LIST) else None
        if stream is None and subject != STREAM_LIST:
            continue
        asked = frozenset(wanted(snapshot, focus, (StreamKey(account, stream or name) for name in missing)))
        for name in missing:
            key = StreamKey(account, stream or name)
            if key in asked:
                asset = ConsumerKey(account, key.stream, name) if stream else key
                text = f"{'Consumer' if stream else 'Stream'} {asset} is listed as missing: its leader did not answer $JS.API. "
                text += "If a server is being restarted, wait until it is back."
                found.append(HOLDER.finding(_subject(snapshot, asset), Severity.CRITICAL, text))
    return found


def _unreported(snapshot: Snapshot, focus: Focus) -> Finding:
    """The stream that the alert names is reported by nobody."""
    silent = silent_servers(snapshot)
    name = " > ".join(filter(None, (focus.account, focus.stream)))
    where = Subject(cluster=snapshot.cluster, account=focus.account, stream=focus.stream)
    if silent or not names(snapshot.servers):
        text = f"No server that answered holds stream {name}; {listed(silent)} did not tell, and a stream with one replica there is known to nobody else."
        return HOLDER.finding(where, Severity.UNKNOWN, text, {"silent": dict(list(silent.items())[:MOST_FINDINGS])})
    held = few(sorted({str(k) for k in scan(snapshot).keys}))
    return HOLDER.finding(where, Severity.CRITICAL, f"No server holds stream {name}; there are: {held or 'none'}.")


def _subject(snapshot: Snapshot, key: StreamKey | ConsumerKey) -> Subject:
    consumer = key.consumer if isinstance(key, ConsumerKey) else None
    return of_stream(snapshot, StreamKey(key.account, key.stream)).model_copy(update={"consumer": consumer})
