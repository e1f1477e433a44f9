"""What the stuck-consumer runbook offers for a real consumer is what the actions take: a pause that it finds is ended by its own proposal."""

from pathlib import Path

from bot.model import Endpoint, ExecutionState, Focus, JsonObject
from runbooks.stuck_consumer import RUNBOOK
from tests.integration.leader_scene import FETCHED, PUBLISHED, Scene, said, scene
from tests.integration.test_consumer_changes import got, pause, worker

FOCUS = Focus(account="APP", stream="ORDERS", consumer="worker")


async def offered(lab: Scene) -> list[list[tuple[str, JsonObject]]]:
    """The stages of each proposal, after one reading."""
    snapshot = await lab.readers.gather(RUNBOOK.needs | {Endpoint.JSZ})
    values = RUNBOOK.values()
    findings = [
        f for check in RUNBOOK.checks if check.applies(snapshot) for f in check.examine(snapshot, values, FOCUS)
    ]
    return [list(one.draft.stages) for one in RUNBOOK.propose(snapshot, findings, values, FOCUS)]


async def test_a_pause_that_is_found_is_ended_by_its_own_proposal(tmp_path: Path) -> None:
    async with scene(tmp_path, "2.15.1") as lab:
        paused = await lab.desk.carry_out(pause(await worker(lab)))
        assert paused.state is ExecutionState.DONE, said(paused)
        ask, resume = await offered(lab)
        assert (ask, [kind for kind, _ in resume]) == ([], ["consumer.resume"])
        resumed = await lab.desk.carry_out(resume)
        assert resumed.state is ExecutionState.DONE, said(resumed)
        assert await got(lab) == set(range(FETCHED + 1, PUBLISHED + 1))
