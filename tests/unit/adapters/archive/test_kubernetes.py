"""The Kubernetes side in an archive: a special file of its own, without secrets, and read back as it was."""

import io
import json
import zipfile
from dataclasses import replace
from typing import Any

import pytest

from bot.adapters.archive import content_digest, read_archive, write_archive
from bot.errors import BadInput
from bot.model import KubernetesFacts, Snapshot, SnapshotId, Unknown, UnknownReason
from bot.model.kubernetes import ConfigFile, Kind, Listing, Workload
from tests.integration.store_records import NOW

MANIFEST = "capture/misc/manifest.json"
OWN = "capture/misc/natsmedic_snapshot.json"
SPECIAL = "capture/misc/natsmedic_kubernetes.json"
CANARY = "c4n4ry"


def facts(**annotations: str) -> KubernetesFacts:
    raw: dict[str, Any] = {
        "metadata": {"name": "nats", "uid": "u", "annotations": annotations},
        "spec": {
            "replicas": 3,
            "template": {"spec": {"containers": [{"name": "nats", "args": ["-c", "/c/nats.conf"]}]}},
        },
    }
    denied = Unknown(reason=UnknownReason.DENIED, detail="The reader may not list pods.")
    file = ConfigFile(
        kind=Kind.CONFIG_MAP,
        name="c",
        key="nats.conf",
        path="/c/nats.conf",
        live=True,
        text='cluster { routes: [ "nats://[redacted]@nats-0:6222" ] }\n',
        digests={"nats-0": ("sha256:ab",)},
    )
    listings = (
        Listing(kind=Kind.STATEFUL_SET, verb="get", api="apps/v1", namespace="queues", items=(raw,)),
        Listing(kind=Kind.POD, verb="list", api="v1", namespace="queues", unknown=denied),
    )
    return KubernetesFacts("queues", NOW, listings, (file,), "v1.29.4")


def snapshot(found: KubernetesFacts | None) -> Snapshot:
    return Snapshot(SnapshotId("snap_1"), "prod", NOW, "system account", (), (), kubernetes=found)


def test_it_is_a_special_file_and_comes_back_equal():
    archive = write_archive(snapshot(facts()))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        manifest = json.loads(opened.read(MANIFEST))
        own = json.loads(opened.read(OWN))
    assert manifest[SPECIAL] == [{"Name": "special", "Value": "natsmedic_kubernetes"}]
    assert "kubernetes" not in own, "a reader that does not know it refuses unknown fields"
    again = read_archive(archive)
    assert again == snapshot(facts())
    assert again.kubernetes is not None
    assert isinstance(again.kubernetes.workload, Workload)
    assert again.kubernetes.workload.conf == facts().workload.conf  # pyright: ignore[reportAttributeAccessIssue]


def test_a_cluster_without_kubernetes_has_no_such_file():
    with zipfile.ZipFile(io.BytesIO(write_archive(snapshot(None)))) as opened:
        assert SPECIAL not in opened.namelist()
    assert read_archive(write_archive(snapshot(None))).kubernetes is None


def test_the_digest_covers_it():
    digests = {content_digest(snapshot(found)) for found in (None, facts(), facts(checksum="x"))}
    assert len(digests) == 3
    assert content_digest(read_archive(write_archive(snapshot(facts())))) == content_digest(snapshot(facts()))


def test_a_secret_that_came_this_far_goes_here():
    leaky = facts(url=f"nats://u:{CANARY}@h")
    archive = write_archive(snapshot(replace(leaky, version=f"x://{CANARY}@v")))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        content = b"".join(opened.read(name) for name in opened.namelist())
    assert b"nats://[redacted]@h" in content
    assert CANARY.encode() not in content


@pytest.mark.parametrize("change", [{"namespace": 5}, {"listings": [{"kind": "ghosts"}]}, {"more": 1}])
def test_a_manipulated_file_is_refused(change: dict[str, Any]):
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(write_archive(snapshot(facts())))) as opened,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in opened.namelist():
            content = json.loads(opened.read(name))
            out.writestr(name, json.dumps(content | change if name == SPECIAL else content))
    with pytest.raises(BadInput):
        read_archive(made.getvalue())
