"""Clicks, forms, commands and look-ups over the stand-in Slack, decided by the real approval desk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route

from bot.adapters.slack import desk
from bot.flow.approval import Answer, Click, Form
from bot.flow.checkpoints import Kept
from bot.lab.slack import FaultKind
from bot.model import JsonObject, Person, Proposal, ProposalState, SlackUser
from bot.ports import Phase
from bot.settings import Transport
from tests.integration.slack_adapter_support import (
    ADA,
    APPROVAL,
    BOT,
    GONE,
    GRACE,
    GUEST,
    OPS,
    RULES,
    STRANGER,
    House,
    another,
    house,
    offer,
    press,
    proposal,
    state,
    told,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def at_work(tmp_path: Path) -> AsyncGenerator[House]:
    async with house(tmp_path) as running:
        yield running


# --- deciding --------------------------------------------------------------------------------------------------------


async def test_two_people_of_two_groups_approve_and_the_buttons_go(at_work: House) -> None:
    await offer(at_work)
    for user in (ADA, GRACE):
        await press(at_work, user)
        await at_work.until(lambda user=user: at_work.slack.open_view(user) is not None)
        assert (await at_work.slack.person.submit(user, APPROVAL)).ok
    assert "It starts now" in await told(at_work, GRACE)
    assert await state(at_work) is ProposalState.APPROVED
    assert [phase for phase, _ in at_work.engine.started] == [Phase.EXECUTION]
    await at_work.drawn()
    assert "actions" not in {block["type"] for block in at_work.message("proposal").blocks}
    assert "2 of 2" not in at_work.message("proposal").text
    assert str(at_work.message("proposal").blocks).count("'user_id'") == 2


async def test_a_deny_asks_for_a_reason_and_ends_it(at_work: House) -> None:
    await offer(at_work)
    await press(at_work, GRACE, "deny")
    await at_work.until(lambda: at_work.slack.open_view(GRACE) is not None)
    assert (await at_work.slack.person.submit(GRACE, {"reason": "not tonight"})).ok
    await told(at_work, GRACE)
    assert await state(at_work) is ProposalState.DENIED
    await at_work.until(lambda: "not tonight" in str(at_work.message("proposal").blocks))


async def test_a_wrong_name_is_said_at_its_field_and_nothing_is_recorded(at_work: House) -> None:
    await offer(at_work)
    await press(at_work, ADA)
    await at_work.until(lambda: at_work.slack.open_view(ADA) is not None)
    outcome = await at_work.slack.person.submit(ADA, {"reason": "stuck", "typed_name": "wroker"})
    assert set(outcome.errors) == {"typed_name"}
    assert await at_work.store.approvals("prop_1") == []


async def test_the_form_carries_the_opaque_id_and_the_choice_only(at_work: House) -> None:
    await offer(at_work)
    await press(at_work, ADA)
    await at_work.until(lambda: at_work.slack.open_view(ADA) is not None)
    view = at_work.slack.open_view(ADA)
    assert view is not None
    assert view.body["private_metadata"] == '{"button": "btn_opaque", "choice": "approve"}'


@pytest.mark.parametrize(
    ("user", "because"),
    [
        (STRANGER, "members of this workspace"),
        (GUEST, "Guests"),
        (BOT, "Only people"),
        (GONE, "deactivated"),
        ("U0NOONE", "none of the groups"),
        ("U0NATSMEDIC", "Only people"),
    ],
)
async def test_strangers_are_refused_before_any_form_and_it_is_audited(at_work: House, user: str, because: str) -> None:
    await offer(at_work)
    await press(at_work, user)
    assert because in await at_work.refusal()
    assert at_work.slack.open_view(user) is None
    assert await at_work.store.approvals("prop_1") == []


async def test_a_payload_team_of_another_workspace_beats_a_known_user_id(at_work: House) -> None:
    await offer(at_work)
    await press(at_work, ADA, overrides={"user": {"team_id": "T0FAR"}})
    assert "members of this workspace" in await told(at_work, ADA)


async def test_slack_that_cannot_answer_authorises_nobody(at_work: House) -> None:
    await offer(at_work)
    at_work.slack.fault(FaultKind.REFUSED, "usergroups.users.list", error="plan_upgrade_required", count=9)
    await press(at_work, ADA)
    assert "plan_upgrade_required" in await told(at_work, ADA)
    assert at_work.slack.open_view(ADA) is None


@pytest.mark.parametrize(
    "overrides",
    [
        {"container": {"message_ts": "1700000000.000001"}},
        {"container": {"channel_id": "C0ELSE"}},
        {"actions": [{"action_id": "approve", "block_id": "decide", "type": "button", "value": "btn_unknown"}]},
        {"actions": [{"action_id": "approve", "block_id": "decide", "type": "button", "value": "prop_1"}]},
    ],
)
async def test_a_button_that_is_not_on_its_own_message_decides_nothing(at_work: House, overrides: JsonObject) -> None:
    await offer(at_work)
    await press(at_work, ADA, overrides=overrides)
    assert await at_work.refusal()
    assert at_work.slack.open_view(ADA) is None
    assert await at_work.store.approvals("prop_1") == []


async def test_the_verdict_message_does_not_carry_a_proposals_button(at_work: House) -> None:
    await offer(at_work)
    await press(at_work, ADA, overrides={"container": {"message_ts": at_work.message("verdict").ts}})
    assert "does not belong" in await told(at_work, ADA)


async def test_a_form_delivered_five_times_is_one_approval(at_work: House) -> None:
    await offer(at_work)
    await press(at_work, ADA)
    await at_work.until(lambda: at_work.slack.open_view(ADA) is not None)
    await at_work.slack.person.submit(ADA, APPROVAL, copies=5)
    await told(at_work, ADA, 5)
    assert len(await at_work.store.approvals("prop_1")) == 1


async def test_details_show_the_whole_plan_and_its_digest(at_work: House) -> None:
    await offer(at_work)
    await press(at_work, ADA, "details")
    await at_work.until(lambda: at_work.slack.open_view(ADA) is not None)
    stored = await at_work.store.get(Proposal, "prop_1")
    view = at_work.slack.open_view(ADA)
    assert stored is not None
    assert view is not None
    assert stored.digest in str(view.body)
    assert "consumer.leader" in str(view.body)


class SlowDesk:
    """Decides as told, late."""

    def __init__(self, seconds: float, answer: Answer) -> None:
        self.seconds = seconds
        self.answer = answer
        self.decided = 0

    async def open(self, click: Click) -> Form | Answer:
        await asyncio.sleep(self.seconds)
        return Form(proposal=proposal(), typed_name=None)

    async def decide(self, click: Click, reason: str, typed_name: str, code: str = "") -> Answer:
        await asyncio.sleep(self.seconds)
        self.decided += 1
        return self.answer

    async def refuse(self, click: Click, sentence: str, code: str) -> None:
        raise AssertionError(sentence)

    async def why_not(self, proposal: Proposal, person: Person) -> str:
        raise AssertionError(proposal)


async def test_a_slow_desk_neither_loses_the_form_nor_the_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "OPEN_PATIENCE", 0.05)
    monkeypatch.setattr(desk, "DECIDE_PATIENCE", 0.05)
    async with house(tmp_path, start=False) as running:
        slow = SlowDesk(0.4, Answer(accepted=True, sentence="Recorded: 1 of 2."))
        await running.adapter.start(slow, running.office())
        await running.slack.connected()
        await offer(running)
        await press(running, ADA)
        await running.until(lambda: "One moment" in str(running.slack.open_view(ADA)))
        await running.until(lambda: "Reason" in str(running.slack.open_view(ADA)))
        assert (await running.slack.person.submit(ADA, {"reason": "stuck"})).ok
        assert "Recording" in str(running.slack.open_view(ADA))
        assert await told(running, ADA) == "Recorded: 1 of 2."
        assert "Recorded: 1 of 2." in str(running.slack.open_view(ADA))
        assert slow.decided == 1


async def test_a_desk_that_breaks_claims_nothing(tmp_path: Path) -> None:
    class BrokenDesk(SlowDesk):
        async def decide(self, click: Click, reason: str, typed_name: str, code: str = "") -> Answer:
            raise RuntimeError("secret detail")

    async with house(tmp_path, start=False) as running:
        await running.adapter.start(BrokenDesk(0.0, Answer(accepted=False, sentence="")), running.office())
        await running.slack.connected()
        await offer(running)
        await press(running, ADA)
        await running.until(lambda: running.slack.open_view(ADA) is not None)
        await running.slack.person.submit(ADA, {"reason": "stuck"})
        sentence = await told(running, ADA)
        assert "shows what is recorded. Error id: err_" in sentence
        assert "secret detail" not in sentence


async def test_clicks_arrive_again_after_slack_has_closed_the_socket(at_work: House) -> None:
    await offer(at_work)
    assert await at_work.slack.close_sockets() == 1
    await at_work.slack.connected()
    await press(at_work, ADA)
    await at_work.until(lambda: at_work.slack.open_view(ADA) is not None)
    assert at_work.adapter.health().ok


async def test_a_deaf_socket_is_said_in_health(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        running.slack.fault(FaultKind.REFUSED, "apps.connections.open", error="invalid_auth", count=99)
        await running.adapter.start(running.desk(), running.office())
        assert "clicks and commands do not arrive" in await running.unwell()


# --- commands and people ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("help", "proposals"),
        ("", "whoami"),
        ("status", "Open incidents: 1. Active proposals: 1."),
        ("incidents", "Waiting for approval"),
        ("proposals", "0 of 2 approvals"),
        ("whoami", "On prod you may approve: low, medium, destructive"),
        ("diagnos", "There is no /nats diagnos. Did you mean diagnose?"),
    ],
)
async def test_slash_commands_read_the_store(at_work: House, line: str, expected: str) -> None:
    await offer(at_work)
    outcome = await at_work.slack.person.slash(ADA, OPS, f"/nats {line}")
    assert outcome.failure is None
    assert expected in str(at_work.slack.ephemerals(ADA)[-1].blocks)


async def test_status_says_what_is_kept_of_the_audit_log_outside_and_what_is_not(at_work: House) -> None:
    await offer(at_work)
    at_work.checkpoints = (
        Kept(place="file heads.jsonl", row=7, age_seconds=12, problem=None),
        Kept(place="channel <!here>", row=None, age_seconds=None, problem="It does not answer."),
    )
    await at_work.slack.person.slash(ADA, OPS, "/nats status")
    told = str(at_work.slack.ephemerals(ADA)[-1].blocks)
    assert "file heads.jsonl has row 7 of the audit log, kept 12 s ago" in told
    assert "has nothing of the audit log; It does not answer." in told
    assert "<!here>" not in at_work.slack.ephemerals(ADA)[-1].text


async def test_slash_commands_of_strangers_are_refused(at_work: House) -> None:
    await offer(at_work)
    await at_work.slack.person.slash(STRANGER, OPS, "/nats incidents")
    assert "Only members of this workspace" in at_work.slack.ephemerals(STRANGER)[-1].text


async def test_a_look_up_is_cached_briefly_and_a_fresh_one_never(at_work: House) -> None:
    directory = at_work.adapter.directory
    grace = SlackUser(team_id="T0LAB", user_id=GRACE)
    assert (await directory.look_up(grace)).groups == {"owners"}
    group = at_work.slack.workspace.usergroups["S0OWN"]
    at_work.slack.workspace.usergroups["S0OWN"] = type(group)(id="S0OWN", handle="owners", users=())
    assert (await directory.look_up(grace)).groups == {"owners"}
    assert (await directory.look_up(grace, fresh=True)).groups == frozenset()


async def test_names_like_an_approvers_make_nobody_an_approver(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        users = running.slack.workspace.users
        users["U0FAKE"] = replace(users[ADA], id="U0FAKE")
        directory = running.adapter.directory
        ada, fake = [await directory.look_up(SlackUser(team_id="T0LAB", user_id=user)) for user in (ADA, "U0FAKE")]
        assert ada.groups == {"operators"}
        assert (fake.problem, fake.groups, fake.key) == (None, frozenset(), "T0LAB/U0FAKE")


@pytest.mark.parametrize("method", ["users.info", "usergroups.users.list", "auth.test"])
@pytest.mark.parametrize("kind", [FaultKind.REFUSED, FaultKind.SERVER_ERROR, FaultKind.DROP_AFTER_COMMIT])
async def test_any_failing_look_up_gives_no_groups(tmp_path: Path, method: str, kind: FaultKind) -> None:
    async with house(tmp_path, start=False) as running:
        running.slack.fault(kind, method, count=5)
        person = await running.adapter.directory.look_up(SlackUser(team_id="T0LAB", user_id=ADA))
        assert person.problem is not None
        assert person.groups == frozenset()
        assert not person.human


async def test_one_human_with_two_accounts_is_one_person(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        rules = RULES.model_copy(update={"persons": {"ada": (ADA, GRACE)}})
        adapter = another(running, rules)
        people = [await adapter.directory.look_up(SlackUser(team_id="T0LAB", user_id=user)) for user in (ADA, GRACE)]
        assert [one.key for one in people] == ["ada", "ada"]


async def test_slackbot_is_nobody(tmp_path: Path) -> None:
    async with house(tmp_path, start=False) as running:
        found = running.slack.workspace.users[ADA]
        running.slack.workspace.users["USLACKBOT"] = type(found)(id="USLACKBOT", name="slackbot")
        person = await running.adapter.directory.look_up(SlackUser(team_id="T0LAB", user_id="USLACKBOT"))
        assert not person.human


# --- HTTP mode -------------------------------------------------------------------------------------------------------


async def test_http_mode_serves_the_same_clicks(tmp_path: Path) -> None:
    async with house(tmp_path, transport=Transport.HTTP) as running:
        app = Starlette(routes=[Route("/slack/events", running.adapter.http_handler, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
        serving = asyncio.create_task(server.serve())
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            running.slack.use_http_mode(f"http://127.0.0.1:{port}/slack/events")
            await offer(running)
            await press(running, ADA)
            await running.until(lambda: running.slack.open_view(ADA) is not None)
            bad = await running.slack.person.submit(ADA, {"reason": "x", "typed_name": "wrong"})
            assert set(bad.errors) == {"typed_name"}
            assert (await running.slack.person.submit(ADA, APPROVAL)).ok
            assert "1 of 2" in await told(running, ADA)
            await running.slack.person.slash(ADA, OPS, "/nats help")
            assert "whoami" in str(running.slack.ephemerals(ADA)[-1].blocks)
            running.slack.deliveries.signing_secret = "wrong"
            assert (await running.slack.person.click(GRACE, OPS, running.message("proposal").ts, "approve")).failure
            assert running.slack.delivered()[-1].status == 401
        finally:
            server.should_exit = True
            await serving


async def test_http_mode_answers_nothing_but_401_to_what_slack_did_not_sign(tmp_path: Path) -> None:
    async with house(tmp_path, transport=Transport.HTTP) as running:
        app = Starlette(routes=[Route("/slack/events", running.adapter.http_handler, methods=["POST"])])
        header = st.text(
            alphabet=st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=["Cc"]), max_size=40
        )

        async def status(stamp: str, mac: str, body: bytes) -> int:
            headers = [
                (b"X-Slack-Request-Timestamp", stamp.encode("latin-1")),
                (b"X-Slack-Signature", mac.encode("latin-1")),
            ]
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bot") as client:
                return (await client.post("/slack/events", headers=headers, content=body)).status_code

        @settings(max_examples=150, deadline=None)
        @given(
            stamp=header | st.just(str(int(time.time()))),
            mac=header | st.just("v0=" + "0" * 64),
            body=st.binary(max_size=80),
        )
        def fuzz(stamp: str, mac: str, body: bytes) -> None:
            assert asyncio.run(status(stamp, mac, body)) == HTTPStatus.UNAUTHORIZED

        await asyncio.to_thread(fuzz)
