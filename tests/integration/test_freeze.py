"""Freezes and limits where they count: in the transaction that commits an intent, at the click, from the terminal and by a file."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from bot.bootstrap import terminal
from bot.cli import app
from bot.errors import BadInput
from bot.flow.approval import queued
from bot.flow.freeze import freeze, lift
from bot.model import TERMINAL, Execution, ExecutionState, ProposalId, ProposalState, SlackUser, StageState
from bot.settings import LimitSettings
from tests.integration.execution_house import House, house


async def test_a_frozen_cluster_gets_no_first_write(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        made = await freeze(h.store, h.clock, "ada", "black friday", cluster="prod", lasts=timedelta(hours=2))
        ended = await h.run()
        assert (ended.state, await h.state(), h.target.effects) == (
            ExecutionState.REFUSED,
            ProposalState.WITHDRAWN,
            [],
        )
        assert ended.sentence == "Prod is frozen until 2026-11-21 10:00 UTC by ada: black friday."
        assert await h.store.fence("prod") == (None, 1)
        assert made.id in {entry.subject for entry in await h.store.audit_entries()}


@pytest.mark.parametrize(
    "scope", [{"cluster": "stage"}, {"action": "consumer.delete"}, {"cluster": "stage", "action": "test.set"}]
)
async def test_a_freeze_of_something_else_stops_nothing(tmp_path: Path, scope: dict[str, str]) -> None:
    async with house(tmp_path, "a") as h:
        await freeze(h.store, h.clock, "ada", "elsewhere", cluster=scope.get("cluster"), action=scope.get("action"))
        assert (await h.run()).state is ExecutionState.DONE


async def test_a_freeze_in_the_middle_stops_before_the_next_stage_and_calls_a_person(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        sleep = h.clock.sleep

        async def frozen_meanwhile(seconds: float) -> None:
            if not await h.store.freezes():
                await freeze(h.store, h.clock, "ada", "stop")
            await sleep(seconds)

        h.clock.sleep = frozen_meanwhile  # type: ignore[method-assign]
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.NEEDS_HUMAN, ["a"])
        assert [run.state for run in ended.stages] == [StageState.VERIFIED, StageState.NOT_APPLIED]
        assert "Everything is frozen until it is lifted by ada: stop." in ended.sentence
        assert "Rolling back stage 1 stopped" in ended.sentence


async def test_a_freeze_that_is_over_stops_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        await freeze(h.store, h.clock, "ada", "an hour", lasts=timedelta(hours=1))
        h.clock.time += timedelta(hours=1)
        async with h.store.begin() as tx:
            await tx.put(h.proposal.model_copy(update={"expires_at": h.clock.now() + timedelta(minutes=10)}))
        ended = await h.run()
        assert "frozen" not in ended.sentence


async def test_two_different_people_lift_a_freeze(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        made = await freeze(h.store, h.clock, "ada", "stop")
        assert not (await lift(h.store, h.clock, made.id, "ada", "it is over")).lifted
        with pytest.raises(BadInput, match="2 different people must"):
            await lift(h.store, h.clock, made.id, "ada", "really")
        assert (await lift(h.store, h.clock, made.id, "bo", "I agree")).lifted
        with pytest.raises(BadInput, match="is over already"):
            await lift(h.store, h.clock, made.id, "cy", "me too")
        assert (await h.run()).state is ExecutionState.DONE
        kinds = [entry.kind for entry in await h.store.audit_entries()]
        assert [kind for kind in kinds if kind.startswith("freeze")] == ["freeze.set", "freeze.lift", "freeze.lifted"]


async def test_a_file_freezes_everything_while_it_exists(tmp_path: Path) -> None:
    file = tmp_path / "freeze"
    file.write_text("the data centre burns\nand more\n", encoding="utf-8")
    async with house(tmp_path, "a", limits=LimitSettings(freeze_file=file)) as h:
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.REFUSED, [])
        assert ended.sentence == f"Everything is frozen while {file} exists: the data centre burns."


async def test_a_file_that_cannot_be_looked_at_freezes_as_well(tmp_path: Path) -> None:
    async with house(tmp_path, "a", limits=LimitSettings(freeze_file=tmp_path)) as h:
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.REFUSED, [])
        assert "can't be read" in ended.sentence


async def _again(h: House, name: str) -> Execution:
    """The same proposal under another name, approved and run."""
    proposal = h.proposal.model_copy(
        update={
            "id": ProposalId(name),
            "button": name,
            "expires_at": h.clock.now() + timedelta(minutes=10),
        }
    )
    execution = queued(proposal, h.clock)
    async with h.store.begin() as tx:
        for approval in await tx.approvals(h.proposal.id):
            given = {"id": f"{approval.id}_{name}", "proposal_id": proposal.id, "proposal_digest": proposal.digest}
            await tx.put(approval.model_copy(update=given))
        await tx.put(proposal)
        await tx.put(execution)
    await h.executor.run(execution.id, h.quiet)
    found = await h.store.get(Execution, execution.id)
    assert found is not None
    return found


async def test_after_a_failure_the_cluster_rests_and_the_wait_is_told(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.broken = {"a"}
        assert (await h.run()).state is ExecutionState.ROLLED_BACK
        h.target.broken = set()
        second = await _again(h, "second")
        assert second.state is ExecutionState.REFUSED
        assert "rests for 15 minutes" in second.sentence
        h.clock.time += timedelta(minutes=15)
        assert (await _again(h, "third")).state is ExecutionState.DONE


async def test_the_same_repair_that_did_not_last_three_times_is_a_loop(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        assert (await h.run()).state is ExecutionState.DONE
        assert (await _again(h, "second")).state is ExecutionState.DONE
        assert (await _again(h, "third")).state is ExecutionState.DONE
        fourth = await _again(h, "fourth")
        assert fourth.state is ExecutionState.REFUSED
        assert "3 changes of ORDERS failed or did not last" in fourth.sentence


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "natsmedic.yaml"
    cluster = {"name": "prod", "channel": "C0PROD", "nats": {"servers": ["nats://127.0.0.1:4222"]}}
    policy = {
        "groups": {"operators": {"persons": ["ada", "bo"]}},
        "persons": {"ada": [], "bo": [], "cy": []},
        "terminal": {"adal": "ada", "bol": "bo", "cyc": "cy"},
        "approvers": {"low": ["operators"]},
    }
    file.write_text(yaml.safe_dump({"clusters": [cluster], "policy": policy}), encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def as_ada(monkeypatch: pytest.MonkeyPatch) -> None:
    sit_down(monkeypatch, "adal")


def sit_down(monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    monkeypatch.setattr(terminal, "operator", lambda: SlackUser(team_id=TERMINAL, user_id=who))


def natsmedic(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), *arguments])


def test_the_terminal_sets_lists_and_lifts(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = natsmedic(config, "freeze", "set", "2h", "black friday", "--cluster", "prod")
    assert (made.exit_code, "prod is frozen until" in made.stdout) == (0, True)
    (listed,) = json.loads(natsmedic(config, "freeze", "list", "--format", "json").stdout)
    assert (listed["cluster"], listed["action"], listed["person"]) == ("prod", None, "ada")
    assert "1 of 2" in natsmedic(config, "freeze", "lift", listed["id"], "over").stdout
    sit_down(monkeypatch, "bol")
    assert "is lifted" in natsmedic(config, "freeze", "lift", listed["id"], "over").stdout
    assert natsmedic(config, "freeze", "list").stdout == "Freezes: none.\n"


def test_the_row_of_a_freeze_names_the_os_user_and_who_is_no_approver_sets_none(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert natsmedic(config, "freeze", "set", "2h", "black friday").exit_code == 0
    sit_down(monkeypatch, "cyc")
    refused = natsmedic(config, "freeze", "set", "2h", "me too")
    assert (refused.exit_code, "none of the groups of which one stops changes" in refused.stderr) == (2, True)
    rows = json.loads(natsmedic(config, "audit", "list", "--format", "json").stdout)
    told = [(row["kind"], row["actor"], row["data"]["team"], row["data"]["user"]) for row in rows]
    assert told == [("freeze.set", "ada", "terminal", "adal"), ("command.refused", "cy", "terminal", "cyc")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("soon", "why"), "'soon' is no duration; expected 90m, 2h, 7d, or `lifted`"),
        (("0h", "why"), "'0h' is no duration"),
        (("2h", "  "), "A reason is needed"),
        (("2h", "why", "--cluster", "nowhere"), "No cluster is called 'nowhere'. Known: prod."),
        (("2h", "why", "--action", "rm"), "No action is called 'rm'. Known: "),
    ],
)
def test_a_freeze_that_means_nothing_is_refused(config: Path, arguments: tuple[str, ...], said: str) -> None:
    answer = natsmedic(config, "freeze", "set", *arguments)
    assert (answer.exit_code, said in answer.stderr) == (2, True), answer.stderr
