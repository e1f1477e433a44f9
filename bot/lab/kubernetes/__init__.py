"""A stand-in for a Kubernetes cluster on loopback addresses: an API server in memory, controllers, and pods that are local nats-server processes.

    async with StandInKubernetes(directory) as kube:
        kube.apply(NatsManifest(version="2.10.26").manifests())
        await kube.wait_ready("nats")
        settings = KubernetesSettings(kubeconfig=kube.kubeconfig(), namespace=kube.namespace)
        kube.faults.add(FaultKind.COMMIT_THEN_CUT, "PATCH", "statefulsets/nats")

Stable for tests and the demo: `kubeconfig(path?, token?)`, `url`, `token`, `grant(user, rules)`, `account_token`, `apply`, `namespace`, `recreate`, `outage`,
`expire`, `faults`, `writes`, `asked`, `get`, `pods`, `pod_address`, `pod_pid` (for SIGSTOP and the like), `pod_log`, `kill_pod`, `wait_ready`.

Each pod has an address of its own in 127.0.0.0/8, so its ports 4222, 6222 and 8222 are real, and a file system of its own, so its paths are. Its answers are
those of Kubernetes 1.20, statuses, reasons and words included: `tests/integration/test_kubernetes_conformance.py` runs against both.

Needs Linux, and root or unprivileged user namespaces (`unshare --user`); a container needs CAP_SYS_ADMIN for that.

Where it differs from a real cluster:

- Runs images `nats:VERSION` alone; any other image cannot be pulled. No init containers, no `command`, no exec probes, no `exec`, `attach`,
  `port-forward`; of hooks only a `preStop` that runs nats-server. Containers share the machine's network, so a second container of a pod must use other ports.
- A server that opens a port on every address is given its pod's: the client and monitoring port by `--addr`, other blocks of nats.conf by a line in the mounted
  copy, which then has another digest. A nats.conf that binds to `$POD_IP` (`NatsManifest` does) is mounted as it is.
- DNS is /etc/hosts of each pod, written anew at once when endpoints change; nats-server looks at it again within 5 seconds. Names resolve inside pods only. A
  service with a cluster IP resolves to its ready pods; the cluster IP itself leads nowhere.
- Connections between pods come from 127.0.0.1, not from the pod's address.
- Limits of CPU, memory and disk are not enforced; `kill_pod(oom=True)` stands for the kernel. Volumes are folders of any size.
- No OpenAPI (`kubectl apply` needs `--validate=false`), no `Table` answers, no protobuf, TLS only with `tls=True` (kubectl sends no token without), no
  Deployments, Jobs, admission plugins, quotas, leases, bookmarks, `follow` of logs, `SelfSubjectRulesReview`.
- Of custom resources it can serve NACK's Stream and Consumer, after their CustomResourceDefinition is created; no schema is enforced, and nothing acts on them.
- Unknown fields are kept, where a real server drops them. Only the pods of a wrong template are validated, as in 1.20, and of them containers, probes,
  resources and mounts.
- A claim goes at once, though a pod uses it; events are kept for ever; `kube.apply` takes nothing away that a manifest leaves out.
- Pages after the first show the objects as they are now. Tokens never expire. Services are not validated.
- The scheduler knows readiness and `unschedulable` of nodes, node selectors, claims, required anti-affinity and topology spread; it otherwise spreads by the
  number of pods, and knows neither taints nor resources. Nodes never fail by themselves; `zone` and `hostname` labels are there.
- `policy` and `discovery.k8s.io` have v1 and v1beta1 of the same objects; managedFields name v1. Requests of controllers and kubelet are no HTTP requests: RBAC,
  faults and `writes` concern clients alone.
- A kubelet's jitter, its waiting times for images and mounts, and the time-outs of endpoints are shorter.
"""

from bot.lab.kubernetes.api import ArrivedWrite
from bot.lab.kubernetes.faults import Fault, FaultKind
from bot.lab.kubernetes.manifests import CHART_READINESS, STRICT_READINESS, NatsManifest, Routes
from bot.lab.kubernetes.rbac import Attempt
from bot.lab.kubernetes.refusals import Refused
from bot.lab.kubernetes.server import StandInKubernetes

__all__ = [
    "CHART_READINESS",
    "STRICT_READINESS",
    "ArrivedWrite",
    "Attempt",
    "Fault",
    "FaultKind",
    "NatsManifest",
    "Refused",
    "Routes",
    "StandInKubernetes",
]
