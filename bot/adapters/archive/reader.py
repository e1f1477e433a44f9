"""Reads a snapshot from an archive: back as it was from one that natsmedic wrote, rebuilt from one that `nats audit gather` wrote.

The bytes are untrusted: nothing is unpacked to disk, sizes are capped, paths come from the manifest.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from datetime import UTC, datetime
from typing import cast

import orjson
from pydantic import ValidationError

from bot.adapters.archive.content import FORMAT, Content, KubernetesEntry, SampleEntry, snapshot_of
from bot.adapters.archive.gathered import moment, rebuild
from bot.adapters.archive.writer import DELIVERIES_PATH, KUBERNETES_PATH, MANIFEST, METADATA, OWN_PATH, ROOT
from bot.errors import BadInput
from bot.model import JsonObject, Snapshot, SnapshotId

ID_DIGITS = 26
"""Of the digest in a rebuilt snapshot's id: 104 bits."""
MAX_ENTRIES = 100_000
"""A cluster of 30 servers with 1,000 streams of 3 replicas has about 3,200."""
MAX_FILE_BYTES = 256 * 2**20
MAX_TOTAL_BYTES = 1024 * 2**20
"""Unpacked; a JSZ answer with 1,000 streams and 10,000 consumers is about 20 MB, and our own file may hold several rounds of it."""


def read_archive(archive: bytes) -> Snapshot:
    """Return the snapshot in an archive; raise `BadInput` for bytes that are no whole, well-formed archive.

    An archive of natsmedic's gives back the snapshot that was written, `via` included. Any other is rebuilt with `via="archive"`; its id is of
    its bytes, so that reading it again gives the same snapshot.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return _Reader(opened, hashlib.sha256(archive).hexdigest()).read()
    except ValidationError as error:
        raise BadInput(
            f"The archive does not hold a snapshot that can be read ({error.error_count()} problems)."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"The archive is not a readable ZIP ({error}): it is cut off, damaged or encrypted.") from error


class _Reader:
    def __init__(self, opened: zipfile.ZipFile, digest: str) -> None:
        self._zip = opened
        self._digest = digest
        self._left = MAX_TOTAL_BYTES
        infos = opened.infolist()
        if len(infos) > MAX_ENTRIES:
            raise BadInput(f"The archive has {len(infos)} files, more than the {MAX_ENTRIES} that are read.")
        for info in infos:
            _refuse_bad_path(info.filename)
        self._names = frozenset(info.filename for info in infos)
        if len(self._names) != len(infos):
            raise BadInput("The archive has two files of the same name.")

    def read(self) -> Snapshot:
        if MANIFEST not in self._names:
            raise BadInput(f"The archive has no {MANIFEST}: it is not a gathered archive, or its writing did not end.")
        manifest = self._object(MANIFEST)
        missing = sorted(path for path in manifest if path not in self._names)
        if missing:
            raise BadInput(
                f"The archive lacks {len(missing)} of the files that its manifest names, the first is {missing[0]!r}."
            )
        if OWN_PATH not in manifest:
            snapshot_id = SnapshotId(f"snap_{self._digest[:ID_DIGITS]}")
            return rebuild(snapshot_id, manifest, self._captured_at(manifest), self._object)
        raw = self._object(OWN_PATH)
        if raw.get("format") != FORMAT:
            raise BadInput(f"The archive has format {raw.get('format')!r} and this natsmedic reads {FORMAT}.")
        probed = self._object(DELIVERIES_PATH) if DELIVERIES_PATH in manifest else {}
        content = Content.model_validate({**raw, "deliveries": probed.get("deliveries", [])})
        samples = tuple(self._filled(sample, manifest) for sample in content.samples)
        return snapshot_of(content.model_copy(update={"samples": samples, "kubernetes": self._kubernetes(manifest)}))

    def _kubernetes(self, manifest: JsonObject) -> KubernetesEntry | None:
        if KUBERNETES_PATH not in manifest:
            return None
        return KubernetesEntry.model_validate(self._object(KUBERNETES_PATH))

    def _captured_at(self, manifest: JsonObject) -> datetime:
        """Return when the archive was gathered: what its metadata says, else the manifest's own time."""
        if METADATA in manifest and (said := moment(self._object(METADATA).get("capture_timestamp"))):
            return said
        try:
            return datetime(*self._zip.getinfo(MANIFEST).date_time, tzinfo=UTC)
        except ValueError as error:
            raise BadInput(f"The archive's {MANIFEST} has a time that can't be.") from error

    def _filled(self, sample: SampleEntry, manifest: JsonObject) -> SampleEntry:
        if not sample.paths:
            return sample
        data: JsonObject = {}
        for path in sample.paths:
            if path not in manifest:
                raise BadInput(f"The archive's snapshot names the file {path!r} and its manifest does not.")
            answer = self._object(path).get("data")
            if not isinstance(answer, dict):
                raise BadInput(f"The archive's file {path!r} holds no answer of a server.")
            data.update(cast("JsonObject", answer))
        return sample.model_copy(update={"data": data})

    def _object(self, path: str) -> JsonObject:
        limit = min(MAX_FILE_BYTES, self._left)
        with self._zip.open(path) as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            raise BadInput(f"The archive's file {path!r} is larger than what is read ({limit} bytes unpacked).")
        self._left -= len(raw)
        try:
            value: object = orjson.loads(raw)
        except ValueError as error:
            raise BadInput(f"The archive's file {path!r} is not JSON.") from error
        if not isinstance(value, dict):
            raise BadInput(f"The archive's file {path!r} is not a JSON object.")
        return cast("JsonObject", value)


def _refuse_bad_path(path: str) -> None:
    parts = path.split("/")
    if parts[0] != ROOT or "\\" in path or any(part in {"", ".", ".."} for part in parts):
        raise BadInput(f"The archive has a file {path!r}: only plain paths below {ROOT}/ are read.")
