"""When a stream is taken down to its leader's copy and up again, and when it is not."""

import pytest

from bot.actions.stream_scaling import compose_raft_reset
from bot.errors import Refused
from bot.model import Snapshot
from tests.unit.actions.scaling_scene import ORDERS, SINGLE, TIMES, config, details, grown
from tests.unit.snapshots import Raw

SAFE = "kinds_2.15.1"


def against(snapshot: Snapshot, key: object = ORDERS) -> str:
    with pytest.raises(Refused) as refused:
        compose_raft_reset(snapshot, ORDERS if key is ORDERS else SINGLE, TIMES)
    return str(refused.value)


def test_it_goes_down_to_one_and_up_again_in_the_stages_of_the_version() -> None:
    made = compose_raft_reset(grown(name=SAFE), ORDERS, TIMES)
    assert [(p["start"], p["to"], p["target"]) for _, p in made.stages] == [(3, 1, 3), (1, 3, 3)]
    assert {kind for kind, _ in made.stages} == {"stream.scale"}
    assert made.cautions[0].startswith("Back up first (nats stream backup): for a while the only copy is that of n")


def test_a_version_that_may_keep_another_member_than_the_leader_is_refused() -> None:
    assert "2.12.8 may keep a member that is not the leader" in against(grown(name="kinds_2.12.8"))


@pytest.mark.parametrize("retention", ["interest", "workqueue"])
def test_only_streams_with_limits_are_reset(retention: str) -> None:
    assert f"has retention {retention}" in against(grown(config("ORDERS", retention=retention), name=SAFE))


def test_fewer_than_three_replicas_are_not_reset() -> None:
    assert "has 1 replicas, and fewer than 3" in against(grown(name=SAFE), SINGLE)


def test_a_member_that_is_away_is_waited_for_first() -> None:
    def away(raw: Raw) -> None:
        for one in details(raw, "ORDERS"):
            for peer in one["cluster"].get("replicas") or []:
                peer |= {"current": False, "offline": True, "active": 60_000_000_000}

    assert "ORDERS" in against(grown(away, name=SAFE))
