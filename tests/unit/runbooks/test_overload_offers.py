"""What the overload runbook offers to do itself: slices of clients, and limits; and the guide where it can't."""

from dataclasses import replace

from bot.action import Draft
from bot.model import Finding, Severity, Subject
from bot.model.kubernetes import Kind
from runbooks._overload_mqtt import ASSETS
from runbooks._overload_offers import limit_offers
from tests.unit.actions.test_limit_change import scene
from tests.unit.runbooks.overload_support import SERVERS, idle, mqtt, mqtt_listeners, nats, proposed, varz


def test_clients_of_the_crowded_server_are_let_go_in_slices() -> None:
    snapshot = idle(mqtt_listeners(*SERVERS), mqtt(n2=150))
    (draft,) = [
        p.draft for p in proposed(snapshot, shed_slice=40) if p.draft.title.startswith("Spread the MQTT clients")
    ]
    assert [(kind, len(params["cids"])) for kind, params in draft.stages] == [("clients.shed", n) for n in (34, 33, 33)]
    (one, *_) = [params for _, params in draft.stages]
    assert (one["server"], one["selection"]["kinds"], one["selection"]["account"]) == ("n2", ["mqtt"], "APP")
    assert (one["per_second"], one["cpu"], one["waiting"], one["goal"]) == (10, 0.7, 1000, "even")
    assert any("Never delete consumers of $MQTT_msgs" in caution for caution in draft.cautions)
    (draft,) = [
        p.draft for p in proposed(snapshot, shed_most=60) if p.draft.title.startswith("Spread the MQTT clients")
    ]
    assert [len(params["cids"]) for _, params in draft.stages] == [60]


def test_connections_of_all_kinds_are_let_go_of_a_hot_server() -> None:
    snapshot = idle(
        *(varz(server, connections=count) for server, count in (("n0", 5), ("n1", 120), ("n2", 5))),
        varz("n1", cpu=190, cores=2),
        nats(n0=5, n1=120, n2=5),
    )
    (draft,) = [p.draft for p in proposed(snapshot) if p.draft.title == "Move clients off server n1, in slices"]
    ((kind, params),) = draft.stages
    assert (kind, len(params["cids"]), params["goal"]) == ("clients.shed", 120 - 44, "calm")
    assert params["notice"] == 10.0


def test_clients_are_moved_from_the_crowded_server_by_its_name_and_id_where_natsmedic_does_not() -> None:
    snapshot = idle(mqtt_listeners(*SERVERS), mqtt(n2=150), varz("n0", cpu=190, cores=2))
    (draft,) = [p.draft for p in proposed(snapshot) if p.draft.title.startswith("Spread the MQTT clients")]
    id_ = next(s.id for s in snapshot.servers if s.name == "n2")
    (move,) = [line for line in draft.guidance if "request kick" in line]
    assert "--name=n2 |" in move
    assert f'kick "$cid" {id_} > /dev/null; sleep 0.1' in move
    assert (draft.stages, draft.guidance[-1]) == ((), "natsmedic does not offer it now: n0 uses 95% of its CPU.")


GUIDE = Draft(title="Let MQTT need fewer Raft groups", why="120 of 120 sessions are idle.", guidance=("by hand",))


def assets(**evidence: int) -> Finding:
    return ASSETS.finding(Subject(cluster="prod"), Severity.WARNING, GUIDE.why, dict(evidence))


def test_limits_that_a_reload_changes_are_offered_and_the_guide_comes_after_them() -> None:
    snapshot = scene("2.15.1").snapshot()
    found = [assets(**{"idle sessions": 120}), assets(default_max_consumers=1000)]
    many, idle_, guide = limit_offers(snapshot, found, GUIDE)
    assert [kind for kind, _ in many.stages] == ["kubernetes.limit", *["nats.load_limit"] * 3]
    assert (many.stages[0][1]["setting"], many.stages[0][1]["value"]) == ("jetstream.limits.default_max_consumers", -1)
    assert (idle_.stages[0][1]["setting"], idle_.stages[0][1]["value"]) == ("mqtt.consumer_inactive_threshold", "24h")
    assert any("has lost what was waiting for it" in caution for caution in idle_.cautions)
    assert guide == GUIDE


def test_a_limit_that_a_version_does_not_reload_stays_with_the_guide() -> None:
    found = [assets(default_max_consumers=1000)]
    assert limit_offers(scene("2.12.8").snapshot(), found, GUIDE) == (GUIDE,)
    assert limit_offers(replace(scene("2.15.1").snapshot(), kubernetes=None), found, GUIDE) == (GUIDE,)


def test_under_helm_the_values_come_first() -> None:
    made = scene("2.15.1")
    meta = made.raw(Kind.STATEFUL_SET, "nats")["metadata"]
    meta["labels"] = meta["labels"] | {"helm.sh/chart": "nats-1.2.6"}
    meta["annotations"] = {"meta.helm.sh/release-name": "nats", "meta.helm.sh/release-namespace": "queues"}
    source, direct, _ = limit_offers(made.snapshot(), [assets(**{"idle sessions": 120})], GUIDE)
    assert (source.stages, direct.stages[0][0]) == ((), "kubernetes.limit")
    assert "consumer_inactive_threshold: 24h" in source.patches[0].text
    assert "directly: it holds until Helm's next upgrade" in direct.title
