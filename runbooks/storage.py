"""JetStream runs out of storage: a server that has switched its JetStream off, use against its limits, streams that nothing bounds, and the volumes below.

A server whose disk refuses a write disables JetStream until it is restarted (server/jetstream.go, handleOutOfSpace); it tells so in an advisory that names
the stream. So room is made first, and the restart, which comes last, finds it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bot.actions._command_line import command
from bot.model import Endpoint, Finding, Focus, Rung, Severity, Snapshot, Subject
from bot.runbook import Draft, Proposed, Runbook, Thresholds
from runbooks import _audit_guidance as audit
from runbooks import _deploy_guidance as deploy
from runbooks._audit_shared import (
    JETSTREAM_RUNS,
    RESOURCES_SUFFICE,
    SERVERS_ANSWER,
    STREAM_THRESHOLDS,
    STREAMS_BELOW_LIMITS,
    USE_THRESHOLDS,
)
from runbooks._audit_versions import MIX
from runbooks._deploy_checks import VOLUMES
from runbooks._storage_bounds import BOUNDS, UNBOUNDED, streams_are_bounded

_JSZ = frozenset({Endpoint.JSZ})


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:
    """Return limits for what has none, then room, then larger volumes; and last the restart of a server that has switched JetStream off."""
    sick = [f for f in findings if f.severity in {Severity.CRITICAL, Severity.WARNING}]
    unbounded = [f for f in sick if f.check == BOUNDS.code]
    off = [f for f in sick if f.check == MIX.code and f.subject.server]
    rest = [f for f in findings if f not in off]
    proposed = [Proposed(Subject(cluster=snapshot.cluster), _bound(unbounded))] if unbounded else []
    proposed += audit.propose(snapshot, rest, thresholds, focus)
    proposed += deploy.guidance(snapshot, findings)
    return proposed + [Proposed(f.subject, _restart(f)) for f in off]


def _bound(found: Sequence[Finding]) -> Draft:
    return Draft(
        title="Bound the streams that have no limit",
        why=found[0].sentence,
        guidance=tuple(
            f"{command('nats', 'stream', 'edit', of=[f.subject.stream], options=['--max-bytes=SIZE'])}   # or --max-age=TIME; account {f.subject.account!r}"
            for f in found
            if f.subject.stream
        ),
        rung=Rung(
            not_enough="What is full with messages that are needed has to grow.",
            go_on="every stream has its limit, and use is still above it.",
            problem="storage",
        ),
        cautions=(
            "At once, and for ever, the oldest messages above a limit go: back the stream up where they are needed.",
        ),
    )


def _restart(finding: Finding) -> Draft:
    server = finding.subject.server or ""
    return Draft(
        title=f"Make room on {server}, then restart it",
        why=finding.sentence,
        guidance=(
            f"See why in the log of {server}: *JetStream out of resources, will be DISABLED*, *no space left on device*, *read-only file system*.",
            "Make room first: free space on its volume, or a larger volume; a restart on a full disk switches JetStream off again.",
            "Make sure that all other servers are healthy (nats server report health): until then each group on it has one member less.",
            f"Then stop {server} with SIGTERM (on Kubernetes: delete its pod) and wait until it is healthy and its streams are current.",
        ),
        rung=Rung(not_enough="Streams that grow without limits fill it again.", go_on="", problem="storage"),
        cautions=("Never delete files below store_dir by hand, and no claim: they are the streams.",),
    )


RUNBOOK = Runbook(
    code="STORAGE",
    title="JetStream runs out of storage",
    alerts=frozenset(
        {
            # Our own source is the advisory $JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE.
            "NatsJetStreamOutOfStorage",
            # github.com/samber/awesome-prometheus-alerts, dist/rules/nats/nats-exporter.yml, in its spellings of several years.
            "NatsHighJetstreamStoreUsage",
            "HighJetStreamStoreUsage",
            "NatsHighJetstreamMemoryUsage",
            "HighJetStreamMemoryUsage",
        }
    ),
    thresholds=(*USE_THRESHOLDS, *STREAM_THRESHOLDS, UNBOUNDED),
    checks=(
        SERVERS_ANSWER,
        JETSTREAM_RUNS,
        RESOURCES_SUFFICE,
        BOUNDS.check("No stream that holds much may grow without end.", _JSZ, streams_are_bounded),
        STREAMS_BELOW_LIMITS,
        VOLUMES,
    ),
    propose=propose,
    sources=(
        "nats-server server/jetstream.go: a server without space disables its JetStream, and says so once",
        "nats server check jetstream; nats-io/jsm.go audit SERVER_005 and JETSTREAM_003",
    ),
)
