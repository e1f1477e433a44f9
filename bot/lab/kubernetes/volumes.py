"""What a pod mounts: ConfigMaps and Secrets as files, claims and empty folders as folders."""

import base64
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.lab.kubernetes.kinds import CLAIM, CONFIG_MAP, SECRET, Kind
from bot.lab.kubernetes.objects import Raw, namespace_of, part, parts, uid_of
from bot.lab.kubernetes.sandbox import Mount
from bot.lab.kubernetes.store import Store

_BLOCK: Final = re.compile(
    r"(?m)(^|[\s,;])(cluster|leafnodes?|gateway|mqtt|websocket)(\s*[:=]?\s*\{)(?![^{}]*\b(?:host|listen)\b)"
)
"""A block of nats.conf that opens a port of its own and does not say on which address."""


class NotMounted(Exception):
    """A volume cannot be made yet; the message is the kubelet's."""


@dataclass(slots=True)
class _Files:
    """A volume made of a ConfigMap or Secret: what is written, and what waits to be."""

    kind: Kind
    name: str
    items: list[Raw]
    folder: Path
    optional: bool = False
    written: str = ""
    changed_at: float | None = None


@dataclass(slots=True)
class Volumes:
    """The volumes of one pod below its folder. `shared` holds what outlives it: claims, by name."""

    pod: Raw
    store: Store
    folder: Path
    shared: Path
    address: str
    _files: list[_Files] = field(default_factory=list[_Files])
    _places: dict[str, Path] = field(default_factory=dict[str, Path])

    def make(self) -> None:
        """Raises `NotMounted`."""
        self._files.clear()
        for volume in parts(self.pod["spec"], "volumes"):
            name = volume["name"]
            self._places[name] = self._place(name, volume)
        for files in self._files:
            self._write(files)

    def mounts(self, container: Raw) -> list[Mount]:
        """What a container sees, outer paths first."""
        found: list[Mount] = []
        for mount in parts(container, "volumeMounts"):
            source = self._places[mount["name"]]
            if below := mount.get("subPath"):
                source /= below
                if not source.exists():
                    source.mkdir(parents=True)
            found.append(Mount(source, mount["mountPath"]))
        return sorted(found, key=lambda mount: mount.target)

    def refresh(self, now: float, delay: float) -> None:
        """Writes again what has been changed for `delay` seconds, as the kubelet does within a minute or two."""
        for files in self._files:
            raw = self._source(files)
            version = raw["metadata"]["resourceVersion"] if raw else ""
            if raw is None or version == files.written:
                files.changed_at = None
            elif files.changed_at is None and delay:
                files.changed_at = now
            elif not delay or now - (files.changed_at or now) >= delay:
                self._write(files)

    def remove(self) -> None:
        """What ends with the pod."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, name: str, volume: Raw) -> Path:
        folder = self.folder / "volumes" / name
        if claim := volume.get("persistentVolumeClaim"):
            folder = self._claim(name, claim["claimName"])
        for source, kind, key in (("configMap", CONFIG_MAP, "name"), ("secret", SECRET, "secretName")):
            if found := volume.get(source):
                optional = bool(found.get("optional"))
                self._files.append(_Files(kind, found[key], parts(found, "items"), folder, optional))
        for projected in parts(volume, "projected", "sources"):
            for source, kind in (("configMap", CONFIG_MAP), ("secret", SECRET)):
                if found := projected.get(source):
                    self._files.append(
                        _Files(kind, found["name"], parts(found, "items"), folder, bool(found.get("optional")))
                    )
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _claim(self, volume: str, name: str) -> Path:
        namespace = namespace_of(self.pod)
        raw = self.store.get(CLAIM, namespace, name)
        if raw is None or raw["status"].get("phase") != "Bound":
            raise NotMounted(
                f'Unable to attach or mount volumes: unmounted volumes=[{volume}]: claim "{name}" is not bound'
            )
        return self.shared / "claims" / namespace / f"{name}-{uid_of(raw)}"

    def _source(self, files: _Files) -> Raw | None:
        return self.store.get(files.kind, namespace_of(self.pod), files.name)

    def _write(self, files: _Files) -> None:
        raw = self._source(files)
        if raw is None:
            if files.optional:
                return
            kind = files.kind.kind.lower()
            raise NotMounted(
                f'MountVolume.SetUp failed for volume "{files.folder.name}" : {kind} "{files.name}" not found'
            )
        paths = {item["key"]: item["path"] for item in files.items}
        for key, content in content_of(files.kind, raw).items():
            if paths and key not in paths:
                continue
            target = files.folder / paths.get(key, key)
            target.parent.mkdir(parents=True, exist_ok=True)
            waiting = target.with_name(f".{target.name}.new")
            waiting.write_bytes(self._on_own_address(content))
            waiting.replace(target)
        files.written, files.changed_at = raw["metadata"]["resourceVersion"], None

    def _on_own_address(self, content: bytes) -> bytes:
        """A configuration that opens ports on every address is given the pod's, because all pods share the machine's. One that names `$POD_IP` stays as it is,
        and so does its digest.
        """
        if b"$POD_IP" in content:
            return content
        try:
            return _BLOCK.sub(rf'\1\2\3 host: "{self.address}", ', content.decode()).encode()
        except UnicodeDecodeError:
            return content


def content_of(kind: Kind, raw: Raw) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret."""
    packed = part(raw, "data" if kind is SECRET else "binaryData")
    found = {key: base64.b64decode(value) for key, value in packed.items()}
    if kind is CONFIG_MAP:
        found |= {key: value.encode() for key, value in part(raw, "data").items()}
    return found
