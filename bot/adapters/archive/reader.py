"""Reads a snapshot back from an archive that natsmedic wrote. The bytes are untrusted: nothing is unpacked to disk, sizes are capped, paths come from the manifest."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import cast

from pydantic import ValidationError

from bot.adapters.archive.content import FORMAT, Content, SampleEntry, snapshot_of
from bot.adapters.archive.writer import MANIFEST, OWN_PATH, ROOT
from bot.errors import BadInput
from bot.model import JsonObject, Snapshot

MAX_ENTRIES = 100_000
"""A cluster of 30 servers with 1,000 streams of 3 replicas has about 3,200."""
MAX_FILE_BYTES = 256 * 2**20
MAX_TOTAL_BYTES = 1024 * 2**20
"""Unpacked; a JSZ answer with 1,000 streams and 10,000 consumers is about 20 MB, and our own file may hold several rounds of it."""


def read_archive(archive: bytes) -> Snapshot:
    """Return the snapshot in an archive; raise `BadInput` for bytes that are no whole, well-formed archive of natsmedic's."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return _Reader(opened).read()
    except ValidationError as error:
        raise BadInput(
            f"The archive's {OWN_PATH} does not hold a snapshot ({error.error_count()} problems)."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"The archive is not a readable ZIP ({error}): it is cut off, damaged or encrypted.") from error


class _Reader:
    def __init__(self, opened: zipfile.ZipFile) -> None:
        self._zip = opened
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
            raise BadInput(f"The archive has no {OWN_PATH}: natsmedic did not write it.")
        raw = self._object(OWN_PATH)
        if raw.get("format") != FORMAT:
            raise BadInput(f"The archive has format {raw.get('format')!r} and this natsmedic reads {FORMAT}.")
        content = Content.model_validate(raw)
        samples = tuple(self._filled(sample, manifest) for sample in content.samples)
        return snapshot_of(content.model_copy(update={"samples": samples}))

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
            value: object = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"The archive's file {path!r} is not JSON.") from error
        if not isinstance(value, dict):
            raise BadInput(f"The archive's file {path!r} is not a JSON object.")
        return cast("JsonObject", value)


def _refuse_bad_path(path: str) -> None:
    parts = path.split("/")
    if parts[0] != ROOT or "\\" in path or any(part in {"", ".", ".."} for part in parts):
        raise BadInput(f"The archive has a file {path!r}: only plain paths below {ROOT}/ are read.")
