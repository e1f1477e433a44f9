"""What is done against overload, the least risky first (reference/nats.md 1.D, remedy menu): guidance, and what the Kubernetes side offers. Pure.

Commands are those of natscli 0.5.0; what `balance` does is read in jsm.go `connbalancer/balancer.go`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

from bot.actions.limit_change import limit_guidance
from bot.actions.spread_leaders import compose
from bot.errors import Refused
from bot.model import Endpoint, Finding, Focus, Rung, Severity, Snapshot, Subject
from bot.model.clients import ClientKind
from bot.model.limits import Setting
from bot.runbook import Draft, Proposed, Thresholds
from runbooks import _audit_guidance as audit
from runbooks._audit_versions import Version, version_of
from runbooks._audit_views import read
from runbooks._deploy_guidance import guidance
from runbooks._deploy_offers import possible, scale_way, workload_of
from runbooks._overload_mqtt import ASSETS, CLIENTS
from runbooks._overload_offers import crowd, limit_offers, shed_offers
from runbooks._overload_queues import API, OTHERS
from runbooks._overload_servers import CONNECTS, HOT
from runbooks._overload_views import Course, meta_leader

MOST_TALKERS = 3
LOUD = 10.0
"""Messages a second from which on a connection is named as a possible feeder; a well-behaved application asks the API rarely."""

SLICE = 200
PAUSE = 0.1
"""Clients to move at a time and seconds between two of them: 10 a second, far below what three laboratory servers carried (54, drills.md 5)."""

LISTS = 1024
"""Connections of each server that `nats server cluster balance` looks at: it reads the first page of CONNZ only."""

UNKNOWN: Version = (0, 0, 0)
PREFERRED: Version = (2, 11, 0)
API_QUEUE_LIMITED: Version = (2, 10, 21)
CLIENTS_QUEUED: Version = (2, 11, 10)
MQTT_TIMEOUT: Version = (2, 11, 3)
INFO_QUEUE: Version = (2, 14, 0)
"""First versions with step-down to a preferred server, a limit on the API's queue, a queue for requests of the server's own clients too,
`mqtt.js_api_timeout`, and a queue of its own for requests that change nothing (reference/nats.md 8)."""

NO_RESTART = (
    "Do not restart the busy server: all of its clients reconnect at once, and every MQTT client asks the API for its session, those with clean sessions "
    "for all their consumers too. If it must be, first limit the pace of reconnects in the load balancer or the applications (with jitter, at most some tens a second)."
)
NO_DELETE = "Never delete consumers of $MQTT_msgs: it is an Interest stream, so their messages go with them, and the MQTT sessions break."
"""Reference/nats.md 0.2 and 1.D."""

Guide = Callable[[Snapshot, Sequence[Finding]], Draft | None]


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:
    """Return guidance: a silent server or missing meta leader first, then waiting where that is enough, then the remedies by rising risk."""
    proposed = audit.propose(snapshot, findings, thresholds, focus)
    sick = [f for f in findings if f.severity in {Severity.WARNING, Severity.CRITICAL}]
    for codes, guide in GUIDES:
        about = sorted((f for f in sick if f.check in codes), key=lambda f: (-f.severity.rank, not f.cause, f.layer))
        draft = guide(snapshot, about) if about else None
        if draft is None:
            continue
        kinds = SHEDS.get(guide)
        made = shed_offers(snapshot, about, kinds, thresholds, draft, focus.subject) if kinds else (draft,)
        if guide is _fewer_groups:
            made = limit_offers(snapshot, about, draft)
        rung = RUNGS.get(guide)
        proposed += [Proposed(_subject(snapshot, about), one.model_copy(update={"rung": rung})) for one in made]
    return proposed + guidance(snapshot, sick) + _more_servers(snapshot, sick)


def _more_servers(snapshot: Snapshot, sick: Sequence[Finding]) -> list[Proposed]:
    """At last, where CPU is what is short and Kubernetes can make more servers: only what may be done now, for it helps late."""
    busy = [f for f in sick if f.check == HOT.code and "of its CPU" in f.sentence]
    workload = workload_of(snapshot)
    if not busy or workload is None:
        return []
    made = possible(workload, [scale_way(snapshot, workload)], busy[0].sentence)
    return [Proposed(_subject(snapshot, busy), draft) for draft in made]


def _wait(snapshot: Snapshot, found: Sequence[Finding]) -> Draft | None:  # noqa: ARG001 - every guide takes both
    """Only where every queue that was too long was seen to shrink."""
    courses = {f.evidence.get("course") for f in found}
    if not courses <= {Course.DRAINING.value, Course.DRAINED.value}:
        return None
    return Draft(
        title="Wait until the queues are empty",
        why=f"{found[0].sentence} Nothing else is needed for that.",
        guidance=(
            "Look again in 30 seconds: nats server request ipqueue   # or diagnose again",
            "If they grow again, somebody still feeds them: see the next proposal.",
        ),
        cautions=(NO_RESTART,),
    )


def _stop_the_feeder(snapshot: Snapshot, found: Sequence[Finding]) -> Draft:
    suspects = list(talkers(snapshot))
    named = (
        (
            "Connections that have sent most messages a second since they connected (CONNZ), not all of them to the API:",
            *suspects,
        )
        if suspects
        else ()
    )
    return Draft(
        title="Find who floods the JetStream API, and stop it",
        why=found[0].sentence,
        guidance=(
            "Which requests, with a user of the system account: nats server watch api requests",
            "Who asks, with a user of the account in question: nats sub '$JS.EVENT.ADVISORY.API' --count 50   # client.user, client.name, client.host, subject",
            "By messages sent: nats server report connections --sort in-msgs --top 10",
            *named,
            "Look for loops over STREAM.LIST, CONSUMER.LIST, CONSUMER.NAMES or INFO with subjects, and for a consumer per request or per poll.",
            "Stop that application, or let it wait between its requests. To cut one connection off: nats server request kick CID SERVER_ID",
        ),
        cautions=(
            "A connection that is cut off comes back at once unless its application is stopped.",
            "Each advisory carries the whole answer of its request: do not leave such a subscription running.",
            "A larger request_queue_limit needs a restart of each server, and only makes clients wait longer for an answer that comes too late.",
            NO_RESTART,
        ),
    )


def _spread_mqtt(snapshot: Snapshot, found: Sequence[Finding]) -> Draft:
    crowded = next((f.subject.server for f in found if f.subject.server), "")
    identity = next((s for s in snapshot.servers if s.name == crowded), None)
    server = shlex.quote(crowded) if crowded else "NAME"
    server_id = shlex.quote(identity.id) if identity else "SERVER_ID"
    pick = "'.data.connections[]? | select(.type == \"mqtt\") | .cid'"
    kick = f'while read -r cid; do nats server request kick "$cid" {server_id} > /dev/null; sleep {PAUSE:g}; done'
    move = f"nats server request connections --name={server} | jq -r {pick} | head -n {SLICE} | {kick}"
    return Draft(
        title="Spread the MQTT clients over the servers, in slices",
        why=found[0].sentence,
        guidance=(
            "First see why they gather: one address in the devices, a load balancer without least-connections, or servers that were restarted in turn.",
            f"Move {SLICE} clients, {1 / PAUSE:.0f} a second, with a user of the system account:",
            move,
            "Look at the API queues before the next slice, and go on only where they are short: nats server request ipqueue",
            "Or all clients of an account: nats server cluster balance 2m --account ACCOUNT",
            f"`balance` moves NATS clients as well, and looks at the first {LISTS} connections of each server, so repeat it; with --server-name it moves nothing.",
        ),
        cautions=(
            "Clients that are cut off reconnect by themselves, to wherever their load balancer sends them; sessions and their messages are kept.",
            "Lame-duck notices (LDM) do not move MQTT clients: their protocol has none.",
            NO_DELETE,
            NO_RESTART,
        ),
    )


def _spread_clients(snapshot: Snapshot, found: Sequence[Finding]) -> Draft | None:  # noqa: ARG001
    """Where a busy server has more than its share of client connections; its MQTT clients alone are spread before, where they are the crowd."""
    server = crowd(found)
    hot = next((f for f in found if f.check == HOT.code and f.subject.server == server), None)
    if not server or hot is None or crowd([f for f in found if f.check == CLIENTS.code]) == server:
        return None
    return Draft(
        title=f"Move clients off server {server}, in slices",
        why=hot.sentence,
        guidance=(
            "First see why they gather: one address in the applications, or servers that were restarted in turn.",
            "Who they are, with a user of the system account: nats server report connections --top 20",
            "All clients of an account, over two minutes: nats server cluster balance 2m --account ACCOUNT",
            f"`balance` looks at the first {LISTS} connections of each server, so repeat it; with --server-name it moves nothing.",
        ),
        cautions=("Clients that are cut off reconnect by themselves, to any server that they know.", NO_RESTART),
    )


def _move_leaders(snapshot: Snapshot, found: Sequence[Finding]) -> Draft:
    """By natsmedic itself, in slices, where leaders can be moved; by commands where not."""
    busy = next((f.subject.server for f in found if f.subject.server), "")
    guide = _leader_commands(snapshot, found, busy)
    if not busy:
        return guide
    try:
        spread = compose(snapshot, busy)
    except Refused as refused:
        return guide.model_copy(
            update={"guidance": (*guide.guidance, *(f"Not offered: {why}" for why in refused.reasons))}
        )
    return guide.model_copy(
        update={"stages": spread.stages, "guidance": (), "cautions": (*spread.cautions, *guide.cautions)}
    )


def _leader_commands(snapshot: Snapshot, found: Sequence[Finding], busy: str) -> Draft:
    other = next((s.name for s in snapshot.servers if s.name != busy), "SERVER")
    can_prefer = _oldest(snapshot) >= PREFERRED
    lines: list[str] = []
    if busy and busy == meta_leader(snapshot):
        where = f" --host={shlex.quote(other)}" if can_prefer else ""
        lines.append(
            f"The meta leader, with a user of the system account; this request does not wait in the queue: nats server cluster step-down{where}"
        )
    if can_prefer:
        lines += [
            f"Streams, with a user of the account: nats stream cluster balance --leader={shlex.quote(busy or 'SERVER')}",
            "Consumers of a stream: nats consumer cluster balance STREAM",
            f"A single one: nats stream cluster step-down STREAM --preferred={shlex.quote(other)}   # or: nats consumer cluster step-down STREAM CONSUMER --preferred …",
        ]
    else:
        lines += [
            "Streams, with a user of the account: nats stream cluster step-down STREAM",
            "Consumers: nats consumer cluster step-down STREAM CONSUMER",
            "Before 2.11 the new leader can't be chosen: repeat it where the same server wins again.",
        ]
    return Draft(
        title=f"Move leaders off server {busy}" if busy else "Move leaders off the busy server",
        why=found[0].sentence,
        guidance=(*lines, "Some at a time: each election costs the servers more work for a second or two."),
        cautions=(
            "Only while all members of the group are current (nats server report jetstream); a group that lags may lose its quorum for seconds.",
            "While the API queue is long, step-down requests of streams and consumers wait in it like all others.",
            NO_RESTART,
        ),
    )


def _give_cpu(snapshot: Snapshot, found: Sequence[Finding]) -> Draft | None:  # noqa: ARG001
    """Where the CPU is what is short."""
    if not any("of its CPU" in f.sentence for f in found):
        return None
    names = ", ".join(dict.fromkeys(f.subject.server or "" for f in found))
    return Draft(
        title="Give the servers CPU",
        why=found[0].sentence,
        guidance=(
            f"See what limits {names}: nats server report cpu; in a container its CPU limit and throttling (container_cpu_cfs_throttled_periods_total).",
            "Raise the limit, or take it away and keep the request, and set GOMAXPROCS to it; the API has min(16, GOMAXPROCS) workers.",
        ),
        cautions=("On Kubernetes this rolls the StatefulSet: once the load is down, one server at a time.", NO_RESTART),
    )


def _fewer_groups(snapshot: Snapshot, found: Sequence[Finding]) -> Draft:
    limited = any("default_max_consumers" in f.evidence for f in found)
    lines = [
        "In nats.conf of every server, then reload (nats server config reload SERVER_ID); only what is created from then on changes:",
        "mqtt { stream_replicas: 1 }   # one copy of messages and sessions and no Raft group per subscription; only for accounts without MQTT streams yet",
        "mqtt { consumer_memory_storage: true }   # no files per subscription",
        'mqtt { consumer_inactive_threshold: "24h" }   # consumers of devices that stay away so long go by themselves',
        "mqtt.consumer_replicas has no effect: consumers of an Interest stream have its replicas.",
    ]
    if _oldest(snapshot) >= MQTT_TIMEOUT:
        lines += [
            "Devices in a storm are answered late instead of refused (default 5 s) with:",
            *limit_guidance(snapshot, Setting.MQTT_JS_API_TIMEOUT, "10s"),
        ]
    if limited:
        lines.insert(
            0,
            "jetstream { limits { default_max_consumers: -1 } } on every server, then reload: it can't be set for one stream or account.",
        )
    return Draft(
        title="Let MQTT need fewer Raft groups",
        why=found[0].sentence,
        guidance=(*lines, "See what there is: nats stream report; nats consumer report '$MQTT_msgs'"),
        cautions=(
            "A device that comes back after consumer_inactive_threshold has lost what was waiting for it, although its session is still there.",
            "With stream_replicas 1, MQTT of the account stops while the one server that holds it is down.",
            NO_DELETE,
        ),
    )


def _upgrade(snapshot: Snapshot, found: Sequence[Finding]) -> Draft | None:
    gains = (
        (API_QUEUE_LIMITED, "limits the API's queue (10,000) and says when it drops requests"),
        (MQTT_TIMEOUT, "can give MQTT more time than 4 or 5 s for an API request (mqtt.js_api_timeout)"),
        (CLIENTS_QUEUED, "queues requests of its own clients too instead of working them in their read loop"),
        (
            INFO_QUEUE,
            "lets requests that change nothing wait behind those that do, and protects Raft groups from being overrun",
        ),
    )
    oldest = _oldest(snapshot)
    lacking = [(since, gain) for since, gain in gains if UNKNOWN < oldest < since]
    if not lacking:
        return None
    return Draft(
        title="Upgrade nats-server",
        why=f"Version {'.'.join(map(str, oldest))} lacks what later ones do against overload. {found[0].sentence}",
        guidance=(
            *(f"{'.'.join(map(str, since))} {gain}." for since, gain in lacking),
            "Read the notes on the way back first. Before 2.15, note its limit of 1,000 consumers a stream (jetstream.limits.default_max_consumers): raise it for MQTT.",
            "Once the load is down, one server at a time; each must be healthy (nats server report health) before the next.",
        ),
        cautions=(NO_RESTART,),
    )


_QUEUES = frozenset({API.code, OTHERS.code})
_MQTT = frozenset({CLIENTS.code})
GUIDES: Sequence[tuple[frozenset[str], Guide]] = (
    (_QUEUES, _wait),
    (_QUEUES, _stop_the_feeder),
    (_MQTT | {CONNECTS.code}, _spread_mqtt),
    (_MQTT | {HOT.code}, _spread_clients),
    (frozenset({HOT.code, API.code}), _move_leaders),
    (frozenset({HOT.code}), _give_cpu),
    (frozenset({ASSETS.code}), _fewer_groups),
    (_QUEUES | _MQTT | {HOT.code, CONNECTS.code}, _upgrade),
)
"""Remedies by rising risk, with the checks whose findings ask for them."""

RUNGS: Mapping[Guide, Rung] = {
    _wait: Rung(
        not_enough="Whoever filled the queues may do it again.",
        go_on="a queue is longer 30 s later than it was.",
    ),
    _stop_the_feeder: Rung(
        not_enough="Where nobody floods the API and many clients ask a little each, there is no one to stop.",
        go_on="the loudest are quiet, and the queues still grow a minute later.",
    ),
    _spread_mqtt: Rung(
        not_enough="The clients choose where they reconnect: with one address for all of them they come back.",
        go_on="the server has its share of clients, and is still busy two minutes later.",
    ),
    _spread_clients: Rung(
        not_enough="The clients choose where they reconnect, and the work of leaders stays where it is.",
        go_on="the server has its share of clients, and is still busy two minutes later.",
    ),
    _move_leaders: Rung(
        not_enough="It moves load and takes none away: where all servers are busy it only costs elections.",
        go_on="leaders are even over the servers, and one is still busy two minutes later.",
    ),
    _give_cpu: Rung(
        not_enough="It rolls the servers, which costs CPU first, and a disk that is too slow stays so.",
        go_on="CPU is free, and the queues are still long.",
    ),
    _fewer_groups: Rung(
        not_enough="Only what is created from then on changes; the groups that are there stay.",
        go_on="the number of Raft groups grows on.",
    ),
    _upgrade: Rung(not_enough="It protects the servers from what floods them, and does not stop it.", go_on=""),
}
"""Why each may not be enough, and when to go on."""

SHEDS: Mapping[Guide, tuple[ClientKind, ...]] = {_spread_mqtt: (ClientKind.MQTT,), _spread_clients: tuple(ClientKind)}
"""Those that natsmedic can do itself, with the kinds of clients that they are about."""


def talkers(snapshot: Snapshot) -> Iterable[str]:
    """Yield the NATS connections that have sent most messages a second since they connected. Names are the clients' own words, so they are quoted."""
    connz = read(snapshot, Endpoint.CONNZ)
    seen: list[tuple[float, str]] = []
    for server, raw in connz.answers.items():
        now = connz.moment(server, raw, "now")
        for row in connz.rows(server, raw, "connections"):
            sent, start = connz.number(server, row, "in_msgs", 0), connz.moment(server, row, "start")
            if row.get("type") == "mqtt" or not sent or now is None or start is None:
                continue
            pace = sent / max((now - start).total_seconds(), 1.0)
            if pace >= LOUD:
                who = f"cid {row.get('cid')} of {server}, account {str(row.get('account') or '')!r}, name {str(row.get('name') or '')!r}"
                seen.append((pace, f"{who}: {pace:.0f} messages a second."))
    for _, line in sorted(seen, reverse=True)[:MOST_TALKERS]:
        yield line


def _oldest(snapshot: Snapshot) -> Version:
    """The oldest server version; `UNKNOWN`, older than all, where one can't be read."""
    return min((version_of(s.version) or UNKNOWN for s in snapshot.servers), default=UNKNOWN)


def _subject(snapshot: Snapshot, about: Sequence[Finding]) -> Subject:
    """The one thing that all findings are about, the cluster where there are several."""
    first = about[0].subject
    return first if all(f.subject == first for f in about) else Subject(cluster=snapshot.cluster)
