"""Who owns which field: `managedFields` of every write, and server-side apply with its conflicts.

A field is a path of the elements of FieldsV1: `f:spec`, `k:{"name":"nats"}`, `v:"x"`, and `.` for the existence of what contains others
(sigs.k8s.io/structured-merge-diff/v4 fieldpath/serialize.go).
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bot.lab.kubernetes.objects import Raw, Value, is_list, is_object, part, parts
from bot.lab.kubernetes.patches import SETS, identity, list_keys
from bot.lab.kubernetes.refusals import Refused

Path = tuple[str, ...]
Fields = frozenset[Path]

EXISTS: Final = "."

_UNOWNED: Final = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "selfLink", "managedFields"}
    | {"deletionTimestamp", "deletionGracePeriodSeconds"}
)
"""Metadata that belongs to the server (apiserver fieldmanager/stripmeta.go)."""

_STRUCTURES: Final = frozenset({"metadata", "spec", "status", "template", "containers", "updateStrategy"})
"""Fields that always exist, so nobody made them."""

_ATOMIC: Final = frozenset({"selector", "labelSelector", "fieldRef", "configMapKeyRef", "secretKeyRef", "roleRef"})
"""Objects that are owned as a whole (`+structType=atomic`); roleRef is not, but nothing can change it."""


def leaves(raw: Value, path: Path = (), field: str = "") -> Iterator[tuple[Path, Value]]:
    """Yields every owned field below a value with what it holds; a container yields its `.` with None."""
    if is_object(raw) and raw and field not in _ATOMIC:
        if path and field not in _STRUCTURES:
            yield (*path, EXISTS), None
        for key, value in raw.items():
            if (not path and key in ("apiVersion", "kind")) or (path == ("f:metadata",) and key in _UNOWNED):
                continue
            yield from leaves(value, (*path, f"f:{key}"), key)
    elif is_list(raw) and raw and (field in SETS or list_keys(field, raw)):
        if field not in _STRUCTURES:
            yield (*path, EXISTS), None
        keys = list_keys(field, raw)
        for item in raw:
            yield from (
                leaves(item, (*path, _element(item, keys)), "") if keys else [((*path, _element(item, keys)), item)]
            )
    elif raw is not None and path:
        yield path, raw


def _element(item: Value, keys: tuple[str, ...]) -> str:
    if not keys:
        return f"v:{json.dumps(item)}"
    named = dict(zip(keys, identity(item, keys), strict=True))
    return "k:" + json.dumps(named, separators=(",", ":"), sort_keys=True)


def fields_of(entry: Raw) -> Fields:
    """The fields of one entry of managedFields."""
    return frozenset(_unfold(part(entry, "fieldsV1"), ()))


def _unfold(tree: Mapping[str, Value], path: Path) -> Iterator[Path]:
    for element, below in tree.items():
        if element == EXISTS:
            yield (*path, EXISTS)
        elif not below:
            yield (*path, element)
        else:
            yield from _unfold(below, (*path, element))


def _fold(fields: Iterable[Path]) -> Raw:
    tree: Raw = {}
    for path in sorted(fields):
        below = tree
        for element in path:
            below = below.setdefault(element, {})
    return tree


def _entry(manager: str, operation: str, api: str, time: str, fields: Iterable[Path]) -> Raw:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": api,
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": _fold(fields),
    }


def _in_order(entries: Iterable[Raw]) -> list[Raw]:
    return sorted(entries, key=lambda e: (e["operation"], e["time"], e["manager"]))


def _less(entry: Raw, lost: Fields | set[Path]) -> Raw | None:
    """An entry without some fields; None where nothing is left."""
    kept = fields_of(entry)
    left = kept - lost
    if left == kept:
        return entry
    return entry | {"fieldsV1": _fold(left)} if any(path[-1] != EXISTS for path in left) else None


def updated(old: Raw | None, new: Raw, manager: str, api: str, time: str) -> list[Raw]:
    """The managedFields of `new` after `manager` has written it: it owns what it changed, and the others lose that."""
    before = dict(leaves(old or {}))
    after = dict(leaves(new))
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    lost = changed | (before.keys() - after.keys())
    entries: list[Raw] = []
    own: set[Path] = set(changed)
    previous: Raw | None = None
    for entry in parts(old or {}, "metadata", "managedFields"):
        if (entry["manager"], entry["operation"], entry["apiVersion"]) == (manager, "Update", api):
            previous = entry
            own |= fields_of(entry) - lost
        elif (left := _less(entry, lost)) is not None:
            entries.append(left)
    if previous is not None and fields_of(previous) == frozenset(own):
        entries.append(previous)
    elif own:
        entries.append(_entry(manager, "Update", api, time, own))
    return _in_order(entries)


# Server-side apply.


def applied(live: Raw, config: Raw, manager: str, time: str, *, force: bool) -> Raw:
    """The object after an apply, with its managedFields. Raises `Refused` where somebody else owns a field that would change."""
    api = str(config["apiVersion"])
    wanted = dict(leaves(config))
    own = frozenset(p for p in wanted if p[-1] != EXISTS or p[-2].startswith("k:"))
    present = dict(leaves(live))
    entries: list[Raw] = parts(live, "metadata", "managedFields")
    mine = next((e for e in entries if (e["manager"], e["operation"]) == (manager, "Apply")), None)
    others = [entry for entry in entries if entry is not mine]
    differing = {p for p in own if p in present and present[p] != wanted[p]}
    conflicts = [(entry, path) for entry in others for path in sorted(fields_of(entry) & differing)]
    if conflicts and not force:
        raise _conflict(conflicts)
    left = [less for entry in others if (less := _less(entry, differing)) is not None]
    made = _overlaid(live, config, "")
    abandoned = (fields_of(mine) if mine else Fields()) - own
    kept = own.union(*(fields_of(entry) for entry in left))
    made = _without(made, abandoned, kept, (), "")
    if mine is not None and fields_of(mine) == own:
        left.append(mine)
    elif own:
        left.append(_entry(manager, "Apply", api, time, own))
    made["metadata"] = made["metadata"] | {"managedFields": _in_order(left)}
    return made


def _overlaid(live: Value, config: Value, field: str) -> Value:
    if is_object(config) and is_object(live) and field not in _ATOMIC:
        made: Raw = dict(live)
        for key, value in config.items():
            made[key] = _overlaid(live.get(key), value, key)
        return made
    keys = list_keys(field, config) if is_list(config) else ()
    if is_list(live) and is_list(config) and keys:
        items: list[Value] = list(live)
        for item in config:
            known = next((i for i, one in enumerate(items) if identity(one, keys) == identity(item, keys)), None)
            if known is None:
                items.append(copy.deepcopy(item))
            else:
                items[known] = _overlaid(items[known], item, "")
        return items
    if is_list(live) and is_list(config) and field in SETS:
        return [*live, *(item for item in config if item not in live)]
    return copy.deepcopy(config)


def _without(raw: Value, abandoned: Fields, kept: Fields, path: Path, field: str) -> Value:
    """Removes the fields that were applied before, are not any more, and belong to nobody else."""
    if is_object(raw) and field not in _ATOMIC:
        made: Raw = {}
        for key, value in raw.items():
            below = (*path, f"f:{key}")
            if below in abandoned and below not in kept:
                continue
            left = _without(value, abandoned, kept, below, key)
            if left or not value:  # an object that has become empty goes with its last field
                made[key] = left
        return made
    keys = list_keys(field, raw) if is_list(raw) else ()
    if is_list(raw) and (keys or field in SETS):
        items: list[Value] = []
        for item in raw:
            below = (*path, _element(item, keys))
            gone = {below, (*below, EXISTS)} & abandoned
            if gone and not any(other[: len(below)] == below for other in kept):
                continue
            items.append(_without(item, abandoned, kept, below, "") if keys else item)
        return items
    return raw


def _conflict(conflicts: list[tuple[Raw, Path]]) -> Refused:
    """The words of apiserver fieldmanager `NewConflictError`."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {_manager(entry)}", "field": readable(path)}
        for entry, path in conflicts
    ]
    if len(conflicts) == 1:
        (entry, path) = conflicts[0]
        said = f"Apply failed with 1 conflict: conflict with {_manager(entry)}: {readable(path)}"
    else:
        lines: list[str] = []
        for manager in sorted({_manager(entry) for entry, _ in conflicts}):
            lines.append(f"conflicts with {manager}:")
            lines += [f"- {readable(path)}" for entry, path in conflicts if _manager(entry) == manager]
        said = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    return Refused(409, "Conflict", said, {"causes": causes})


def _manager(entry: Raw) -> str:
    using = f" using {entry['apiVersion']}" if entry["operation"] == "Update" else ""
    return f'"{entry["manager"]}"{using}'


def readable(path: Path) -> str:
    """`.spec.template.spec.containers[name="nats"].image`."""
    said = ""
    for element in path:
        if element.startswith("f:"):
            said += f".{element[2:]}"
        elif element.startswith("k:"):
            named: Raw = json.loads(element[2:])
            said += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in named.items()) + "]"
        elif element.startswith("v:"):
            said += f"[={element[2:]}]"
    return said
