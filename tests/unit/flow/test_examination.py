"""Several runbooks over one snapshot: what they agree on counts once, and what nobody read is never healthy."""

from dataclasses import replace

import pytest

from bot.action import Draft
from bot.flow.examination import examine, reading, report, unknown_facts
from bot.model import Endpoint, Finding, Focus, Layer, RiskClass, Severity, Snapshot, Subject, Unknown, UnknownReason
from bot.runbook import Check, Proposed, Runbook, Threshold, Thresholds, Unit
from runbooks.stuck_consumer import RUNBOOK
from tests.unit.snapshots import recorded, unasked

NEEDS = frozenset({Endpoint.JSZ})
RISKS = {
    "consumer.step_down": RiskClass.LOW,
    "consumer.delete": RiskClass.DESTRUCTIVE,
    "consumer.create": RiskClass.LOW,
}


def found(severity: Severity, sentence: str, server: str = "n1", check: str = "C") -> Finding:
    subject = Subject(cluster="lab", server=server)
    return Finding(check=check, layer=Layer.STREAMS, subject=subject, severity=severity, sentence=sentence)


def runbook(
    code: str, *findings: Finding, needs: frozenset[Endpoint] = NEEDS, drafts: tuple[Draft, ...] = ()
) -> Runbook:
    def look(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
        return list(findings)

    return Runbook(
        code=code,
        title=code,
        alerts=frozenset(),
        thresholds=(),
        checks=(Check("C", Layer.STREAMS, "All is well.", needs, look),),
        propose=lambda *_: [Proposed(Subject(cluster="lab"), draft) for draft in drafts],
    )


def test_two_runbooks_that_find_the_same_tell_it_once_as_its_worst() -> None:
    one = runbook("A", found(Severity.WARNING, "mild"), found(Severity.WARNING, "elsewhere", "n2"))
    two = runbook("B", found(Severity.CRITICAL, "bad"))
    made = report(recorded("healthy_2.15.1"), (one, two), {}, Focus(), RISKS)
    assert [f.sentence for f in made.findings] == ["bad", "elsewhere"]
    assert (made.verdict.severity, made.verdict.sentence) == (Severity.CRITICAL, "bad")


def test_one_runbook_may_say_two_things_about_one_subject() -> None:
    one = runbook("A", found(Severity.WARNING, "first"), found(Severity.WARNING, "second"))
    made = report(recorded("healthy_2.15.1"), (one, one), {}, Focus(), RISKS)
    assert [f.sentence for f in made.findings] == ["first", "second"]


def test_a_check_without_an_answer_to_look_at_is_unknown_however_it_judges() -> None:
    blind = runbook("A", found(Severity.OK, "fine"), needs=frozenset({Endpoint.LEAFZ}))
    made = report(recorded("healthy_2.15.1", unasked("LEAFZ")), (blind,), {}, Focus(), RISKS)
    assert made.verdict.severity is Severity.UNKNOWN
    assert made.findings[0].sentence.startswith("No server's LEAFZ could be read")
    assert {(u.fact, u.server) for u in made.unknown} == {("LEAFZ", n) for n in ("n0", "n1", "n2")}


def test_a_snapshot_without_any_servers_own_view_says_first_what_it_cannot_see() -> None:
    why = Unknown(reason=UnknownReason.NOT_CONFIGURED, detail="no system user")
    seen = replace(
        recorded("healthy_2.15.1"), samples=(), servers=(), expected=frozenset(), unknown=(why,), via="account API"
    )
    made = report(seen, (RUNBOOK,), {}, Focus(), RISKS)
    assert made.verdict.severity is Severity.UNKNOWN
    assert made.verdict.root is not None
    assert made.verdict.root.check == "SERVERS_VISIBLE"
    assert {f.severity for f in made.findings} == {Severity.UNKNOWN}
    assert [(u.fact, u.server, u.reason) for u in made.unknown] == [("cluster", None, "not_configured: no system user")]


def test_a_broken_check_is_unknown_and_hides_nothing() -> None:
    def broken(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
        raise KeyError("leader")

    good = runbook("A", found(Severity.CRITICAL, "bad"))
    checks = (Check("X", Layer.META, "Works.", NEEDS, broken), *good.checks)
    judged = examine(recorded("healthy_2.15.1"), replace(good, checks=checks), {}, Focus())
    assert [(f.check, f.severity) for f in judged.findings] == [("X", Severity.UNKNOWN), ("C", Severity.CRITICAL)]
    assert judged.verdict.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("kinds", "risk"),
    [
        ((), RiskClass.READ),
        (("consumer.step_down",), RiskClass.LOW),
        (("consumer.create", "consumer.delete"), RiskClass.DESTRUCTIVE),
        (("never.heard.of",), RiskClass.DESTRUCTIVE),
    ],
)
def test_a_proposal_is_as_risky_as_its_worst_action(kinds: tuple[str, ...], risk: RiskClass) -> None:
    draft = Draft(
        title="t", why="w", stages=tuple((kind, {"stream": "S"}) for kind in kinds), guidance=("g",), cautions=("c",)
    )
    twice = runbook("A", found(Severity.CRITICAL, "bad"), drafts=(draft, draft))
    (offer,) = report(recorded("healthy_2.15.1"), (twice,), {}, Focus(), RISKS).proposals
    assert (offer.risk, tuple(a.kind for a in offer.actions), offer.guidance) == (risk, kinds, ("g", "c"))


def test_one_pass_reads_the_union_and_waits_as_long_as_the_slowest() -> None:
    settle = Threshold("settle", 5.0, Unit.SECONDS, "m")
    one = replace(runbook("A"), rounds=2, interval=2.0, thresholds=(settle,))
    two = replace(runbook("B", needs=frozenset({Endpoint.VARZ})), rounds=3, interval=1.0)
    single = replace(runbook("C"), interval=60.0)
    wanted = reading((one, two, single), {"A": {"settle": 1.5}})
    assert wanted == (frozenset({Endpoint.JSZ, Endpoint.VARZ}), 3, 1.5)
    assert reading((single,), {}) == (NEEDS, 1, 0.0)


def test_an_unknown_fact_is_told_once_however_often_it_was_asked_for() -> None:
    snapshot = recorded("frozen_2.15.1")
    facts = unknown_facts(snapshot, RUNBOOK.needs)
    assert len(facts) == len({(f.fact, f.server) for f in facts})
    asked = {(s.endpoint.value, s.server) for s in snapshot.samples if s.unknown and s.endpoint in RUNBOOK.needs}
    absent = {(e.value, n) for e in RUNBOOK.needs for n in snapshot.expected if snapshot.sample(n, e) is None}
    assert asked
    assert {(f.fact, f.server) for f in facts} == asked | absent
    assert {(f.fact, f.server) for f in facts if f.reason.startswith("not_gathered: ")} == absent
