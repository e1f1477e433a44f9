"""Secrets leave Kubernetes objects here, before anything else sees them (reference/safety.md T19, T22).

What is not known to be harmless goes: values of environment variables and annotations, all data of ConfigMaps and Secrets (configuration files are kept
apart, as `ConfigFile`), headers of probes, words after options such as `--pass`. Names, labels and numbers stay.
"""

from __future__ import annotations

import re
from typing import Final, cast

from bot.adapters.archive import redact
from bot.model import Json, JsonObject, part, parts
from bot.model.kubernetes import Change, Kind, Rehearsal
from bot.model.nats_conf import REDACTED

HARMLESS_VARIABLES: Final = frozenset(
    {
        *("GOMEMLIMIT", "GOMAXPROCS", "GOGC", "GOTRACEBACK", "GODEBUG", "TZ"),
        *("POD_NAME", "POD_NAMESPACE", "SERVER_NAME", "CLUSTER_NAME", "CLUSTER_ADVERTISE", "NATS_CLUSTER_NAME"),
    }
)
"""Environment variables whose values are shown: Go's own, and those by which the charts name a server (reference/nats.md 4.1, 4.4)."""

HARMLESS_ANNOTATIONS: Final = (
    *("meta.helm.sh/", "helm.sh/", "argocd.argoproj.io/", "helm.toolkit.fluxcd.io/", "kustomize.toolkit.fluxcd.io/"),
    *("app.kubernetes.io/", "checksum/", "kubectl.kubernetes.io/restartedAt", "natsmedic", "reloader.stakater.com/"),
    *("pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/", "storageclass.kubernetes.io/"),
    *("endpoints.kubernetes.io/", "jetstream.nats.io/"),
)
"""Beginnings of annotations whose values are shown. `kubectl.kubernetes.io/last-applied-configuration` is none: it repeats the whole object, secrets included."""

_SECRET_OPTION: Final = re.compile(
    r"(?P<option>(?:^|(?<=\s))--?(?:user|pass|password|auth|token|creds|nkey|secret|key)\b(?:=|[\s\0]+))[^\s\0]+"
)
"""Options of nats-server and of the `nats` command that carry a login."""
_SECRET_PARAMETER: Final = re.compile(r"pass|secret|token|key|cred", re.IGNORECASE)
_NAME_OF_SECRET: Final = re.compile(r"name(space)?$", re.IGNORECASE)
"""Parameters of a StorageClass or a CSI volume that name a Secret, such as `csi.storage.k8s.io/fstype-secret-name`, are names."""
_IMAGES: Final = "images"
_BOOKKEEPING: Final = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink")
"""Metadata that changes with every write and says nothing to people."""


def shown(change: Change, *, by_server: bool) -> Rehearsal:
    """Return both sides of a change for people, without secrets."""
    before, after = (_plain(change.kind, side) for side in (change.before, change.after))
    return Rehearsal(before=before, after=after, by_server=by_server)


def _plain(kind: Kind, raw: JsonObject) -> JsonObject:
    made = {key: value for key, value in clean(kind, raw).items() if key != "status"}
    if "metadata" in made:
        made["metadata"] = {k: v for k, v in part(made, "metadata").items() if k not in _BOOKKEEPING}
    return made


def clean(kind: Kind, raw: JsonObject) -> JsonObject:
    """Return an object without its secrets, and without what nobody needs of a node."""
    made = cast("JsonObject", _walk(raw))
    match kind:
        case Kind.CONFIG_MAP | Kind.SECRET:
            for data in ("data", "binaryData", "stringData"):
                if data in made:
                    made[data] = dict.fromkeys(part(raw, data), REDACTED)
        case Kind.STORAGE_CLASS:
            made["parameters"] = _parameters(part(raw, "parameters"))
        case Kind.VOLUME:
            made["spec"] = {key: _volume_source(value) for key, value in part(made, "spec").items()}
        case Kind.NODE:
            made["status"] = {key: value for key, value in part(made, "status").items() if key != _IMAGES}
        case _:
            pass
    return cast("JsonObject", redact(made))


def _walk(value: Json) -> Json:
    """Return any part of an object: `annotations`, `env`, `command`, `args` and `httpHeaders` mean the same in a pod, a template and an older revision of it."""
    if isinstance(value, list):
        return [_walk(item) for item in cast("list[Json]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("JsonObject", value)
    made = {key: _walk(item) for key, item in fields.items()}
    if isinstance(fields.get("annotations"), dict):
        made["annotations"] = {
            key: item if key.startswith(HARMLESS_ANNOTATIONS) else REDACTED
            for key, item in part(fields, "annotations").items()
        }
    if isinstance(fields.get("env"), list):
        made["env"] = [_variable(entry) for entry in parts(fields, "env")]
    for words in ("command", "args"):
        if isinstance(fields.get(words), list):
            made[words] = _words([str(word) for word in cast("list[Json]", fields[words])])
    if isinstance(fields.get("httpHeaders"), list):
        made["httpHeaders"] = [header | {"value": REDACTED} for header in parts(fields, "httpHeaders")]
    return made


def _variable(entry: JsonObject) -> JsonObject:
    harmless = "value" not in entry or not entry["value"] or entry.get("name") in HARMLESS_VARIABLES
    return entry if harmless else entry | {"value": REDACTED}


def _words(words: list[str]) -> list[str]:
    """Return a command line without the words that follow a login's option, be they words of the list or of a shell's line."""
    separator = "\0 "
    line = _SECRET_OPTION.sub(rf"\g<option>{REDACTED}", separator.join(["", *words]))
    return line.split(separator)[1:]


def _parameters(parameters: JsonObject) -> JsonObject:
    return {
        key: REDACTED if _SECRET_PARAMETER.search(key) and not _NAME_OF_SECRET.search(key) else value
        for key, value in parameters.items()
    }


def _volume_source(value: Json) -> Json:
    if not isinstance(value, dict):
        return value
    source = cast("JsonObject", value)
    return {
        key: _parameters(part(source, key)) if key in {"volumeAttributes", "options"} else item
        for key, item in source.items()
    }
