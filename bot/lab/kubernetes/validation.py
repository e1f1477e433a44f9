"""What an API server refuses in an object, with the words of Kubernetes 1.20 (pkg/apis/*/validation).

Kubernetes 1.20 does not validate the pod template of a StatefulSet: a wrong one is stored, and its pods cannot be created. So it is here.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Final

from bot.lab.kubernetes.kinds import CLAIM, CONFIG_MAP, POD, ROLE_BINDING, STATEFUL_SET, Kind
from bot.lab.kubernetes.objects import QUANTITY, Raw, Value, is_list, is_object, matches, part, parts, quantity
from bot.lab.kubernetes.refusals import Cause

QUANTITY_WORDS: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"

_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_INTEGERS: Final = frozenset(
    {"replicas", "partition", "revisionHistoryLimit", "terminationGracePeriodSeconds", "containerPort"}
    | {"initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold"}
)
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"


class Undecodable(Exception):
    """The JSON does not fit the kind's Go types. The message says what does not, in words close to the decoder's."""


def decode(raw: Raw) -> None:
    """Raises `Undecodable`."""
    for path, key, value in _values(raw, ()):
        where = ".".join(path)
        if key in _INTEGERS and not (isinstance(value, int) and not isinstance(value, bool)):
            why = "can not decode float as int" if isinstance(value, float) else "unexpected character"
            raise Undecodable(f"{where}: readUint32: {why}")
        if path[-2:-1] in (("requests",), ("limits",), ("capacity",)) and not QUANTITY.fullmatch(str(value)):
            raise Undecodable(f"{where}: {QUANTITY_WORDS}")
    for field in ("data", "stringData"):
        for key, value in part(raw, field).items() if raw.get("kind") in ("ConfigMap", "Secret") else ():
            if not isinstance(value, str):
                raise Undecodable(f'Data: ReadString: expects " or n, but found {json.dumps(value)[:1]} ({key})')


def _values(raw: Value, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Value]]:
    if is_object(raw):
        for key, value in raw.items():
            if key in ("labels", "annotations", "data", "stringData", "managedFields", "matchLabels"):
                continue
            if isinstance(value, dict | list):
                yield from _values(value, (*path, key))
            elif value is not None:
                yield (*path, key), key, value
    elif is_list(raw):
        for item in raw:
            yield from _values(item, path)


def problems(kind: Kind, new: Raw, old: Raw | None) -> list[Cause]:
    """Everything that is wrong with an object, in itself and as the successor of the old one."""
    found = list(_metadata(new, old))
    if (validate := _OF_KIND.get(kind)) is not None:
        found += validate(new, old)
    return found


def _value(field: str, value: object, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {why}", field)


def _metadata(new: Raw, old: Raw | None) -> Iterator[Cause]:
    meta: Raw = new["metadata"]
    name = meta.get("name") or ""
    if not name:
        yield Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
    elif not re.fullmatch(_SUBDOMAIN, name) and not _free_name(new):
        yield _value("metadata.name", name, _SUBDOMAIN_WORDS)
    if old is not None and meta.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
        # Twice: ValidateObjectMetaUpdate is called by the strategy and again before every update.
        yield from [_value("metadata.uid", meta["uid"], "field is immutable")] * 2


def _free_name(raw: Raw) -> bool:
    """RBAC names are path segments, e.g. `system:node`."""
    return str(raw.get("apiVersion", "")).startswith("rbac.") and "/" not in raw["metadata"]["name"]


_SET_MAY_CHANGE: Final = frozenset({"replicas", "template", "updateStrategy"})


def _stateful_set(new: Raw, old: Raw | None) -> Iterator[Cause]:
    spec: Raw = new["spec"]
    yield from _set_itself(spec)
    if old is not None:
        fixed = [{k: v for k, v in s.items() if k not in _SET_MAY_CHANGE} for s in (spec, old["spec"])]
        if fixed[0] != fixed[1]:
            words = "updates to statefulset spec for fields other than 'replicas', 'template', and 'updateStrategy' are forbidden"
            yield Cause("FieldValueForbidden", f"Forbidden: {words}", "spec")


def _set_itself(spec: Raw) -> Iterator[Cause]:
    if spec["podManagementPolicy"] not in ("OrderedReady", "Parallel"):
        yield _value("spec.podManagementPolicy", spec["podManagementPolicy"], "must be 'OrderedReady' or 'Parallel'")
    strategy: Raw = spec["updateStrategy"]
    if strategy["type"] not in ("RollingUpdate", "OnDelete"):
        shown = f'apps.StatefulSetUpdateStrategy{{Type:"{strategy["type"]}", RollingUpdate:(*apps.RollingUpdateStatefulSetStrategy)(nil)}}'
        message = f"Invalid value: {shown}: must be 'RollingUpdate' or 'OnDelete'"
        yield Cause("FieldValueInvalid", message, "spec.updateStrategy")
    elif strategy["type"] == "OnDelete" and strategy.get("rollingUpdate") is not None:
        field = "spec.updateStrategy.rollingUpdate"
        yield _value(field, "RollingUpdateStatefulSetStrategy", "only allowed for updateStrategy 'RollingUpdate'")
    partition = part(strategy, "rollingUpdate").get("partition") or 0
    if partition < 0:
        yield _value("spec.updateStrategy.rollingUpdate.partition", partition, _NOT_NEGATIVE)
    if spec["replicas"] < 0:
        yield _value("spec.replicas", spec["replicas"], _NOT_NEGATIVE)
    if spec.get("selector") is None:
        yield Cause("FieldValueRequired", "Required value", "spec.selector")
    labels: Raw = part(spec, "template", "metadata", "labels")
    if not matches(spec.get("selector"), labels):
        shown = "map[string]string{" + ", ".join(f'"{k}":"{v}"' for k, v in sorted(labels.items())) + "}"
        message = f"Invalid value: {shown}: `selector` does not match template `labels`"
        yield Cause("FieldValueInvalid", message, "spec.template.metadata.labels")


def _pod(new: Raw, old: Raw | None) -> Iterator[Cause]:
    spec: Raw = new["spec"]
    volumes = {volume["name"] for volume in parts(spec, "volumes")}
    if not spec.get("containers"):
        yield Cause("FieldValueRequired", "Required value", "spec.containers")
    for index, container in enumerate(parts(spec, "containers")):
        yield from _container(container, volumes, f"spec.containers[{index}]")
    if old is not None and _frozen(spec) != _frozen(old["spec"]):
        words = (
            "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, "
            "`spec.activeDeadlineSeconds` or `spec.tolerations` (only additions to existing tolerations)"
        )
        yield Cause("FieldValueForbidden", f"Forbidden: {words}", "spec")


def _frozen(spec: Raw) -> Raw:
    """The part of a pod's spec that cannot be changed."""
    left = {key: value for key, value in spec.items() if key not in ("activeDeadlineSeconds", "tolerations")}
    for field in ("containers", "initContainers"):
        left[field] = [{k: v for k, v in container.items() if k != "image"} for container in parts(spec, field)]
    return left


def _container(raw: Raw, volumes: set[str], where: str) -> Iterator[Cause]:
    for index, mount in enumerate(parts(raw, "volumeMounts")):
        if mount["name"] not in volumes:
            message = f'Not found: "{mount["name"]}"'
            yield Cause("FieldValueNotFound", message, f"{where}.volumeMounts[{index}].name")
    resources: Raw = part(raw, "resources")
    for name, wanted in part(resources, "requests").items():
        limit = part(resources, "limits").get(name)
        if limit is not None and quantity(wanted) > quantity(limit):
            why = f"must be less than or equal to {name} limit"
            yield _value(f"{where}.resources.requests", str(wanted), why)
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if raw.get(name) is not None:
            yield from _probe(raw[name], f"{where}.{name}", once=name != "readinessProbe")


def _probe(raw: Raw, where: str, *, once: bool) -> Iterator[Cause]:
    if not any(handler in raw for handler in ("httpGet", "tcpSocket", "exec")):
        yield Cause("FieldValueRequired", "Required value: must specify a handler type", where)
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if raw.get(key, 0) < 0:
            yield _value(f"{where}.{key}", raw[key], _NOT_NEGATIVE)
    if once and raw.get("successThreshold", 1) != 1:
        yield _value(f"{where}.successThreshold", raw["successThreshold"], "must be 1")


def _claim(new: Raw, old: Raw | None) -> Iterator[Cause]:
    if old is None:
        return
    before, after = _without_request(old["spec"]), _without_request(new["spec"])
    bound = {k: v for k, v in after.items() if k != "volumeName" or before.get("volumeName")}
    if before != bound:
        words = "spec is immutable after creation except resources.requests for bound claims"
        yield Cause("FieldValueForbidden", f"Forbidden: {words}", "spec")
    asked, had = (quantity(raw["spec"]["resources"]["requests"]["storage"]) for raw in (new, old))
    if asked < had:
        field = "spec.resources.requests.storage"
        yield Cause("FieldValueForbidden", "Forbidden: field can not be less than previous value", field)


def _without_request(spec: Raw) -> Raw:
    return {key: value for key, value in spec.items() if key != "resources"}


def _config_map(new: Raw, old: Raw | None) -> Iterator[Cause]:
    if old is not None and old.get("immutable") and new.get("data") != old.get("data"):
        yield Cause("FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set", "data")


def _binding(new: Raw, old: Raw | None) -> Iterator[Cause]:
    if old is not None and new["roleRef"] != old["roleRef"]:
        yield _value("roleRef", "roleRef", "cannot change roleRef")


_OF_KIND: Final[dict[Kind, Callable[[Raw, Raw | None], Iterator[Cause]]]] = {
    STATEFUL_SET: _stateful_set,
    POD: _pod,
    CLAIM: _claim,
    CONFIG_MAP: _config_map,
    ROLE_BINDING: _binding,
}
