"""What an API server adds to an object that leaves it open (pkg/apis/*/v1/defaults.go), as far as somebody here looks at it."""

import base64
import copy
from collections.abc import Callable
from itertools import count
from typing import Final

from bot.lab.kubernetes.objects import Raw, Value, part, parts

_service_numbers: Final = count(10)


_OMITTED: Final = ("labels", "annotations", "finalizers", "ownerReferences")
"""Metadata that is not there when it is empty (`omitempty` in Go)."""


def without_empty(raw: Raw) -> Raw:
    """A copy without the empty maps and lists that a server does not keep."""
    meta = {key: value for key, value in raw["metadata"].items() if value or key not in _OMITTED}
    return {key: value for key, value in raw.items() if value or key not in ("data", "binaryData")} | {"metadata": meta}


def defaulted(raw: Raw) -> Raw:
    """A copy with the defaults of its kind."""
    made = copy.deepcopy(without_empty(raw))
    if (add := _OF_KIND.get(str(made.get("kind")))) is not None:
        add(made)
    return made


def _fill(raw: Raw, **defaults: Value) -> None:
    for key, value in defaults.items():
        raw.setdefault(key, value)


def _stateful_set(raw: Raw) -> None:
    spec: Raw = raw.setdefault("spec", {})
    _fill(spec, replicas=1, podManagementPolicy="OrderedReady", revisionHistoryLimit=10, updateStrategy={})
    strategy: Raw = spec["updateStrategy"]
    _fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    template: Raw = spec.setdefault("template", {})
    template.setdefault("metadata", {}).setdefault("creationTimestamp", None)
    pod_spec(template.setdefault("spec", {}))
    for claim in parts(spec, "volumeClaimTemplates"):
        _fill(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        _claim(claim)
    raw.setdefault("status", {"replicas": 0})


def _pod(raw: Raw) -> None:
    spec: Raw = raw.setdefault("spec", {})
    pod_spec(spec)
    _fill(spec, enableServiceLinks=True, priority=0, preemptionPolicy="PreemptLowerPriority")
    _fill(spec, serviceAccountName="default")
    _fill(spec, serviceAccount=spec["serviceAccountName"])
    for container in (*parts(spec, "initContainers"), *parts(spec, "containers")):
        resources: Raw = container["resources"]
        if limits := resources.get("limits"):
            resources["requests"] = limits | resources.get("requests", {})
    raw.setdefault("status", {"phase": "Pending", "qosClass": quality(spec)})


def quality(spec: Raw) -> str:
    """The QoS class (pkg/apis/core/v1/helper/qos)."""
    containers: list[Raw] = parts(spec, "containers")
    named = [part(container, "resources") for container in containers]
    if not any(resources.get("requests") or resources.get("limits") for resources in named):
        return "BestEffort"
    whole = all(
        resources.get("limits", {}).keys() >= {"cpu", "memory"}
        and resources.get("requests", resources["limits"]) == resources["limits"]
        for resources in named
    )
    return "Guaranteed" if whole else "Burstable"


def pod_spec(spec: Raw) -> None:
    _fill(spec, dnsPolicy="ClusterFirst", restartPolicy="Always", schedulerName="default-scheduler", securityContext={})
    _fill(spec, terminationGracePeriodSeconds=30)
    for container in (*parts(spec, "initContainers"), *parts(spec, "containers")):
        _container(container)
    for volume in parts(spec, "volumes"):
        for source in ("configMap", "secret", "projected"):
            if source in volume:
                _fill(volume[source], defaultMode=420)


def _container(raw: Raw) -> None:
    tag = str(raw.get("image", "")).rpartition("/")[2].partition(":")[2]
    policy = "Always" if tag in ("", "latest") else "IfNotPresent"
    _fill(raw, imagePullPolicy=policy, resources={}, terminationMessagePath="/dev/termination-log")
    _fill(raw, terminationMessagePolicy="File")
    for port in parts(raw, "ports"):
        _fill(port, protocol="TCP")
    for variable in parts(raw, "env"):
        if reference := part(variable, "valueFrom").get("fieldRef"):
            _fill(reference, apiVersion="v1")
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe := raw.get(name):
            _probe(probe)


def _probe(raw: Raw) -> None:
    # A zero is an absent number in Go.
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        raw[key] = raw.get(key) or value
    if (http := raw.get("httpGet")) is not None:
        _fill(http, scheme="HTTP", path="/")


def _service(raw: Raw) -> None:
    spec: Raw = raw.setdefault("spec", {})
    _fill(spec, type="ClusterIP", sessionAffinity="None")
    if "clusterIP" not in spec:
        number = next(_service_numbers)
        spec["clusterIP"] = f"10.96.{number // 250}.{number % 250 + 1}"
    _fill(spec, clusterIPs=[spec["clusterIP"]])
    for port in parts(spec, "ports"):
        _fill(port, protocol="TCP")
        _fill(port, targetPort=port.get("port"))
    raw.setdefault("status", {"loadBalancer": {}})


def _claim(raw: Raw) -> None:
    _fill(raw.setdefault("spec", {}), volumeMode="Filesystem")
    raw.setdefault("status", {"phase": "Pending"})


def _volume(raw: Raw) -> None:
    _fill(raw.setdefault("spec", {}), volumeMode="Filesystem", persistentVolumeReclaimPolicy="Retain")
    raw.setdefault("status", {"phase": "Available"})


def _secret(raw: Raw) -> None:
    _fill(raw, type="Opaque")
    plain = part(raw, "stringData")
    raw.pop("stringData", None)
    for key, value in plain.items():
        raw.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()


def _namespace(raw: Raw) -> None:
    _fill(raw.setdefault("spec", {}), finalizers=["kubernetes"])
    raw.setdefault("status", {"phase": "Active"})


def _budget(raw: Raw) -> None:
    zeros = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}
    raw.setdefault("status", zeros)


def _storage_class(raw: Raw) -> None:
    _fill(raw, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _binding(raw: Raw) -> None:
    for subject in parts(raw, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            _fill(subject, apiGroup="rbac.authorization.k8s.io")


_OF_KIND: Final[dict[str, Callable[[Raw], None]]] = {
    "StatefulSet": _stateful_set,
    "Pod": _pod,
    "Service": _service,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume,
    "Secret": _secret,
    "Namespace": _namespace,
    "PodDisruptionBudget": _budget,
    "StorageClass": _storage_class,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}
