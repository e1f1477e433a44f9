"""What the audit offers for streams with one replica, or with an even number of them."""

from collections.abc import Sequence
from typing import Any

import pytest

from bot.actions.stream_probe_end import ProbeEnd
from bot.actions.stream_probe_peers import ProbePeers
from bot.actions.stream_scale import StreamScale
from bot.model import Focus, Snapshot
from bot.runbook import Proposed
from runbooks._audit_replicas import MOST_OFFERS, REPLICAS
from runbooks.cluster_audit import RUNBOOK
from tests.unit.actions.scaling_scene import config, details, everywhere, grown
from tests.unit.snapshots import Raw, answers


def offers(snapshot: Snapshot, overrides: dict[str, float] | None = None) -> Sequence[Proposed]:
    values = RUNBOOK.values(overrides)
    check = next(c for c in RUNBOOK.checks if c.code == REPLICAS.code)
    return RUNBOOK.propose(snapshot, check.examine(snapshot, values, Focus()), values, Focus())


def ways(offer: Proposed) -> list[tuple[str, int, int]]:
    return [(p["stream"], p["start"], p["to"]) for kind, p in offer.draft.stages if kind == StreamScale.kind]


def test_streams_of_one_replica_are_offered_three_in_stages() -> None:
    (offer,) = offers(grown())
    assert [kind for kind, _ in offer.draft.stages] == [ProbePeers.kind, ProbeEnd.kind, *[StreamScale.kind] * 4]
    assert ways(offer) == [("ALL", 1, 2), ("ALL", 2, 3), ("SINGLE", 1, 2), ("SINGLE", 2, 3)]
    assert offer.draft.title == "Give 2 streams of account APP 3 replicas"
    assert (offer.subject.account, offer.subject.stream) == ("APP", None)
    assert offer.draft.why.startswith("A stream with one replica is away, or lost, with its server. On 2.11.11 ")


def test_servers_that_scale_in_desired_state_are_offered_one_stage() -> None:
    (offer,) = offers(grown(name="kinds_2.15.1"))
    assert ways(offer) == [("ALL", 1, 3), ("SINGLE", 1, 3)]


def test_an_even_number_is_offered_the_next_odd_one_that_there_are_servers_for() -> None:
    def two(raw: Raw) -> None:
        for one in details(raw, "ORDERS"):
            one["cluster"]["replicas"] = [r for r in one["cluster"].get("replicas") or [] if r["name"] != "n2"]
            for consumer in one["consumer_detail"]:
                consumer["cluster"]["replicas"] = [
                    r for r in consumer["cluster"].get("replicas") or [] if r["name"] != "n2"
                ]
        for jsz in answers(raw, "JSZ", "n2"):
            for account in jsz["account_details"]:
                account["stream_detail"] = [s for s in account["stream_detail"] if s["name"] != "ORDERS"]

    _, offer = offers(grown(config("ORDERS", num_replicas=2), two))
    assert offer.draft.title.startswith("Give stream ORDERS 3 replicas")
    assert offer.draft.why.startswith("2 replicas survive no more lost servers than 1.")


def test_four_replicas_on_four_servers_become_three() -> None:
    (_, offer) = offers(grown(config("ORDERS", num_replicas=4)))
    assert offer.draft.title == "Give stream ORDERS 3 replicas: not now"
    assert any("has 3 members, its configuration asks for 4" in line for line in offer.draft.guidance)


def test_the_times_of_the_settings_stand_in_the_stages() -> None:
    (offer,) = offers(grown(), {"scale_settle_two": 7.0, "scale_settle": 70.0, "scale_young": 3.0})
    times = [(p["settle"], p["young"]) for kind, p in offer.draft.stages if kind == StreamScale.kind]
    assert times[:2] == [(7.0, 3.0), (70.0, 3.0)]
    assert [(t.name, t.default) for t in RUNBOOK.thresholds if t.name.startswith("scale_")] == [
        ("scale_settle_two", 30.0),
        ("scale_settle", 300.0),
        ("scale_young", 15.0),
    ]


@pytest.mark.parametrize(("fields", "why"), [({"start": None}, "When server n1 started is not known.")])
def test_where_it_can_t_be_done_now_people_are_told_why_and_how_it_is_done_by_hand(
    fields: dict[str, Any], why: str
) -> None:
    (offer,) = offers(grown(everywhere("VARZ", "n1", **fields)))
    assert offer.draft.stages == ()
    assert offer.draft.title.endswith(": not now")
    assert f"Not offered: {why}" in offer.draft.guidance
    assert "nats stream edit ALL --replicas 3" in offer.draft.guidance[-1]


def test_names_are_quoted_for_the_shell() -> None:
    def renamed(raw: Raw) -> None:
        for one in details(raw, "ALL"):
            one["name"] = "A$(rm)"

    (offer,) = offers(grown(renamed, everywhere("VARZ", "n1", start=None)))
    assert "nats stream edit 'A$(rm)' --replicas 3" in offer.draft.guidance[-1]


def test_a_stream_that_is_left_out_is_named_with_its_reason() -> None:
    (offer,) = offers(grown(config("ALL", description="NACK")))
    assert {stream for stream, _, _ in ways(offer)} == {"SINGLE"}
    assert any(line.startswith("Left out is stream APP > ALL: ") for line in offer.draft.guidance)


def test_so_many_accounts_get_an_offer_and_no_more() -> None:
    def tenants(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", "n0"):
            (account,) = [a for a in jsz["account_details"] if a["name"] == "APP"]
            jsz["account_details"] = [account | {"name": f"T{n}", "id": f"T{n}"} for n in range(MOST_OFFERS + 1)]

    assert len(offers(grown(tenants))) == MOST_OFFERS


def test_a_healthy_cluster_is_offered_nothing() -> None:
    def only_orders(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            for account in jsz["account_details"]:
                account["stream_detail"] = [s for s in account["stream_detail"] if s["config"]["num_replicas"] == 3]

    assert list(offers(grown(only_orders))) == []
