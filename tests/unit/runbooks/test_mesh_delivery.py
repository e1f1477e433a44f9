"""MESH_DELIVERY: what a probe saw, put over recorded meshes. The ways are n0 … n2 in both directions; APP is on slot 1 of 3, $G on slot 2."""

from dataclasses import replace
from itertools import permutations

import pytest
from pydantic import ValidationError

from bot.flow.examination import examine, judge, report
from bot.model import Finding, Focus, PairDelivery, Severity, Unknown, UnknownReason
from runbooks.route_mesh import RUNBOOK
from tests.unit.runbooks.test_route_mesh import HEALTHY, Change, answers, cut, silence, varz, without
from tests.unit.snapshots import Raw, both, recorded

Way = tuple[str, str]
WAYS = tuple(permutations(("n0", "n1", "n2"), 2))
DENIED = Unknown(reason=UnknownReason.DENIED, detail="user reader may not publish to _INBOX.natsmedic.probe.>")


def way(account: str, pair: Way, received: int = 20) -> PairDelivery:
    """20 messages on a way that is open at all, 40 on one that is not, as the probe sends them."""
    return PairDelivery(
        account=account,
        sender=pair[0],
        receiver=pair[1],
        sent=20 if received else 40,
        received=received,
        seconds=5.0,
    )


def probe(received: dict[Way, int] | None = None, *accounts: str) -> tuple[PairDelivery, ...]:
    """Every way of these accounts (APP where none is named): all 20 arrived, or as many as said."""
    found = received or {}
    return tuple(way(account, pair, found.get(pair, 20)) for account in accounts or ("APP",) for pair in WAYS)


def unknown(account: str, pair: Way, why: Unknown = DENIED) -> PairDelivery:
    return PairDelivery(account=account, sender=pair[0], receiver=pair[1], unknown=why)


def judged(deliveries: tuple[PairDelivery, ...], change: Change | None = None, young: float = 0.0) -> list[Finding]:
    snapshot = replace(recorded(HEALTHY, change), deliveries=deliveries)
    found = examine(snapshot, RUNBOOK, RUNBOOK.values({"young": young}), Focus()).findings
    return [f for f in found if f.check == "MESH_DELIVERY"]


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def aged(server: str, seconds: float) -> Change:
    """The server started so long before it was asked, every other an hour."""

    def change(raw: Raw) -> None:
        for name in ("n0", "n1", "n2"):
            (answer,) = answers(raw, "VARZ", name)
            second = 3_600 if name != server else seconds
            answer |= {"now": "2026-01-01T01:00:00Z", "start": _before(second)}

    return change


def _before(seconds: float) -> str:
    left = 3_600 - seconds
    return f"2026-01-01T00:{int(left // 60):02}:{left % 60:06.3f}Z"


def test_without_a_probe_nothing_is_said_and_nothing_passed() -> None:
    assert judged(()) == []


def test_a_whole_delivery_is_sound_and_names_who_had_no_login() -> None:
    found = only(judged(probe(None, "APP")))
    assert (found.severity, found.subject.account) == (Severity.OK, None)
    assert found.sentence == (
        "All 120 messages of account APP arrived on 6 ways between 3 servers; accounts $G and SYS had no login to probe with."
    )
    everybody = only(judged(probe(None, "APP", "SYS", "$G")))
    assert everybody.sentence == "All 360 messages of accounts $G, APP and SYS arrived on 6 ways between 3 servers."


def test_an_account_under_another_name_than_the_servers_use_says_nothing_about_the_others() -> None:
    assert "no login" not in only(judged(probe(None, "account of user app"))).sentence


@pytest.mark.parametrize(
    ("received", "severity"), [(20, Severity.OK), (19, Severity.WARNING), (1, Severity.WARNING), (0, Severity.CRITICAL)]
)
def test_only_a_way_on_which_nothing_arrived_is_critical(received: int, severity: Severity) -> None:
    found = only(judged(probe({("n1", "n2"): received})))
    assert found.severity is severity
    assert ("probe again" in found.sentence) is (severity is Severity.WARNING)
    if received == 19:
        assert "on 1 of 6 ways between servers: n1 to n2 5% (1 of 20 messages in 5.0 s)" in found.sentence


def test_a_pair_without_a_route_explains_the_loss_both_ways() -> None:
    found = only(judged(probe({("n1", "n2"): 0, ("n2", "n1"): 0}), cut("n1", "n2")))
    assert found.sentence == (
        "Account APP loses messages on 2 of 6 ways between servers: n1 to n2 100% and n2 to n1 100% (80 of 80 messages in 5.0 s); "
        "n1 with n2 have no route between them (MESH_PAIRS)."
    )
    assert found.severity is Severity.CRITICAL
    assert found.evidence["explained by"] == {"MESH_PAIRS": [["n1", "n2"]]}
    assert found.evidence["lost"][0] == {
        "sender": "n1",
        "receiver": "n2",
        "sent": 40,
        "received": 0,
        "seconds": 5.0,
    }


def test_a_missing_slot_explains_the_loss_of_a_pooled_account_and_names_who_shares_it() -> None:
    def neighbour(raw: Raw) -> None:
        for answer in answers(raw, "ACCOUNTZ"):
            answer["accounts"] += ["A2", "A0"]  # slots 1 and 0

    lost = probe({("n0", "n1"): 0, ("n1", "n0"): 0})
    found = only(judged(lost, both(without("n0", "n1"), neighbour)))
    assert (
        "n0 with n1 lack the connection that carries it (MESH_SLOTS); account A2 would go over the same"
        in found.sentence
    )
    assert found.evidence["accounts on the same connection"] == ["A2"]
    # An account that was probed itself needs no guess.
    also = only(
        [f for f in judged(lost + probe(None, "A2"), both(without("n0", "n1"), neighbour)) if f.subject.account]
    )
    assert also.evidence["accounts on the same connection"] == []


def test_a_missing_pinned_connection_explains_the_loss_of_that_account_only() -> None:
    lost: dict[Way, int] = {("n0", "n1"): 0}
    gone = without("n0", "n1", account="SYS")
    pinned = only(judged(probe(lost, "SYS"), gone))
    assert "n0 with n1 lack the connection that carries it (MESH_SLOTS)" in pinned.sentence
    assert pinned.evidence["accounts on the same connection"] == []
    assert "ROUTEZ shows nothing missing between n0 with n1" in only(judged(probe(lost, "APP"), gone)).sentence
    assert "ROUTEZ shows nothing missing" in only(judged(probe(lost, "SYS"), without("n0", "n1"))).sentence


def test_a_loss_between_servers_that_told_nothing_is_a_loss_without_a_reason() -> None:
    found = only(judged(probe({("n0", "n1"): 0}), both(silence("n0", "ROUTEZ"), silence("n1", "ROUTEZ"))))
    assert found.severity is Severity.CRITICAL
    assert found.evidence["explained by"] == {}


@pytest.mark.parametrize(
    ("age", "severity"), [(59.9, Severity.WARNING), (60.0, Severity.CRITICAL), (60.1, Severity.CRITICAL)]
)
def test_a_young_server_may_still_be_finding_the_others(age: float, severity: Severity) -> None:
    found = only(judged(probe({("n1", "n2"): 0}), both(cut("n1", "n2"), aged("n2", age)), young=60.0))
    assert found.severity is severity
    assert ("n2 started 60 s ago and may still be finding the others: wait" in found.sentence) is (
        severity is Severity.WARNING
    )


def test_a_loss_between_old_servers_is_critical_whatever_a_young_one_loses() -> None:
    lost: dict[Way, int] = {("n1", "n2"): 0, ("n0", "n1"): 0}
    assert only(judged(probe(lost), aged("n2", 10.0), young=60.0)).severity is Severity.CRITICAL
    del lost[("n0", "n1")]
    assert only(judged(probe(lost), aged("n2", 10.0), young=60.0)).severity is Severity.WARNING


def test_what_could_not_be_probed_is_unknown_with_its_reason_and_no_loss() -> None:
    ways = (*(unknown("APP", pair) for pair in WAYS[:2]), *(way("APP", pair) for pair in WAYS[2:]))
    found = only(judged(ways))
    assert (found.severity, found.subject.account) == (Severity.UNKNOWN, "APP")
    assert found.sentence == (
        "Whether account APP loses messages is not known on 2 of 6 ways between servers: "
        "user reader may not publish to _INBOX.natsmedic.probe.>."
    )
    assert found.evidence["ways"] == [["n0", "n1"], ["n0", "n2"]]


def test_a_loss_does_not_hide_what_is_unknown_nor_the_accounts_that_are_sound() -> None:
    ways = (unknown("APP", WAYS[0]), way("APP", WAYS[1], 0), *probe(None, "SYS"))
    found = judged(ways)
    assert [(f.severity, f.subject.account) for f in found] == [
        (Severity.CRITICAL, "APP"),
        (Severity.UNKNOWN, "APP"),
        (Severity.OK, None),
    ]
    assert "on 1 of 1 ways" in found[0].sentence
    assert found[2].sentence.startswith("All 120 messages of account SYS arrived")


def test_a_report_keeps_every_account() -> None:
    snapshot = replace(recorded(HEALTHY), deliveries=probe({("n0", "n1"): 0}, "APP", "SYS"))
    shown = report(snapshot, judge(snapshot, [RUNBOOK], {RUNBOOK.code: {"young": 0.0}}, Focus()), {})
    assert {f.subject.account for f in shown.findings if f.check == "MESH_DELIVERY"} == {"APP", "SYS"}
    assert shown.verdict.severity is Severity.CRITICAL


def test_a_long_list_is_cut_in_the_sentence_and_whole_in_the_evidence() -> None:
    names = [f"s{n}" for n in range(5)]
    lost = tuple(way("APP", pair, 0) for pair in permutations(names, 2))
    found = only(judged(lost))
    assert "and 10 more (800 of 800 messages" in found.sentence
    assert len(found.evidence["lost"]) == 20


@pytest.mark.parametrize(
    "fields",
    [
        {"sent": 0},
        {"sent": 1, "received": 2},
        {"sent": -1},
        {"sent": 1, "receiver": "n0"},
        {"sent": 1, "unknown": DENIED},
        {"received": 1, "unknown": DENIED},
    ],
)
def test_a_delivery_is_counted_or_unknown_and_never_both(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PairDelivery.model_validate({"account": "APP", "sender": "n0", "receiver": "n1"} | fields)


def test_a_mesh_that_was_not_probed_is_judged_as_before() -> None:
    snapshot = replace(recorded(HEALTHY, varz("n0", max_pending=1)), deliveries=())
    found = examine(snapshot, RUNBOOK, RUNBOOK.values(), Focus()).findings
    assert {f.check for f in found} == {check.code for check in RUNBOOK.checks if check.applies(snapshot)} - {
        "MESH_DELIVERY"
    }
