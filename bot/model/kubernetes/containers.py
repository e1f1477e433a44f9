"""Containers, their probes, resources, environment and volumes, as a pod template or a pod spells them out."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from bot.model.base import Json, JsonObject, part, parts
from bot.model.kubernetes.objects import number, quantity, size, text, texts

NATS: Final = "nats"
"""Name of the container that runs nats-server in the charts of nats-io and Bitnami (reference/nats.md 4.1, 4.4)."""

CONFIG_PATHS: Final = ("/etc/nats/nats-server.conf", "/nats-server.conf")
"""What the official images load without arguments (nats-docker, alpine and scratch)."""

_CONFIG_OPTIONS: Final = frozenset({"-c", "--c", "-config", "--config"})

_MEMORY: Final = re.compile(r"(\d+)(B|KiB|MiB|GiB|TiB)?")
_MEMORY_UNITS: Final = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
"""The format of GOMEMLIMIT (Go's package runtime)."""


class ProbeKind(StrEnum):
    HTTP = "http"
    TCP = "tcp"
    EXEC = "exec"
    GRPC = "grpc"
    OTHER = "other"


_HANDLERS: Final = {
    "httpGet": ProbeKind.HTTP,
    "tcpSocket": ProbeKind.TCP,
    "exec": ProbeKind.EXEC,
    "grpc": ProbeKind.GRPC,
}


@dataclass(frozen=True, slots=True)
class Probe:
    """A startup, readiness or liveness probe. Absent numbers are the API's defaults (core/v1 Probe)."""

    raw: JsonObject

    @property
    def kind(self) -> ProbeKind:
        return next((kind for key, kind in _HANDLERS.items() if key in self.raw), ProbeKind.OTHER)

    @property
    def path(self) -> str:
        """Path and query of an HTTP probe, e.g. `/healthz?js-server-only=true`; empty for other kinds."""
        return text(part(self.raw, "httpGet"), "path") or ("/" if self.kind is ProbeKind.HTTP else "")

    @property
    def endpoint(self) -> str:
        """The path alone, e.g. `/healthz`."""
        return urlsplit(self.path).path

    @property
    def parameters(self) -> Mapping[str, str]:
        """The query, e.g. `{"js-server-only": "true"}`."""
        return dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))

    @property
    def port(self) -> int | str | None:
        """The port's number, or its name in the container."""
        handler = next((key for key in _HANDLERS if key in self.raw), "")
        found: Json = part(self.raw, handler).get("port")
        return found if isinstance(found, int | str) else None

    @property
    def initial_delay(self) -> int:
        """Seconds."""
        return number(self.raw, "initialDelaySeconds")

    @property
    def period(self) -> int:
        """Seconds."""
        return number(self.raw, "periodSeconds", 10)

    @property
    def timeout(self) -> int:
        """Seconds."""
        return number(self.raw, "timeoutSeconds", 1)

    @property
    def success_threshold(self) -> int:
        return number(self.raw, "successThreshold", 1)

    @property
    def failure_threshold(self) -> int:
        return number(self.raw, "failureThreshold", 3)

    @property
    def patience(self) -> int:
        """Seconds from the first failure to the consequence: unready, or killed."""
        return self.period * self.failure_threshold


@dataclass(frozen=True, slots=True)
class Resources:
    """Requests and limits. CPU in cores, memory in bytes; None where none is set."""

    raw: JsonObject

    @property
    def cpu_request(self) -> float | None:
        return quantity(part(self.raw, "requests").get("cpu"))

    @property
    def cpu_limit(self) -> float | None:
        return quantity(part(self.raw, "limits").get("cpu"))

    @property
    def memory_request(self) -> int | None:
        return size(part(self.raw, "requests").get("memory"))

    @property
    def memory_limit(self) -> int | None:
        return size(part(self.raw, "limits").get("memory"))


@dataclass(frozen=True, slots=True)
class EnvironmentVariable:
    """One `env` entry."""

    name: str
    value: str | None
    """As written; `[redacted]` where it is not known to be harmless; None where it comes from elsewhere."""
    source: str
    """Where the value comes from: `value`, `fieldRef metadata.name`, `resourceFieldRef limits.memory`, `secretKeyRef NAME/KEY`, `configMapKeyRef NAME/KEY`."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a volume appears in a container."""

    volume: str
    path: str
    sub_path: str
    """Not empty: only this part of the volume, copied when the container starts; later changes of a ConfigMap or Secret never arrive."""
    read_only: bool

    @property
    def live(self) -> bool:
        """Whether changes of a ConfigMap or Secret reach the running container."""
        return not self.sub_path


@dataclass(frozen=True, slots=True)
class Image:
    """A container image's reference."""

    reference: str

    @property
    def repository(self) -> str:
        """`registry.example.com/library/nats`."""
        return self.reference.partition("@")[0].removesuffix(f":{self.tag}" if self.tag else "")

    @property
    def tag(self) -> str:
        """Empty where there is none, and `latest` is pulled."""
        last = self.reference.partition("@")[0].rpartition("/")[2]
        return last.partition(":")[2]

    @property
    def digest(self) -> str:
        """`sha256:…`; empty where the image is not pinned by it."""
        return self.reference.partition("@")[2]

    @property
    def base_name(self) -> str:
        """`nats`."""
        return self.repository.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod or of a pod's template."""

    raw: JsonObject

    @property
    def name(self) -> str:
        return text(self.raw, "name")

    @property
    def image(self) -> Image:
        return Image(text(self.raw, "image"))

    @property
    def image_pull_policy(self) -> str:
        return text(self.raw, "imagePullPolicy")

    @property
    def command(self) -> tuple[str, ...]:
        """Command and arguments; empty where the image's own are used."""
        return texts(self.raw, "command") + texts(self.raw, "args")

    @property
    def readiness(self) -> Probe | None:
        return self._probe("readinessProbe")

    @property
    def liveness(self) -> Probe | None:
        return self._probe("livenessProbe")

    @property
    def startup(self) -> Probe | None:
        return self._probe("startupProbe")

    @property
    def resources(self) -> Resources:
        return Resources(part(self.raw, "resources"))

    @property
    def ports(self) -> Mapping[str, int]:
        """Port numbers by name."""
        return {text(port, "name"): number(port, "containerPort") for port in parts(self.raw, "ports")}

    def port_number(self, port: int | str | None) -> int | None:
        """Return the number of a port that is given by number or name."""
        return self.ports.get(port) if isinstance(port, str) else port

    @property
    def environment(self) -> Mapping[str, EnvironmentVariable]:
        return {text(entry, "name"): _variable(entry) for entry in parts(self.raw, "env")}

    @property
    def gomemlimit(self) -> int | None:
        """GOMEMLIMIT in bytes; None where it is not set, or its value is not in the spec."""
        variable = self.environment.get("GOMEMLIMIT")
        if variable is None:
            return None
        if variable.source == "resourceFieldRef limits.memory":
            return self.resources.memory_limit
        found = _MEMORY.fullmatch(variable.value or "")
        return int(found[1]) * _MEMORY_UNITS[found[2] or ""] if found else None

    @property
    def mounts(self) -> tuple[Mount, ...]:
        return tuple(
            Mount(
                text(mount, "name"),
                text(mount, "mountPath"),
                text(mount, "subPath") or text(mount, "subPathExpr"),
                mount.get("readOnly") is True,
            )
            for mount in parts(self.raw, "volumeMounts")
        )

    def mount_of(self, path: str) -> Mount | None:
        """Return the mount that a path in the container lies on: the deepest one."""
        covering = [m for m in self.mounts if path == m.path or path.startswith(m.path.rstrip("/") + "/")]
        return max(covering, key=lambda mount: len(mount.path), default=None)

    @property
    def config_path(self) -> str | None:
        """Path of nats.conf in the container: as its arguments say, else where the image looks; None where it runs without one."""
        # A shell's command line is one word of the list.
        words = " ".join(self.command).split()
        for index, word in enumerate(words):
            option, _, value = word.partition("=")
            path = value or (words[index + 1] if index + 1 < len(words) else "")
            if option in _CONFIG_OPTIONS and (path.startswith("/") or path.endswith(".conf")):
                return posixpath.normpath(path)
        if words:
            return None
        return next((path for path in CONFIG_PATHS if self.mount_of(path)), CONFIG_PATHS[0])

    def _probe(self, key: str) -> Probe | None:
        found = part(self.raw, key)
        return Probe(found) if found else None


class VolumeKind(StrEnum):
    """The sources that matter to NATS; anything else is `OTHER` and has its name in `Volume.source`."""

    CONFIG_MAP = "configMap"
    SECRET = "secret"  # noqa: S105 - a kind of volume
    CLAIM = "persistentVolumeClaim"
    EMPTY_DIR = "emptyDir"
    HOST_PATH = "hostPath"
    NFS = "nfs"
    PROJECTED = "projected"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class KeyedSource:
    """A ConfigMap or Secret whose keys are files. `paths` says which key is which file; empty means that each key is a file of its name."""

    kind: VolumeKind
    name: str
    paths: Mapping[str, str]

    def key_of(self, path: str) -> str | None:
        """Return the key that is the file at `path`, relative to the volume; None where no key can be it."""
        if self.paths:
            return self.paths.get(path)
        return path if path and "/" not in path else None


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume of a pod."""

    raw: JsonObject

    @property
    def name(self) -> str:
        return text(self.raw, "name")

    @property
    def source(self) -> str:
        """The key of its source, e.g. `emptyDir` or `csi`."""
        return next((key for key in self.raw if key != "name"), "")

    @property
    def kind(self) -> VolumeKind:
        return VolumeKind(self.source) if self.source in set(VolumeKind) else VolumeKind.OTHER

    @property
    def claim(self) -> str:
        """Name of the PersistentVolumeClaim; empty for other kinds."""
        return text(part(self.raw, "persistentVolumeClaim"), "claimName")

    @property
    def keyed(self) -> tuple[KeyedSource, ...]:
        """The ConfigMaps and Secrets whose keys appear as files in it."""
        if self.kind is VolumeKind.PROJECTED:
            sources = parts(part(self.raw, "projected"), "sources")
            return tuple(found for source in sources for found in _keyed(source, secret_name="name"))  # noqa: S106 - a key
        return tuple(_keyed(self.raw, secret_name="secretName"))  # noqa: S106 - a key


def _keyed(raw: JsonObject, secret_name: str) -> list[KeyedSource]:
    found: list[KeyedSource] = []
    for kind, name in ((VolumeKind.CONFIG_MAP, "name"), (VolumeKind.SECRET, secret_name)):
        source = part(raw, kind)
        if source:
            paths = {text(item, "path"): text(item, "key") for item in parts(source, "items")}
            found.append(KeyedSource(kind, text(source, name), paths))
    return found


def _variable(entry: JsonObject) -> EnvironmentVariable:
    name, origin = text(entry, "name"), part(entry, "valueFrom")
    if not origin:
        return EnvironmentVariable(name, text(entry, "value"), "value")
    kind = next(iter(origin))
    source = part(origin, kind)
    if kind == "fieldRef":
        where = text(source, "fieldPath")
    elif kind == "resourceFieldRef":
        where = text(source, "resource")
    else:
        where = f"{text(source, 'name')}/{text(source, 'key')}"
    return EnvironmentVariable(name, None, f"{kind} {where}")
