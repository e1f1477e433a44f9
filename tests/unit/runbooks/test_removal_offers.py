"""When runbooks offer to replace a dead member, to remove a gone server, and to let the meta leader step down."""

from dataclasses import replace

import pytest

from bot.actions.meta_peer_remove import GONE
from bot.model import Focus, Snapshot
from bot.runbook import Proposed, Runbook
from runbooks.readiness import RUNBOOK as READINESS
from runbooks.stream_groups import RUNBOOK as STREAM_GROUPS
from tests.unit.actions.five_servers import DEAD, World, away, four, peer
from tests.unit.runbooks.meta_support import QUIET, followers, hung, leader, proposed, replica
from tests.unit.snapshots import both, recorded


def offers(runbook: Runbook, snapshot: Snapshot, kind: str) -> list[Proposed]:
    """The proposals whose first stage is of that kind."""
    values, focus = runbook.values(), Focus()
    findings = [
        f for check in runbook.checks if check.applies(snapshot) for f in check.examine(snapshot, values, focus)
    ]
    proposed = runbook.propose(snapshot, findings, values, focus)
    return [one for one in proposed if one.draft.stages and one.draft.stages[0][0] == kind]


@pytest.mark.parametrize(("seconds", "offered"), [(GONE, 1), (GONE - 1, 0), (0, 0)])
def test_a_member_that_is_dead_for_long_is_offered_to_be_replaced(seconds: float, offered: int) -> None:
    world = World(members=[peer("n1"), away(active=int(seconds * 1e9))])
    found = offers(STREAM_GROUPS, world.snapshot(), "stream.peer_remove")
    assert [one.draft.stages[0][1]["peer"] for one in found] == [DEAD] * offered
    assert all("does not come back soon" in one.draft.cautions[0] for one in found)


def test_without_a_spare_or_without_word_of_its_routes_no_replacement_is_offered() -> None:
    no_spare = World(jsz={"n3": {"disabled": True}, "n4": {"disabled": True}})
    no_routes = World(routes={"n3": None})
    assert [offers(STREAM_GROUPS, world.snapshot(), "stream.peer_remove") for world in (no_spare, no_routes)] == [
        [],
        [],
    ]


@pytest.mark.parametrize(("seconds", "offered"), [(GONE, 1), (GONE - 1, 0)])
def test_a_server_that_is_gone_for_long_is_offered_to_be_removed(seconds: float, offered: int) -> None:
    found = offers(READINESS, four(active=int(seconds * 1e9)).snapshot(), "meta.peer_remove")
    assert [one.draft.stages[0][1]["server"] for one in found] == [DEAD] * offered


def test_a_server_that_streams_count_on_is_not_offered_to_be_removed() -> None:
    assert offers(READINESS, World().snapshot(), "meta.peer_remove") == []
    living = replace(four(), routes={"n3": {"routes": [{"remote_name": DEAD}]}})
    assert offers(READINESS, living.snapshot(), "meta.peer_remove") == []


def test_a_stuck_meta_leader_steps_down_by_natsmedic_where_all_others_are_current_and_by_commands_where_not() -> None:
    led = leader(QUIET)
    follower = followers(QUIET)[0]
    stuck = hung(led, QUIET)
    (draft,) = [p.draft for p in proposed(recorded(QUIET, stuck)) if p.draft.stages]
    ((kind, params),) = draft.stages
    assert (kind, params["leader"], draft.guidance) == ("meta.step_down", led, ())
    behind = recorded(QUIET, both(stuck, replica(QUIET, follower, current=False)))
    (told,) = [p.draft for p in proposed(behind) if p.draft.title == "Let another server lead the meta group"]
    assert told.stages == ()
    assert "With a user of the system account: nats server cluster step-down" in told.guidance
    assert any("Not offered: The meta group is not whole" in line for line in told.guidance)
