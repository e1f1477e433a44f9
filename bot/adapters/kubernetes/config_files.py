"""Finds the files of nats-server's configuration in ConfigMaps and, where it is allowed, the Secret; takes their secrets out and keeps their digests."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bot.adapters.kubernetes.api import unknown_of
from bot.errors import Unreadable
from bot.model import JsonObject, Unknown, UnknownReason, part
from bot.model.kubernetes import ConfigFile, Container, KeyedSource, Kind, Pod, PodSpec, VolumeKind, known_environment
from bot.model.nats_conf import ConfError, NatsConf, read_conf, redact_conf

MAX_FILES: Final = 32
"""Of one configuration; a chart makes one to three."""

Fetch = Callable[[Kind, str], Awaitable[JsonObject | None]]
"""Returns a ConfigMap or Secret by its name, None where there is none. Raises `Unreadable`."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file of the container comes from."""

    path: str
    source: KeyedSource
    key: str
    live: bool

    @property
    def kind(self) -> Kind:
        return Kind.SECRET if self.source.kind is VolumeKind.SECRET else Kind.CONFIG_MAP


@dataclass(frozen=True, slots=True)
class _Found:
    """A file as it is, secrets included; it never leaves this module."""

    place: _Place
    text: str | None
    unknown: Unknown | None
    metadata: JsonObject = field(default_factory=dict[str, Any])
    immutable: bool = False


class ConfigReader:
    """Reads the configuration of one workload. Secrets are fetched only with `secrets`, and of their keys only the file is looked at."""

    def __init__(self, fetch: Fetch, *, secrets: bool) -> None:
        self._fetch = fetch
        self._secrets = secrets

    async def read(self, spec: PodSpec, container: Container, pods: Sequence[Pod]) -> tuple[ConfigFile, ...]:
        """Return the file that nats-server is started with, and the files that it includes; nothing where it lies in no ConfigMap or Secret."""
        path = container.config_path
        place = _place(spec, container, path) if path else None
        if path is None or place is None:
            return ()
        found = {path: await self._file(place)}
        # Each round reads what the files known so far include.
        while len(found) < MAX_FILES:
            places = (_place(spec, container, included) for included in _missing(found, path))
            new = {place.path: place for place in places if place is not None and place.path not in found}
            if not new:
                break
            found |= {place.path: await self._file(place) for place in new.values()}
        digests = {pod.name: _digests(found, path, pod, container.name) for pod in pods}
        return tuple(_without_secrets(file, digests if file.place.path == path else {}) for file in found.values())

    async def _file(self, place: _Place) -> _Found:
        kind, name = place.kind, place.source.name
        if kind is Kind.SECRET and not self._secrets:
            detail = (
                f"{place.path} lies in Secret {name}, which is not read: "
                f"set kubernetes.read_config_secret, and grant `get` on secrets/{name}"
            )
            return _Found(place, None, Unknown(reason=UnknownReason.NOT_CONFIGURED, detail=detail))
        try:
            raw = await self._fetch(kind, name)
        except Unreadable as error:
            return _Found(place, None, unknown_of(error))
        text = None if raw is None else _text(raw, kind, place.key)
        if raw is None or text is None:
            problem = "is not there" if raw is None else f"has no text below {place.key}"
            detail = f"{place.path} can't be read: {kind}/{name} {problem}"
            return _Found(place, None, Unknown(reason=UnknownReason.UNREADABLE, detail=detail))
        return _Found(place, text, None, part(raw, "metadata"), raw.get("immutable") is True)


def _place(spec: PodSpec, container: Container, path: str) -> _Place | None:
    """Return the key that a path in the container shows; None where it lies on no ConfigMap or Secret."""
    mount = container.mount_of(path)
    volume = spec.volumes.get(mount.volume) if mount else None
    if mount is None or volume is None:
        return None
    below = posixpath.normpath(f"{mount.sub_path or '.'}/{posixpath.relpath(path, mount.path)}")
    # A source that lists its paths knows; one that does not may have a key of that name.
    for source in sorted(volume.keyed, key=lambda source: not source.paths):
        key = source.key_of(below)
        if key is not None:
            return _Place(path, source, key, mount.live)
    return None


def _text(raw: JsonObject, kind: Kind, key: str) -> str | None:
    """Return one key of an object; nothing else of its data is looked at."""
    value = part(raw, "data").get(key)
    packed = value if kind is Kind.SECRET else part(raw, "binaryData").get(key)
    if kind is Kind.CONFIG_MAP and isinstance(value, str):
        return value
    try:
        return base64.b64decode(packed, validate=True).decode() if isinstance(packed, str) else None
    except ValueError:
        return None


def _conf(found: Mapping[str, _Found], path: str, environment: Mapping[str, str]) -> NatsConf | None:
    """Return the configuration as far as its files are known; None where the file itself is unknown or can't be parsed."""
    main, folder = found[path].text, posixpath.dirname(path)

    def include(relative: str) -> str | None:
        file = found.get(posixpath.normpath(f"{folder}/{relative}"))
        return file.text if file else None

    try:
        return None if main is None else read_conf(main, environment, include)
    except ConfError:
        return None


def _missing(found: Mapping[str, _Found], path: str) -> list[str]:
    """Return the paths of included files that are not known yet."""
    conf, folder = _conf(found, path, {}), posixpath.dirname(path)
    return [posixpath.normpath(f"{folder}/{relative}") for relative in conf.missing_includes] if conf else []


def _digests(found: Mapping[str, _Found], path: str, pod: Pod, name: str) -> tuple[str, ...]:
    """Return what the server in that pod reports after loading the present files."""
    container = pod.pod_spec.container(name)
    conf = _conf(found, path, known_environment(container, pod)) if container else None
    return conf.digests if conf else ()


def _without_secrets(file: _Found, digests: dict[str, tuple[str, ...]]) -> ConfigFile:
    place, text, unknown = file.place, file.text, file.unknown
    try:
        text = None if text is None else redact_conf(text)
    except ConfError as error:
        # The error names the line and never the text.
        text = None
        unknown = Unknown(reason=UnknownReason.UNREADABLE, detail=f"nats-server can't load {place.path}: {error}")
    return ConfigFile(
        kind=place.kind,
        name=place.source.name,
        key=place.key,
        path=place.path,
        live=place.live,
        resource_version=str(file.metadata.get("resourceVersion") or ""),
        uid=str(file.metadata.get("uid") or ""),
        immutable=file.immutable,
        text=text,
        unknown=unknown,
        digests=digests,
    )
