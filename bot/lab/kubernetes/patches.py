"""The four ways of changing an object: JSON patch, merge patch, strategic merge patch; server-side apply is in `managed`.

JSON patch follows evanphx/json-patch 4.9, which the API server uses, not the letter of RFC 6902: `test` of an absent value against null holds, and
`replace` of an absent key adds it. That is why no library stands here.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from bot.lab.kubernetes.objects import Raw, Value, is_list, is_object, parts
from bot.lab.kubernetes.refusals import bad_request, patch_rejected


class PatchType(StrEnum):
    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


MERGE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
}
"""Lists whose items have an identity, by the name of their field (`+listMapKey` and `patchMergeKey` of k8s.io/api). Ports are in `list_keys`."""

SETS: Final = frozenset({"finalizers"})
"""Lists of plain values that are merged as sets."""

DEFAULT_KEYS: Final[Mapping[str, str]] = {"protocol": "TCP"}
"""What an item's key is where it is left out."""


def list_keys(field: str, items: Sequence[Value]) -> tuple[str, ...]:
    """The keys that identify the items of a list; none for one that is replaced as a whole."""
    objects = all(is_object(item) for item in items)
    if field == "ports" and items and objects:
        return ("containerPort", "protocol") if "containerPort" in items[0] else ("port", "protocol")
    return MERGE_KEYS.get(field, ()) if objects else ()


def identity(item: Raw, keys: Sequence[str]) -> tuple[Value, ...]:
    return tuple(item.get(key, DEFAULT_KEYS.get(key)) for key in keys)


def merge(target: Value, patch: Value) -> Value:
    """RFC 7386."""
    if not is_object(patch):
        return copy.deepcopy(patch)
    made: Raw = dict(target) if is_object(target) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merge(made.get(key), value)
    return made


# JSON patch.


def json_patch(target: Raw, operations: Value) -> Raw:
    """Raises `Refused` where an operation does not apply; nothing is changed then."""
    if not is_list(operations):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    made = copy.deepcopy(target)
    for operation in operations:
        try:
            _OPERATIONS[operation["op"]](made, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise patch_rejected() from error
    return made


def _parent(document: Value, pointer: str) -> tuple[Value, str]:
    if not pointer.startswith("/"):
        raise ValueError(pointer)
    *way, last = (key.replace("~1", "/").replace("~0", "~") for key in pointer[1:].split("/"))
    for key in way:
        document = document[int(key)] if is_list(document) else document[key]
    if not is_object(document) and not is_list(document):
        raise TypeError(pointer)
    return document, last


def _at(document: Value, pointer: str) -> Value:
    parent, last = _parent(document, pointer)
    return parent[int(last)] if is_list(parent) else parent[last]


def _add(document: Value, operation: Raw) -> None:
    parent, last = _parent(document, operation["path"])
    value = copy.deepcopy(operation["value"])
    if is_object(parent):
        parent[last] = value
        return
    index = len(parent) if last == "-" else int(last)
    if not 0 <= index <= len(parent):
        raise IndexError(last)
    parent.insert(index, value)


def _remove(document: Value, operation: Raw) -> None:
    parent, last = _parent(document, operation["path"])
    del parent[int(last) if is_list(parent) else last]


def _replace(document: Value, operation: Raw) -> None:
    parent, last = _parent(document, operation["path"])
    parent[int(last) if is_list(parent) else last] = copy.deepcopy(operation["value"])


def _test(document: Value, operation: Raw) -> None:
    try:
        found = _at(document, operation["path"])
    except (KeyError, IndexError):
        found = None
    if found != operation.get("value"):
        raise ValueError(operation["path"])


def _copy(document: Value, operation: Raw) -> None:
    _add(document, {"path": operation["path"], "value": _at(document, operation["from"])})


def _move(document: Value, operation: Raw) -> None:
    value = _at(document, operation["from"])
    _remove(document, {"path": operation["from"]})
    _add(document, {"path": operation["path"], "value": value})


_OPERATIONS: Final[dict[str, Callable[[Value, Raw], None]]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "test": _test,
    "copy": _copy,
    "move": _move,
}


# Strategic merge patch.

_DELETE_PRIMITIVES: Final = "$deleteFromPrimitiveList/"
_ORDER: Final = "$setElementOrder/"


def strategic(target: Raw, patch: Raw) -> Raw:
    """k8s.io/apimachinery `strategicpatch`: as a merge patch, but lists with keys are merged item by item."""
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    made = dict(target)
    if (kept := patch.get("$retainKeys")) is not None:
        made = {key: value for key, value in made.items() if key in kept}
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVES):
            field = key.removeprefix(_DELETE_PRIMITIVES)
            made[field] = [item for item in parts(made, field) if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            made.pop(key, None)
        elif is_object(value):
            old = made.get(key)
            made[key] = strategic(old if is_object(old) else {}, value)
        elif is_list(value):
            made[key] = _merged_list(key, parts(made, key), value, patch.get(_ORDER + key))
        else:
            made[key] = value
    return made


def _merged_list(field: str, old: list[Value], patch: list[Value], order: list[Value] | None) -> list[Value]:
    if field in SETS:
        return [*old, *(item for item in patch if item not in old)]
    keys = list_keys(field, [item for item in patch if "$patch" not in item or len(item) > 1] or old)
    if field == "ports":
        keys = keys[:1]  # a strategic merge patch knows ports by their number alone
    if not keys or any(item == {"$patch": "replace"} for item in patch):
        return [copy.deepcopy(item) for item in patch if item != {"$patch": "replace"}]
    made = list(old)
    for item in patch:
        if any(key not in item for key in keys):
            raise bad_request(f"map: {item} does not contain declared merge key: {keys[0]}")
        known = next((i for i, one in enumerate(made) if identity(one, keys) == identity(item, keys)), None)
        if item.get("$patch") == "delete":
            made = [one for index, one in enumerate(made) if index != known]
        elif known is None:
            made.append(strategic({}, item))
        else:
            made[known] = strategic(made[known], item)
    if order:
        wanted = [identity(item, keys) for item in order]
        made.sort(key=lambda one: wanted.index(identity(one, keys)) if identity(one, keys) in wanted else len(wanted))
    return made
