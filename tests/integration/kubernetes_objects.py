"""Objects of a NATS cluster in Kubernetes, as the charts shape them, with secrets planted wherever one could hide."""

from typing import Any

from tests.integration.kubernetes_support import IMAGE, PULL_POLICY, Raw

CANARY = "c4n4ry"
"""Part of every planted secret."""

CONF = f"""# password: {CANARY}-comment
server_name: $POD_NAME
port: 4222, http_port: 8222
jetstream {{ store_dir: /data, max_memory_store: 64Mi, max_file_store: 256Mi }}
cluster {{
  name: nats, port: 6222
  routes: [ nats://route:{CANARY}-route@nats-0.nats-headless:6222
            nats://route:{CANARY}-route@nats-1.nats-headless:6222 ]
  authorization {{ user: route, password: {CANARY}-route }}
}}
include accounts.conf
lame_duck_duration: 30s
"""
ACCOUNTS = f"""accounts {{
  SYS: {{ users: [ {{ user: sys, password: {CANARY}-sys }} ] }}
  APP: {{ jetstream: enabled, users: [ {{ user: app, password: {CANARY}-app }} ] }}
}}
system_account: SYS
"""
LABELS = {"app.kubernetes.io/name": "nats", "app.kubernetes.io/instance": "nats"}
HELM = {
    "meta.helm.sh/release-name": "nats",
    "meta.helm.sh/release-namespace": "queues",
    "vault.example.com/token": f"{CANARY}-annotation",
}


def metadata(name: str, namespace: str, **more: Any) -> Raw:
    return {"name": name, "namespace": namespace, "labels": LABELS, **more}


def services(namespace: str) -> list[Raw]:
    ports = [{"name": "nats", "port": 4222}, {"name": "cluster", "port": 6222}, {"name": "monitor", "port": 8222}]
    headless = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": LABELS, "ports": ports}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata("nats-headless", namespace), "spec": headless},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata("nats", namespace),
            "spec": {"selector": LABELS, "ports": ports[:1]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "shop", "namespace": namespace},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]},
        },
    ]


def config_map(namespace: str) -> Raw:
    data = {"nats.conf": CONF, "accounts.conf": ACCOUNTS, "notes.txt": f"{CANARY}-notes"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("nats-config", namespace), "data": data}


def config_secret(namespace: str) -> Raw:
    data = {"nats.conf": CONF.replace("include accounts.conf\n", ACCOUNTS), "other": f"{CANARY}-other"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata("nats", namespace), "stringData": data}


def container(image: str = IMAGE) -> Raw:
    return {
        "name": "nats",
        "image": image,
        "imagePullPolicy": PULL_POLICY,
        "args": ["--config", "/etc/nats-config/nats.conf", "--pass", f"{CANARY}-argument"],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "GOMEMLIMIT", "value": "100MiB"},
            {"name": "TOKEN", "value": f"{CANARY}-variable"},
        ],
        "ports": [
            {"name": "nats", "containerPort": 4222},
            {"name": "cluster", "containerPort": 6222},
            {"name": "monitor", "containerPort": 8222},
        ],
        "readinessProbe": {
            "httpGet": {
                "path": "/healthz?js-server-only=true",
                "port": "monitor",
                "httpHeaders": [{"name": "Authorization", "value": f"{CANARY}-header"}],
            },
            "periodSeconds": 2,
        },
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": "monitor"},
            "periodSeconds": 2,
            "failureThreshold": 90,
        },
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "volumeMounts": [{"name": "config", "mountPath": "/etc/nats-config"}, {"name": "data", "mountPath": "/data"}],
    }


def stateful_set(namespace: str, name: str = "nats", image: str = IMAGE, storage_class: str = "") -> Raw:
    """Two servers; their store lies on claims of a storage class, or nowhere."""
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": LABELS},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(name, namespace, annotations=HELM),
        "spec": {
            "serviceName": "nats-headless",
            "replicas": 2,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS, "annotations": {"checksum/config": "abc"}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "topologySpreadConstraints": [spread],
                    "containers": [container(image)],
                    "volumes": [
                        {"name": "config", "configMap": {"name": "nats-config"}},
                        *([] if storage_class else [{"name": "data", "emptyDir": {}}]),
                    ],
                },
            },
            "volumeClaimTemplates": [claim_template(storage_class)] if storage_class else [],
        },
    }


def claim_template(storage_class: str) -> Raw:
    spec = {
        "storageClassName": storage_class,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "512Mi"}},
    }
    return {"metadata": {"name": "data"}, "spec": spec}


def budget(namespace: str, api: str) -> Raw:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}
    return {"apiVersion": api, "kind": "PodDisruptionBudget", "metadata": metadata("nats", namespace), "spec": spec}


def nack_definition(plural: str, kind: str) -> Raw:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.jetstream.nats.io"},
        "spec": {
            "group": "jetstream.nats.io",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1beta2", "served": True, "storage": True, "schema": schema}],
        },
    }
