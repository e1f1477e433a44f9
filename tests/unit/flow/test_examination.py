"""Several runbooks over one snapshot: what they agree on counts once, and what nobody read is never healthy."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from bot.action import Draft
from bot.flow.examination import Report, examine, judge, look, needs_of, report, unknown_facts, unsettled
from bot.model import (
    Again,
    Endpoint,
    Finding,
    Focus,
    KubernetesFacts,
    Layer,
    RiskClass,
    Severity,
    Snapshot,
    SnapshotId,
    Subject,
    Unknown,
    UnknownReason,
)
from bot.ports import Readers
from bot.runbook import Check, Proposed, Runbook, Threshold, Thresholds, Unit
from runbooks.stuck_consumer import RUNBOOK
from tests.unit.snapshots import Raw, recorded, streams, unasked

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


def reported(snapshot: Snapshot, *runbooks: Runbook) -> Report:
    return report(snapshot, judge(snapshot, runbooks, {}, Focus()), RISKS)


def of_kubernetes(code: str, *findings: Finding) -> Runbook:
    made = runbook(code, *findings)
    return replace(made, checks=tuple(replace(check, of_kubernetes=True) for check in made.checks))


def test_a_check_of_kubernetes_is_not_asked_where_there_is_none_and_hides_nothing() -> None:
    elsewhere = recorded("healthy_2.15.1")
    mixed = runbook("A", found(Severity.OK, "fine"))
    (other,) = of_kubernetes("X", found(Severity.CRITICAL, "bad", check="K")).checks
    mixed = replace(mixed, checks=(*mixed.checks, replace(other, code="K")))
    assert [f.sentence for f in examine(elsewhere, mixed, {}, Focus()).findings] == ["fine"]
    there = replace(elsewhere, kubernetes=KubernetesFacts("queues", elsewhere.taken_at, ()))
    assert [f.sentence for f in examine(there, mixed, {}, Focus()).findings] == ["fine", "bad"]


def test_a_runbook_of_kubernetes_alone_stays_out_of_several_and_asked_alone_can_not_tell() -> None:
    elsewhere, bad = recorded("healthy_2.15.1"), found(Severity.CRITICAL, "bad")
    one, two = runbook("A", found(Severity.OK, "fine")), of_kubernetes("B", bad)
    assert [j.runbook.code for j in judge(elsewhere, (one, two), {}, Focus())] == ["A"]
    (alone,) = judge(elsewhere, (two,), {}, Focus())
    assert (alone.runbook.code, alone.verdict.severity) == ("B", Severity.UNKNOWN)
    assert alone.findings[0].check == "KUBERNETES_READABLE"
    both = judge(elsewhere, (two, of_kubernetes("C", bad)), {}, Focus())
    assert [j.verdict.severity for j in both] == [Severity.UNKNOWN, Severity.UNKNOWN]


def test_a_check_of_kubernetes_has_that_to_look_at_where_no_server_answers() -> None:
    silent = recorded("healthy_2.15.1", unasked("JSZ"))
    there = replace(silent, kubernetes=KubernetesFacts("queues", silent.taken_at, ()))
    (judged,) = judge(there, (of_kubernetes("A", found(Severity.OK, "fine")),), {}, Focus())
    assert [(f.severity, f.sentence) for f in judged.findings] == [(Severity.OK, "fine")]


def test_two_runbooks_that_find_the_same_tell_it_once_as_its_worst() -> None:
    one = runbook("A", found(Severity.WARNING, "mild"), found(Severity.WARNING, "elsewhere", "n2"))
    two = runbook("B", found(Severity.CRITICAL, "bad"))
    made = reported(recorded("healthy_2.15.1"), one, two)
    assert [f.sentence for f in made.findings] == ["bad", "elsewhere"]
    assert (made.verdict.severity, made.verdict.sentence) == (Severity.CRITICAL, "bad")


def test_one_runbook_may_say_two_things_about_one_subject() -> None:
    one = runbook("A", found(Severity.WARNING, "first"), found(Severity.WARNING, "second"))
    made = reported(recorded("healthy_2.15.1"), one, one)
    assert [f.sentence for f in made.findings] == ["first", "second"]


def test_a_check_without_an_answer_to_look_at_is_unknown_however_it_judges() -> None:
    blind = runbook("A", found(Severity.OK, "fine"), needs=frozenset({Endpoint.LEAFZ}))
    made = reported(recorded("healthy_2.15.1", unasked("LEAFZ")), blind)
    assert made.verdict.severity is Severity.UNKNOWN
    assert made.findings[0].sentence.startswith("No server's LEAFZ could be read")
    assert {(u.fact, u.server) for u in made.unknown} == {("LEAFZ", n) for n in ("n0", "n1", "n2")}


def test_a_snapshot_without_any_servers_own_view_says_first_what_it_cannot_see() -> None:
    why = Unknown(reason=UnknownReason.NOT_CONFIGURED, detail="no system user")
    seen = replace(
        recorded("healthy_2.15.1"), samples=(), servers=(), expected=frozenset(), unknown=(why,), via="account API"
    )
    made = reported(seen, RUNBOOK)
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
    (offer,) = reported(recorded("healthy_2.15.1"), twice).proposals
    assert (offer.risk, tuple(a.kind for a in offer.actions), offer.guidance) == (risk, kinds, ("g", "c"))


JSZ, VARZ = frozenset({Endpoint.JSZ}), frozenset({Endpoint.VARZ})


def comparing(code: str, severity: Severity, trend: frozenset[Endpoint], rounds: int, interval: float) -> Runbook:
    """A runbook whose one check compares over time and finds this."""
    plain = runbook(code, found(severity, "s"))
    return replace(plain, checks=(replace(plain.checks[0], trend=trend),), rounds=rounds, interval=interval)


def judged(*runbooks: Runbook) -> Again | None:
    settle = {"A": {"settle": 1.5}}
    return unsettled(judge(recorded("healthy_2.15.1"), runbooks, settle, Focus()), settle)


def test_a_runbook_that_cannot_propose_hides_nothing_that_it_found() -> None:
    def broken(*_: object) -> list[Proposed]:
        raise ValueError("no")

    plain = replace(runbook("A", found(Severity.CRITICAL, "it is broken")), propose=broken)
    (judgement,) = judge(recorded("healthy_2.15.1"), (plain,), {}, Focus())
    assert [f.severity for f in judgement.findings] == [Severity.CRITICAL, Severity.UNKNOWN]
    assert "could not say what to do about this (ValueError)" in judgement.findings[1].sentence
    assert judgement.proposed == ()


def test_what_is_content_with_the_first_look_is_not_looked_at_again() -> None:
    assert judged(comparing("A", Severity.OK, JSZ, 3, 2.0)) is None


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.UNKNOWN, Severity.CRITICAL])
def test_only_what_a_doubtful_check_compares_is_read_again(severity: Severity) -> None:
    content = comparing("B", Severity.OK, JSZ, 9, 60.0)
    assert judged(comparing("D", severity, VARZ, 3, 2.0), content) == Again(VARZ, 3, 2.0)


def test_a_finding_that_time_does_not_change_asks_for_no_second_look() -> None:
    assert judged(comparing("A", Severity.CRITICAL, frozenset(), 3, 2.0)) is None


def test_several_doubts_are_settled_together_within_the_time_of_the_slowest() -> None:
    settle = Threshold("settle", 5.0, Unit.SECONDS, "m")
    one = replace(comparing("A", Severity.WARNING, JSZ, 2, 2.0), thresholds=(settle,))
    two = comparing("B", Severity.WARNING, VARZ, 3, 0.5)
    assert judged(one, two) == Again(JSZ | VARZ, 3, 0.75)
    assert judged(one, replace(two, interval=2.0)) == Again(JSZ | VARZ, 3, 2.0)
    assert needs_of((one, replace(two, checks=(replace(two.checks[0], needs=VARZ),)))) == JSZ | VARZ


class OneLook:
    """Readers that show one snapshot, and another where a second look is asked for."""

    cluster = "lab"
    api_timeout = 1.0

    def __init__(self, first: Snapshot, second: Snapshot) -> None:
        self.first, self.second = first, second
        self.asked: list[Again | None] = []

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        assert again is not None
        self.asked.append(again(self.first))
        return self.first if self.asked[-1] is None else self.second


async def test_a_content_first_look_is_judged_once() -> None:
    calls: list[str] = []
    content = runbook("A", found(Severity.OK, "fine"))

    def counted(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
        calls.append(snapshot.id)
        return [found(Severity.OK, "fine")]

    readers = OneLook(recorded("healthy_2.15.1"), recorded("split_2.11.11"))
    checks = (replace(content.checks[0], examine=counted),)
    snapshot, (judgement,) = await look(cast("Readers", readers), (replace(content, checks=checks),), {}, Focus())
    assert (snapshot is readers.first, judgement.verdict.severity, len(calls)) == (True, Severity.OK, 1)


async def test_after_a_second_look_the_second_snapshot_is_judged() -> None:
    first = replace(recorded("healthy_2.15.1"), id=SnapshotId("snap_first"))
    readers = OneLook(first, recorded("split_2.11.11"))
    doubtful = comparing("A", Severity.WARNING, JSZ, 2, 2.0)
    snapshot, (judgement,) = await look(cast("Readers", readers), (doubtful,), {}, Focus())
    assert (snapshot is readers.second, judgement.snapshot is readers.second) == (True, True)
    assert readers.asked == [Again(JSZ, 2, 2.0)]


def test_a_wrong_field_of_a_stream_makes_every_content_check_that_reads_it_unknown() -> None:
    def spoil(raw: Raw) -> None:
        streams(raw, "n0", 1)[0]["state"]["messages"] = "many"

    made = reported(recorded("healthy_2.15.1", spoil), runbook("A", found(Severity.OK, "fine")))
    assert made.verdict.severity is Severity.UNKNOWN
    assert "state.messages: Expected `int`, got `str`" in made.findings[0].sentence
    assert [(u.server, u.fact.endswith("state.messages")) for u in made.unknown] == [("n0", True)]


def test_an_unknown_fact_is_told_once_however_often_it_was_asked_for() -> None:
    snapshot = recorded("frozen_2.15.1")
    facts = unknown_facts(snapshot, RUNBOOK.needs)
    assert len(facts) == len({(f.fact, f.server) for f in facts})
    asked = {(s.endpoint.value, s.server) for s in snapshot.samples if s.unknown and s.endpoint in RUNBOOK.needs}
    absent = {(e.value, n) for e in RUNBOOK.needs for n in snapshot.expected if snapshot.sample(n, e) is None}
    assert asked
    assert {(f.fact, f.server) for f in facts} == asked | absent
    assert {(f.fact, f.server) for f in facts if f.reason.startswith("not_gathered: ")} == absent
