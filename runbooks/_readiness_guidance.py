"""What people do about a meta group that is behind, and about probes that are too strict for it: exact commands and values, nothing that natsmedic applies.

Values and risks: reference/nats.md 1.A, 4.1, 4.4 and 4.5. A probe is part of the pod template, which belongs to whoever owns the release.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from urllib.parse import quote

from bot.model import Endpoint, Finding, Rung, Snapshot, part
from bot.model.absence import Absence
from bot.model.groups import META_GROUP, latest, meta_standing, system_account
from bot.model.probes import ENABLED_ONLY
from bot.runbook import Draft, Thresholds
from runbooks._audit_views import few
from runbooks._consumer_views import listed
from runbooks._meta_peers import SEEN
from runbooks._meta_views import LAG

MOST_GROUPS = 10
"""Raft groups that one line names."""

AGAIN = "Then diagnose again: natsmedic diagnose --runbook READINESS"

OFFICIAL_VALUES = f'container: {{merge: {{readinessProbe: {{httpGet: {{path: "{ENABLED_ONLY}"}}}}}}}}'
"""Values of the official chart 1.x; the merge keeps port, periods and thresholds."""

BITNAMI_VALUES = (
    f'customLivenessProbe: {{httpGet: {{path: "{ENABLED_ONLY}", port: monitoring}}, '
    "initialDelaySeconds: 30, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}"
)
"""Values of the Bitnami chart, which replace the whole probe; delays are the chart's own. Its readiness probe is `/` and needs no change."""

PRESENT_PATH = (
    "kubectl get statefulset <name> -n <namespace> -o jsonpath="
    """'{.spec.template.spec.containers[?(@.name=="nats")].readinessProbe.httpGet.path}'"""
)

ROLL_RISKS = (
    "It changes the pod template, so all pods are restarted one by one, and each restart makes a server catch up.",
    "The roll waits for each new pod, while those that still have the old probe may drop out of the Service: do it when little is created and deleted.",
    "Before it, every server must be current, and so must all streams and consumers with replicas (nats server report health).",
    "Change it where the release comes from: a patch of the live StatefulSet is reverted by the next Helm upgrade, by Argo CD or by Flux.",
)


def leave_probes(finding: Finding) -> Draft:
    """Nobody decides: the probes tell the truth."""
    return Draft(
        title="Bring the meta leader back and leave the probes alone",
        why=finding.sentence,
        guidance=(
            "See who is there: nats server list",
            "Start the servers that are missing; with a majority of the meta group back a leader is elected within 10 s.",
            "Where all of them run, look at the routes between them: natsmedic diagnose --runbook ROUTE_MESH",
            "Do not change a probe meanwhile: that restarts the servers which are left.",
            AGAIN,
        ),
    )


def wait(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds) -> Draft:
    """Nothing is to be done but to look again."""
    members = meta_standing(snapshot).replicas
    account = quote(system_account(snapshot), safe="")
    url = f"http://<server>:8222/raftz?acc={account}&group={META_GROUP}"
    check = f"nats server check meta --expect {members} --lag-critical {thresholds[LAG]:.0f} --seen-critical {thresholds[SEEN]:.0f}s"
    return Draft(
        title="Wait until the meta group has caught up",
        why=findings[0].sentence,
        guidance=(
            "Restart nothing meanwhile: a pod that catches up has more to catch up with after each restart.",
            f"On each server `committed` minus `applied` must shrink: curl -s {shlex.quote(url)}",
            f"The meta leader must count all {members} as current: {check}",
            "Watch both: natsmedic diagnose --runbook READINESS --watch 10",
        ),
        rung=Rung(
            not_enough="A member that is stuck has a gap that stays or grows, however long one waits.",
            go_on="the gap has not shrunk for a minute.",
        ),
    )


def step_down(finding: Finding) -> Draft:
    """A leader that applies nothing holds up everybody's requests."""
    return Draft(
        title="Let another server lead the meta group",
        why=finding.sentence,
        guidance=(
            "With a user of the system account: nats server cluster step-down",
            "Requests to create, move and delete pause for 1 to 5 s; messages flow on.",
            "Do it only while all other members are current.",
            AGAIN,
        ),
        rung=Rung(
            not_enough="Where every server is short of CPU or disk, the next leader applies as slowly.",
            go_on="another server leads, and a minute later requests still wait.",
        ),
    )


def take_back(finding: Finding) -> Draft:
    """A server whose JetStream is off: removed from the meta group, switched off by itself, or never configured."""
    off = [name for name, state in part(finding.evidence, "jetstream").items() if state == "off"]
    name = finding.subject.server or listed(off) or "that server"
    return Draft(
        title=f"Decide whether {name} belongs to the meta group",
        why=finding.sentence,
        guidance=(
            "See who is a member, and who was removed: nats server report jetstream",
            "Its log says why its JetStream is off: removed from the cluster, out of resources, or a disk that refuses writes.",
            f"Removed by mistake: restart {name}, not before 5 minutes are over, for its return is held off so long. It comes back empty, and is chosen for streams anew.",
            f"Removed on purpose: stop {name}, and take its address out of the routes of the others.",
            "Out of space: natsmedic diagnose --runbook STORAGE",
        ),
        rung=Rung(
            not_enough="Streams that had a replica on it have one less until they are given a new one.",
            go_on="",
            problem="margin",
        ),
        cautions=(
            "Who removed a server moves its replicas away first; do not remove another one before every stream is whole.",
        ),
    )


def relax_probe(finding: Finding) -> Draft:
    """The one case in which the probe is what is wrong."""
    return Draft(
        title=f"Let the readiness probe ask {ENABLED_ONLY}",
        why=finding.sentence,
        guidance=(
            f"See what it asks now: {PRESENT_PATH}",
            f"Official chart, in the values of the release: {OFFICIAL_VALUES}",
            f"Bitnami chart from 8.2.2: readiness asks for `/` and may stay, the liveness probe is the strict one: {BITNAMI_VALUES}",
            "Keep `=true`: without a value the parameter is ignored and the probe checks everything.",
            "Then: helm upgrade <release> nats/nats -n <namespace> --reuse-values --values probe.yaml",
            "Follow it: kubectl rollout status statefulset/<name> -n <namespace>",
            AGAIN,
        ),
        rung=Rung(
            not_enough="Pods stay in the Service; the meta group behind them is as slow as before.",
            go_on="pods stay ready, and the meta group still falls behind.",
        ),
        cautions=ROLL_RISKS,
    )


def restart(finding: Finding, away: Absence) -> Draft:
    """Restart the one server, where every Raft group keeps quorum without it; otherwise say which would not."""
    name = away.server
    if not away.safe:
        return Draft(title=f"Restart server {name}: not now", why=finding.sentence, guidance=tuple(_against(away)))
    lines = [
        "First see what it waits for, on its machine: ps -o pid,stat,wchan:32,cmd -C nats-server",
        "D in stat is a disk or NFS that does not answer, T a stopped process; look at dmesg and at throttled CPU too. A restart does not heal a disk.",
        f"Stop {name}, and only {name}, with SIGTERM (Kubernetes: delete its pod); with SIGKILL where it has not ended after 60 s.",
        "Wait until it is healthy and current again before anything else is stopped: nats server report health",
        AGAIN,
    ]
    cautions = [
        "Every Raft group keeps quorum without it now; natsmedic counted members that are not current as absent."
    ]
    if away.alone:
        cautions.append(f"Without replicas, and so away meanwhile: {few(away.alone, MOST_GROUPS)}.")
    return Draft(
        title=f"Restart server {name}",
        why=finding.sentence,
        guidance=tuple(lines),
        rung=Rung(
            not_enough="A disk or a network file system that does not answer is as slow after it.",
            go_on=f"{name} has been up for a minute, and its gap does not shrink.",
        ),
        cautions=tuple(cautions),
    )


def _against(away: Absence) -> list[str]:
    lines = [
        f"Without {away.server} would have no quorum: {group} ({why})."
        for group, why in list(away.stalled.items())[:MOST_GROUPS]
    ]
    if len(away.stalled) > MOST_GROUPS:
        lines.append(f"So would {len(away.stalled) - MOST_GROUPS} further groups.")
    if away.unknown:
        lines.append(f"Not known, and so not counted on: {few(away.unknown, MOST_GROUPS)}.")
    lines.append(
        "Bring the other members of these groups back first. A group with two replicas can spare none: give it three."
    )
    return lines


def upgrade(finding: Finding, versions: Sequence[str]) -> Draft:
    """The cure of the probe: from 2.11 on it asks for no more than the ports."""
    return Draft(
        title="Upgrade nats-server to 2.11 or later",
        why=f"The servers run {listed(versions)}. {finding.issue or finding.sentence}: no 2.10 release has it.",
        guidance=(
            "Take the last release of a line that still gets fixes, one server at a time, each healthy before the next: nats server report health",
            "In the official chart 1.3.0 is the first with 2.11: helm upgrade <release> nats/nats -n <namespace> --version <chart> --reuse-values",
            "js-server-only then asks for the ports only, so *ready* no longer means that JetStream answers: alert on the meta leader instead.",
        ),
        rung=Rung(not_enough="It cures the probe; a meta group that has too much to do still falls behind.", go_on=""),
        cautions=(
            "On the way back to 2.10 servers build their state files anew, which takes as long as reading all messages.",
        ),
    )


def resources(snapshot: Snapshot, finding: Finding) -> Draft:
    """The meta group is slow because it has much to do, or little to do it with."""
    varz = {s.name: latest(snapshot, s.name, Endpoint.VARZ) or {} for s in snapshot.servers}
    cores = [f"{name} {raw['cores']}" for name, raw in sorted(varz.items()) if isinstance(raw.get("cores"), int)]
    seen = f" Cores that the servers see: {few(cores, MOST_GROUPS)}." if cores else ""
    return Draft(
        title="Give the meta group less to do, or more to do it with",
        why=finding.sentence,
        guidance=(
            "Every consumer or stream that is created or deleted is an entry of the meta group. See who does it, in each account: nats events --js-advisory",
            "Keep durable consumers instead of one per request, and let idle ones end by inactive_threshold instead of deleting them at once.",
            f"At least 2 CPU and 8 GiB per server, requests equal to limits, GOMEMLIMIT at 80 % of the memory limit (README of the official chart).{seen}",
            "Disks that answer in milliseconds: every entry is written before it is committed. No NFS.",
        ),
        rung=Rung(
            not_enough="Applications that create and delete as fast as they can use up whatever there is.", go_on=""
        ),
    )
