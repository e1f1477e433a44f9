"""Larger volumes where their class allows it, without a way back; and the move to another class as commands for people."""

from typing import Any

import pytest

from bot.action import Receipt
from bot.actions.kubernetes_grow_volume import GrowParams, GrowVolume
from bot.actions.volumes import compose_growth, move_storage_guidance
from bot.errors import Refused
from bot.model import OperationId, Outcome, Unknown, UnknownReason
from bot.model.kubernetes import Kind
from tests.unit.actions.kubernetes_scene import Raw, Scene, cluster, explicit_conf, metadata, streams

OP = OperationId("op_1")
GI = 2**30
CONF = f"{explicit_conf(3)}jetstream {{ store_dir: /data, max_file_store: 8Gi }}\n"


def claim(index: int, size: str = "10Gi") -> Raw:
    spec = {"storageClassName": "fast", "volumeName": f"pv-{index}", "resources": {"requests": {"storage": size}}}
    status = {"phase": "Bound", "capacity": {"storage": size}}
    return {"apiVersion": "v1", "metadata": metadata(f"data-nats-{index}"), "spec": spec, "status": status}


def stored(**storage: Any) -> Scene:
    """Three servers whose stores lie on claims."""
    scene = cluster(3, CONF)
    scene.raw(Kind.STATEFUL_SET, "nats")["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}}]
    for i in range(3):
        scene.objects[Kind.CLAIM, f"data-nats-{i}"] = claim(i)
    scene.objects[Kind.STORAGE_CLASS, "fast"] = {"metadata": {"name": "fast"}, "allowVolumeExpansion": True} | storage
    return scene


def params_of(scene: Scene, size: str = "20Gi") -> GrowParams:
    kind, raw = compose_growth(*scene.look(), size).stages[0]
    assert kind == "kubernetes.grow_volume"
    return GrowParams.model_validate(raw)


def refusal(scene: Scene, size: str = "20Gi") -> str:
    with pytest.raises(Refused) as refused:
        compose_growth(*scene.look(), size)
    return str(refused.value)


# --- what is proposed -----------------------------------------------------------------------------------------------------------


def test_each_claim_is_a_stage_and_what_stays_behind_is_told():
    growth = compose_growth(*stored().look(), "20Gi")
    assert [raw["claim"] for _, raw in growth.stages] == ["data-nats-0", "data-nats-1", "data-nats-2"]
    assert any("volumeClaimTemplates" in line for line in growth.cautions)
    assert any(f"max_file_store {8 * GI} bytes" in line for line in growth.cautions)


def test_claims_that_have_grown_already_are_left_alone():
    scene = stored()
    scene.objects[Kind.CLAIM, "data-nats-1"] = claim(1, "20Gi")
    assert [raw["claim"] for _, raw in compose_growth(*scene.look(), "20Gi").stages] == ["data-nats-0", "data-nats-2"]
    for i in (0, 2):
        scene.objects[Kind.CLAIM, f"data-nats-{i}"] = claim(i, "20Gi")
    assert "requests 20Gi already" in refusal(scene)


@pytest.mark.parametrize("size", ["9Gi", "10240Mi"])
def test_nothing_is_made_smaller_or_left_as_it_is(size: str):
    assert "can't be made smaller" in refusal(stored(), size)


def test_one_byte_more_is_larger():
    assert params_of(stored(), str(10 * GI + 1)).size == str(10 * GI + 1)


@pytest.mark.parametrize("size", ["many", "", "20 GB"])
def test_a_size_is_a_quantity(size: str):
    assert "is no size such as 20Gi" in refusal(stored(), size)


def test_a_class_that_cannot_grow_volumes_is_named_once():
    assert refusal(stored(allowVolumeExpansion=False)).count("StorageClass fast does not allow") == 1


def test_a_class_that_is_not_known_or_not_there_is_no_yes():
    scene = stored()
    scene.extra = {"storage_class": Unknown(reason=UnknownReason.DENIED, detail="The reader may not get classes.")}
    assert "The reader may not get classes." in refusal(scene)
    scene = stored()
    del scene.objects[Kind.STORAGE_CLASS, "fast"]
    assert "no storage class" in refusal(scene)


def test_a_store_without_claims_has_nothing_to_grow():
    assert "lies on no claims" in refusal(cluster(3, CONF))


# --- check, apply, verify -------------------------------------------------------------------------------------------------------


async def test_only_the_request_is_written():
    scene = stored()
    action, params = GrowVolume(), params_of(scene)
    assert (await action.check(scene.readers, params)).refusals == ()
    await action.apply(scene.readers, scene.writers, params, OP)
    grown = scene.raw(Kind.CLAIM, "data-nats-0")
    assert grown["spec"] == claim(0)["spec"] | {"resources": {"requests": {"storage": "20Gi"}}}
    assert await action.receipt(scene.readers, params, OP) is Receipt.APPLIED


async def test_a_request_that_somebody_changed_is_named_and_not_overwritten():
    scene = stored()
    action, params = GrowVolume(), params_of(scene)
    before = (await action.check(scene.readers, params)).world
    scene.raw(Kind.CLAIM, "data-nats-0")["spec"]["resources"]["requests"]["storage"] = "15Gi"
    check = await action.check(scene.readers, params)
    assert {key for key in before if before[key] != check.world[key]} == {"data-nats-0.request"}
    assert any("requests 15Gi, not 10Gi" in reason for reason in check.refusals)
    with pytest.raises(Refused, match="requests 15Gi, not 10Gi"):
        await action.apply(scene.readers, scene.writers, params, OP)


async def test_a_claim_that_is_not_bound_is_refused():
    scene = stored()
    params = params_of(scene)
    scene.raw(Kind.CLAIM, "data-nats-0")["status"]["phase"] = "Lost"
    assert any("is Lost, not bound" in r for r in (await GrowVolume().check(scene.readers, params)).refusals)


@pytest.mark.parametrize(
    ("capacity", "outcome"),
    [(str(20 * GI - 1), Outcome.FAILED), ("20Gi", Outcome.VERIFIED), ("21Gi", Outcome.VERIFIED)],
)
async def test_it_is_verified_by_the_capacity(capacity: str, outcome: Outcome):
    scene = stored()
    action, params = GrowVolume(), params_of(scene)
    scene.raw(Kind.CLAIM, "data-nats-0")["status"]["capacity"]["storage"] = capacity
    assert (await action.verify(scene.readers, params, OP)).outcome is outcome


async def test_a_file_system_that_waits_for_its_pod_is_told():
    scene = stored()
    action, params = GrowVolume(), params_of(scene)
    scene.raw(Kind.CLAIM, "data-nats-0")["status"]["conditions"] = [
        {"type": "FileSystemResizePending", "status": "True"}
    ]
    seen = await action.verify(scene.readers, params, OP)
    assert (seen.outcome, seen.final) == (Outcome.FAILED, False)
    assert "when the pod that uses it is started anew" in seen.sentence


async def test_what_the_driver_says_is_passed_on():
    scene = stored()
    action, params = GrowVolume(), params_of(scene)
    said = {"type": "Resizing", "status": "True", "message": "quota exceeded"}
    scene.raw(Kind.CLAIM, "data-nats-0")["status"]["conditions"] = [said]
    assert "Resizing: quota exceeded" in (await action.verify(scene.readers, params, OP)).sentence


async def test_a_claim_that_is_gone_is_a_final_failure():
    scene = stored()
    action, params = GrowVolume(), params_of(scene)
    del scene.objects[Kind.CLAIM, "data-nats-0"]
    seen = await action.verify(scene.readers, params, OP)
    assert (seen.outcome, seen.final) == (Outcome.FAILED, True)


async def test_people_know_before_that_there_is_no_way_back():
    scene = stored()
    action, params = GrowVolume(), params_of(scene)
    preview = await action.preview(scene.readers, params)
    assert preview.way_back == "None: no volume can be made smaller."
    assert "+      storage: 20Gi" in preview.diff
    assert any("volumeClaimTemplates" in line for line in preview.effects)
    assert any("max_file_store" in line for line in preview.effects)
    with pytest.raises(Refused, match="no volume can be made smaller"):
        await action.rollback(scene.readers, scene.writers, params, OP)


# --- another class is peoples' work ---------------------------------------------------------------------------------------------


def test_a_move_backs_single_replicas_up_first_and_goes_pod_by_pod_from_the_highest():
    scene = stored()
    scene.assets = streams(SOLO=("nats-1",), ORDERS=("nats-0", "nats-1", "nats-2"))
    told = move_storage_guidance(*scene.look(), "block storage")
    text = "\n".join(told)
    order = [
        "nats stream backup SOLO backup-SOLO",
        "storageClassName to 'block storage'",
        "kubectl -n queues delete statefulset nats --cascade=orphan",
        "kubectl -n queues apply -f statefulset.yaml",
        "kubectl -n queues delete pvc data-nats-2 --wait=false && kubectl -n queues delete pod nats-2",
        "kubectl -n queues delete pvc data-nats-1 --wait=false && kubectl -n queues delete pod nats-1",
        "kubectl -n queues delete pvc data-nats-0 --wait=false && kubectl -n queues delete pod nats-0",
    ]
    assert [text.index(one) for one in order] == sorted(text.index(one) for one in order)
    assert "backup ORDERS" not in text
    assert text.count("persistentVolumeReclaimPolicy") == 3
    assert "kubectl patch pv pv-2" in text
