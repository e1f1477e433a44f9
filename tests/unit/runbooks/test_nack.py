"""What NACK keeps is changed in its resource: patches that say nothing but the change, commands that survive any name, and never a direct delete."""

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest
import yaml

from bot.actions._facts import stream_facts
from bot.actions._scale_facts import ScaleParams, hindrances
from bot.actions.recreate import compose
from bot.actions.stream_scaling import compose_scaling
from bot.errors import Refused
from bot.model import ConsumerKey, Focus, Snapshot, StreamKey, Unknown, UnknownReason
from bot.runbook import Draft
from runbooks._audit_replicas import replica_offers
from runbooks._nack import edit_replicas, scaled
from runbooks._ownership import IN_SOURCE_AS_WELL
from runbooks.cluster_audit import RUNBOOK as AUDIT
from runbooks.stuck_consumer import RUNBOOK
from tests.unit.actions.scaling_scene import SINGLE, TIMES, Change, grown
from tests.unit.actions.scaling_scene import config as stream_config
from tests.unit.model.test_kubernetes_workload import facts
from tests.unit.snapshots import Raw, both, config, consumers, recorded, retention, streams

FOCUS = Focus(account="APP", stream="ORDERS", consumer="worker")
KEY = ConsumerKey("APP", "ORDERS", "worker")
STREAM = StreamKey("APP", "ORDERS")
DENIED = Unknown(reason=UnknownReason.DENIED, detail="The reader may not list consumers.jetstream.nats.io.")
PATCH = ["kubectl", "patch", "consumers.jetstream.nats.io"]


def consumer(name: str = "orders-worker", namespace: str = "shop", metadata: Raw | None = None, **spec: Any) -> Raw:
    made = {"streamName": "ORDERS", "durableName": "worker"} | spec
    return {"kind": "Consumer", "metadata": {"name": name, "namespace": namespace} | (metadata or {}), "spec": made}


def stream(name: str = "orders", **spec: Any) -> Raw:
    return {"kind": "Stream", "metadata": {"name": name, "namespace": "shop"}, "spec": {"name": "ORDERS"} | spec}


def broken(*changes: Any, **objects: Any) -> Snapshot:
    """The consumer lacks a Raft node on n1; the objects are what Kubernetes has."""
    snapshot = recorded("split_room_2.11.11", both(*changes))
    return replace(snapshot, kubernetes=facts(**objects)) if objects else snapshot


def drafts(snapshot: Snapshot) -> list[Draft]:
    values = RUNBOOK.values()
    found = [f for check in RUNBOOK.checks for f in check.examine(snapshot, values, FOCUS)]
    return [p.draft for p in RUNBOOK.propose(snapshot, found, values, FOCUS)]


def recreation(snapshot: Snapshot) -> Draft:
    return next(d for d in drafts(snapshot) if "at its position" in d.title)


def specs(draft: Draft) -> list[Raw]:
    return [yaml.safe_load(p.text)["spec"] for p in draft.patches if p.name.endswith(".yaml")]


def words_of(line: str) -> list[str]:
    return shlex.split(line.partition("   ")[0])


def refusal(snapshot: Snapshot) -> str:
    with pytest.raises(Refused) as refused:
        compose(snapshot, KEY)
    return str(refused.value)


def test_a_consumer_that_nobody_keeps_is_recreated_directly():
    draft = recreation(broken(consumer=[consumer(durableName="other"), consumer(streamName="OTHER")]))
    assert [kind for kind, _ in draft.stages] == ["consumer.delete", "consumer.create"]
    assert draft.patches == ()


def test_a_consumer_that_nack_keeps_is_never_deleted_directly():
    assert "NACK keeps consumer APP > ORDERS > worker as its resource Consumer shop/orders-worker says" in refusal(
        broken(consumer=[consumer()])
    )


def test_its_repair_is_a_patch_of_its_resource_that_changes_the_start_alone():
    draft = recreation(broken(consumer=[consumer()]))
    assert draft.stages == ()
    assert draft.title.endswith("in its source: NACK's resource shop/orders-worker")
    position, release = specs(draft)
    assert position == {
        "preventUpdate": True,
        "deliverPolicy": "byStartSequence",
        "optStartSeq": 51,
        "optStartTime": None,
    }
    assert release == {"preventUpdate": False}


def test_the_commands_patch_before_they_delete_and_release_after_it():
    draft = recreation(broken(consumer=[consumer()]))
    lines = [words_of(line) for line in draft.guidance]
    files = [patch.name for patch in draft.patches]
    target = [*PATCH, "orders-worker", "-n", "shop", "--type=merge"]
    hold = lines.index([*target, f"--patch-file={files[0]}"])
    release = lines.index([*target, f"--patch-file={files[1]}"])
    (delete,) = (i for i, line in enumerate(draft.guidance) if "nats consumer rm ORDERS worker --force" in line)
    assert hold < delete < release
    assert "ack floor 50, delivered 60" in draft.guidance[delete]


def test_the_proposal_says_what_nack_does_and_when():
    said = " ".join(recreation(broken(consumer=[consumer()])).guidance)
    assert "NACK changes nothing at this yet" in said
    assert "At this NACK creates the consumer as its resource says" in said


def test_a_work_queue_keeps_its_start_and_only_nacks_hands_are_held():
    assert specs(recreation(broken(retention("workqueue"), consumer=[consumer()])))[0] == {
        "preventUpdate": True,
        "deliverPolicy": "all",
        "optStartSeq": None,
        "optStartTime": None,
    }


def untouched(raw: Raw) -> None:
    for one in consumers(raw):
        one["ack_floor"] = one["delivered"] = {"consumer_seq": 0, "stream_seq": 0}
        one["num_ack_pending"] = 0


def test_a_start_that_is_right_is_not_touched():
    assert specs(recreation(broken(untouched, consumer=[consumer()])))[0] == {"preventUpdate": True}


def test_an_interest_stream_gets_a_holder_before_the_consumer_goes_and_loses_it_after():
    draft = recreation(broken(retention("interest"), consumer=[consumer()]))
    file = draft.patches[2]
    holder = json.loads(file.text)
    assert (file.name, holder["durable_name"], holder["opt_start_seq"]) == ("worker-hold.json", "worker-hold", 51)
    lines = list(draft.guidance)
    add = next(i for i, line in enumerate(lines) if "nats consumer add ORDERS --config=worker-hold.json" in line)
    delete = next(i for i, line in enumerate(lines) if "rm ORDERS worker --force" in line)
    remove = next(i for i, line in enumerate(lines) if "rm ORDERS worker-hold --force" in line)
    assert add < delete < remove


def test_a_prevent_update_that_was_there_is_put_back():
    kept = recreation(broken(consumer=[consumer(preventUpdate=True)]))
    (line,) = (line for line in kept.guidance if line.startswith("It had `preventUpdate` before: "))
    assert words_of(line)[-1] == '--patch={"spec": {"preventUpdate": true}}'
    assert "It had `preventUpdate`" not in " ".join(recreation(broken(consumer=[consumer()])).guidance)


def test_names_from_outside_stay_words_of_their_command():
    evil = "x; rm -rf ~"
    draft = recreation(broken(consumer=[consumer(name=evil, namespace="a b")]))
    assert [*PATCH, evil, "-n", "a b", "--type=merge", "--patch-file=worker-release.yaml"] in map(
        words_of, draft.guidance
    )


def test_the_owner_of_the_resource_itself_is_named():
    labels = {"annotations": {"argocd.argoproj.io/tracking-id": "shop:jetstream.nats.io/Consumer:shop/orders-worker"}}
    draft = recreation(broken(consumer=[consumer(metadata=labels)]))
    assert draft.cautions[0].startswith("Argo CD application shop keeps this object")


def test_two_resources_of_the_same_consumer_are_a_choice_for_people():
    draft = recreation(broken(consumer=[consumer(), consumer(namespace="audit")]))
    assert "2 resources name it: audit/orders-worker, shop/orders-worker" in draft.guidance[0]
    assert [*PATCH, "<name>", "-n", "<namespace>", "--type=merge", "--patch-file=worker-position.yaml"] in map(
        words_of, draft.guidance
    )


def test_where_resources_may_not_be_read_nothing_is_recreated_and_the_missing_right_is_named():
    snapshot = broken(consumer=DENIED)
    assert refusal(snapshot) == f"Whether NACK keeps consumer APP > ORDERS > worker is not known: {DENIED.detail}"
    draft = recreation(snapshot)
    assert draft.stages == draft.patches == ()
    assert f"Not offered: {refusal(snapshot)}" in draft.guidance


@pytest.mark.parametrize("fields", [{"description": "kept by NACK"}, {"metadata": {"jetstream.nats.io/x": "y"}}])
def test_a_mark_without_its_resource_gives_the_patch_and_says_that_the_resource_was_not_found(fields: Raw):
    draft = recreation(broken(config(**fields)))
    assert "this cluster has no `kubernetes` settings" in draft.guidance[0]
    assert specs(draft)[0]["optStartSeq"] == 51


def test_a_mark_of_somebody_else_gives_no_patch_for_nack():
    draft = recreation(broken(config(metadata={"meta.helm.sh/release-name": "x"})))
    assert (draft.stages, draft.patches) == ((), ())


def test_what_would_lose_messages_is_not_offered_in_its_source_either():
    draft = recreation(broken(config(deliver_policy="last_per_subject"), consumer=[consumer()]))
    assert draft.patches == ()
    assert any("last_per_subject" in line for line in draft.guidance)


def test_the_replicas_of_a_stream_that_nack_keeps_change_in_its_resource():
    assert words_of(edit_replicas(broken(stream=[stream()]), STREAM, 3)) == [
        *("kubectl", "patch", "streams.jetstream.nats.io", "orders", "-n", "shop", "--type=merge"),
        '--patch={"spec": {"replicas": 3}}',
    ]


def test_the_replicas_of_any_other_stream_change_in_jetstream():
    direct = "nats stream edit ORDERS --replicas 3"
    assert edit_replicas(broken(stream=[stream(name="other") | {"spec": {"name": "OTHER"}}]), STREAM, 3) == direct
    assert edit_replicas(broken(), STREAM, 3) == direct
    unknown = edit_replicas(broken(stream=DENIED), STREAM, 3)
    assert unknown.startswith(direct)
    assert "which is not known: The reader may not list" in unknown


def replicas(count: int) -> Any:
    def change(raw: Raw) -> None:
        for one in streams(raw):
            one["config"]["num_replicas"] = count

    return change


def in_stages(snapshot: Snapshot, start: int = 1, target: int = 3) -> Draft:
    return scaled(snapshot, STREAM, start, target, "It has one replica.", TIMES)[0]


def test_a_stream_that_nack_keeps_is_scaled_by_patches_of_its_resource_in_the_stages_of_its_version():
    draft = in_stages(broken(stream=[stream()]))
    assert draft.stages == ()
    assert draft.title == "Give stream ORDERS 3 replicas, in its source: NACK's resource shop/orders"
    assert [(p.name, yaml.safe_load(p.text)) for p in draft.patches] == [
        ("ORDERS-2-replicas.yaml", {"spec": {"replicas": 2}}),
        ("ORDERS-3-replicas.yaml", {"spec": {"replicas": 3}}),
    ]
    target = ["kubectl", "patch", "streams.jetstream.nats.io", "orders", "-n", "shop", "--type=merge"]
    patches = [words for words in map(words_of, draft.guidance) if words[:2] == target[:2]]
    assert patches == [[*target, f"--patch-file={p.name}"] for p in draft.patches]


def test_an_update_that_its_owner_holds_back_is_asked_about():
    guidance = in_stages(broken(stream=[stream(preventUpdate=True)])).guidance
    assert any(line.startswith("Its `preventUpdate` keeps NACK from sending any change") for line in guidance)


def kept(*changes: Change, recording: str = "kinds_2.11.11", **spec: Any) -> Snapshot:
    """A whole cluster whose stream SINGLE has a resource of NACK with these fields."""
    found = grown(*changes, name=recording)
    return replace(found, kubernetes=facts(stream=[stream(name="single") | {"spec": {"name": "SINGLE"} | spec}]))


def offered_for_single(snapshot: Snapshot) -> tuple[Draft, ...]:
    return scaled(snapshot, SINGLE, 1, 3, "It has one replica.", TIMES)


def test_where_nack_holds_back_the_direct_change_comes_second_and_says_until_when():
    source, direct = offered_for_single(kept(preventUpdate=True))
    assert "in its source" in source.title
    assert direct.title == "Give stream SINGLE 3 replicas, directly: it holds until somebody lifts its `preventUpdate`"
    assert [kind for kind, _ in direct.stages] == ["stream.scale", "stream.scale"]
    assert "NACK sets the resource's number again" in direct.cautions[0]
    assert direct.cautions[1] == IN_SOURCE_AS_WELL


def test_where_nacks_own_scale_down_could_cost_the_copy_the_direct_change_is_refused_with_the_versions():
    (source,) = offered_for_single(kept())
    assert any("Not offered beside the resource" in line and "2.11.11" in line for line in source.guidance)


def test_where_a_scale_down_is_safe_the_direct_change_says_that_nack_ends_it():
    _, direct = offered_for_single(kept(recording="kinds_2.15.1"))
    assert direct.title.endswith("directly: it holds until NACK looks again")
    assert "at its next look, which may be within seconds and ends this repair as failed" in direct.cautions[0]


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        ([stream(name="single") | {"spec": {"name": "SINGLE"}}], None),
        ([stream(name="other") | {"spec": {"name": "SINGLE"}}], "as its resource Stream shop/other says"),
        (DENIED, "is not known"),
    ],
    ids=["the resource that was shown", "another one since", "unknown since"],
)
def test_a_stage_beside_a_resource_runs_beside_that_one_alone(resources: list[Raw] | Unknown, why: str | None):
    params = ScaleParams.model_validate(offered_for_single(kept(preventUpdate=True))[1].stages[0][1])
    assert params.beside == "Stream shop/single"
    snapshot = replace(grown(), kubernetes=facts(stream=resources))
    reasons = hindrances(snapshot, stream_facts(snapshot, SINGLE), params)
    assert (reasons == []) if why is None else any(why in reason for reason in reasons)


def test_what_else_speaks_against_a_direct_change_is_told_with_the_source():
    marked = kept(stream_config(description="made by NACK"), preventUpdate=True)
    (source,) = offered_for_single(marked)
    assert any(line.startswith("Not offered beside the resource: ") for line in source.guidance)


def test_a_stream_of_two_resources_is_a_choice_for_people():
    guidance = " ".join(in_stages(broken(stream=[stream(), stream(name="again")])).guidance)
    assert "2 resources name it: shop/again, shop/orders" in guidance
    assert "streams.jetstream.nats.io '<name>'" in guidance


def test_a_stream_that_nobody_keeps_or_whose_owner_is_unknown_has_no_patch():
    assert scaled(broken(), STREAM, 1, 3, "", TIMES) == ()
    assert scaled(broken(stream=DENIED), STREAM, 1, 3, "", TIMES) == ()


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([stream()], "NACK keeps stream APP > ORDERS as its resource Stream shop/orders says"),
        (DENIED, f"Whether NACK keeps stream APP > ORDERS is not known: {DENIED.detail}"),
    ],
)
def test_replicas_of_a_stream_that_nack_keeps_or_may_keep_do_not_change_directly(
    found: list[Raw] | Unknown, why: str
) -> None:
    with pytest.raises(Refused) as refused:
        compose_scaling(broken(replicas(1), stream=found), [STREAM], 3)
    assert why in str(refused.value)


def test_the_audit_offers_the_source_of_what_nack_keeps_and_nothing_that_could_cost_a_copy():
    values = AUDIT.values()
    offered = [p.draft for p in replica_offers(broken(replicas(1), stream=[stream()]), values)]
    assert [draft.title for draft in offered if "ORDERS" in draft.title] == [in_stages(broken(stream=[stream()])).title]
    direct = [p.draft for p in replica_offers(broken(replicas(1), stream=[]), values)]
    assert all("in its source" not in draft.title for draft in direct)
    assert any("ORDERS" in draft.title for draft in direct)
