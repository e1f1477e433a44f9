"""Reading and writing objects by the API's rules: defaults, validation, versions, owners of fields, dry runs, graceful deletion.

Controllers and kubelet write through it, too, under their own names.
"""

import copy
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from bot.lab.kubernetes.defaults import defaulted, without_empty
from bot.lab.kubernetes.kinds import CLAIM, NAMESPACE, POD, SERVICE, STORAGE_CLASS, Kind
from bot.lab.kubernetes.managed import applied, updated
from bot.lab.kubernetes.objects import (
    QUANTITY,
    Raw,
    Value,
    is_object,
    name_of,
    namespace_of,
    part,
    parts,
    quantity,
    stamp,
    terminating,
)
from bot.lab.kubernetes.patches import PatchType, json_patch, merge, strategic
from bot.lab.kubernetes.refusals import (
    Cause,
    already_exists,
    bad_request,
    cannot_grow,
    invalid,
    invalid_options,
    invalid_patch,
    modified,
    namespace_ends,
    not_found,
    other_uid_written,
    precondition_failed,
    undecodable,
)
from bot.lab.kubernetes.store import Store
from bot.lab.kubernetes.validation import QUANTITY_WORDS, Undecodable, decode, problems

_SERVER_OWNED: Final = (
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)


@dataclass(frozen=True, slots=True)
class Write:
    """How a write is meant. `manager` owns what it changes."""

    manager: str
    dry_run: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Deletion:
    """The options of a deletion; `grace` is seconds, None for the object's own."""

    preconditions: Raw
    grace: int | None = None
    policy: str = ""
    dry_run: bool = False


class Registry:
    """One API server's view of the store. Every method raises `Refused`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, kind: Kind, namespace: str, name: str) -> Raw:
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise not_found(kind, name)
        return found

    def create(self, kind: Kind, namespace: str, body: Raw, write: Write) -> Raw:
        raw = _addressed(kind, namespace, body)
        meta: Raw = raw["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + secrets.token_hex(3)[:5]
        _decode(kind, raw)
        raw.pop("status", None)
        raw = defaulted(raw)
        if found := problems(kind, raw, None):
            raise invalid(kind, str(meta.get("name") or ""), found)
        if self.store.get(kind, namespace, name_of(raw)) is not None:
            raise already_exists(kind, name_of(raw))
        self._insist_on_namespace(kind, namespace, name_of(raw))
        for key in ("resourceVersion", "uid", *_SERVER_OWNED):
            raw["metadata"].pop(key, None)
        raw["metadata"].pop("managedFields", None)
        if entries := updated(None, _owned(raw), write.manager, raw["apiVersion"], stamp(self.store.clock())):
            raw["metadata"]["managedFields"] = entries
        return self.store.born(kind, raw) if write.dry_run else self.store.create(kind, raw)

    def update(self, kind: Kind, namespace: str, name: str, body: Raw, write: Write, subresource: str = "") -> Raw:
        """Replaces an object, or with `subresource="status"` its status alone."""
        raw = _addressed(kind, namespace, body)
        if raw["metadata"].get("name", name) != name:
            told = raw["metadata"]["name"]
            raise bad_request(f"the name of the object ({told}) does not match the name on the URL ({name})")
        raw["metadata"]["name"] = name
        _decode(kind, raw)
        old = self.get(kind, namespace, name)
        uid = raw["metadata"].get("uid") or old["metadata"]["uid"]
        if uid != old["metadata"]["uid"]:
            raise other_uid_written(kind, old, uid)
        return self._commit(kind, old, raw, write, subresource)

    def patch(
        self, kind: Kind, namespace: str, name: str, how: PatchType, change: Value, write: Write, subresource: str = ""
    ) -> Raw:
        """Changes an object; an apply creates it where there is none."""
        _check_options(how, write)
        old = self.store.get(kind, namespace, name)
        if how is PatchType.APPLY:
            return self._apply(kind, namespace, name, old, change, write, subresource)
        if old is None:
            raise not_found(kind, name)
        if how is not PatchType.JSON and not is_object(change):
            raise bad_request("json: cannot unmarshal into Go value of type map[string]interface {}")
        patched = {PatchType.JSON: json_patch, PatchType.MERGE: merge, PatchType.STRATEGIC: strategic}[how](old, change)
        try:
            decode(patched)
        except Undecodable as error:
            why = QUANTITY_WORDS if QUANTITY_WORDS in str(error) else str(error)
            raise invalid_patch(str(change), why) from error
        return self._commit(kind, old, patched, write, subresource)

    def _apply(
        self, kind: Kind, namespace: str, name: str, old: Raw | None, config: Value, write: Write, subresource: str
    ) -> Raw:
        config = config if is_object(config) else {}
        given = str(config.get("apiVersion") or "")
        if given not in [kind.api(version) for version in kind.versions]:
            words = "Incorrect version specified in apply patch."
            raise bad_request(f"{words} Specified patch version: {given}, expected: {kind.api()}")
        raw = _addressed(kind, namespace, config)
        raw["metadata"].setdefault("name", name)
        time = stamp(self.store.clock())
        _decode(kind, raw)
        version = raw["metadata"].pop("resourceVersion", None)
        if old is None:
            if version:
                raise modified(kind, name)
            made = self.create(kind, namespace, raw, Write(write.manager, dry_run=True))
            entries = applied({"metadata": {}}, raw, write.manager, time, force=True)["metadata"]["managedFields"]
            made["metadata"]["managedFields"] = entries
            return made if write.dry_run else self.store.create(kind, made)
        if version and version != old["metadata"]["resourceVersion"]:
            raise modified(kind, name)
        made = applied(old, raw, write.manager, time, force=write.force)
        return self._commit(kind, old, made, write, subresource, managed=True)

    def _commit(self, kind: Kind, old: Raw, new: Raw, write: Write, subresource: str, *, managed: bool = False) -> Raw:
        """Writes the successor of an object. `managed` says that its owners are known already."""
        meta = dict(part(new, "metadata"))
        version = meta.get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise modified(kind, name_of(old))
        for key in _SERVER_OWNED:
            meta.pop(key, None)
            if key in old["metadata"]:
                meta[key] = old["metadata"][key]
        meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        meta["uid"] = meta.get("uid") or old["metadata"]["uid"]
        new = _with_half(old, new | {"metadata": meta}, subresource)
        if kind is SERVICE and (address := old["spec"].get("clusterIP")):
            new = new | {"spec": {"clusterIP": address} | new["spec"]}
        if kind is CLAIM and subresource != "status":
            self._insist_on_growth(old, new)
        new = defaulted(new)
        if found := problems(kind, new, old):
            raise invalid(kind, name_of(old), found)
        if kind.generation and _spec(new) != _spec(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if not managed:
            self._own(old, new, write.manager)
        if new == old:
            return old
        if write.dry_run:
            return new
        stored = self.store.replace(kind, new)
        self._finish(kind, stored)
        return stored

    def _insist_on_growth(self, old: Raw, new: Raw) -> None:
        had, wanted = (part(raw, "spec", "resources", "requests").get("storage", "0") for raw in (old, new))
        if not QUANTITY.fullmatch(str(wanted)) or quantity(wanted) <= quantity(had):
            return
        kind = self.store.get(STORAGE_CLASS, "", str(old["spec"].get("storageClassName") or ""))
        if kind is None or not kind.get("allowVolumeExpansion"):
            raise cannot_grow(CLAIM, name_of(old))

    def _own(self, old: Raw, new: Raw, manager: str) -> None:
        entries = updated(old, new, manager, new["apiVersion"], stamp(self.store.clock()))
        new["metadata"].pop("managedFields", None)
        if entries:
            new["metadata"]["managedFields"] = entries

    def write_status(self, kind: Kind, raw: Raw, status: Mapping[str, Value], manager: str) -> Raw | None:
        """Replaces the status of an object as it is now; None where it is gone or another one has its name."""
        old = self.store.get(kind, namespace_of(raw), name_of(raw))
        if old is None or old["metadata"]["uid"] != raw["metadata"]["uid"]:
            return None
        new = old | {"status": dict(status), "metadata": dict(old["metadata"])}
        return self._commit(kind, old, new, Write(manager), "status")

    # Deletion.

    def delete(self, kind: Kind, namespace: str, name: str, how: Deletion) -> Raw | None:
        """Deletes an object; returns it where it stays for a while (a pod's grace, a finalizer), None where it is gone."""
        raw = self.get(kind, namespace, name)
        for key in ("uid", "resourceVersion"):
            if how.preconditions.get(key, raw["metadata"][key]) != raw["metadata"][key]:
                raise precondition_failed(kind, raw, how.preconditions)
        finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(how.policy)
        if kind is NAMESPACE:
            return self._end_namespace(raw, how)
        grace = self._grace(kind, raw, how)
        finalizers = [*(parts(raw, "metadata", "finalizers")), *([finalizer] if finalizer else [])]
        if not finalizers and not grace:
            gone = raw if how.dry_run else self.store.remove(kind, namespace, name)
            return gone if kind is POD else None
        going = copy.deepcopy(raw)
        meta: Raw = going["metadata"]
        if not terminating(raw) or grace < meta.get("deletionGracePeriodSeconds", 0):
            meta["deletionTimestamp"] = stamp(self.store.clock() + timedelta(seconds=grace))
            meta["deletionGracePeriodSeconds"] = grace
        if finalizers:
            meta["finalizers"] = finalizers
        if kind.generation and not terminating(raw):
            meta["generation"] = meta.get("generation", 1) + 1
        return going if how.dry_run else self.store.replace(kind, going)

    def _end_namespace(self, raw: Raw, how: Deletion) -> Raw:
        """A namespace goes after its content, which the controllers take away."""
        meta = raw["metadata"] | {"deletionTimestamp": stamp(self.store.clock())}
        going = raw | {"metadata": meta, "status": {"phase": "Terminating"}}
        return going if how.dry_run or terminating(raw) else self.store.replace(NAMESPACE, going)

    def _grace(self, kind: Kind, raw: Raw, how: Deletion) -> int:
        """Seconds until it is gone. Only pods get any, and only those that a kubelet has to end."""
        if kind is not POD or not raw["spec"].get("nodeName"):
            return 0
        return raw["spec"]["terminationGracePeriodSeconds"] if how.grace is None else how.grace

    def _finish(self, kind: Kind, raw: Raw) -> None:
        """An object whose last finalizer is taken away goes."""
        if terminating(raw) and not raw["metadata"].get("finalizers") and kind not in (POD, NAMESPACE):
            self.store.remove(kind, namespace_of(raw), name_of(raw))

    def _insist_on_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        if not kind.namespaced:
            return
        found = self.store.get(NAMESPACE, "", namespace)
        if found is None:
            raise not_found(NAMESPACE, namespace)
        if terminating(found):
            raise namespace_ends(kind, name, namespace)


def _check_options(how: PatchType, write: Write) -> None:
    if how is PatchType.APPLY and not write.manager:
        cause = Cause("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")
        raise invalid_options("PatchOptions", cause)
    if how is not PatchType.APPLY and write.force:
        cause = Cause("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force")
        raise invalid_options("PatchOptions", cause)


def _addressed(kind: Kind, namespace: str, body: Raw) -> Raw:
    """A copy of what was sent, with the identity that the address gives it."""
    if body.get("kind", kind.kind) != kind.kind:
        version = str(body.get("apiVersion", "v1")).rpartition("/")[2]
        words = f"converting ({version}.{body['kind']}) to ({kind.group or 'core'}.{kind.kind}): unknown conversion"
        raise bad_request(f'{body["kind"]} in version "{version}" cannot be handled as a {kind.kind}: {words}')
    raw = copy.deepcopy(body)
    raw["apiVersion"], raw["kind"] = kind.api(), kind.kind
    raw["metadata"] = part(raw, "metadata")
    if kind.namespaced:
        if raw["metadata"].get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        raw["metadata"]["namespace"] = namespace
    return without_empty(raw)


def _decode(kind: Kind, raw: Raw) -> None:
    try:
        decode(raw)
    except Undecodable as error:
        undecodable(kind, raw["apiVersion"], str(error))


def _with_half(old: Raw, new: Raw, subresource: str) -> Raw:
    """Status and spec are written by different people: each keeps the other's half."""
    kept = {key: value for key, value in old.items() if key != "metadata"}
    if subresource == "status":
        return kept | {"status": new.get("status", {}), "metadata": new["metadata"]}
    if "status" in old:
        return new | {"status": old["status"]}
    return new


def _owned(raw: Raw) -> Raw:
    """What a creator owns: not the status."""
    return {key: value for key, value in raw.items() if key != "status"}


def _spec(raw: Raw) -> Value:
    """What counts for the generation."""
    return raw["spec"] if "spec" in raw else {k: v for k, v in raw.items() if k not in ("metadata", "status")}
