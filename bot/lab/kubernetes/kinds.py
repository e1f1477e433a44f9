"""The kinds that the stand-in serves, and how an API server tells of them (discovery)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bot.lab.kubernetes.objects import Raw

VERSION: Final[Raw] = {
    "major": "1",
    "minor": "21",
    "gitVersion": "v1.21.0-natsmedic-lab",
    "gitCommit": "lab",
    "gitTreeState": "clean",
    "buildDate": "2021-04-08T16:25:06Z",
    "goVersion": "go1.16.1",
    "compiler": "gc",
    "platform": "linux/amd64",
}
"""1.21 is the version that has both `v1beta1` and `v1` of PodDisruptionBudget and EndpointSlice."""

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of object and its address, compared by identity. The first of `versions` is the preferred one."""

    kind: str
    plural: str
    group: str = ""
    versions: tuple[str, ...] = ("v1",)
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    generation: bool = False
    """Whether `metadata.generation` counts the changes of its spec."""
    custom: bool = False
    """Whether it is there only after somebody has defined it, by a CustomResourceDefinition."""

    @property
    def resource(self) -> str:
        """`statefulsets.apps`, as errors name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified(self) -> str:
        """`StatefulSet.apps`, as errors of validation name it."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def api(self, version: str = "") -> str:
        """`apps/v1`, or `v1` for the core."""
        chosen = version or self.versions[0]
        return f"{self.group}/{chosen}" if self.group else chosen

    def path(self, namespace: str = "", name: str = "") -> str:
        root = f"/apis/{self.api()}" if self.group else f"/api/{self.api()}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{place}/{self.plural}" + (f"/{name}" if name else "")


NAMESPACE: Final = Kind("Namespace", "namespaces", namespaced=False, short=("ns",), subresources=("status",))
POD: Final = Kind("Pod", "pods", short=("po",), subresources=("status", "log", "eviction", "proxy"))
SERVICE: Final = Kind("Service", "services", short=("svc",), subresources=("status",))
ENDPOINTS: Final = Kind("Endpoints", "endpoints", short=("ep",))
CONFIG_MAP: Final = Kind("ConfigMap", "configmaps", short=("cm",))
SECRET: Final = Kind("Secret", "secrets")
SERVICE_ACCOUNT: Final = Kind("ServiceAccount", "serviceaccounts", short=("sa",), subresources=("token",))
EVENT: Final = Kind("Event", "events", short=("ev",))
CLAIM: Final = Kind("PersistentVolumeClaim", "persistentvolumeclaims", short=("pvc",), subresources=("status",))
VOLUME: Final = Kind("PersistentVolume", "persistentvolumes", namespaced=False, short=("pv",), subresources=("status",))
NODE: Final = Kind("Node", "nodes", namespaced=False, short=("no",), subresources=("status",))
STATEFUL_SET: Final = Kind(
    "StatefulSet", "statefulsets", "apps", short=("sts",), subresources=("status", "scale"), generation=True
)
REVISION: Final = Kind("ControllerRevision", "controllerrevisions", "apps")
STORAGE_CLASS: Final = Kind("StorageClass", "storageclasses", "storage.k8s.io", namespaced=False, short=("sc",))
SLICE: Final = Kind("EndpointSlice", "endpointslices", "discovery.k8s.io", ("v1", "v1beta1"), generation=True)
BUDGET: Final = Kind(
    "PodDisruptionBudget", "poddisruptionbudgets", "policy", ("v1", "v1beta1"), short=("pdb",), subresources=("status",), generation=True
)  # fmt: skip
_RBAC = "rbac.authorization.k8s.io"
ROLE: Final = Kind("Role", "roles", _RBAC)
ROLE_BINDING: Final = Kind("RoleBinding", "rolebindings", _RBAC)
CLUSTER_ROLE: Final = Kind("ClusterRole", "clusterroles", _RBAC, namespaced=False)
CLUSTER_ROLE_BINDING: Final = Kind("ClusterRoleBinding", "clusterrolebindings", _RBAC, namespaced=False)
DEFINITION: Final = Kind(
    "CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io", namespaced=False, short=("crd",), subresources=("status",), generation=True
)  # fmt: skip
_NACK = "jetstream.nats.io"
NACK_STREAM: Final = Kind(
    "Stream", "streams", _NACK, ("v1beta2",), subresources=("status",), generation=True, custom=True
)
NACK_CONSUMER: Final = Kind(
    "Consumer", "consumers", _NACK, ("v1beta2",), subresources=("status",), generation=True, custom=True
)
"""The custom resources that the stand-in can serve; a definition of any other is stored and serves nothing. Their schemas are not enforced."""

KINDS: Final = (
    *(NAMESPACE, POD, SERVICE, ENDPOINTS, CONFIG_MAP, SECRET, SERVICE_ACCOUNT, EVENT, CLAIM, VOLUME, NODE),
    *(STATEFUL_SET, REVISION, STORAGE_CLASS, SLICE, BUDGET, ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING),
    *(DEFINITION, NACK_STREAM, NACK_CONSUMER),
)
BUILT_IN: Final = tuple(kind for kind in KINDS if not kind.custom)
REVIEWS: Final = "authorization.k8s.io/v1"
"""The API of SelfSubjectAccessReview, which stores nothing."""


def kind_at(group: str, version: str, plural: str) -> Kind | None:
    return next((k for k in KINDS if (k.group, k.plural) == (group, plural) and version in k.versions), None)


def kind_named(api_version: str, name: str) -> Kind | None:
    """The kind of a manifest."""
    return next((k for k in KINDS if k.kind == name and api_version in (k.api(v) for v in k.versions)), None)


def discovery(path: str, served: Sequence[Kind] = BUILT_IN) -> Raw | None:
    """What `/api`, `/apis` and the addresses below them answer where these kinds are served; None where there is no such API."""
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(_groups(served))}
    if path.startswith("/apis/") and path.count("/") == 2:
        group = next((g for g in _groups(served) if g["name"] == path.removeprefix("/apis/")), None)
        return group and {"kind": "APIGroup", "apiVersion": "v1", **group}
    api = path.removeprefix("/apis/").removeprefix("/api/")
    resources = list(_resources(api, served))
    if not resources:
        return None
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api, "resources": resources}


def _groups(served: Sequence[Kind]) -> Iterator[Raw]:
    found: dict[str, tuple[str, ...]] = {kind.group: kind.versions for kind in served if kind.group}
    found["authorization.k8s.io"] = ("v1",)
    for group, versions in found.items():
        named = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
        yield {"name": group, "versions": named, "preferredVersion": named[0]}


def _resources(api: str, served: Sequence[Kind]) -> Iterator[Raw]:
    for kind in served:
        if api not in (kind.api(version) for version in kind.versions):
            continue
        about = {"namespaced": kind.namespaced, "singularName": "", "kind": kind.kind}
        short: Raw = {"shortNames": list(kind.short)} if kind.short else {}
        yield {"name": kind.plural, **about, "verbs": list(VERBS), **short}
        for sub in kind.subresources:
            yield {"name": f"{kind.plural}/{sub}", **about, **_OF_SUBRESOURCE[sub]}
    if api == REVIEWS:
        kind_name = "SelfSubjectAccessReview"
        yield {"name": "selfsubjectaccessreviews", "singularName": "", "namespaced": False, "kind": kind_name, "verbs": ["create"]}  # fmt: skip


_CHANGES: Final = ["get", "patch", "update"]
_OF_SUBRESOURCE: Final[dict[str, Raw]] = {
    "status": {"verbs": _CHANGES},
    "scale": {"verbs": _CHANGES, "group": "autoscaling", "version": "v1", "kind": "Scale"},
    "log": {"verbs": ["get"]},
    "proxy": {"verbs": ["get"], "kind": "PodProxyOptions"},
    "eviction": {"verbs": ["create"], "group": "policy", "version": "v1beta1", "kind": "Eviction"},
    "token": {"verbs": ["create"], "group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"},
}
