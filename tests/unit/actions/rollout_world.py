"""A StatefulSet of three servers without Kubernetes: a controller that does what the real one does (1.20, stateful_set_control.go), one step at each look,
and servers that answer as recorded. It counts every write.
"""

import copy
import json
from collections.abc import Callable
from typing import Any, cast

from bot.action import Action, Composed
from bot.actions._statefulset import fields_of
from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.rollout import compose_image, compose_probe, compose_restart
from bot.adapters.kubernetes.redaction import clean
from bot.errors import NotYet, ObjectRefused, Unreadable
from bot.model import JsonObject, OperationId, Outcome, Snapshot, Verification, digest
from bot.model.kubernetes import Change, Kind, KubernetesFacts, Listing, Pod, Rehearsal, Verb, Workload
from bot.model.probes import ENABLED_ONLY, ProbeKind
from bot.ports import Readers, Writers
from bot.registry import load
from tests.unit.snapshots import AT, Raw, answers, raw_of, snapshot_from

SERVERS = raw_of("healthy_2.15.1") | {"samples": [s for s in raw_of("healthy_2.15.1")["samples"] if s["round"] == 0]}
ACTIONS: dict[str, Action[Any]] = dict(load().actions)
NAME, UID = "nats", "uid-nats"


def template(**container: Any) -> Raw:
    """A pod template with a strict readiness probe and secrets in it."""
    probe = {
        "httpGet": {"path": "/healthz?js-server-only=true", "port": "monitor", "scheme": "HTTP"},
        "periodSeconds": 10,
        "failureThreshold": 3,
    }
    made = {
        "name": "nats",
        "image": "nats:2.15.1",
        "args": ["--pass", "s3cret"],
        "env": [{"name": "TOKEN", "value": "s3cret"}, {"name": "GOGC", "value": "50"}],
        "ports": [{"name": "monitor", "containerPort": 8222}],
        "readinessProbe": probe,
        **container,
    }
    reloader = {"name": "reloader", "image": "natsio/nats-server-config-reloader:0.16.0"}
    return {
        "metadata": {"labels": {"app": NAME, "helm.sh/chart": "nats-2.0"}, "annotations": {"checksum": "s3cret"}},
        "spec": {"terminationGracePeriodSeconds": 60, "containers": [made, reloader]},
    }


def stateful_set(**more: Any) -> Raw:
    """As the API server would answer it."""
    spec = {
        "replicas": 3,
        "serviceName": "nats-headless",
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "selector": {"matchLabels": {"app": NAME}},
        "template": template(),
    }
    meta = {"name": NAME, "namespace": "queues", "uid": UID, "generation": 1, "resourceVersion": "1"}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec | more, "status": {}}


class World:
    """Implements what actions use of `Readers` and `Writers`."""

    cluster = "prod"
    api_timeout = 1.0

    def __init__(self, raw: Raw | None = None) -> None:
        self.raw = raw or stateful_set()
        self.revisions: dict[str, Raw] = {}
        self.writes: list[str] = []
        self.pods: dict[int, Raw] = {}
        self.made = 0
        self.sick: dict[str, Callable[[Raw], None]] = {}
        """Changes of what servers answer, by a name of the test's own."""
        self.unfit: set[str] = set()
        """Images that no node has."""
        self.hanging: set[int] = set()
        """Pods that run and do not become ready."""
        self.before_delete: Callable[[], object] = lambda: None
        self.raw["status"] = {"currentRevision": self._revision()}
        self._observe()
        for ordinal in range(3):
            self._make(ordinal)

    async def gather(self, needs: object, **more: object) -> Snapshot:
        del needs, more
        self.step()
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        text = json.dumps(SERVERS)
        for ordinal in range(3):
            text = text.replace(f'"n{ordinal}"', f'"nats-{ordinal}"')
        answers = json.loads(text)
        for ordinal, pod in self.pods.items():
            if not _running(pod):
                silence(f"nats-{ordinal}")(answers)
        for change in self.sick.values():
            change(answers)
        found = snapshot_from(answers)
        object.__setattr__(found, "kubernetes", self.facts())
        return found

    def facts(self) -> KubernetesFacts:
        pods = tuple(clean(Kind.POD, self.pods[ordinal]) for ordinal in sorted(self.pods))
        items = {Kind.STATEFUL_SET: (clean(Kind.STATEFUL_SET, self.raw),), Kind.POD: pods}
        listings = tuple(
            Listing(kind=k, verb="list", api="v1", namespace="queues", items=items.get(k, ())) for k in Kind
        )
        return KubernetesFacts("queues", AT, listings)

    def workload(self) -> Workload:
        found = self.facts().workload
        assert isinstance(found, Workload)
        return found

    async def kubernetes_object(self, kind: Kind, name: str) -> Raw | None:
        if kind is Kind.STATEFUL_SET and name == NAME:
            seen = copy.deepcopy(self.raw)
            self._observe()  # the controller is always a little late
            return seen
        if kind is Kind.REVISION and name in self.revisions:
            return {"data": {"spec": {"template": self.revisions[name] | {"$patch": "replace"}}}}
        if kind not in {Kind.STATEFUL_SET, Kind.REVISION}:
            raise Unreadable(f"the reader may not get {kind}")
        return None

    async def rehearse(self, change: Change) -> Rehearsal:
        return Rehearsal(before=change.before, after=change.after, by_server=False)

    async def write_object(self, change: Change) -> Raw:
        if change.verb is Verb.DELETE:
            self.before_delete()
            ordinal = int(change.name.rpartition("-")[2])
            if ordinal not in self.pods:
                raise ObjectRefused(str(change), 404, "NotFound", f"{change.name} not found")
            assert self.pods[ordinal]["metadata"]["uid"] == change.uid
            self.writes.append(f"delete {change.name}")
            del self.pods[ordinal]
            return {}
        assert change.verb is Verb.PATCH
        assert change.resource_version == self.raw["metadata"]["resourceVersion"], "a patch holds for what was read"
        strategy = change.after["spec"]["updateStrategy"]
        assert strategy["type"] == "RollingUpdate" or "rollingUpdate" not in strategy
        after = copy.deepcopy(change.after)
        self.edit(lambda raw: raw.update(spec=after["spec"], metadata=after["metadata"]))
        held = strategy.get("rollingUpdate", {}).get("partition")
        self.writes.append(f"patch {strategy['type']}" + ("" if held is None else f" {held}"))
        return copy.deepcopy(self.raw)

    # What the controller does.

    def edit(self, change: Callable[[Raw], None]) -> None:
        """Change the object, as the API server stores it."""
        before = copy.deepcopy(self.raw["spec"])
        change(self.raw)
        meta = self.raw["metadata"]
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
        if self.raw["spec"] != before:
            meta["generation"] += 1

    def step(self) -> None:
        """One turn: notice the spec, make what is missing, replace at most one pod."""
        self._observe()
        for ordinal in range(3):
            if ordinal not in self.pods:
                self._make(ordinal)
                return
        strategy = self.raw["spec"]["updateStrategy"]
        if strategy["type"] == "OnDelete":
            return
        ordered = self.raw["spec"]["podManagementPolicy"] == "OrderedReady"
        if ordered and not all(map(_ready, self.pods.values())):
            return
        for ordinal in range(2, strategy["rollingUpdate"]["partition"] - 1, -1):
            if self._label(ordinal) != self.raw["status"]["updateRevision"]:
                del self.pods[ordinal]
                return
            if not _ready(self.pods[ordinal]):
                return
        if all(map(_ready, self.pods.values())) and len({self._label(n) for n in range(3)}) == 1:
            self.raw["status"]["currentRevision"] = self.raw["status"]["updateRevision"]

    def revisions_of_pods(self) -> list[str]:
        return [self._label(ordinal) for ordinal in sorted(self.pods)]

    def _label(self, ordinal: int) -> str:
        return str(self.pods[ordinal]["metadata"]["labels"]["controller-revision-hash"])

    def _observe(self) -> None:
        self.raw["status"] |= {
            "updateRevision": self._revision(),
            "observedGeneration": self.raw["metadata"]["generation"],
        }

    def _revision(self) -> str:
        made = self.raw["spec"]["template"]
        name = f"{NAME}-{digest(fields_of(made))[:8]}"
        self.revisions.setdefault(name, copy.deepcopy(made))
        return name

    def _make(self, ordinal: int) -> None:
        status, strategy = self.raw["status"], self.raw["spec"]["updateStrategy"]
        kept = strategy["type"] == "RollingUpdate" and ordinal < strategy["rollingUpdate"]["partition"]
        revision = status["currentRevision"] if kept else status["updateRevision"]
        made = copy.deepcopy(self.revisions[revision])
        image = made["spec"]["containers"][0]["image"]
        self.made += 1
        self.pods[ordinal] = {
            "metadata": {
                "name": f"{NAME}-{ordinal}",
                "uid": f"uid-{self.made}",
                "labels": {"app": NAME, "controller-revision-hash": revision},
                "ownerReferences": [{"kind": "StatefulSet", "name": NAME, "uid": UID, "controller": True}],
            },
            "spec": made["spec"],
            "status": _status("ErrImageNeverPull" if image in self.unfit else "", ready=ordinal not in self.hanging),
        }


def _status(waiting: str, *, ready: bool) -> Raw:
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    condition = {"type": "Ready", "status": "True" if ready and not waiting else "False"}
    return {
        "phase": "Pending" if waiting else "Running",
        "conditions": [condition],
        "containerStatuses": [{"name": "nats", "state": state, "ready": ready and not waiting}],
    }


def unready(world: World, ordinal: int, waiting: str = "") -> None:
    """A pod that is there and not ready; with a reason of waiting nothing runs in it."""
    world.pods[ordinal]["status"] = _status(waiting, ready=False)


def _ready(pod: Raw) -> bool:
    return pod["status"]["conditions"][0]["status"] == "True"


def _running(pod: Raw) -> bool:
    return "running" in pod["status"]["containerStatuses"][0]["state"]


def silence(server: str) -> Callable[[Raw], None]:
    """A change after which this server answers nothing."""

    def change(raw: Raw) -> None:
        raw["servers"] = [one for one in raw["servers"] if one["name"] != server]
        for sample in raw["samples"]:
            if sample["server"] == server:
                sample |= {"data": None, "unknown": {"reason": "timed_out", "detail": "a test"}}

    return change


def sides(world: World) -> tuple[Readers, Writers]:
    return cast("Readers", world), cast("Writers", world)


async def run(world: World, stages: tuple[tuple[str, JsonObject], ...], turns: int = 20) -> Verification:
    """Run stages as the flow does: check, apply, verify; undo from the last applied one at the first that fails. Return the last look."""
    readers, writers = sides(world)
    applied: list[tuple[str, JsonObject, OperationId]] = []
    seen = Verification(outcome=Outcome.CANNOT_TELL, sentence="nothing was applied")
    for index, (kind, raw) in enumerate(stages):
        action, operation = ACTIONS[kind], OperationId(f"op_{index}")
        params = action.params.model_validate(raw)
        refusals = (await action.check(readers, params)).refusals
        for _ in range(turns if index else 0):
            refusals = (await action.check(readers, params)).refusals if refusals else ()
        if refusals:
            seen = Verification(outcome=Outcome.FAILED, sentence=" ".join(refusals))
            break
        await action.apply(readers, writers, params, operation)
        applied.append((kind, raw, operation))
        for _ in range(turns):
            seen = await action.verify(readers, params, operation)
            if seen.outcome is Outcome.VERIFIED or seen.final:
                break
        if seen.outcome is not Outcome.VERIFIED:
            break
    else:
        return seen
    for kind, raw, operation in reversed(applied):
        await undo(world, kind, raw, operation, turns)
    return seen


async def undo(world: World, kind: str, raw: JsonObject, operation: OperationId, turns: int = 20) -> str:
    readers, writers = sides(world)
    params = ACTIONS[kind].params.model_validate(raw)
    for left in range(turns, -1, -1):
        try:
            return await ACTIONS[kind].rollback(readers, writers, params, operation)
        except NotYet:
            if not left:
                raise
    raise AssertionError


RELAXED = ProbeChange(path=ENABLED_ONLY)
OP = OperationId("op_9")


def probe(world: World, change: ProbeChange = RELAXED) -> Composed:
    return compose_probe(world.snapshot(), world.workload(), ProbeKind.READINESS, change)


def image(world: World, reference: str = "nats:2.15.2", version: str = "2.15.2") -> Composed:
    return compose_image(world.snapshot(), world.workload(), reference, version)


def container(world: World) -> Raw:
    return world.raw["spec"]["template"]["spec"]["containers"][0]


def changed(world: World, **fields: Any) -> Callable[[Raw], None]:
    """Somebody else's edit of the server's container."""

    def change(raw: Raw) -> None:
        del raw
        container(world).update(fields)

    return change


async def check(world: World, rollout: Composed, stage: int) -> tuple[str, ...]:
    kind, raw = rollout.stages[stage]
    action = ACTIONS[kind]
    return (await action.check(sides(world)[0], action.params.model_validate(raw))).refusals


def restart(world: World, ordinal: int) -> Composed:
    return compose_restart(world.snapshot(), world.workload(), Pod(world.pods[ordinal]))


def peer(name: str, **fields: Any) -> Callable[[Raw], None]:
    """A change after which the meta leader says so of a member."""

    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            for row in jsz["meta_cluster"].get("replicas") or []:
                if row["name"] == name:
                    row.update({"active": 0} | fields)

    return change


def health(server: str, answer: Raw | None, reason: str = "timed_out") -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == server and sample["endpoint"] == "HEALTHZ":
                unknown = None if answer else {"reason": reason, "detail": "a test"}
                sample |= {"data": answer, "unknown": unknown}

    return change


def stream_alone(name: str, server: str, **config: Any) -> Callable[[Raw], None]:
    """A further stream of one replica on this server, which stores in /data."""

    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", server):
            jsz["config"] = {"store_dir": "/data/jetstream"}
            (found, *_) = jsz["account_details"][0]["stream_detail"]
            made = copy.deepcopy(found) | {"name": name, "consumer_detail": []}
            made["config"] |= {"name": name, "num_replicas": 1, **config}
            made["cluster"] = {"leader": server}
            jsz["account_details"][0]["stream_detail"].append(made)

    return change


def storing(volume: Raw | None) -> Raw:
    """A StatefulSet with a volume at /data: this one, or a claim of each pod's own."""
    raw = stateful_set()
    spec = raw["spec"]["template"]["spec"]
    spec["containers"][0]["volumeMounts"] = [{"name": "store", "mountPath": "/data"}]
    if volume is None:
        raw["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "store"}, "spec": {}}]
    else:
        spec["volumes"] = [{"name": "store", **volume}]
    return raw


def renamed(old: str, new: str) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        def walk(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: walk(v) for k, v in value.items()}
            if isinstance(value, list):
                return [walk(v) for v in value]
            return new if value == old else value

        raw.update(walk(raw))

    return change


def upgraded(version: str) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    return change
