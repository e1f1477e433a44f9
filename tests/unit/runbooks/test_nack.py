"""What NACK keeps is changed in its resource: patches that say nothing but the change, commands that survive any name, and never a direct delete."""

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest
import yaml

from bot.actions.recreate import compose
from bot.errors import Refused
from bot.model import ConsumerKey, Focus, Snapshot, StreamKey, Unknown, UnknownReason
from bot.runbook import Draft
from runbooks._nack import edit_replicas
from runbooks.stuck_consumer import RUNBOOK
from tests.unit.model.test_kubernetes_workload import facts
from tests.unit.snapshots import Raw, both, config, consumers, recorded, retention

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
