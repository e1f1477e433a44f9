"""Deciding in the terminal: the same desk over the same database as in Slack, as the person the settings name for the OS user."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.bootstrap import terminal
from bot.cli import app
from bot.flow.stages import Stages
from bot.flow.sweep import Sweeper
from bot.model import (
    TERMINAL,
    AuditEntry,
    Execution,
    ExecutionState,
    Preview,
    Proposal,
    ProposalState,
    RiskClass,
    SlackUser,
    Stage,
)
from bot.policy import Reason
from bot.ports import Phase
from bot.settings import PolicySettings, ThreadSettings
from tests.integration import store_records as records
from tests.integration.execution_house import NoReaders, Quiet, SetValue, Target

Told = Callable[..., Result]

POLICY = {
    "groups": {
        "operators": {"persons": ["ada", "cy"]},
        "owners": {"persons": ["bo"]},
        "keepers": {"persons": ["cy"]},
        "paid": {"usergroups": ["S1"]},
    },
    "persons": {"ada": [], "bo": ["U2"], "cy": [], "di": []},
    "break_glass": ["keepers"],
    "terminal": {"adal": "ada", "bo": "bo", "cyc": "cy", "di": "di"},
    "approvers": {"low": ["operators"], "medium": ["paid"], "destructive": ["operators", "owners"]},
}


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target) -> Path:
    @asynccontextmanager
    async def readers(_where: object):
        yield NoReaders()

    monkeypatch.setattr(terminal, "open_readers", readers)
    monkeypatch.setattr(terminal, "Stages", lambda _known: Stages({"test.set": SetValue(target)}))
    file = tmp_path / "natsmedic.yaml"
    cluster = {"name": "prod", "channel": "C0PROD", "nats": {"servers": ["nats://127.0.0.1:4222"]}}
    file.write_text(yaml.safe_dump({"clusters": [cluster], "policy": POLICY}), encoding="utf-8")
    return file


def offer(
    config: Path, risk: RiskClass = RiskClass.LOW, requested_by: str | None = None, minutes: int = 10
) -> Proposal:
    preview = Preview(summary="set", blast_radius="the test", way_back="delete it")
    stage = Stage(kind="test.set", params={"name": "a"}, risk=risk, preview=preview)
    made = records.proposal().model_copy(
        update={
            "stages": (stage,),
            "risk": risk,
            "world": {"leader": "n0"},
            "requested_by": requested_by,
            "expires_at": datetime.now(UTC) + timedelta(minutes=minutes),
        }
    )

    async def put() -> None:
        async with stored(config) as store, store.begin() as tx:
            for record in (records.incident(), records.diagnosis(), made):
                await tx.put(record)

    asyncio.run(put())
    return made


def stored(config: Path):
    return SqlStore.open(f"sqlite:///{config.parent / 'natsmedic.db'}", SystemClock())


def state(config: Path) -> tuple[Proposal, Execution | None, list[AuditEntry]]:
    async def read() -> tuple[Proposal, Execution | None, list[AuditEntry]]:
        async with stored(config) as store:
            found = await store.get(Proposal, "prop_1")
            assert found is not None
            return found, await store.execution_of("prop_1"), list(await store.audit_entries())

    return asyncio.run(read())


@pytest.fixture
def told(config: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    def run(who: str, *arguments: str) -> Result:
        monkeypatch.setattr(terminal, "operator", lambda: SlackUser(team_id=TERMINAL, user_id=who))
        return CliRunner().invoke(app, ["--config", str(config), *arguments])

    return run


def test_an_approval_in_the_terminal_queues_the_repair_and_names_the_os_user(config: Path, told: Told) -> None:
    offer(config)
    answer = told("adal", "proposals", "approve", "prop_1", "--reason", "Slack is down")
    assert answer.exit_code == 0, answer.stderr
    assert "Recorded: 1 of 1." in answer.stdout
    assert "`natsmedic serve` starts it within 5 s" in answer.stdout
    proposal, execution, rows = state(config)
    assert (proposal.state, execution and execution.state) == (ProposalState.APPROVED, ExecutionState.QUEUED)
    (row,) = [row for row in rows if row.kind == "approval.recorded"]
    assert (row.actor, row.data["user"]) == ("ada", {"team_id": "terminal", "user_id": "adal"})


def test_what_the_terminal_queued_is_started_by_the_sweep_of_the_bot_that_serves(config: Path, told: Told) -> None:
    offer(config)
    assert told("adal", "proposals", "approve", "prop_1", "--reason", "r").exit_code == 0

    async def sweep() -> list[tuple[Phase, str]]:
        quiet = Quiet()
        async with stored(config) as store:
            sweeper = Sweeper(
                store=store,
                engine=quiet,
                clock=SystemClock(),
                chat=quiet,
                threads=ThreadSettings(),
                rules=PolicySettings(),
            )
            await sweeper.sweep()
        return quiet.started

    _, execution, _ = state(config)
    assert execution is not None
    assert (Phase.EXECUTION, execution.id) in asyncio.run(sweep())


def test_two_people_and_the_typed_name_are_needed_in_the_terminal_too(config: Path, told: Told) -> None:
    offer(config, RiskClass.DESTRUCTIVE)
    approve = ("proposals", "approve", "prop_1", "--reason", "r")
    untyped = told("adal", *approve)
    assert (untyped.exit_code, "--typed-name: That is not the name" in untyped.stderr) == (2, True)
    first = told("adal", *approve, "--typed-name", "ORDERS")
    assert "1 of 2. Still missing: owners." in first.stdout
    again = told("adal", *approve, "--typed-name", "ORDERS")
    assert (again.exit_code, "one person, one decision" in again.stderr) == (2, True)
    assert state(config)[1] is None
    assert told("bo", *approve, "--typed-name", "ORDERS").exit_code == 0
    assert state(config)[1] is not None


def test_an_unknown_os_user_is_refused_everywhere_and_that_is_a_row(config: Path, told: Told) -> None:
    offer(config)
    for arguments in (
        ("proposals", "approve", "prop_1", "--reason", "r"),
        ("proposals", "deny", "prop_1", "--reason", "r"),
        ("proposals", "withdraw", "prop_1", "--reason", "r"),
        ("freeze", "set", "2h", "r"),
        ("freeze", "lift", "frz_1", "r"),
        ("unlock", "prod", "--reason", "r"),
        ("audit", "acknowledge", "--reason", "r"),
    ):
        answer = told("root", *arguments)
        assert (answer.exit_code, "names no person for the OS user root" in answer.stderr) == (2, True), answer.stderr
    proposal, execution, rows = state(config)
    assert (proposal.state, execution) == (ProposalState.PENDING, None)
    assert [(row.kind, row.actor, row.data["user"]) for row in rows] == [
        *[("click.refused", "terminal/root", "root")] * 3,
        *[("command.refused", "terminal/root", "root")] * 4,
    ]


def test_a_person_whose_group_only_slack_knows_is_refused_and_told_so(config: Path, told: Told) -> None:
    offer(config, RiskClass.MEDIUM)
    answer = told("bo", "proposals", "approve", "prop_1", "--reason", "r")
    assert answer.exit_code == 2
    assert (
        "none of the groups that decide on medium changes: paid. Slack user groups could not be read" in answer.stderr
    )


def test_a_denial_in_the_terminal_ends_it(config: Path, told: Told) -> None:
    offer(config)
    assert "Denied." in told("cyc", "proposals", "deny", "prop_1", "--reason", "not now").stdout
    proposal, _, _ = state(config)
    assert (proposal.state, proposal.state_reason) == (ProposalState.DENIED, "Denied by cy: not now")


def test_who_asked_and_any_approver_withdraws_and_nobody_else(config: Path, told: Told) -> None:
    offer(config, requested_by="di")
    assert told("bo", "proposals", "withdraw", "prop_1", "--reason", "r").exit_code == 2
    assert "Say why" in told("di", "proposals", "withdraw", "prop_1", "--reason", " ").stderr
    before = state(config)[0]
    answer = told("di", "proposals", "withdraw", "prop_1", "--reason", "it was the wrong stream")
    assert (answer.exit_code, "Withdrawn." in answer.stdout) == (0, True)
    proposal, _, rows = state(config)
    assert before.state is ProposalState.PENDING
    assert (proposal.state, proposal.state_reason) == (
        ProposalState.WITHDRAWN,
        "Withdrawn by di: it was the wrong stream",
    )
    assert [(row.kind, row.actor, row.data.get("code")) for row in rows] == [
        ("click.refused", "bo", Reason.NOT_AN_APPROVER),
        ("click.refused", "di", Reason.NO_REASON),
        ("proposal.withdrawn", "di", None),
    ]
    assert rows[-1].data == {"team": "terminal", "user": "di"}
    assert told("adal", "proposals", "withdraw", "prop_1", "--reason", "r").exit_code == 2


def test_a_withdrawal_lets_the_board_be_drawn_again(config: Path, told: Told) -> None:
    offer(config)

    async def revision() -> int:
        async with stored(config) as store:
            (found,) = await store.incidents()
            return found.revision

    before = asyncio.run(revision())
    assert told("adal", "proposals", "withdraw", "prop_1", "--reason", "r").exit_code == 0
    assert asyncio.run(revision()) > before


def test_a_world_that_has_moved_is_refused_and_says_that_nobody_looks_again(
    config: Path, told: Told, target: Target
) -> None:
    offer(config)
    target.world["leader"] = "n1"
    answer = told("adal", "proposals", "approve", "prop_1", "--reason", "r")
    assert answer.exit_code == 2
    assert "The world has moved" in answer.stderr
    assert "No new diagnosis is started from here" in answer.stderr
    assert state(config)[0].state is ProposalState.SUPERSEDED


def test_an_unknown_proposal_is_no_proposal(config: Path, told: Told) -> None:
    offer(config)
    for verb in ("approve", "deny", "withdraw"):
        assert "There is no proposal prop_9." in told("adal", "proposals", verb, "prop_9", "--reason", "r").stderr


def test_the_explanation_gives_the_decision_and_every_reason(config: Path, told: Told) -> None:
    offer(config, RiskClass.DESTRUCTIVE, requested_by="ada")
    shown = told("root", "policy", "explain", "--person", "ada", "--proposal", "prop_1", "--format", "json")
    found = json.loads(shown.stdout)
    assert (found["allowed"], found["decision"]["reason"], found["person"]["key"]) == (False, "own_request", "ada")
    answers = {one["asks"]: one["decision"]["reason"] for one in found["reasons"]}
    assert answers["Nobody approves their own request"] == "own_request"
    assert list(answers.values()).count("allowed") == len(answers) - 1
    table = told("root", "policy", "explain", "--person", "bo", "--proposal", "prop_1")
    assert "decision: allowed" in table.stdout
    assert "approvals: 0 of 2; missing: operators, owners" in table.stdout
    assert "The approval covers a group that is missing" in table.stdout
    denied = told("root", "policy", "explain", "--person", "ada", "--proposal", "prop_1", "--choice", "deny")
    assert "decision: allowed" in denied.stdout
    assert state(config)[2] == [], "looking is no decision"


def test_an_explanation_of_nobody_or_nothing_is_an_error(config: Path, told: Told) -> None:
    offer(config)
    nobody = told("adal", "policy", "explain", "--person", "adal", "--proposal", "prop_1")
    assert (nobody.exit_code, "expected a key of policy.persons (ada, bo, cy, di)" in nobody.stderr) == (2, True)
    nothing = told("adal", "policy", "explain", "--person", "ada", "--proposal", "prop_9")
    assert (nothing.exit_code, "There is no proposal prop_9." in nothing.stderr) == (2, True)


def test_the_policy_is_shown_as_it_holds_on_a_cluster(config: Path, told: Told) -> None:
    tree = yaml.safe_load(config.read_text(encoding="utf-8"))
    tree["policy"]["clusters"] = {"prod": {"approvers": {"low": ["owners"]}, "expiry_seconds": {"low": 60}}}
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    shown = told("adal", "policy", "show").stdout
    assert "different on: prod" in shown
    assert "low          operators" in shown
    on_cluster = told("adal", "policy", "show", "--cluster", "prod").stdout
    assert "low          owners" in on_cluster
    assert "60 s" in on_cluster
    found = json.loads(told("adal", "policy", "show", "--cluster", "prod", "--format", "json").stdout)
    assert (found["approvers"]["low"], "clusters" in found) == (["owners"], False)
    assert "No cluster is called 'nowhere'" in told("adal", "policy", "show", "--cluster", "nowhere").stderr


def test_the_policy_says_who_is_called_and_who_has_a_second_factor_but_no_secret(config: Path, told: Told) -> None:
    tree = yaml.safe_load(config.read_text(encoding="utf-8"))
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    tree["policy"] |= {"escalation": {"low": ["owners", "keepers"]}, "second_factor": {"secrets": {"bo": secret}}}
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    shown = told("adal", "policy", "show").stdout
    assert "called for low: owners, then keepers; the first after 75% of the time" in shown
    assert "a code is asked for: destructive" in shown
    assert "have a second factor: bo" in shown
    whole = told("adal", "policy", "show", "--format", "json").stdout
    assert json.loads(whole)["escalation"] == {"low": ["owners", "keepers"]}
    assert secret not in shown + whole


ALONE = ("proposals", "approve", "prop_1", "--reason", "nobody answers", "--typed-name", "ORDERS", "--break-glass")


@pytest.mark.parametrize("first", [False, True], ids=["at once", "after an approval that was not enough"])
def test_one_person_who_may_breaks_the_glass_and_that_is_a_row_of_its_own(
    config: Path, told: Told, *, first: bool
) -> None:
    offer(config, RiskClass.DESTRUCTIVE)
    if first:
        assert "1 of 2" in told("cyc", *ALONE[:-1]).stdout
    answer = told("cyc", *ALONE)
    assert answer.exit_code == 0, answer.stderr
    assert "You broke the glass in place of owners; it is announced. It starts now." in answer.stdout
    proposal, execution, rows = state(config)
    assert (proposal.state, execution is not None) == (ProposalState.APPROVED, True)
    (row,) = [row for row in rows if row.kind == "glass.broken"]
    assert (row.actor, row.data["missing"]) == ("cy", ["owners"])
    assert row.sentence == "cy breaks the glass and approves alone, in place of owners: nobody answers"
    assert [row.kind for row in rows][-2:] == ["approval.recorded", "glass.broken"]
    assert told("cyc", *ALONE).exit_code == 2


def test_who_is_not_named_for_it_breaks_no_glass(config: Path, told: Told) -> None:
    offer(config, RiskClass.DESTRUCTIVE)
    answer = told("adal", *ALONE)
    assert (answer.exit_code, "only people of keepers may" in answer.stderr) == (2, True)
    assert state(config)[1] is None
    assert state(config)[2][-1].data["code"] == Reason.NO_BREAK_GLASS


def test_where_one_approval_is_enough_there_is_no_glass_to_break(config: Path, told: Told) -> None:
    offer(config)
    answer = told("cyc", *ALONE)
    assert (answer.exit_code, "there is no glass to break" in answer.stderr) == (2, True)


def frozen(told: Told) -> None:
    assert told("bo", "freeze", "set", "2h", "release").exit_code == 0


def denied(told: Told) -> None:
    assert told("bo", "proposals", "deny", "prop_1", "--reason", "no").exit_code == 0


@pytest.mark.parametrize(
    ("before", "world", "late", "said"),
    [
        (frozen, {}, False, "frozen"),
        (denied, {}, False, "This proposal is denied"),
        (None, {"leader": "n1"}, False, "The world has moved"),
        (None, {}, True, "expired"),
    ],
    ids=["freeze", "deny", "drift", "expiry"],
)
def test_breaking_the_glass_waives_nothing_but_the_second_person(
    config: Path,
    told: Told,
    target: Target,
    before: Callable[[Told], None] | None,
    world: dict[str, str],
    late: bool,
    said: str,
) -> None:
    offer(config, RiskClass.DESTRUCTIVE, minutes=-1 if late else 10)
    target.world.update(world)
    if before is not None:
        before(told)
    answer = told("cyc", *ALONE)
    assert (answer.exit_code, said in answer.stderr) == (2, True), answer.stderr
    _, execution, rows = state(config)
    assert execution is None
    assert "glass.broken" not in {row.kind for row in rows}


def test_nobody_breaks_the_glass_for_the_own_request_or_untyped(config: Path, told: Told) -> None:
    offer(config, RiskClass.DESTRUCTIVE, requested_by="cy")
    assert "You asked for this change" in told("cyc", *ALONE).stderr
    assert "--typed-name" in told("cyc", *ALONE[:5], "--break-glass").stderr
    assert state(config)[1] is None


def test_the_explanation_says_what_breaking_the_glass_would_do(config: Path, told: Told) -> None:
    offer(config, RiskClass.DESTRUCTIVE)
    asked = ("policy", "explain", "--proposal", "prop_1", "--break-glass", "--format", "json", "--person")
    assert json.loads(told("root", *asked, "cy").stdout)["allowed"] is True
    assert json.loads(told("root", *asked, "ada").stdout)["decision"]["reason"] == Reason.NO_BREAK_GLASS
    assert "may break the glass: keepers" in told("root", "policy", "show").stdout
