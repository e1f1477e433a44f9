"""`StandInKubernetes`: the whole stand-in as one object, for tests and for the demo."""

import asyncio
import copy
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import yaml
from aiohttp import web

from bot.lab.kubernetes.api import Api, ArrivedWrite
from bot.lab.kubernetes.containers import FIRST_BACK_OFF
from bot.lab.kubernetes.controllers import DEFAULT_CLASS, Controllers
from bot.lab.kubernetes.events import Recorder
from bot.lab.kubernetes.faults import Faults
from bot.lab.kubernetes.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    NAMESPACE,
    NODE,
    POD,
    STATEFUL_SET,
    STORAGE_CLASS,
    Kind,
    kind_named,
)
from bot.lab.kubernetes.kubelet import Kubelet
from bot.lab.kubernetes.objects import Clock, Raw, name_of, namespace_of, now, part, running_and_ready, stamp
from bot.lab.kubernetes.patches import PatchType
from bot.lab.kubernetes.rbac import Access, Attempt, User
from bot.lab.kubernetes.registry import Registry, Write
from bot.lab.kubernetes.store import Store
from bot.lab.kubernetes.tls import HOST, Certificate, make_certificate
from bot.lab.process import LabError

BODY_BYTES_MAX: Final = 3 * 2**20
"""What an API server takes (`MaxRequestBodyBytes`)."""
READY_TIMEOUT: Final = 45.0
"""Seconds for a StatefulSet of three; an idle machine needs 3 to 10."""
POLL_INTERVAL: Final = 0.05
ADMINISTRATOR: Final = "administrator"
"""Field manager of what the laboratory itself writes."""


class StandInKubernetes:
    """`async with StandInKubernetes(directory) as kube:` is a cluster that leaves no process behind.

    Args:
        directory: where pods, claims and kubeconfigs lie.
        namespace: the one that `apply` and the shortcuts mean; it is made.
        nodes: how many nodes there are, each in a zone of its own, up to three zones.
        config_delay: seconds that a changed ConfigMap takes to reach the files of a pod; a real one takes up to two minutes.
        first_back_off: seconds of the first CrashLoopBackOff; a real kubelet has 10.
        tls: serves https with a certificate of its own, which needs the program openssl. `kubectl` gives its token to nobody without.
        open_door: takes requests without a token for the administrator's.
        clock: the time that objects are stamped with.

    Raises `LabError` where the machine lets nobody make namespaces, or has no loopback addresses beside 127.0.0.1.
    """

    def __init__(
        self,
        directory: Path,
        *,
        namespace: str = "nats",
        nodes: int = 3,
        config_delay: float = 1.0,
        first_back_off: float = FIRST_BACK_OFF,
        tls: bool = False,
        open_door: bool = False,
        clock: Clock = now,
    ) -> None:
        self.namespace = namespace
        self.directory = directory.absolute()
        self.faults = Faults()
        self._token = secrets.token_urlsafe(24)
        self._store = Store(clock)
        self._registry = Registry(self._store)
        recorder = Recorder(self._registry)
        self._kubelet = Kubelet(
            self._registry, recorder, self.directory, config_delay=config_delay, first_back_off=first_back_off
        )
        self._access = Access(self._store, self._token, open_door=open_door)
        self._api = Api(self._registry, self._access, self.faults, self._kubelet)
        self._controllers = Controllers(self._registry, recorder, self._kubelet, self.faults)
        self._nodes = nodes
        self._tls = tls
        self._certificate: Certificate | None = None
        self._loop: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._port = 0

    # Life.

    async def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._tls:
            self._certificate = await make_certificate(self.directory)
        self._kubelet.addresses.open()
        self._found()
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._api.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await self._listen()
        self._loop = asyncio.create_task(self._controllers.run())

    async def stop(self) -> None:
        """Kills every pod and closes every connection; may be called twice. Raises what ended the controllers, if anything did."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            await asyncio.wait([loop])
        try:
            await self._kubelet.close()
        finally:
            if self._runner is not None:
                await self._runner.cleanup()
                self._runner = None
        if loop is not None and not loop.cancelled() and (error := loop.exception()):
            raise error

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _listen(self) -> None:
        assert self._runner is not None
        context = self._certificate.context() if self._certificate else None
        self._site = web.TCPSite(self._runner, HOST, self._port, ssl_context=context, reuse_address=True)
        await self._site.start()
        self._port = int(self._runner.addresses[0][1])

    def _found(self) -> None:
        """What every cluster has."""
        for name in {"default", "kube-system", self.namespace}:
            self._create(NAMESPACE, "", {"metadata": {"name": name}})
        for index in range(self._nodes):
            self._create(NODE, "", _node(index))
            self._registry.write_status(
                NODE, self._registry.get(NODE, "", f"node-{index}"), _node_status(self._store), ADMINISTRATOR
            )
        meta = {"name": "standard", "annotations": {DEFAULT_CLASS: "true"}}
        body = {"metadata": meta, "provisioner": "lab.natsmedic.dev/folder", "allowVolumeExpansion": True}
        self._create(STORAGE_CLASS, "", body)

    def _create(self, kind: Kind, namespace: str, body: Raw) -> Raw:
        return self._registry.create(kind, namespace, body, Write(ADMINISTRATOR))

    # Ways in.

    @property
    def url(self) -> str:
        """Address of the API server."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self._port}"

    @property
    def authority(self) -> Path | None:
        """The file of the certificate to trust; None without TLS."""
        return self._certificate.file if self._certificate else None

    @property
    def token(self) -> str:
        """The administrator's."""
        return self._token

    def kubeconfig(self, path: Path | None = None, token: str | None = None) -> Path:
        """Writes a kubeconfig of the administrator, or of whoever has that token."""
        target = path or self.directory / f"kubeconfig-{secrets.token_hex(3)}"
        trust = {"certificate-authority": str(self.authority)} if self.authority else {}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": self.url} | trust}],
            "users": [{"name": "lab", "user": {"token": token or self._token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": self.namespace}}],
            "current-context": "lab",
        }
        target.write_text(yaml.safe_dump(content))
        target.chmod(0o600)
        return target

    def grant(self, user: str, rules: Sequence[Raw] = ()) -> str:
        """A token of a user who may do what these RBAC rules say, in every namespace; without rules what bindings say that name the user."""
        if rules:
            name = f"lab:{user}"
            self._create(CLUSTER_ROLE, "", {"metadata": {"name": name}, "rules": list(rules)})
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
            subjects = [{"kind": "User", "name": user}]
            self._create(CLUSTER_ROLE_BINDING, "", {"metadata": {"name": name}, "roleRef": role, "subjects": subjects})
        return self._access.issue(User(user))

    def account_token(self, name: str, namespace: str = "") -> str:
        """A token of a ServiceAccount."""
        return self._access.issue_for_account(namespace or self.namespace, name)

    def revoke(self, token: str) -> None:
        """The token is answered with 401 from now on."""
        self._access.revoke(token)

    # Doing.

    def apply(self, manifests: str | Iterable[Raw], manager: str = "kubectl") -> list[Raw]:
        """Creates or changes objects, without a question about conflicts. Raises `Refused`, `LabError`."""
        wanted = yaml.safe_load_all(manifests) if isinstance(manifests, str) else manifests
        return [self._apply(cast("Raw", raw), manager) for raw in wanted if raw]

    def _apply(self, raw: Raw, manager: str) -> Raw:
        kind = kind_named(str(raw.get("apiVersion")), str(raw.get("kind")))
        if kind is None:
            raise LabError(f"the stand-in has no {raw.get('apiVersion')} {raw.get('kind')}")
        namespace = str(raw["metadata"].get("namespace") or self.namespace) if kind.namespaced else ""
        if kind.namespaced and self._store.get(NAMESPACE, "", namespace) is None:
            self._create(NAMESPACE, "", {"metadata": {"name": namespace}})
        name = str(raw["metadata"]["name"])
        if self._store.get(kind, namespace, name) is None:
            return self._registry.create(kind, namespace, raw, Write(manager))
        how = PatchType.MERGE if kind.custom else PatchType.STRATEGIC
        return self._registry.patch(kind, namespace, name, how, raw, Write(manager))

    def recreate(self, api_version: str, kind: str, name: str, namespace: str = "") -> Raw:
        """Deletes an object and makes it again: the same name and content with another uid. What it owned goes, as after a real deletion."""
        found = kind_named(api_version, kind)
        if found is None:
            raise LabError(f"the stand-in has no {api_version} {kind}")
        place = (namespace or self.namespace) if found.namespaced else ""
        old = copy.deepcopy(self._registry.get(found, place, name))
        self._store.remove(found, place, name)
        return self._create(found, place, old)

    async def outage(self, seconds: float) -> None:
        """The API server is away for so long: connections are refused, controllers rest, pods run on. Returns when it is back."""
        assert self._site is not None
        self.faults.down = True
        await self._site.stop()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.faults.down = False
            await self._listen()

    def expire(self) -> None:
        """Forgets all changes up to now: watches from before are answered with 410, and so are pages of lists."""
        self._store.compact()

    # Looking.

    @property
    def writes(self) -> list[ArrivedWrite]:
        """Every request that could change something, in order of arrival."""
        return self._api.writes

    def asked(self, client: str) -> frozenset[Attempt]:
        """What a client of this name (its field manager or User-Agent) asked to do, reviews of its own rights left out."""
        return frozenset(attempt for name, attempt in self._access.asked if name == client)

    def get(self, kind: str, name: str, namespace: str = "", api_version: str = "v1") -> Raw | None:
        """A copy of an object; None where there is none."""
        found = kind_named("apps/v1" if kind in ("StatefulSet", "ControllerRevision") else api_version, kind)
        if found is None:
            raise LabError(f"the stand-in has no {api_version} {kind}")
        place = (namespace or self.namespace) if found.namespaced else ""
        return copy.deepcopy(self._store.get(found, place, name))

    def pods(self, namespace: str = "") -> list[str]:
        """Names of the pods."""
        return [name_of(pod) for pod in self._store.list(POD, namespace or self.namespace)]

    def pod_address(self, name: str, namespace: str = "") -> str:
        """The loopback address of a pod, whose ports 4222, 6222 and 8222 are real. Raises `LabError` while it has none."""
        pod = self._store.get(POD, namespace or self.namespace, name)
        address = part(pod, "status").get("podIP") if pod else None
        if not address:
            raise LabError(f"pod {name} has no address")
        return str(address)

    def pod_pid(self, name: str, namespace: str = "") -> int:
        """Process id of a pod's nats-server, for signals. Raises `LabError` while it does not run."""
        pid = self._kubelet.container(namespace or self.namespace, name).pid
        if pid is None:
            raise LabError(f"pod {name} does not run")
        return pid

    def pod_log(self, name: str, namespace: str = "", *, previous: bool = False) -> str:
        """What a pod's nats-server wrote."""
        return self._kubelet.container(namespace or self.namespace, name).log(previous=previous) or ""

    def kill_pod(self, name: str, namespace: str = "", *, oom: bool = False) -> None:
        """SIGKILL; with `oom` the pod says OOMKilled."""
        self._kubelet.container(namespace or self.namespace, name).kill(oom=oom)

    async def wait_ready(self, name: str = "nats", namespace: str = "", within: float = READY_TIMEOUT) -> None:
        """Returns once a StatefulSet has all its pods ready and, unless a partition or OnDelete forbids it, of its newest template. Raises `LabError`."""
        place = namespace or self.namespace
        deadline = time.monotonic() + within
        while not self._rolled_out(name, place):
            if self._loop is not None and self._loop.done():
                await self._loop
            if time.monotonic() > deadline:
                raise LabError(
                    f"StatefulSet {name} is not ready after {within:.0f} s: {self._what_is_missing(name, place)}"
                )
            await asyncio.sleep(POLL_INTERVAL)

    def _rolled_out(self, name: str, namespace: str) -> bool:
        raw = self._store.get(STATEFUL_SET, namespace, name)
        if raw is None or raw["status"].get("observedGeneration") != raw["metadata"]["generation"]:
            return False
        status, spec = raw["status"], raw["spec"]
        strategy: Raw = spec["updateStrategy"]
        held = 0
        if strategy["type"] == "RollingUpdate":
            held = min(strategy.get("rollingUpdate", {}).get("partition", 0), spec["replicas"])
            if (
                status.get("updatedReplicas", 0) < spec["replicas"] - held
                and status["currentRevision"] != status["updateRevision"]
            ):
                return False
        return spec["replicas"] == status["replicas"] == status.get("readyReplicas", 0)

    def _what_is_missing(self, name: str, namespace: str) -> str:
        raw = self._store.get(STATEFUL_SET, namespace, name)
        if raw is None:
            return "it does not exist"
        pods = [pod for pod in self._store.list(POD, namespace) if namespace_of(pod) == namespace]
        said = [f"{name_of(p)} {'ready' if running_and_ready(p) else _state(p)}" for p in pods]
        return f"{raw['status']}; pods: {', '.join(said) or 'none'}"


def _state(pod: Raw) -> str:
    with suppress(KeyError, IndexError):
        return str(pod["status"]["containerStatuses"][0]["state"])
    return str(pod.get("status"))


def _node(index: int) -> Raw:
    labels = {
        "kubernetes.io/hostname": f"node-{index}",
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": f"zone-{'abc'[index % 3]}",
        "topology.kubernetes.io/region": "lab",
    }
    return {"metadata": {"name": f"node-{index}", "labels": labels}, "spec": {}}


def _node_status(store: Store) -> Raw:
    time_of = stamp(store.clock())
    room = {"cpu": "4", "memory": "16Gi", "pods": "110"}
    kinds = (("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True"))
    conditions = [
        {"type": kind, "status": status, "reason": "Lab", "message": "", "lastTransitionTime": time_of}
        for kind, status in kinds
    ]
    return {"capacity": room, "allocatable": room, "conditions": conditions}
