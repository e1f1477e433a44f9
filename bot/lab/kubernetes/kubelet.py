"""The kubelet of all nodes: runs the pods that are bound to one, reports their state, and ends them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bot.lab.kubernetes.containers import FIRST_BACK_OFF, ContainerRunner, Surroundings
from bot.lab.kubernetes.defaults import quality
from bot.lab.kubernetes.events import Recorder, Source
from bot.lab.kubernetes.kinds import ENDPOINTS, POD, SERVICE
from bot.lab.kubernetes.objects import (
    Raw,
    labels_of,
    matches,
    name_of,
    namespace_of,
    part,
    parts,
    stamp,
    terminating,
    uid_of,
)
from bot.lab.kubernetes.registry import Registry
from bot.lab.kubernetes.sandbox import Addresses
from bot.lab.kubernetes.volumes import NotMounted, Volumes
from bot.lab.process import LabError

SYNC_INTERVAL: Final = 0.2
"""Seconds between two looks at the pods, at the latest."""
MOUNT_RETRY: Final = 0.5
"""Seconds until a missing volume is looked for again; a real kubelet doubles them from 0.5."""
KUBELET: Final = "kubelet"


class PodRunner:
    """One pod, from its binding to its end."""

    def __init__(self, kubelet: "Kubelet", pod: Raw) -> None:
        self._kubelet = kubelet
        self._pod = pod
        self.uid = uid_of(pod)
        self.address = kubelet.addresses.give()
        self._started_at = stamp(kubelet.registry.store.clock())
        folder = kubelet.folder / "pods" / self.uid
        self.volumes = Volumes(pod, kubelet.registry.store, folder, kubelet.folder, self.address)
        around = Surroundings(
            store=kubelet.registry.store,
            pod=self.latest,
            address=self.address,
            folder=folder,
            volumes=self.volumes,
            tell=self._tell,
            changed=self.publish,
            first_back_off=kubelet.first_back_off,
        )
        self.containers = {raw["name"]: ContainerRunner(raw, around) for raw in pod["spec"]["containers"]}
        self._mounted = False
        self._hosts = ""
        self._ending: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._run())

    def latest(self) -> Raw:
        """The pod as the API server has it, or as it was last."""
        found = self._kubelet.registry.store.get(POD, namespace_of(self._pod), name_of(self._pod))
        if found is not None and uid_of(found) == self.uid:
            self._pod = found
        return self._pod

    def sync(self) -> None:
        """Follows what has changed: a deletion, a configuration."""
        kubelet = self._kubelet
        pod = kubelet.registry.store.get(POD, namespace_of(self._pod), name_of(self._pod))
        if pod is None or uid_of(pod) != self.uid:
            self._begin_end(0)  # deleted by force: the API server knows it no longer
        elif terminating(pod):
            self._begin_end(pod["metadata"]["deletionGracePeriodSeconds"])
        elif self._mounted:
            with contextlib.suppress(NotMounted):  # what is gone stays as it was last
                self.volumes.refresh(time.monotonic(), kubelet.config_delay)
        self._write_hosts()
        if self._task.done() and not self._task.cancelled() and (error := self._task.exception()):
            raise error

    def publish(self) -> None:
        """Reports its state to the API server."""
        pod = self.latest()
        status = self._status(parts(pod, "status", "conditions"))
        self._kubelet.registry.write_status(POD, pod, status, KUBELET)

    async def close(self) -> None:
        """Kills it; the API server hears nothing."""
        self._begin_end(0)
        for container in self.containers.values():
            if container.pid is not None:
                container.kill()
        if self._ending is not None:
            await self._ending

    async def _run(self) -> None:
        self.publish()
        while not self._mounted:
            try:
                self.volumes.make()
            except NotMounted as error:
                self._tell("Warning", "FailedMount", str(error), "")
                await asyncio.sleep(MOUNT_RETRY)
                continue
            for container in self.containers:
                (self._kubelet.folder / "pods" / self.uid / container / "etc").mkdir(parents=True, exist_ok=True)
            self._mounted = True
        self._write_hosts()
        # A container that cannot be run at all fails the whole laboratory, so its error is not wrapped in a group.
        await asyncio.gather(*(container.run() for container in self.containers.values()))

    def _begin_end(self, grace: float) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(grace))

    async def _end(self, grace: float) -> None:
        for container in self.containers.values():
            if container.pid is not None:
                self._tell("Normal", "Killing", f"Stopping container {container.name}", container.name)
        stopping = [asyncio.create_task(container.stop(grace)) for container in self.containers.values()]
        force = asyncio.create_task(self._cut_short(grace))
        await asyncio.gather(*stopping)
        force.cancel()
        if not self._mounted:
            self._task.cancel()
        await asyncio.gather(self._task, force, return_exceptions=True)
        self.volumes.remove()
        self._kubelet.ended(self)

    async def _cut_short(self, grace: float) -> None:
        """A second deletion may shorten the grace period."""
        end = time.monotonic() + grace
        while True:
            await asyncio.sleep(SYNC_INTERVAL)
            pod = self._kubelet.registry.store.get(POD, namespace_of(self._pod), name_of(self._pod))
            left = pod["metadata"].get("deletionGracePeriodSeconds", grace) if pod and uid_of(pod) == self.uid else 0
            if left < grace and time.monotonic() < end:
                for container in self.containers.values():
                    if container.pid is not None:
                        container.kill()
                return

    def _status(self, old: list[Raw]) -> Raw:
        statuses = [container.status() for container in self.containers.values()]
        ready = all(container.ready for container in self.containers.values())
        ran = all("waiting" not in s["state"] or s["lastState"] for s in statuses)
        unready = [name for name, container in self.containers.items() if not container.ready]
        why = (
            {}
            if ready
            else {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(unready)}]"}
        )
        conditions = [
            self._condition(old, "Initialized", "True", {}),
            self._condition(old, "Ready", str(ready), why),
            self._condition(old, "ContainersReady", str(ready), why),
            self._condition(old, "PodScheduled", "True", {}),
        ]
        return {
            "phase": "Running" if ran else "Pending",
            "conditions": conditions,
            "hostIP": self._kubelet.host_address,
            **({"podIP": self.address, "podIPs": [{"ip": self.address}]} if ran else {}),
            "startTime": self._started_at,
            "containerStatuses": statuses,
            "qosClass": quality(self._pod["spec"]),
        }

    def _condition(self, old: list[Raw], kind: str, status: str, why: Raw) -> Raw:
        before = next((c for c in old if c["type"] == kind and c["status"] == status), None)
        since = before["lastTransitionTime"] if before else stamp(self._kubelet.registry.store.clock())
        return {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": since, **why}

    def _write_hosts(self) -> None:
        if not self._mounted:
            return
        names = self._kubelet.names(namespace_of(self._pod))
        text = f"127.0.0.1 localhost\n{self.address} {name_of(self._pod)}\n{names}"
        if text == self._hosts:
            return
        self._hosts = text
        for container in self.containers:
            file = self._kubelet.folder / "pods" / self.uid / container / "etc/hosts"
            file.with_name("hosts.new").write_text(text)
            file.with_name("hosts.new").replace(file)

    def _tell(self, kind: str, reason: str, message: str, container: str) -> None:
        node = self._pod["spec"].get("nodeName", "")
        self._kubelet.recorder.record(self._pod, kind, reason, message, Source(KUBELET, node), container)


class Kubelet:
    """Runs pods. `config_delay` is how many seconds a changed ConfigMap takes to reach its files."""

    def __init__(
        self,
        registry: Registry,
        recorder: Recorder,
        folder: Path,
        *,
        config_delay: float = 1.0,
        first_back_off: float = FIRST_BACK_OFF,
    ) -> None:
        self.registry = registry
        self.recorder = recorder
        self.folder = folder
        self.config_delay = config_delay
        self.first_back_off = first_back_off
        self.addresses = Addresses()
        self._pods: dict[str, PodRunner] = {}

    @property
    def host_address(self) -> str:
        return f"{self.addresses.prefix}.1"

    def runner(self, pod: Raw) -> PodRunner | None:
        return self._pods.get(uid_of(pod))

    def log(self, pod: Raw, container: str, *, previous: bool) -> str | None:
        """See `api.Pods`."""
        runner = self.runner(pod)
        return runner.containers[container].log(previous=previous) if runner else None

    def container(self, namespace: str, name: str) -> ContainerRunner:
        """The first container of a pod. Raises `LabError` where the pod does not run."""
        pod = self.registry.store.get(POD, namespace, name)
        runner = self.runner(pod) if pod else None
        if runner is None:
            raise LabError(f"pod {name} does not run")
        return next(iter(runner.containers.values()))

    def sync(self) -> None:
        """One look at all pods. Raises `LabError` where the machine cannot run any."""
        for pod in self.registry.store.list(POD):
            if pod["spec"].get("nodeName") and uid_of(pod) not in self._pods and not terminating(pod):
                self._pods[uid_of(pod)] = PodRunner(self, pod)
        for runner in tuple(self._pods.values()):
            runner.sync()

    def ended(self, runner: PodRunner) -> None:
        """A pod's last process is gone, so the API server may forget it."""
        self.addresses.take_back(runner.address)
        self._pods.pop(runner.uid, None)
        pod = runner.latest()
        found = self.registry.store.get(POD, namespace_of(pod), name_of(pod))
        if found is not None and uid_of(found) == runner.uid and terminating(found):
            self.registry.store.remove(POD, namespace_of(pod), name_of(pod))

    def _all_behind(self, service: Raw, qualify: Callable[[str], str]) -> Iterator[str]:
        """A pod has a name as soon as it has an address. It is there before its neighbours start, who look at their file once in 5 seconds."""
        selector = {"matchLabels": part(service, "spec", "selector")}
        for runner in self._pods.values():
            pod = runner.latest()
            if namespace_of(pod) != namespace_of(service) or terminating(pod) or not matches(selector, labels_of(pod)):
                continue
            for name in filter(None, (name_of(service), _hostname(pod, name_of(service)))):
                yield f"{runner.address} {qualify(name)}"

    async def close(self) -> None:
        """Kills every pod."""
        try:
            await asyncio.gather(*(runner.close() for runner in tuple(self._pods.values())))
        finally:
            self.addresses.close()

    def names(self, namespace: str) -> str:
        """The lines of /etc/hosts that stand for the cluster's DNS, as a pod in this namespace sees them."""
        lines = (line for service in self.registry.store.list(SERVICE) for line in self._names_of(service, namespace))
        return "".join(f"{line}\n" for line in lines)

    def _names_of(self, service: Raw, seen_from: str) -> Iterator[str]:
        namespace, name = namespace_of(service), name_of(service)
        endpoints = self.registry.store.get(ENDPOINTS, namespace, name)
        qualify = partial(_spellings, namespace=namespace, seen_from=seen_from)
        if service["spec"].get("publishNotReadyAddresses"):
            yield from self._all_behind(service, qualify)
            return
        for subset in parts(endpoints or {}, "subsets"):
            for address in parts(subset, "addresses"):
                yield f"{address['ip']} {qualify(name)}"
                if address.get("hostname"):
                    yield f"{address['ip']} {qualify(address['hostname'] + '.' + name)}"


def _hostname(pod: Raw, service: str) -> str:
    """`nats-0.nats-headless` for a pod that has a name below this service."""
    return f"{pod['spec'].get('hostname')}.{service}" if pod["spec"].get("subdomain") == service else ""


def _spellings(name: str, namespace: str, seen_from: str) -> str:
    """A name with and without the parts that a search list adds."""
    full = f"{name}.{namespace}"
    short = f"{name} " if namespace == seen_from else ""
    return f"{short}{full} {full}.svc {full}.svc.cluster.local"
