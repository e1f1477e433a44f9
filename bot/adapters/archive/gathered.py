"""Rebuilds a snapshot from an archive that `nats audit gather` wrote (reference/audit-archive.md; natscli 0.4, jsm.go audit/gather).

Its files hold whole `$SYS` answers, found by the tags of the manifest and never by path. What the archive lacks is unknown with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bot.adapters.archive.writer import ACCOUNT_QUEUES, ACCOUNT_RAFT, ARTIFACTS, STREAM, UNCLUSTERED
from bot.adapters.nats.assemble import Taken
from bot.adapters.nats.facts import (
    PAGE,
    PAGED,
    Page,
    accounts_in,
    cut_off,
    identity_of,
    merge_pages,
    merge_raftz,
    page_is_full,
)
from bot.errors import BadInput
from bot.model import (
    Endpoint,
    JsonObject,
    Sample,
    ServerIdentity,
    Snapshot,
    SnapshotId,
    Unknown,
    UnknownReason,
    part,
    parts,
)
from bot.model.assets import DETAILS

VIA: Final = "archive"

Load = Callable[[str], JsonObject]
"""Returns the JSON object in the file of that path; raises `BadInput`."""

_SILENT: Final = Unknown(
    reason=UnknownReason.UNREACHABLE,
    detail="the archive has no answer of this server: it was not there when it was gathered",
)
_SOME_QUEUES: Final = Unknown(
    reason=UnknownReason.UNREADABLE,
    detail="the archive lists only queues of accounts that were not empty: an IPQUEUESZ queue that is missing in it is unknown",
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """One file: a server's `$SYS` answer."""

    header: JsonObject
    taken_at: datetime
    data: JsonObject | None
    problem: Unknown | None


@dataclass(frozen=True, slots=True)
class _File:
    """One manifest entry with the tags of an artifact."""

    path: str
    cluster: str
    server: str
    artifact: str
    account: str


def rebuild(snapshot_id: SnapshotId, manifest: JsonObject, at: datetime, load: Load) -> Snapshot:
    """Return the snapshot of the archive with this manifest, gathered `at`. Raises `BadInput` where it holds no server's answer or contradicts itself."""
    return _Gathered(manifest, at, load).snapshot(snapshot_id)


def moment(text: object) -> datetime | None:
    """Return an RFC 3339 moment in UTC; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None


class _Gathered:
    def __init__(self, manifest: JsonObject, at: datetime, load: Load) -> None:
        self._load = load
        self._at = at
        self._files: dict[str, dict[str, list[_File]]] = {}
        for file in sorted(_files(manifest), key=lambda f: f.path):
            self._files.setdefault(file.server, {}).setdefault(file.artifact, []).append(file)
        self._servers = {
            server: found for server, found in self._files.items() if found.keys() & set(ARTIFACTS.values())
        }
        if not self._servers:
            raise BadInput(
                "The archive holds no server's answer: it was not written by `nats audit gather` or natsmedic."
            )
        clusters = {f.cluster for found in self._servers.values() for files in found.values() for f in files}
        self._taken = Taken(", ".join(sorted(clusters)), VIA, at, frozenset(Endpoint))
        self._headers: dict[str, JsonObject] = {}

    def snapshot(self, snapshot_id: SnapshotId) -> Snapshot:
        for server in self._servers:
            self._refuse_namesakes(server)
            for endpoint in ARTIFACTS:
                self._taken.add([self._server_sample(server, endpoint)])
            self._taken.identities[server] = self._identity(server)
        names = {
            id_: name
            for sample in self._taken.samples.values()
            if sample.endpoint is Endpoint.JSZ
            for id_, name in accounts_in(sample.assets).items()
        }
        for server in self._servers:
            unplaced = Unknown(
                reason=UnknownReason.NOT_CONFIGURED, detail="the archive's format has no place for STATSZ"
            )
            self._taken.add(
                [
                    self._raft_sample(server, names),
                    self._queues_sample(server),
                    Sample(server, Endpoint.STATSZ, self._at, unknown=unplaced),
                ]
            )
        found = self._taken.snapshot(_SILENT)
        return Snapshot(
            snapshot_id, found.cluster, found.taken_at, VIA, found.servers, found.samples, found.expected, found.unknown
        )

    def _refuse_namesakes(self, server: str) -> None:
        clusters = {f.cluster for artifact in ARTIFACTS.values() for f in self._servers[server].get(artifact, ())}
        if len(clusters) > 1:
            raise BadInput(
                f"The archive has servers of the clusters {', '.join(sorted(clusters))} with one name, {server!r}: "
                f"gather it per cluster with `nats audit gather --cluster`."
            )

    def _identity(self, server: str) -> ServerIdentity:
        header = self._headers.get(server)
        if header is None:
            raise BadInput(f"The archive's files of server {server!r} do not say who answered.")
        return identity_of(header)

    def _server_sample(self, server: str, endpoint: Endpoint) -> Sample:
        answers = [self._answer(file) for file in self._servers[server].get(ARTIFACTS[endpoint], ())]
        if not answers:
            return Sample(server, endpoint, self._at, unknown=self._missing(server, endpoint))
        problem = next((a.problem for a in answers if a.problem), None)
        samples = [Sample.of(server, endpoint, a.taken_at, a.data) for a in answers if a.data is not None]
        pages = [Page(s.data, s.assets) for s in samples if s.data is not None]
        if problem is not None or not pages:
            return Sample(server, endpoint, answers[0].taken_at, unknown=problem)
        page = pages[0]
        if (paged := PAGED.get(endpoint)) is not None:
            page = merge_pages(pages, paged)
            if page_is_full(pages[-1], paged, PAGE):
                self._taken.unknown.append(cut_off(server, endpoint, paged, PAGE * len(pages)))
        if endpoint is Endpoint.JSZ and not (page.assets and page.assets.accounts) and page.data.get("streams"):
            return self._jsz_of_streams(server, page.data, answers[0].taken_at)
        return Sample(server, endpoint, answers[0].taken_at, page.data, assets=page.assets)

    def _missing(self, server: str, endpoint: Endpoint) -> Unknown:
        header = self._headers.get(server) or {}
        if endpoint is Endpoint.JSZ and header and header.get("jetstream") is not True:
            return Unknown(reason=UnknownReason.NOT_CONFIGURED, detail=f"{server} runs without JetStream")
        detail = f"the archive has no file of type {ARTIFACTS[endpoint]} of {server}"
        return Unknown(reason=UnknownReason.UNREADABLE, detail=detail)

    def _jsz_of_streams(self, server: str, jsz: JsonObject, at: datetime) -> Sample:
        """Fill in what was gathered without details from the files per stream."""
        accounts: dict[str, list[JsonObject]] = {}
        for file in self._files[server].get(STREAM, ()):
            accounts.setdefault(file.account, []).append(self._load(file.path))
        if not accounts:
            detail = f"the archive has the streams of {server} neither in {ARTIFACTS[Endpoint.JSZ]} nor in {STREAM}"
            return Sample(server, Endpoint.JSZ, at, unknown=Unknown(reason=UnknownReason.UNREADABLE, detail=detail))
        details: list[JsonObject] = [{"id": a, "name": a, "stream_detail": found} for a, found in accounts.items()]
        return Sample.of(server, Endpoint.JSZ, at, {**jsz, DETAILS: details})

    def _raft_sample(self, server: str, names: Mapping[str, str]) -> Sample:
        """Merge the accounts' Raft groups. An account that is not there stays absent, and a note says so."""
        answers = {file.account: self._answer(file) for file in self._files[server].get(ACCOUNT_RAFT, ())}
        known = {account: a.data for account, a in answers.items() if a.data is not None}
        if not known:
            problem = next((a.problem for a in answers.values()), None)
            absent = Unknown(reason=UnknownReason.UNREADABLE, detail=f"the archive has no {ACCOUNT_RAFT} of {server}")
            return Sample(server, Endpoint.RAFTZ, self._at, unknown=problem or absent)
        if lacking := sorted(names[id_] for id_ in names.keys() - known.keys()):
            detail = f"the archive has no Raft groups of {server} for the accounts {', '.join(lacking)}"
            self._taken.unknown.append(Unknown(reason=UnknownReason.UNREADABLE, detail=detail))
        taken_at = min(a.taken_at for a in answers.values())
        return Sample(server, Endpoint.RAFTZ, taken_at, data=merge_raftz({}, known, names))

    def _queues_sample(self, server: str) -> Sample:
        """Merge the accounts' queues. The peer asks per account and for queues that are not empty, so this is a part at best."""
        queues: JsonObject = {}
        for file in self._files[server].get(ACCOUNT_QUEUES, ()):
            queues.update(self._answer(file).data or {})
        if not queues:
            return Sample(server, Endpoint.IPQUEUESZ, self._at, unknown=_SOME_QUEUES)
        if _SOME_QUEUES not in self._taken.unknown:
            self._taken.unknown.append(_SOME_QUEUES)
        return Sample(server, Endpoint.IPQUEUESZ, self._at, data=queues)

    def _answer(self, file: _File) -> _Answer:
        raw = self._load(file.path)
        header = part(raw, "server")
        if header and identity_of(header).name != file.server:
            raise BadInput(
                f"The archive's file {file.path!r} is an answer of {identity_of(header).name!r}, its manifest says {file.server!r}."
            )
        if header:
            self._headers.setdefault(file.server, header)
        taken_at = moment(header.get("time")) or self._at
        if error := part(raw, "error"):
            detail = f"{file.server} answered: {error.get('description')} (code {error.get('code')})"
            return _Answer(header, taken_at, None, Unknown(reason=UnknownReason.UNREADABLE, detail=detail))
        if not isinstance(raw.get("data"), dict):
            detail = f"the archive's {file.artifact} of {file.server} has no data"
            return _Answer(header, taken_at, None, Unknown(reason=UnknownReason.UNREADABLE, detail=detail))
        return _Answer(header, taken_at, part(raw, "data"), None)


def _files(manifest: JsonObject) -> Iterable[_File]:
    for path in manifest:
        tags = {str(tag.get("Name")): str(tag.get("Value")) for tag in parts(manifest, path)}
        if "server" in tags and "artifact_type" in tags and path.endswith(".json"):
            cluster = tags.get("cluster", UNCLUSTERED)
            yield _File(path, cluster, tags["server"], tags["artifact_type"], tags.get("account", ""))
