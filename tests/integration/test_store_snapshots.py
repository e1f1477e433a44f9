"""Evidence: a snapshot becomes an archive in the database and comes back as it was, without its secrets."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.adapters.archive import content_digest, read_archive, write_archive
from bot.adapters.archive.content import content_of
from bot.adapters.database import SqlStore
from bot.errors import BadInput
from bot.model import (
    Endpoint,
    JsonObject,
    PairDelivery,
    Sample,
    ServerIdentity,
    Snapshot,
    SnapshotId,
    StreamKey,
    Unknown,
    UnknownReason,
    digest,
)
from tests.integration.store_records import NOW

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
"""The example seed of the nkeys documentation."""
JSZ: JsonObject = {
    "account_details": [
        {
            "name": "APP",
            "stream_detail": [
                {
                    "name": "ORDERS",
                    "created": "2026-11-21T07:00:00Z",
                    "config": {"name": "ORDERS", "num_replicas": 3, "metadata": {"team": "späť"}},
                    "state": {"messages": 3, "first_seq": 1, "last_seq": 18446744073709551615, "ratio": 0.1},
                    "consumer_detail": [{"name": "c1", "num_pending": 2}],
                }
            ],
        }
    ]
}


def snapshot(name: str = "snp_1") -> Snapshot:
    servers = (
        ServerIdentity(name="n1", id="NAAA", version="2.11.11", cluster="C1", host="10.0.0.1"),
        ServerIdentity(name="../evil", id="NBBB", version="2.10.26", cluster="", host=""),
        ServerIdentity(name="solo", id="NCCC", version="2.15.1"),
    )
    samples = (
        Sample("n1", Endpoint.VARZ, NOW, {"server_name": "n1", "connect_urls": ["10.0.0.1:4222"]}),
        Sample.of("n1", Endpoint.JSZ, NOW, JSZ),
        Sample.of("n1", Endpoint.JSZ, NOW + timedelta(seconds=2), {**JSZ, "now": "later"}, round=1),
        Sample("n1", Endpoint.RAFTZ, NOW, {"APP": {"S-R3F-1": {"state": "LEADER"}}, "SYS": {"_meta_": {}}}),
        Sample("n1", Endpoint.ROUTEZ, NOW, {}),
        Sample("n1", Endpoint.HEALTHZ, NOW, None, Unknown(reason=UnknownReason.TIMED_OUT, detail="no answer in 2 s")),
        Sample("../evil", Endpoint.VARZ, NOW, {"server_name": "../evil"}),
        Sample("solo", Endpoint.RAFTZ, NOW, {}),
        Sample("solo", Endpoint.VARZ, NOW, {"big": 2**63, "null": None}),
        Sample("stranger", Endpoint.VARZ, NOW, {"server_name": "stranger"}),
    )
    return Snapshot(
        id=SnapshotId(name),
        cluster="prod",
        taken_at=NOW,
        via="system account",
        servers=servers,
        samples=samples,
        expected=frozenset({"n1", "n2"}),
        unknown=(Unknown(reason=UnknownReason.DENIED, detail="permissions violation"),),
        api={"APP:$JS.API.CONSUMER.LIST.ORDERS": {"consumers": [{"name": "c1"}]}},
    )


def probed() -> Snapshot:
    why = Unknown(reason=UnknownReason.DENIED, detail=f"user nats://u:{SEED}@h may not publish")
    return replace(
        snapshot(),
        deliveries=(
            PairDelivery(account="APP", sender="n1", receiver="solo", sent=20, received=19, seconds=0.25),
            PairDelivery(account="APP", sender="solo", receiver="n1", unknown=why),
        ),
    )


async def test_a_snapshot_comes_back_equal(store: SqlStore) -> None:
    digest = await store.save_snapshot(snapshot())
    found = await store.snapshot(SnapshotId("snp_1"))
    assert found == snapshot()
    assert found is not None
    assert found.streams()[StreamKey("APP", "ORDERS")]["n1"].messages == 3
    assert digest == content_digest(snapshot()) == content_digest(found)
    assert await store.snapshot(SnapshotId("snp_2")) is None
    assert await store.snapshot_archive(SnapshotId("snp_2")) is None


def test_what_a_probe_saw_is_in_a_file_of_its_own_and_comes_back() -> None:
    archive = write_archive(probed())
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        manifest = json.loads(opened.read(MANIFEST))
        own = json.loads(opened.read(OWN))
    assert manifest[DELIVERIES] == [{"Name": "special", "Value": "natsmedic_deliveries"}]
    assert "deliveries" not in own, "a reader that does not know them refuses unknown fields"
    first, second = read_archive(archive).deliveries
    assert first == probed().deliveries[0]
    assert second.unknown is not None
    assert second.unknown.detail == "user nats://[redacted]@h may not publish"
    with zipfile.ZipFile(io.BytesIO(write_archive(snapshot()))) as opened:
        assert DELIVERIES not in opened.namelist()


def test_the_digest_covers_what_a_probe_saw_and_only_where_one_was_asked_for() -> None:
    one, two = probed().deliveries
    assert content_digest(probed()) != content_digest(snapshot())
    assert content_digest(probed()) != content_digest(
        replace(probed(), deliveries=(one.model_copy(update={"received": 20}), two))
    )
    bare = content_of(snapshot()).model_dump(mode="json")
    del bare["deliveries"], bare["kubernetes"]
    assert content_digest(snapshot()) == digest(bare)


async def test_saving_again_keeps_the_first_and_its_digest(store: SqlStore) -> None:
    first = await store.save_snapshot(snapshot())
    assert await store.save_snapshot(replace(snapshot(), via="monitoring")) == first
    assert await store.snapshot(SnapshotId("snp_1")) == snapshot()


async def test_the_digest_is_of_the_content(store: SqlStore) -> None:
    assert content_digest(snapshot()) == content_digest(snapshot())
    assert content_digest(snapshot()) != content_digest(replace(snapshot(), via="monitoring"))
    assert write_archive(snapshot()) == write_archive(snapshot())


async def test_the_archive_has_the_format_of_nats_audit_gather(store: SqlStore) -> None:
    await store.save_snapshot(snapshot())
    archive = await store.snapshot_archive(SnapshotId("snp_1"))
    assert archive is not None
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        names = opened.namelist()
        manifest = json.loads(opened.read("capture/misc/manifest.json"))
        jsz = json.loads(opened.read("capture/clusters/C1/n1/jetstream_info/0001.json"))
        stream = json.loads(opened.read("capture/accounts/APP/streams/ORDERS/replicas/C1__n1/stream_info/0001.json"))
    assert names[-1] == "capture/misc/manifest.json", "written last"
    assert set(manifest) == set(names) - {"capture/misc/manifest.json"}
    assert jsz == {
        "server": {"name": "n1", "id": "NAAA", "ver": "2.11.11", "cluster": "C1", "host": "10.0.0.1"},
        "data": JSZ,
    }
    assert stream["name"] == "ORDERS"
    assert {"Name": "artifact_type", "Value": "stream_info"} in manifest[
        "capture/accounts/APP/streams/ORDERS/replicas/C1__n1/stream_info/0001.json"
    ]
    assert manifest["capture/misc/natsmedic_snapshot.json"] == [{"Name": "special", "Value": "natsmedic_snapshot"}]
    assert "capture/clusters/unclustered/solo/variables/0001.json" in names
    assert "capture/accounts/SYS/servers/C1__n1/account_raftz/0001.json" in names
    assert not [name for name in names if ".." in name or "0002" in name]


async def test_planted_secrets_are_nowhere_in_the_archive(store: SqlStore) -> None:
    canaries = ("CANARY-1", "CANARY-2", "CANARY-3", "CANARY-4", "CANARY-5", SEED)
    data: JsonObject = {
        "cluster": {"urls": ["nats://route:CANARY-1@n2:6222", "nats://CANARY-2@n3:6222"]},
        "config": {"authorization": {"password": "CANARY-3", "Token": "CANARY-4"}, "auth_required": True},
        "note": f"seed {SEED} in a text",
        "key": "-----BEGIN PRIVATE KEY-----\nCANARY-5\n-----END PRIVATE KEY-----",
        "nats://u:CANARY-1@h": "in a key",
    }
    dirty = replace(
        snapshot(), samples=(Sample("n1", Endpoint.VARZ, NOW, data),), api={"x": data}, via="nats://u:CANARY-1@h:4222"
    )
    await store.save_snapshot(dirty)
    archive = await store.snapshot_archive(dirty.id)
    assert archive is not None
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        everything = b"".join(opened.read(name) for name in opened.namelist()).decode()
    assert [canary for canary in canaries if canary in everything] == []
    clean = await store.snapshot(dirty.id)
    assert clean is not None
    assert (clean.data("n1", Endpoint.VARZ) or {})["cluster"]["urls"] == [
        "nats://[redacted]@n2:6222",
        "nats://[redacted]@n3:6222",
    ]
    assert (clean.data("n1", Endpoint.VARZ) or {})["config"]["auth_required"] is True


async def test_text_that_utf8_cannot_hold_does_not_stop_the_keeping_of_evidence(store: SqlStore) -> None:
    odd = replace(snapshot(), samples=(Sample("n1", Endpoint.VARZ, NOW, {"name": "\ud800"}),))
    await store.save_snapshot(odd)
    found = await store.snapshot(odd.id)
    assert found is not None
    assert found.data("n1", Endpoint.VARZ) == {"name": "?"}


def rewritten(change: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(write_archive(snapshot()))) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    change(files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return buffer.getvalue()


OWN = "capture/misc/natsmedic_snapshot.json"
MANIFEST = "capture/misc/manifest.json"
DELIVERIES = "capture/misc/natsmedic_deliveries.json"


def _with_deliveries(content: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files[MANIFEST])
        manifest[DELIVERIES] = [{"Name": "special", "Value": "natsmedic_deliveries"}]
        files.update({MANIFEST: json.dumps(manifest).encode(), DELIVERIES: content})

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: files.update({"capture/../../etc/passwd": b"x"}), "only plain paths"),
        (lambda files: files.update({"/etc/passwd": b"x"}), "only plain paths"),
        (lambda files: files.update({"capture\\..\\x": b"x"}), "only plain paths"),
        (lambda files: files.pop(MANIFEST), "has no capture/misc/manifest.json"),
        (lambda files: files.pop("capture/clusters/C1/n1/variables/0001.json"), "lacks 1 of the files"),
        (lambda files: files.update({MANIFEST: b"{}"}), "holds no server's answer"),
        (lambda files: files.update({MANIFEST: b"[" * 100_000}), "is not JSON"),
        (lambda files: files.update({MANIFEST: b"[]"}), "is not a JSON object"),
        (lambda files: files.update({OWN: b'{"format": 99}'}), "has format 99"),
        (lambda files: files.update({OWN: b'{"format": 1}'}), "does not hold a snapshot"),
        (
            _with_deliveries(b'{"deliveries": [{"account": "A", "sender": "a", "receiver": "a", "sent": 1}]}'),
            "does not",
        ),
        (_with_deliveries(b'{"deliveries": [{"account": "A", "sender": "a", "receiver": "b"}]}'), "does not hold"),
        (_with_deliveries(b'{"deliveries": 1}'), "does not hold a snapshot"),
        (lambda files: files.update({"capture/clusters/C1/n1/variables/0001.json": b"{}"}), "holds no answer"),
    ],
)
def test_a_foreign_or_hostile_archive_is_refused(change: Callable[[dict[str, bytes]], None], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_archive(rewritten(change))


def test_a_truncated_or_damaged_archive_is_refused() -> None:
    whole = write_archive(snapshot())
    for damaged in (b"", b"PK", whole[:-30], whole[: len(whole) // 2], whole[:200] + b"\0" * 200 + whole[400:]):
        with pytest.raises(BadInput):
            read_archive(damaged)


def test_flipped_bytes_give_a_snapshot_or_a_clear_refusal_and_nothing_else() -> None:
    whole = write_archive(snapshot())
    chance = random.Random(1)
    refused = 0
    for _ in range(1000):
        flipped = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            flipped[chance.randrange(len(flipped))] = chance.randrange(256)
        try:
            read_archive(bytes(flipped))
        except BadInput:
            refused += 1
    assert refused > 500


def test_a_zip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.adapters.archive.reader.MAX_FILE_BYTES", 2**20)
    bomb = rewritten(lambda files: files.update({MANIFEST: b" " * 2**24 + b"{}"}))
    assert len(bomb) < 2**16
    with pytest.raises(BadInput, match="larger than what is read"):
        read_archive(bomb)
