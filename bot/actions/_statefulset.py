"""A StatefulSet as the rolling actions see it: flat fields by name, its template as it was before, and who may roll its pods.

Fields make drift readable: whoever edits the object meanwhile is told by the field, never by a whole template. What could hold a secret is a digest in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from bot.actions._objects import read_object
from bot.errors import NotYet, Refused, Unreadable
from bot.model import Json, JsonObject, Record, Snapshot, Unknown, World, digest, part, parts
from bot.model.kubernetes import EnvironmentVariable, Kind, Pod, Workload, quantity
from bot.model.kubernetes.containers import Container
from bot.ports import Readers

ROLLING: Final = "RollingUpdate"
ON_DELETE: Final = "OnDelete"

PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_HANDLERS: Final = ("httpGet", "tcpSocket", "exec", "grpc")
_PLAIN_VARIABLES: Final = frozenset({"GOMEMLIMIT", "GOMAXPROCS", "GOGC"})
"""Go's own (package runtime): numbers, never secrets."""
_HISTORY: Final = 10
"""Former revisions that a StatefulSet keeps by default (apps/v1 revisionHistoryLimit)."""
_PRECISION: Final = 1e-6
"""Of a quantity: the finest that containers are given is a thousandth of a core."""
_LONGEST: Final = 120
"""Characters of a value in a sentence; what is longer is told by its digest."""


class Target(Record):
    """The StatefulSet that was approved, as it was before."""

    statefulset: str
    uid: str
    former: str
    """Name of the ControllerRevision that all its pods ran: the way back."""
    strategy: JsonObject
    """Its `updateStrategy`, which stands again at the end."""
    replicas: int
    container: str
    """The one that runs nats-server."""

    @property
    def rolling(self) -> bool:
        return (self.strategy.get("type") or ROLLING) == ROLLING

    @property
    def first(self) -> int:
        """The highest ordinal: where Kubernetes begins, and so does natsmedic."""
        return self.replicas - 1

    def pod(self, ordinal: int) -> str:
        return f"{self.statefulset}-{ordinal}"


class Edited(Record):
    """What an edit of the template may touch, and what stands there afterwards."""

    touches: tuple[str, ...]
    """Fields, each with all that lies below it."""
    wanted: dict[str, str | None]
    """The fields that it changes, as it leaves them; None where there must be none."""


def world_of(raw: JsonObject) -> World:
    """Return everything of a StatefulSet that people write, by field; its status is not among it."""
    spec = part(raw, "spec")
    strategy = part(spec, "updateStrategy")
    told: World = {
        "uid": str(part(raw, "metadata").get("uid") or ""),
        "replicas": _int(spec.get("replicas"), 1),
        "updateStrategy": _strategy(strategy),
        "serviceName": str(spec.get("serviceName") or ""),
        "podManagementPolicy": str(spec.get("podManagementPolicy") or ""),
    }
    return {f"statefulset.{name}": value for name, value in (told | fields_of(part(spec, "template"))).items()}


def fields_of(template: JsonObject) -> dict[str, str]:
    """Return a pod template by field, e.g. `container.nats.readinessProbe.path`. What is empty is absent."""
    meta, spec = part(template, "metadata"), part(template, "spec")
    found = {f"label.{key}": _value(value) for key, value in part(meta, "labels").items()}
    found |= {f"annotation.{key}": _digest(value) for key, value in part(meta, "annotations").items()}
    for key, value in spec.items():
        if key in {"containers", "initContainers"}:
            for raw in parts(spec, key):
                found |= dict(_container(f"{key.removesuffix('s')}.{raw.get('name')}", raw))
        elif key == "topologySpreadConstraints":
            found |= {f"spread.{row.get('topologyKey')}": _value_of_spread(row) for row in parts(spec, key)}
        elif value not in (None, "", [], {}):
            found[key] = _value(value)
    return found


def template_of(raw: JsonObject) -> JsonObject:
    """Return the template of a StatefulSet."""
    return part(part(raw, "spec"), "template")


def with_template(raw: JsonObject, template: JsonObject, strategy: JsonObject) -> JsonObject:
    """Return the StatefulSet with another template and another strategy."""
    return raw | {"spec": part(raw, "spec") | {"template": template, "updateStrategy": strategy}}


def held(strategy: JsonObject, partition: int) -> JsonObject:
    """Return a strategy under which no pod below `partition` is replaced; under OnDelete none ever is by itself."""
    if (strategy.get("type") or ROLLING) == ON_DELETE:
        return strategy
    return strategy | {"type": ROLLING, "rollingUpdate": part(strategy, "rollingUpdate") | {"partition": partition}}


def partition_of(raw: JsonObject) -> int:
    """Return the ordinal below which pods keep the former template."""
    return _int(part(part(part(raw, "spec"), "updateStrategy"), "rollingUpdate").get("partition"), 0)


def strategy_of(raw: JsonObject) -> str:
    """Return `RollingUpdate` or `OnDelete`."""
    return str(part(part(raw, "spec"), "updateStrategy").get("type") or ROLLING)


def observed(raw: JsonObject) -> bool:
    """Tell whether the controller has seen the present spec: only then its status speaks of it."""
    generation = _int(part(raw, "metadata").get("generation"), 0)
    return _int(part(raw, "status").get("observedGeneration"), 0) >= generation


def revision_of(raw: JsonObject) -> str:
    """Return the revision that replaced pods are made of; empty before the controller has said so."""
    return str(part(raw, "status").get("updateRevision") or "")


async def former_template(readers: Readers, target: Target) -> JsonObject:
    """Return the template that the target's pods ran before, as `kubectl rollout undo` takes it: `data.spec.template` of its ControllerRevision.

    Raises `Unreadable`, and `Refused` where the revision is gone.
    """
    raw = await readers.kubernetes_object(Kind.REVISION, target.former)
    template = part(part(part(raw or {}, "data"), "spec"), "template")
    if not template:
        raise Refused(f"ControllerRevision {target.former} is gone, so nobody can tell what the pods ran before.")
    return {key: value for key, value in template.items() if key != "$patch"}


async def read_target(readers: Readers, target: Target) -> JsonObject:
    """Return the StatefulSet that was approved. Raises `Refused` where it is another one or is being deleted, and `Unreadable`."""
    raw = await read_object(readers, Kind.STATEFUL_SET, target.statefulset, target.uid)
    if "deletionTimestamp" in part(raw, "metadata"):
        raise Refused(f"StatefulSet {target.statefulset} is being deleted.")
    return raw


def foreign(raw: JsonObject, former: JsonObject, edited: Edited) -> list[str]:
    """Say which fields somebody else changed since. New fields below what the edit touches are the API server's: it fills in defaults."""
    now, before = fields_of(template_of(raw)), fields_of(former)
    kept = [name for name in before.keys() | now.keys() if name in before or not _below(name, edited.touches)]
    moved = [name for name in sorted(kept) if name not in edited.wanted and now.get(name) != before.get(name)]
    lost = [(name, value) for name, value in sorted(edited.wanted.items()) if now.get(name) != value]
    return [_moved(name, before.get(name), now.get(name)) for name in moved] + [
        f"{name} must be {_shown(value)} and is {_shown(now.get(name))}." for name, value in lost
    ]


def edited_by(former: JsonObject, after: JsonObject, touches: tuple[str, ...]) -> Edited:
    """Return what an edit from one template to the other changes. What it leaves alone may be redacted in either, and is not told."""
    before, now = fields_of(former), fields_of(after)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return Edited(touches=touches, wanted={name: now.get(name) for name in changed})


def resting(raw: JsonObject, pods: tuple[Pod, ...], replicas: int) -> list[str]:
    """Reasons why nobody may begin a change of the template now: a rollout under way, or a canary that somebody holds."""
    name = str(part(raw, "metadata").get("name"))
    if not observed(raw):
        return [f"The controller has not seen the last change of {name} yet."]
    spec = part(raw, "spec")
    reasons = resized(raw, replicas)
    if start := _int(part(spec, "ordinals").get("start"), 0):
        reasons.append(f"The ordinals of {name} start at {start}; natsmedic knows only those that start at 0.")
    if _int(spec.get("revisionHistoryLimit"), _HISTORY) < 1:
        reasons.append(f"{name} has revisionHistoryLimit 0: the former template would be gone when it is needed.")
    if partition := partition_of(raw):
        reasons.append(f"Somebody holds a canary: {name} has partition {partition}.")
    if len(pods) != replicas:
        reasons.append(f"{len(pods)} pods of {replicas} are there.")
    revision = revision_of(raw)
    return reasons + [
        f"A rollout of {name} is under way: {pod.name} runs {pod.revision}, not {revision}."
        for pod in pods
        if pod.revision != revision
    ]


def resized(raw: JsonObject, replicas: int) -> list[str]:
    """Say that somebody scales the StatefulSet; empty where nobody does."""
    count = _int(part(raw, "spec").get("replicas"), 1)
    return [f"{part(raw, 'metadata').get('name')} has {count} replicas, not {replicas}."] if count != replicas else []


def workload_in(snapshot: Snapshot, target: Target) -> Workload:
    """Return the StatefulSet's surroundings in a snapshot. Raises `Unreadable`, and `Refused` where there is another one of its name."""
    if snapshot.kubernetes is None:
        raise Unreadable(
            f"Nothing is configured to read Kubernetes with: add `kubernetes` to cluster {snapshot.cluster}."
        )
    found = snapshot.kubernetes.workloads
    if isinstance(found, Unknown):
        raise Unreadable(found.detail)
    workload = next((w for w in found if w.name == target.statefulset), None)
    if workload is None or workload.uid != target.uid:
        raise Refused(f"StatefulSet {target.statefulset} of uid {target.uid} is not there any more.")
    return workload


def pods_in(snapshot: Snapshot, target: Target) -> tuple[Pod, ...]:
    """Return the target's pods by ordinal. Raises `Unreadable` and `Refused`."""
    found = workload_in(snapshot, target).pods
    if isinstance(found, Unknown):
        raise Unreadable(found.detail)
    return found


def pod_in(snapshot: Snapshot, target: Target, ordinal: int) -> Pod | None:
    """Return one pod of the target; None while there is none."""
    return next((pod for pod in pods_in(snapshot, target) if pod.ordinal == ordinal), None)


def must_be_observed(raw: JsonObject, target: Target) -> str:
    """Return the revision that replaced pods are made of. Raises `NotYet` until the controller has seen the present template."""
    if not observed(raw) or not revision_of(raw):
        raise NotYet(f"The controller has not seen the last change of {target.statefulset} yet.")
    return revision_of(raw)


def _container(prefix: str, raw: JsonObject) -> Iterator[tuple[str, str]]:
    if raw.get("command") or raw.get("args"):
        yield f"{prefix}.command", _digest([raw.get("command"), raw.get("args")])
    for variable, entry in zip(Container(raw).environment.values(), _by_name(parts(raw, "env")), strict=True):
        yield f"{prefix}.env.{variable.name}", _variable(variable, entry)
    for kind, amounts in part(raw, "resources").items():
        for name, amount in part({kind: amounts}, kind).items():
            yield f"{prefix}.resources.{kind}.{name}", _amount(amount)
    for probe in PROBES:
        yield from _probe(f"{prefix}.{probe}", part(raw, probe))
    special = {"name", "command", "args", "env", "resources", *PROBES}
    for key, value in raw.items():
        if key not in special and value not in (None, "", [], {}):
            yield f"{prefix}.{key}", _value(value)


def _by_name(entries: list[JsonObject]) -> list[JsonObject]:
    """The last entry of a name counts, as in a container."""
    return list({str(entry.get("name")): entry for entry in entries}.values())


def _variable(variable: EnvironmentVariable, entry: JsonObject) -> str:
    if variable.source != "value":
        return variable.source
    return str(variable.value) if variable.name in _PLAIN_VARIABLES else _digest(entry.get("value"))


def _probe(prefix: str, raw: JsonObject) -> Iterator[tuple[str, str]]:
    if not raw:
        return
    handler = next((key for key in _HANDLERS if key in raw), "none")
    yield prefix, handler
    for key, value in part(raw, handler).items():
        yield f"{prefix}.{key}", _value(value)
    for key, value in raw.items():
        if key != handler:
            yield f"{prefix}.{key}", _value(value)


def _value_of_spread(row: JsonObject) -> str:
    rest = {key: value for key, value in row.items() if key not in {"topologyKey", "maxSkew", "whenUnsatisfiable"}}
    return f"maxSkew {row.get('maxSkew')} {row.get('whenUnsatisfiable')} {_digest(rest)}"


def _strategy(strategy: JsonObject) -> str:
    kind = str(strategy.get("type") or ROLLING)
    rest = {key: value for key, value in part(strategy, "rollingUpdate").items() if value not in (None, 0)}
    return " ".join([kind, *(f"{key} {value}" for key, value in sorted(rest.items()))])


def _value(value: Json) -> str:
    """Return a plain value as it is, and anything else as a digest."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if isinstance(value, str | int | float) and len(text) <= _LONGEST else _digest(value)


def _amount(value: Json) -> str:
    """Return a quantity in one form, whoever wrote it: the API server stores 1024Mi as 1Gi and 0.5 as 500m (resource.Quantity)."""
    found = quantity(value)
    if found is None:
        return _value(value)
    whole = round(found)
    if abs(found - whole) > _PRECISION:
        return f"{round(found * 1000)}m"
    units = iter(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
    unit = next(units)
    while whole and whole % 1024 == 0 and (larger := next(units, None)):
        whole, unit = whole // 1024, larger
    return f"{whole}{unit}"


def _digest(value: Json) -> str:
    return f"sha256:{digest(value)[:12]}"


def _below(name: str, touches: tuple[str, ...]) -> bool:
    return any(name == touched or name.startswith(f"{touched}.") for touched in touches)


def _moved(name: str, before: str | None, now: str | None) -> str:
    return f"Somebody else changed {name}: it was {_shown(before)}, now {_shown(now)}."


def _shown(value: str | None) -> str:
    return "absent" if value is None else value


def _int(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def raw_container(template: JsonObject, name: str) -> JsonObject:
    """Return a container of a template. Raises `Refused` where there is none of that name."""
    found = next((raw for raw in parts(part(template, "spec"), "containers") if raw.get("name") == name), None)
    if found is None:
        raise Refused(f"The template has no container {name}.")
    return found


def with_container(template: JsonObject, changed: JsonObject) -> JsonObject:
    """Return a template with the container of that name changed; every other field stays as it was read."""
    spec = part(template, "spec")
    rows = [changed if raw.get("name") == changed.get("name") else raw for raw in parts(spec, "containers")]
    return template | {"spec": spec | {"containers": cast("Json", rows)}}


def with_spec(template: JsonObject, changed: JsonObject) -> JsonObject:
    """Return a template with these fields of its pod changed."""
    return template | {"spec": part(template, "spec") | changed}
