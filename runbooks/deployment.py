"""What the cluster stands on: its StatefulSet, pods, nodes, volumes and configuration in Kubernetes (families A, B and E, reference/nats.md 1.A, 1.B, 4).

Its checks look at the Kubernetes side and at what the servers say at once: a probe is too strict for the version that runs, a volume too small for what the
server may write, a node carries what a Raft group can't spare. They apply to clusters with `kubernetes` settings only. What breaks now or loses data is
critical; what would break is a warning in the last layer, so that it never hides what is wrong.

The limit of open files is not judged: neither Kubernetes nor a server tells it, and nothing is run inside of pods.
"""

from __future__ import annotations

from bot.runbook import Runbook
from runbooks._deploy_checks import ALL, THRESHOLDS
from runbooks._deploy_guidance import propose

RUNBOOK = Runbook(
    code="DEPLOYMENT",
    title="The StatefulSet of NATS is not as it should be",
    alerts=frozenset(
        {
            # kubernetes-mixin, where their labels point at the StatefulSet or its pods.
            "KubePodCrashLooping",
            "KubePodNotReady",
            "KubeContainerWaiting",
            "KubeContainerOOMKilled",
            "KubeStatefulSetReplicasMismatch",
            "KubeStatefulSetGenerationMismatch",
            "KubeStatefulSetUpdateNotRolledOut",
            "KubePersistentVolumeFillingUp",
            "KubePersistentVolumeErrors",
            "KubePersistentVolumeInodesFillingUp",
            "KubePdbNotEnoughHealthyPods",
            "CPUThrottlingHigh",
            # Of others in wide use.
            "KubernetesPodCrashLooping",
            "KubernetesPodNotHealthy",
            "KubernetesContainerOomKiller",
            "KubernetesStatefulsetDown",
        }
    ),
    thresholds=THRESHOLDS,
    checks=ALL,
    propose=propose,
    sources=(
        "nats-server #5976, #5881, #6051; nats-io/k8s #1140; bitnami/charts #30124: probes, storage and routes that broke clusters",
        "nats-io/k8s helm/charts/nats 1.0.0 to 2.14.2 and its README: probes, lame duck mode, resources, GOMEMLIMIT",
        "bitnami/charts bitnami/nats 8.2.2: liveness asks /healthz without narrowing it",
        "Kubernetes: StatefulSets, forced rollback; pkg/controller/disruption; kubelet's reasons for waiting containers",
    ),
)
