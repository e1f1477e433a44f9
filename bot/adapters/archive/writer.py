"""Writes a snapshot as an archive.

The first round of each endpoint goes where the peer looks for it, as the server's whole `$SYS` answer (`{"server": …, "data": …}`; jsm.go reads these files into
`ServerAPI…Response`). Streams are written once more per replica, as the peer does. What the format has no place for (later rounds, unknown facts, API
answers, names that can't be a path) is in our own special file, which also says where every sample's data lies; what a delivery probe saw is in another,
and the Kubernetes side in a third.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime

from bot.adapters.archive.content import Content, SampleEntry, content_of
from bot.model import Endpoint, JsonObject, ServerIdentity, Snapshot, parts

ROOT = "capture"
MANIFEST = f"{ROOT}/misc/manifest.json"
OWN_SPECIAL = "natsmedic_snapshot"
OWN_PATH = f"{ROOT}/misc/{OWN_SPECIAL}.json"
DELIVERIES_SPECIAL = "natsmedic_deliveries"
DELIVERIES_PATH = f"{ROOT}/misc/{DELIVERIES_SPECIAL}.json"
KUBERNETES_SPECIAL = "natsmedic_kubernetes"
KUBERNETES_PATH = f"{ROOT}/misc/{KUBERNETES_SPECIAL}.json"
METADATA_SPECIAL = "audit_gather_metadata"
METADATA = f"{ROOT}/misc/{METADATA_SPECIAL}.json"
UNCLUSTERED = "unclustered"
"""The peer's name for the cluster of a server that has none (jsm.go audit/archive/tag.go)."""

ARTIFACTS = {
    Endpoint.VARZ: "variables",
    Endpoint.JSZ: "jetstream_info",
    Endpoint.HEALTHZ: "health",
    Endpoint.ROUTEZ: "routes",
    Endpoint.CONNZ: "connections",
    Endpoint.ACCOUNTZ: "accounts",
    Endpoint.GATEWAYZ: "gateways",
    Endpoint.LEAFZ: "leafs",
    Endpoint.SUBSZ: "subs",
}
"""Server artifact types of the format. RAFTZ is an artifact of accounts there. STATSZ has no place in it and IPQUEUESZ none for a server's own
queues, so both stay in our own file."""
ACCOUNT_RAFT = "account_raftz"
ACCOUNT_QUEUES = "account_ipqueues"
STREAM = "stream_info"

_OLDEST = 1980
_NEWEST = 2107
"""Years that a ZIP timestamp can hold."""

Tags = list[tuple[str, str]]


def write_archive(snapshot: Snapshot) -> bytes:
    """Return the archive's bytes. The same content gives the same bytes; secrets are redacted."""
    return _Writer(content_of(snapshot)).write()


class _Writer:
    def __init__(self, content: Content) -> None:
        self._content = content
        self._servers = {server.name: server for server in content.servers}
        self._manifest: dict[str, list[dict[str, str]]] = {}
        self._pages: dict[str, int] = {}
        self._buffer = io.BytesIO()
        self._zip = zipfile.ZipFile(self._buffer, "w", zipfile.ZIP_DEFLATED)

    def write(self) -> bytes:
        with self._zip:
            samples = tuple(self._place(sample) for sample in self._content.samples)
            own = self._content.model_copy(update={"samples": samples, "kubernetes": None}).document()
            deliveries = own.pop("deliveries", None)
            self._add(OWN_PATH, [("special", OWN_SPECIAL)], own)
            if deliveries:
                self._add(DELIVERIES_PATH, [("special", DELIVERIES_SPECIAL)], {"deliveries": deliveries})
            if (kubernetes := self._content.kubernetes) is not None:
                self._add(KUBERNETES_PATH, [("special", KUBERNETES_SPECIAL)], kubernetes.model_dump(mode="json"))
            self._add(METADATA, [("special", METADATA_SPECIAL)], self._metadata())
            self._put(MANIFEST, self._manifest)
        return self._buffer.getvalue()

    def _place(self, sample: SampleEntry) -> SampleEntry:
        """Write the sample's data into the format's files and return the sample with their paths; unchanged where there are none for it."""
        server = self._servers.get(sample.server)
        if (
            sample.data is None
            or sample.round > 0
            or server is None
            or not _is_name(server.name, server.cluster or UNCLUSTERED)
        ):
            return sample
        if sample.endpoint is Endpoint.RAFTZ:
            paths = self._place_raft(server, sample.data)
        elif sample.endpoint not in ARTIFACTS:
            return sample
        else:
            paths = (self._server_file(server, ARTIFACTS[sample.endpoint], sample.data),)
            if sample.endpoint is Endpoint.JSZ:
                self._place_streams(server, sample.data)
        return sample.model_copy(update={"data": None, "paths": paths}) if paths else sample

    def _place_raft(self, server: ServerIdentity, data: JsonObject) -> tuple[str, ...]:
        if not all(_is_name(account) for account in data):
            return ()
        cluster = server.cluster or UNCLUSTERED
        return tuple(
            self._page(
                f"{ROOT}/accounts/{account}/servers/{cluster}__{server.name}/{ACCOUNT_RAFT}",
                [("account", account), ("cluster", cluster), ("server", server.name), ("artifact_type", ACCOUNT_RAFT)],
                _answer(server, {account: groups}),
            )
            for account, groups in data.items()
        )

    def _place_streams(self, server: ServerIdentity, data: JsonObject) -> None:
        cluster = server.cluster or UNCLUSTERED
        for account, stream, detail in _streams(data):
            if _is_name(account, stream):
                self._page(
                    f"{ROOT}/accounts/{account}/streams/{stream}/replicas/{cluster}__{server.name}/{STREAM}",
                    [
                        ("account", account),
                        ("server", server.name),
                        ("cluster", cluster),
                        ("stream", stream),
                        ("artifact_type", STREAM),
                    ],
                    detail,
                )

    def _server_file(self, server: ServerIdentity, artifact: str, data: JsonObject) -> str:
        cluster = server.cluster or UNCLUSTERED
        return self._page(
            f"{ROOT}/clusters/{cluster}/{server.name}/{artifact}",
            [("server", server.name), ("cluster", cluster), ("artifact_type", artifact)],
            _answer(server, data),
        )

    def _page(self, folder: str, tags: Tags, value: JsonObject) -> str:
        self._pages[folder] = self._pages.get(folder, 0) + 1
        path = f"{folder}/{self._pages[folder]:04}.json"
        self._add(path, tags, value)
        return path

    def _add(self, path: str, tags: Tags, value: JsonObject) -> None:
        self._manifest[path] = [{"Name": name, "Value": tag} for name, tag in tags]
        self._put(path, value)

    def _put(self, path: str, value: object) -> None:
        taken = self._content.taken_at.astimezone(UTC)
        year = min(max(taken.year, _OLDEST), _NEWEST)
        info = zipfile.ZipInfo(path, (year, taken.month, taken.day, taken.hour, taken.minute, taken.second))
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o600 << 16
        self._zip.writestr(info, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))

    def _metadata(self) -> JsonObject:
        first = self._content.servers[0] if self._content.servers else None
        return {
            "capture_timestamp": _rfc3339(self._content.taken_at),
            "connected_server_name": first.name if first else "",
            "connected_server_version": first.version if first else "",
            "connect_url": "",
            "user_name": "natsmedic",
            "version": "natsmedic",
        }


def _answer(server: ServerIdentity, data: JsonObject) -> JsonObject:
    header = {
        "name": server.name,
        "id": server.id,
        "ver": server.version,
        "cluster": server.cluster,
        "host": server.host,
    }
    return {"server": header, "data": data}


def _streams(data: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    for account in parts(data, "account_details"):
        for detail in parts(account, "stream_detail"):
            yield str(account.get("name", "")), str(detail.get("name", "")), detail


def _is_name(*segments: str) -> bool:
    """Say whether each segment can stand in a path as it is; anything else stays out of paths."""
    return all(p not in {"", ".", ".."} and not any(c in "/\\:\0" or ord(c) < ord(" ") for c in p) for p in segments)


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
