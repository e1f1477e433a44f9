"""What was asked of the API server, and its answer or why there is none."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from bot.model.base import JsonObject, Record
from bot.model.sample import Unknown


class Kind(StrEnum):
    """The kinds of objects that are read, by the resource names that RBAC uses."""

    STATEFUL_SET = "statefulsets"
    POD = "pods"
    REVISION = "controllerrevisions"
    SERVICE = "services"
    ENDPOINTS = "endpoints"
    ENDPOINT_SLICE = "endpointslices"
    CONFIG_MAP = "configmaps"
    SECRET = "secrets"  # noqa: S105 - a resource
    CLAIM = "persistentvolumeclaims"
    VOLUME = "persistentvolumes"
    STORAGE_CLASS = "storageclasses"
    BUDGET = "poddisruptionbudgets"
    EVENT = "events"
    NODE = "nodes"
    STREAM = "streams"
    CONSUMER = "consumers"


class Listing(Record):
    """All objects of one kind that were asked for. Exactly one of `items` and `unknown` is set; nothing found is an empty `items`."""

    kind: Kind
    verb: str
    """`get` or `list`: what the reader must be allowed."""
    api: str
    """Group and version that were asked, e.g. `policy/v1beta1`; empty where none is served."""
    namespace: str | None = None
    """None for the whole cluster."""
    items: tuple[JsonObject, ...] | None = None
    unknown: Unknown | None = None


class ConfigFile(Record):
    """A file of nats-server's configuration: one key of a ConfigMap or Secret, without its secrets."""

    kind: Kind
    """`configmaps` or `secrets`."""
    name: str
    """Of the object."""
    key: str
    path: str
    """In the container."""
    live: bool
    """Whether a changed object reaches running pods; False where it is mounted by subPath."""
    resource_version: str = ""
    uid: str = ""
    """Of the object; empty where it was not read."""
    immutable: bool = False
    """Whether the API server refuses any change of the object's data."""
    text: str | None = None
    """Secrets redacted, and still a configuration. None where it is unknown."""
    unknown: Unknown | None = None
    """Why there is no text: denied, not there, not to be parsed (with the line)."""
    digests: dict[str, tuple[str, ...]] = {}
    """By pod, what its server may report as `config_digest` (VARZ, 2.11+) after loading this; none where an included file or a variable is not known.
    Only of the file that the server is started with. Secrets count in it, as in VARZ.
    """


class Source(Protocol):
    """Where a workload's views find the objects around it."""

    def of(self, kind: Kind) -> tuple[JsonObject, ...] | Unknown:
        """Return all objects of a kind that were read, or why they are not known."""
        ...

    @property
    def config_files(self) -> tuple[ConfigFile, ...]: ...
