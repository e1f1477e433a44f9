"""How an API server refuses: a Status with a reason, a code and details. The words are those of Kubernetes 1.20 (seen on the real testbed)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from bot.lab.kubernetes.kinds import Kind
from bot.lab.kubernetes.objects import Raw


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong. `reason` is a CauseType, e.g. `FieldValueInvalid`."""

    reason: str
    message: str
    field: str

    def raw(self) -> Raw:
        return {"reason": self.reason, "message": self.message} | ({"field": self.field} if self.field else {})


class Refused(Exception):
    """The request is answered with a Status. `retry_after` is seconds, for the header and the details."""

    def __init__(
        self, code: int, reason: str, message: str, details: Raw | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after

    def status(self) -> Raw:
        details = self.details
        if self.retry_after:
            details = (details or {}) | {"retryAfterSeconds": self.retry_after}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            **({} if details is None else {"details": details}),
            "code": self.code,
        }


def subject(kind: Kind, name: str = "", *, as_kind: bool = False) -> Raw:
    """The details that name an object: by the plural of its kind, in some refusals by the kind."""
    named: Raw = {"name": name} if name else {}
    return named | ({"group": kind.group} if kind.group else {}) | {"kind": kind.kind if as_kind else kind.plural}


def not_found(kind: Kind, name: str) -> Refused:
    return Refused(404, "NotFound", f'{kind.resource} "{name}" not found', subject(kind, name))


def no_such_path() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource", {})


def no_strategic_patch() -> Refused:
    """Merging lists by their keys needs Go types, which custom resources have not (apiserver endpoints/handlers/negotiation/errors.go)."""
    accepted = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    said = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return Refused(415, "UnsupportedMediaType", said, {})


def not_allowed() -> Refused:
    words = "the server does not allow this method on the requested resource"
    return Refused(405, "MethodNotAllowed", words, {})


def already_exists(kind: Kind, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', subject(kind, name))


def modified(kind: Kind, name: str) -> Refused:
    words = "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {words}'
    return Refused(409, "Conflict", message, subject(kind, name))


def other_uid_written(kind: Kind, raw: Raw, wanted: str) -> Refused:
    """A replacement names another uid than the object has."""
    meta = raw["metadata"]
    place = f"{meta['namespace']}/" if meta.get("namespace") else ""
    why = (
        f"StorageError: invalid object, Code: 4, Key: /registry/{kind.plural}/{place}{meta['name']}, ResourceVersion: 0, "
        f"AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {meta['uid']}"
    )
    message = f'Operation cannot be fulfilled on {kind.resource} "{meta["name"]}": {why}'
    return Refused(409, "Conflict", message, subject(kind, meta["name"]))


def precondition_failed(kind: Kind, raw: Raw, wanted: Raw) -> Refused:
    """`preconditions` of a deletion do not hold."""
    meta = raw["metadata"]
    if wanted.get("uid", meta["uid"]) != meta["uid"]:
        why = f"the UID in the precondition ({wanted['uid']}) does not match the UID in record ({meta['uid']}). The object might have been deleted and then recreated"
    else:
        why = f"the ResourceVersion in the precondition ({wanted['resourceVersion']}) does not match the ResourceVersion in record ({meta['resourceVersion']}). The object might have been modified"
    message = f'Operation cannot be fulfilled on {kind.qualified} "{meta["name"]}": {why}'
    return Refused(409, "Conflict", message, subject(kind, meta["name"], as_kind=True))


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> Refused:
    return _invalid(f'{kind.qualified} "{name}"', subject(kind, name, as_kind=True), causes)


def invalid_options(options: str, cause: Cause) -> Refused:
    """`options` is `PatchOptions`, `CreateOptions`, …"""
    details: Raw = {"group": "meta.k8s.io", "kind": options}
    return _invalid(f'{options}.meta.k8s.io ""', details, [cause])


def invalid_patch(value: str, why: str) -> Refused:
    """The patched object cannot be read."""
    return _invalid(' ""', {}, [Cause("FieldValueInvalid", f'Invalid value: "{value}": {why}', "patch")])


def patch_rejected() -> Refused:
    """What any JSON patch that does not apply gets, a failed `test` too: which operation failed is not said (apiserver `jsonPatcher`)."""
    return Refused(422, "Invalid", "the server rejected our request due to an error in our request", {})


def _invalid(what: str, details: Raw, causes: Sequence[Cause]) -> Refused:
    said = [f"{cause.field}: {cause.message}" for cause in causes]
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    raw = [cause.raw() for cause in causes]
    return Refused(422, "Invalid", f"{what} is invalid: {text}", details | {"causes": raw})


def forbidden(user: str, verb: str, kind: Kind, name: str, namespace: str, subresource: str) -> Refused:
    what = f'{kind.resource} "{name}"' if name else kind.resource
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
    message = (
        f'{what} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "{kind.group}" {where}'
    )
    return Refused(403, "Forbidden", message, subject(kind, name))


def namespace_ends(kind: Kind, name: str, namespace: str) -> Refused:
    """Nothing new is made in a namespace that goes (plugin/pkg/admission NamespaceLifecycle)."""
    words = f"unable to create new content in namespace {namespace} because it is being terminated"
    message = f"namespace {namespace} is being terminated"
    cause = Cause("NamespaceTerminating", message, "metadata.namespace").raw()
    return Refused(
        403, "Forbidden", f'{kind.resource} "{name}" is forbidden: {words}', subject(kind, name) | {"causes": [cause]}
    )


def cannot_grow(kind: Kind, name: str) -> Refused:
    """A claim of a class that does not let its volumes grow (plugin/pkg/admission/storage/persistentvolume/resize)."""
    words = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    return Refused(403, "Forbidden", f'{kind.resource} "{name}" is forbidden: {words}', subject(kind, name))


def path_forbidden(user: str, verb: str, path: str) -> Refused:
    return Refused(403, "Forbidden", f'forbidden: User "{user}" cannot {verb} path "{path}"', {})


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "Unauthorized")


def expired(asked: int, oldest: int) -> Refused:
    return Refused(410, "Expired", f"too old resource version: {asked} ({oldest})")


def budget_exceeded(why: str) -> Refused:
    causes = [{"reason": "DisruptionBudget", "message": why}]
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return Refused(429, "TooManyRequests", message, {"causes": causes})


def undecodable(kind: Kind, api_version: str, why: str) -> NoReturn:
    version = api_version.rpartition("/")[2]
    raise bad_request(f'{kind.kind} in version "{version}" cannot be handled as a {kind.kind}: {why}')
