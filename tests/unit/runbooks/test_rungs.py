"""The repair ladders of real findings: each repair says why it may not be enough, and after one that failed the next is offered, never started."""

from collections.abc import Sequence

import pytest

from bot.flow.ladder import climb
from bot.model import Focus, Preview, Proposal, ProposalState, RiskClass, Snapshot, Stage
from bot.runbook import Proposed, Runbook
from runbooks import _deploy_guidance as deployment
from runbooks import _stream_guidance as streams
from runbooks._deploy_rungs import RUNGS
from tests.integration import store_records as records
from tests.unit.actions.rollout_world import World
from tests.unit.runbooks.every_check import REGISTRY
from tests.unit.runbooks.test_consumer_clients import IDLE, failing, long_wait, paused, snapshot
from tests.unit.runbooks.test_deploy_offers import STRICT
from tests.unit.runbooks.test_stuck_consumer import FOCUS, PULLING
from tests.unit.snapshots import recorded, recordings

PREVIEW = Preview(summary="s", blast_radius="b", way_back="w")


def of(code: str) -> Runbook:
    found = REGISTRY.runbook(code)
    assert found is not None
    return found


def proposed(runbook: Runbook, seen: Snapshot, focus: Focus) -> list[Proposed]:
    values = runbook.values()
    findings = [f for check in runbook.checks if check.applies(seen) for f in check.examine(seen, values, focus)]
    return list(runbook.propose(seen, findings, values, focus))


def stored(offers: Sequence[Proposed]) -> list[Proposal]:
    """The proposals that a diagnosis makes of these."""
    return [
        records.proposal(f"prop_{number}").model_copy(
            update={
                "subject": one.subject,
                "title": one.draft.title,
                "stages": tuple(
                    Stage(kind=kind, params=params, risk=RiskClass.MEDIUM, preview=PREVIEW)
                    for kind, params in one.draft.stages
                ),
                "rung": one.draft.rung,
                "cautions": one.draft.cautions,
                "state": ProposalState.PENDING if one.draft.stages else ProposalState.PROPOSED,
                "state_reason": "",
            }
        )
        for number, one in enumerate(offers)
    ]


def failed(proposal: Proposal) -> Proposal:
    return proposal.model_copy(update={"state": ProposalState.FAILED, "state_reason": "It did not help."})


@pytest.mark.parametrize("code", ["STREAM_GROUPS", "ROUTE_MESH", "READINESS", "STUCK_CONSUMER"])
def test_whatever_natsmedic_offers_to_do_says_why_it_may_not_be_enough(code: str) -> None:
    bare = [
        f"{name}: {one.draft.title}"
        for name in recordings()
        for one in proposed(of(code), recorded(name), Focus())
        if one.draft.stages and one.draft.rung is None
    ]
    assert bare == []


def test_every_kind_of_damage_has_its_rung() -> None:
    assert streams.RUNGS.keys() == streams.MAKERS.keys()
    assert RUNGS.keys() == {guide for _, guide in deployment.GUIDES}
    problems = [rung.problem for rung in RUNGS.values()]
    assert len(set(problems)) == len(problems)


@pytest.mark.parametrize(
    ("seen", "first", "then"),
    [(snapshot(PULLING), "consumer.step_down", "consumer.reset")],
)
def test_after_a_step_down_that_did_not_help_the_reset_is_offered_and_not_started(
    seen: Snapshot, first: str, then: str
) -> None:
    fresh = stored(proposed(of("STUCK_CONSUMER"), seen, FOCUS))
    assert [p.stages[0].kind for p in fresh] == [first, then]
    low, high = climb(fresh, [failed(fresh[0])])
    assert (low.state, high.state) == (ProposalState.PROPOSED, ProposalState.PENDING)
    assert high.cautions[-1] == f"“{low.title}” was tried and did not succeed: It did not help."


@pytest.mark.parametrize(
    "seen", [snapshot(IDLE), snapshot(failing()), snapshot(long_wait(1_800)), snapshot(PULLING, paused)]
)
def test_what_people_look_at_stands_before_the_change_of_a_consumer(seen: Snapshot) -> None:
    fresh = stored(proposed(of("STUCK_CONSUMER"), seen, FOCUS))
    look, change = climb(fresh, [])[-2:]
    assert (look.stages, len(change.stages)) == ((), 1)
    assert change.cautions[-1] == f"“{look.title}” is less destructive, and was not tried yet."
    assert look.rung is not None
    assert look.rung.go_on


def test_another_problem_of_the_same_workload_is_no_lower_rung() -> None:
    world = World()
    budget = STRICT.model_copy(update={"check": "DEPLOY_BUDGET", "evidence": {}})
    offers = deployment.guidance(world.snapshot(), [STRICT, budget])
    assert len({one.draft.rung.problem for one in offers if one.draft.rung}) == 2
    for one in climb(stored(offers), [failed(p) for p in stored(offers)]):
        assert not any("less destructive" in caution or "was tried" in caution for caution in one.cautions)
