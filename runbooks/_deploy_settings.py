"""What people change in the StatefulSet or in a chart's values, where nothing is broken yet: exact values for both charts. Guidance only. Pure.

Values: reference/nats.md 1.A, 4.1, 4.4. The merge of the official chart keeps the other fields of a probe; Bitnami's custom probes replace the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.model import Finding, JsonObject, canonical_json
from bot.model.probes import ENABLED_ONLY
from bot.runbook import Draft
from runbooks._deploy_target import AGAIN, HEALTHY, ROLLS, Target

TIMES: Mapping[str, JsonObject] = {
    "startup": {"failureThreshold": 90, "periodSeconds": 10, "timeoutSeconds": 5},
    "readiness": {"failureThreshold": 3, "periodSeconds": 10, "timeoutSeconds": 5},
    "liveness": {"failureThreshold": 3, "periodSeconds": 30, "timeoutSeconds": 5},
}
"""Those of the official chart (reference/nats.md 4.1)."""


def probe_lines(target: Target, kind: str, *, path: bool = True, times: bool = False) -> list[str]:
    """Return how to change a probe: its path, its times, or both. Values are JSON, which is YAML."""
    name = f"{kind}Probe"
    asks: JsonObject = {"httpGet": {"path": ENABLED_ONLY}}
    fields = (asks if path else {}) | (TIMES[kind] if times else {})
    # Bitnami's replaces the whole probe, so it needs a port, a path and all times.
    whole: JsonObject = {"httpGet": {"path": ENABLED_ONLY, "port": "monitoring"}} | TIMES[kind]
    custom: JsonObject = {f"custom{name[0].upper()}{name[1:]}": whole}
    official: JsonObject = {"container": {"merge": {name: fields}}}
    lines = [
        *target.owner(),
        f"Official chart: {canonical_json(official)}",
        f"Bitnami chart: {canonical_json(custom)}",
        f"Without a chart: {target.patch({'name': target.container, name: fields})}",
    ]
    return (
        [*lines, "Keep `=true`: without a value the parameter is ignored and the probe checks everything."]
        if path
        else lines
    )


def budget(target: Target, found: Sequence[Finding]) -> Draft:
    return Draft(
        title="Let one pod go at a time",
        why=found[0].sentence,
        guidance=(
            *target.owner(),
            "Official chart: podDisruptionBudget: {enabled: true, merge: {spec: {maxUnavailable: 1}}}",
            "Bitnami chart: pdb: {create: true, maxUnavailable: 1}",
            f"Without a chart: a PodDisruptionBudget with maxUnavailable 1 and this selector: kubectl get {target.object} {target.where} -o jsonpath='{{.spec.selector}}'",
            "There must be exactly one that selects the pods.",
            AGAIN,
        ),
    )


def probes(target: Target, found: Sequence[Finding]) -> Draft:
    lines: list[str] = []
    for kind in TIMES:
        mine = [f for f in found if f.evidence.get("probe") == kind]
        slow = any("seconds" in f.evidence for f in mine)
        strict = any("seconds" not in f.evidence for f in mine)
        lines += (
            probe_lines(target, kind, path=strict, times=slow or any(f.evidence.get("value") is None for f in mine))
            if mine
            else []
        )
    return Draft(
        title="Set the probes right",
        why=found[0].sentence,
        guidance=(
            *dict.fromkeys(lines),
            "A startup probe with periodSeconds 10 and failureThreshold 90 gives a server 15 minutes to recover, as the official chart does.",
            HEALTHY,
            AGAIN,
        ),
        cautions=(ROLLS,),
    )


def order(target: Target, found: Sequence[Finding]) -> Draft:
    return Draft(
        title="Let the pods start at once",
        why=found[0].sentence,
        guidance=(
            "podManagementPolicy can't be changed in place: the StatefulSet is deleted without its pods, and created anew with Parallel.",
            f"kubectl delete {target.object} {target.where} --cascade=orphan   # the pods and their volumes stay and go on running",
            "Then create it anew at once: helm upgrade with podManagementPolicy: Parallel (Bitnami), or kubectl apply of the changed manifest.",
            "Until then a pod that ends is not replaced. Do it while every server is current: nats server report health",
            AGAIN,
        ),
        cautions=("Without --cascade=orphan all servers are stopped at once.",),
    )


def spread(target: Target, found: Sequence[Finding]) -> Draft:
    return Draft(
        title="Spread the pods over nodes",
        why=found[0].sentence,
        guidance=(
            *target.owner(),
            "Official chart: podTemplate: {topologySpreadConstraints: {kubernetes.io/hostname: {maxSkew: 1, whenUnsatisfiable: DoNotSchedule}}}",
            "Bitnami chart: podAntiAffinityPreset: hard",
            "Without a chart: spec.template.spec.topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: <the pods' labels>}}]",
            f"See where they are: kubectl get pods {target.where} -o wide",
            "A pod moves only when it is made anew, and a volume that belongs to a node or zone keeps it there.",
            HEALTHY,
            AGAIN,
        ),
        cautions=(ROLLS, "With fewer nodes than pods a required rule leaves pods pending."),
    )


def resources(target: Target, found: Sequence[Finding]) -> Draft:
    return Draft(
        title="Give the server certain CPU and memory, and tell Go its limit",
        why=found[0].sentence,
        guidance=(
            *target.owner(),
            "Official chart: container: {env: {GOMEMLIMIT: 6GiB}, merge: {resources: {requests: {cpu: 2, memory: 8Gi}, limits: {cpu: 2, memory: 8Gi}}}}",
            "Sidecars of the official chart: reloader: {merge: {resources: …}}, promExporter: {merge: {resources: …}}",
            "Bitnami chart: resourcesPreset: none, resources: {requests: …, limits: …}, extraEnvVars: [{name: GOMEMLIMIT, value: 6GiB}]",
            "GOMEMLIMIT is 80 % of the memory limit, in GiB or MiB; max_memory_store must be below it.",
            f"See the nodes' room first: kubectl describe nodes; kubectl top pods {target.where} --containers",
            HEALTHY,
            AGAIN,
        ),
        cautions=(ROLLS,),
    )


def shutdown(target: Target, found: Sequence[Finding]) -> Draft:
    return Draft(
        title="Let servers leave in lame duck mode",
        why=found[0].sentence,
        guidance=(
            *target.owner(),
            "In nats.conf: pid_file: /var/run/nats/nats.pid, lame_duck_grace_period: 10s, lame_duck_duration: 30s; /var/run/nats is an emptyDir.",
            "In the container: lifecycle: {preStop: {exec: {command: [nats-server, -sl=ldm=/var/run/nats/nats.pid]}}}",
            "In the pod: terminationGracePeriodSeconds: 60, which is lame_duck_duration and 20 s or more.",
            "The official chart does all of this by itself: remove what overrides it.",
            AGAIN,
        ),
        cautions=(ROLLS,),
    )


def reload(target: Target, found: Sequence[Finding]) -> Draft:
    return Draft(
        title="Let changes of nats.conf reach the servers",
        why=found[0].sentence,
        guidance=(
            *target.owner(),
            "Official chart: reloader: {enabled: true}",
            "Elsewhere: mount the whole ConfigMap without subPath, add a container of natsio/nats-server-config-reloader, and set shareProcessNamespace: true.",
            "Until then, after each change: nats server config reload <id> for every server, or a rollout where the file is mounted by subPath.",
            AGAIN,
        ),
        cautions=(ROLLS,),
    )


def image(target: Target, found: Sequence[Finding]) -> Draft:
    return Draft(
        title="Pin the image to one version",
        why=found[0].sentence,
        guidance=(
            *target.owner(),
            "Official chart: container: {image: {tag: <major.minor.patch>-alpine}}",
            "Bitnami chart: image: {tag: <tag>, digest: sha256:<digest>}",
            f"See what runs: kubectl get pods {target.where} -o jsonpath='{{range .items[*]}}{{.metadata.name}} {{.status.containerStatuses[*].imageID}}{{\"\\n\"}}{{end}}'",
            "Pin the version that runs now first, and upgrade in a second change.",
            AGAIN,
        ),
        cautions=(ROLLS,),
    )
