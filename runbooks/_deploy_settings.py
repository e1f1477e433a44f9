"""What people change in the StatefulSet or in a chart's values, where nothing is broken yet: exact values for both charts. Guidance only. Pure.

Values: reference/nats.md 1.A, 4.1, 4.4. The merge of the official chart keeps the other fields of a probe; Bitnami's custom probes replace the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.model import Finding, JsonObject, canonical_json
from bot.model.probes import ENABLED_ONLY
from bot.runbook import Draft
from runbooks._deploy_target import Target

TIMES: Mapping[str, JsonObject] = {
    "startup": {"failureThreshold": 90, "periodSeconds": 10, "timeoutSeconds": 5},
    "readiness": {"failureThreshold": 3, "periodSeconds": 10, "timeoutSeconds": 5},
    "liveness": {"failureThreshold": 3, "periodSeconds": 30, "timeoutSeconds": 5},
}
"""Those of the official chart (reference/nats.md 4.1)."""


def probe_lines(
    target: Target, kind: str, *, path: bool = True, times: bool = False, absent: bool = False
) -> list[str]:
    """Return how to change a probe, its path or its times, or how to add one that is `absent`. Values are JSON, which is YAML."""
    name = f"{kind}Probe"
    whole: JsonObject = {"httpGet": {"path": ENABLED_ONLY, "port": target.port}} | TIMES[kind]
    asks: JsonObject = {"httpGet": {"path": ENABLED_ONLY}}
    fields = whole if absent else (asks if path else {}) | (TIMES[kind] if times else {})
    bitnami: JsonObject = {"httpGet": {"path": ENABLED_ONLY, "port": "monitoring"}} | TIMES[kind]
    lines = [
        f"Official chart: {canonical_json({'container': {'merge': {name: fields}}})}",
        f"Bitnami chart: {canonical_json({f'custom{name[0].upper()}{name[1:]}': bitnami})}",
        f"Without a chart: {target.patch({'name': target.container, name: fields})}",
    ]
    return (
        [*lines, "Keep `=true`: without a value the parameter is ignored and the probe checks everything."]
        if path
        else lines
    )


def probes(target: Target, found: Sequence[Finding]) -> Draft:
    lines: list[str] = []
    for kind in TIMES:
        mine = [f.evidence for f in found if f.evidence.get("probe") == kind]
        absent = any(seen.get("absent") for seen in mine)
        strict = absent or any("seconds" not in seen for seen in mine)
        if mine:
            slow = any("seconds" in seen for seen in mine)
            lines += probe_lines(target, kind, path=strict, times=slow, absent=absent)
    return target.roll(found, "Set the probes right", *dict.fromkeys(lines))


def budget(target: Target, found: Sequence[Finding]) -> Draft:
    selector = f"kubectl get {target.object} {target.where} -o jsonpath='{{.spec.selector}}'"
    return target.change(
        found,
        "Let one pod go at a time",
        "Official chart: podDisruptionBudget: {enabled: true, merge: {spec: {maxUnavailable: 1}}}",
        "Bitnami chart: pdb: {create: true, maxUnavailable: 1}",
        f"Without a chart: a PodDisruptionBudget with maxUnavailable 1 and this selector: {selector}",
        "There must be exactly one that selects the pods.",
    )


def order(target: Target, found: Sequence[Finding]) -> Draft:
    return target.change(
        found,
        "Let the pods start at once",
        "podManagementPolicy can't be changed in place: the StatefulSet is deleted without its pods, and created anew with Parallel.",
        "Keep its manifest: " + manifest(target),
        f"kubectl delete {target.object} {target.where} --cascade=orphan   # the pods and their volumes stay and go on running",
        "Then create it anew at once: helm upgrade with podManagementPolicy: Parallel (Bitnami), or kubectl apply of the changed manifest.",
        "Until then a pod that ends is not replaced. Do it while every server is current: nats server report health",
        cautions=("Without --cascade=orphan all servers are stopped at once.",),
    )


def manifest(target: Target) -> str:
    """Return the command that keeps the StatefulSet as it is."""
    return f"kubectl get {target.object} {target.where} -o yaml > before.yaml"


def spread(target: Target, found: Sequence[Finding]) -> Draft:
    constraint = "maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule"
    return target.roll(
        found,
        "Spread the pods over nodes",
        "Official chart: podTemplate: {topologySpreadConstraints: {kubernetes.io/hostname: {maxSkew: 1, whenUnsatisfiable: DoNotSchedule}}}",
        "Bitnami chart: podAntiAffinityPreset: hard",
        f"Without a chart: in the pod template topologySpreadConstraints: [{{{constraint}, labelSelector: {{matchLabels: <the pods' labels>}}}}]",
        f"See where they are: kubectl get pods {target.where} -o wide",
        "A pod moves only when it is made anew, and a volume that belongs to a node or zone keeps it there.",
        cautions=(
            "With fewer nodes than pods a required anti-affinity leaves pods pending; a spread constraint does not.",
        ),
    )


def resources(target: Target, found: Sequence[Finding]) -> Draft:
    return target.roll(
        found,
        "Give the server certain CPU and memory, and tell Go its limit",
        "Official chart: container: {env: {GOMEMLIMIT: 6GiB}, merge: {resources: {requests: {cpu: 2, memory: 8Gi}, limits: {cpu: 2, memory: 8Gi}}}}",
        "Sidecars of the official chart: reloader: {merge: {resources: …}}, promExporter: {merge: {resources: …}}",
        "Bitnami chart: resourcesPreset: none, resources: {requests: …, limits: …}, extraEnvVars: [{name: GOMEMLIMIT, value: 6GiB}]",
        "GOMEMLIMIT is about 80 % of the memory limit, in GiB or MiB; max_memory_store must be below it.",
        f"See the nodes' room first: kubectl describe nodes; kubectl top pods {target.where} --containers",
    )


def size(target: Target, found: Sequence[Finding]) -> Draft:
    return target.change(
        found,
        "Run an odd number of servers",
        "Official chart: config: {cluster: {replicas: 5}}",
        "Bitnami chart: replicaCount: 5",
        "One more: list the new pod in the routes of all, reload them, and then raise replicas by one.",
        "One less: move what the last server holds first, take its pod away, and then remove it from the meta group; until then it counts for quorum.",
    )


def shutdown(target: Target, found: Sequence[Finding]) -> Draft:
    return target.roll(
        found,
        "Let servers leave in lame duck mode",
        "In nats.conf: pid_file: /var/run/nats/nats.pid, lame_duck_grace_period: 10s, lame_duck_duration: 30s; /var/run/nats is an emptyDir.",
        "In the container: lifecycle: {preStop: {exec: {command: [nats-server, -sl=ldm=/var/run/nats/nats.pid]}}}",
        "In the pod: terminationGracePeriodSeconds: 60, which is lame_duck_duration and 20 s or more.",
        "The official chart does all of this by itself: remove what overrides it.",
    )


def reload(target: Target, found: Sequence[Finding]) -> Draft:
    return target.roll(
        found,
        "Let changes of nats.conf reach the servers",
        "Official chart: reloader: {enabled: true}",
        "Elsewhere: mount the whole ConfigMap without subPath, add a container of natsio/nats-server-config-reloader, and set shareProcessNamespace: true.",
        "Until then, after each change: nats server config reload <id> for every server, or a rollout where the file is mounted by subPath.",
    )


def image(target: Target, found: Sequence[Finding]) -> Draft:
    shown = '{range .items[*]}{.metadata.name} {.status.containerStatuses[*].imageID}{"\\n"}{end}'
    return target.roll(
        found,
        "Pin the image to one version",
        "Official chart: container: {image: {tag: <major.minor.patch>-alpine}}",
        "Bitnami chart: image: {tag: <tag>, digest: sha256:<digest>}",
        f"See what runs: kubectl get pods {target.where} -o jsonpath='{shown}'",
        "Pin the version that runs now first, and upgrade in a second change.",
    )
