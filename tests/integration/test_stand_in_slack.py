"""The stand-in Slack, driven by the real Bolt app in both modes, and refused and broken as the real Slack is."""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator, Callable
from typing import Any

import aiohttp
import pytest
from playwright.async_api import async_playwright, expect
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.lab.slack import (
    BOT_USER_ID,
    FaultKind,
    ImpossibleGesture,
    StandInSlack,
    mentions,
)
from bot.model.base import JsonObject
from tests.integration.slack_workspace import (
    ACK_S,
    ADA,
    GRACE,
    MODAL,
    OPS,
    Clock,
    approval_app,
    buttons,
    in_http_mode,
    in_socket_mode,
    refusal,
    section,
    workspace,
)

CHROMIUM = shutil.which("chromium")
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def slack(clock: Clock) -> AsyncGenerator[StandInSlack]:
    async with workspace(clock) as stand_in:
        yield stand_in


@pytest.fixture
def client(slack: StandInSlack) -> AsyncWebClient:
    return AsyncWebClient(token=slack.bot_token, base_url=slack.api_url, retry_handlers=[])


@pytest.mark.parametrize("mode", [in_socket_mode, in_http_mode])
async def test_a_bolt_app_is_commanded_clicked_answered_and_edits_its_message(
    slack: StandInSlack, mode: Callable[[StandInSlack, AsyncApp], Any]
) -> None:
    async with mode(slack, approval_app(slack)):
        assert (await slack.person.slash(ADA, OPS, "/nats diagnose prod")).ok
        assert [m.text for m in slack.ephemerals(ADA)] == ["working on it"]
        await slack.workspace.wait_until(lambda: bool(slack.messages(OPS)))
        message = slack.messages(OPS)[0]

        assert (await slack.person.click(ADA, OPS, message.ts, "Approve")).ok
        await slack.workspace.wait_until(lambda: slack.open_view(ADA) is not None)
        assert (await slack.person.submit(ADA)).errors == {"reason": "Please complete this required field."}
        assert (await slack.person.submit(ADA, {"Reason": "ok"})).errors == {"reason": "Say more"}
        assert (await slack.person.submit(ADA, {"Reason": "verified by hand"})).ok
        assert slack.open_view(ADA) is None

        await slack.workspace.wait_until(lambda: slack.messages(OPS)[0].edited_at is not None)
        edited = slack.messages(OPS)[0]
        assert [block["type"] for block in edited.history[0].blocks] == ["section", "actions"]
        assert slack.render_text(OPS) == "natsmedic (edited):\n  Approved by @Ada Lovelace\n"


async def test_a_wrongly_signed_request_is_not_accepted_by_the_app(slack: StandInSlack) -> None:
    async with in_http_mode(slack, approval_app(slack)):
        slack.deliveries.signing_secret = "another"
        outcome = await slack.person.slash(ADA, OPS, "/nats status")
        assert outcome.failure == "dispatch_failed"
        assert slack.delivered()[-1].status == 401


async def test_without_a_connection_the_person_is_told_that_it_failed(slack: StandInSlack) -> None:
    outcome = await slack.person.slash(ADA, OPS, "/nats status")
    assert outcome.failure == "dispatch_failed"
    assert slack.ephemerals(ADA)[0].text == '/nats failed with the error "dispatch_failed"'


async def test_an_app_that_is_too_slow_is_a_failure_for_the_person_and_its_late_answer_is_kept(
    slack: StandInSlack,
) -> None:
    app = approval_app(slack)

    async def on_slow(ack: Any) -> None:
        await asyncio.sleep(ACK_S * 2)
        await ack()

    app.command("/slow")(on_slow)
    async with in_socket_mode(slack, app):
        assert (await slack.person.slash(ADA, OPS, "/slow")).failure == "operation_timeout"
        await slack.workspace.wait_until(lambda: slack.delivered()[-1].late_ack)


async def test_each_payload_goes_to_one_of_several_connections_and_closed_ones_come_back(slack: StandInSlack) -> None:
    app = approval_app(slack)
    async with in_socket_mode(slack, app), in_socket_mode(slack, app):
        await slack.workspace.wait_until(lambda: len(slack.deliveries.sockets) == 2)
        assert (await slack.person.slash(ADA, OPS, "/nats")).ok
        await slack.workspace.wait_until(lambda: len(slack.calls("chat.postMessage")) == 1)
        assert len(slack.delivered()) == 1

        assert await slack.close_sockets() == 2
        await slack.workspace.wait_until(lambda: len(slack.deliveries.sockets) == 2)
        assert (await slack.person.slash(ADA, OPS, "/nats")).ok


async def test_an_interaction_can_come_twice_be_replayed_and_be_forged(slack: StandInSlack) -> None:
    app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.api_url))
    seen: list[tuple[str, str]] = []

    async def on_approve(ack: Any, body: Any) -> None:
        await ack()
        seen.append((body["trigger_id"], body["user"]["team_id"]))

    app.action("approve")(on_approve)
    client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
    posted: Any = await client.chat_postMessage(channel=OPS, text="x", blocks=[buttons("Approve")])
    async with in_socket_mode(slack, app):
        twice = await slack.person.click(ADA, OPS, posted["ts"], "approve", copies=2)
        await slack.person.replay(twice.delivery_ids[0])
        await slack.person.click(ADA, OPS, posted["ts"], "approve", overrides={"user": {"team_id": "T0EVIL"}})
    assert len(twice.delivery_ids) == 2
    assert seen[0] == seen[1] == seen[2]
    assert seen[3][1] == "T0EVIL"


async def test_a_mention_reaches_the_app_and_is_repeated_until_acknowledged(slack: StandInSlack) -> None:
    slack.person.say(ADA, OPS, f"<@{BOT_USER_ID}> status")
    await slack.workspace.wait_until(lambda: len(slack.delivered()) == 4)
    assert [d.retry_attempt for d in slack.delivered()] == [0, 1, 2, 3]
    app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.api_url))
    heard: list[str] = []

    async def on_mention(event: Any) -> None:
        heard.append(event["text"])

    app.event("app_mention")(on_mention)
    async with in_socket_mode(slack, app):
        slack.person.say(ADA, OPS, f"<@{BOT_USER_ID}> help")
        await slack.workspace.wait_until(lambda: slack.delivered()[-1].failure is None)
    assert heard == [f"<@{BOT_USER_ID}> help"]


async def test_a_reply_dropped_after_the_commit_leaves_exactly_one_message(
    slack: StandInSlack, client: AsyncWebClient
) -> None:
    slack.fault(FaultKind.DROP_BEFORE_COMMIT, "chat.postMessage")
    with pytest.raises(aiohttp.ClientError):
        await client.chat_postMessage(channel=OPS, text="lost")
    assert slack.messages(OPS) == []
    slack.fault(FaultKind.DROP_AFTER_COMMIT, "chat.postMessage")
    with pytest.raises(aiohttp.ClientError):
        await client.chat_postMessage(
            channel=OPS, text="kept", metadata={"event_type": "receipt", "event_payload": {"id": "op-1"}}
        )
    found: Any = await client.conversations_history(channel=OPS, include_all_metadata=True)
    assert [(m["text"], m["metadata"]["event_payload"]["id"]) for m in found["messages"]] == [("kept", "op-1")]


async def test_faults_hit_the_next_calls_only(slack: StandInSlack, client: AsyncWebClient) -> None:
    slack.fault(FaultKind.RATE_LIMITED, "chat.postMessage", seconds=7)
    slack.fault(FaultKind.SERVER_ERROR, "chat.postMessage", status=502)
    with pytest.raises(SlackApiError) as limited:
        await client.chat_postMessage(channel=OPS, text="1")
    answer: Any = limited.value.response
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    with pytest.raises(SlackApiError):
        await client.chat_postMessage(channel=OPS, text="2")
    await client.chat_postMessage(channel=OPS, text="3")
    assert [call.outcome for call in slack.calls("chat.postMessage")] == ["rate_limited", "server_error", "ok"]


async def test_nothing_answers_during_an_outage(slack: StandInSlack, client: AsyncWebClient, clock: Clock) -> None:
    await slack.outage(60)
    with pytest.raises(aiohttp.ClientError):
        await client.chat_postMessage(channel=OPS, text="x")
    clock.ahead += 61
    await client.chat_postMessage(channel=OPS, text="back")
    assert [m.text for m in slack.messages(OPS)] == ["back"]


async def test_files_threads_permalinks_groups_and_people_read_as_in_slack(
    slack: StandInSlack, client: AsyncWebClient
) -> None:
    parent: Any = await client.chat_postMessage(channel=OPS, text="parent")
    await client.files_upload_v2(
        channel=OPS, thread_ts=parent["ts"], filename="audit.json", content=b'{"ok": 1}', title="Evidence"
    )
    replies: Any = await client.conversations_replies(channel=OPS, ts=parent["ts"])
    first, reply = replies["messages"]
    assert (first["reply_count"], reply["files"][0]["title"]) == (1, "Evidence")
    async with aiohttp.ClientSession() as http, http.get(reply["files"][0]["url_private"]) as answer:
        assert await answer.json(content_type="text/plain") == {"ok": 1}
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    link: Any = await client.chat_getPermalink(channel=OPS, message_ts=parent["ts"])
    assert link["permalink"].endswith(f"/archives/{OPS}/p{parent['ts'].replace('.', '')}")
    group: Any = await client.usergroups_users_list(usergroup="S0OWN")
    assert group["users"] == [ADA, GRACE]
    guest: Any = await client.users_info(user="U0GUEST")
    gone: Any = await client.users_info(user="U0GONE")
    assert guest["user"]["is_restricted"]
    assert gone["user"]["deleted"]


async def test_hostile_text_stays_inert_and_visible_in_the_rendered_thread(
    slack: StandInSlack, client: AsyncWebClient
) -> None:
    escaped = "&lt;!channel&gt; &lt;@U0ADA&gt; &lt;https://evil.example|login&gt; \u202egnp.exe\x1b[31m\u200b"
    plain: JsonObject = {"type": "section", "text": {"type": "plain_text", "text": "<!here> *not bold*"}}
    await client.chat_postMessage(channel=OPS, text="x", blocks=[section(escaped), plain])
    text = slack.render_text(OPS)
    assert "<!channel> <@U0ADA> <https://evil.example|login> ⟦U+202E⟧gnp.exe⟦U+001B⟧[31m⟦U+200B⟧" in text
    assert "<!here> *not bold*" in text
    assert mentions(escaped) == []
    assert mentions("<!channel> <@U0ADA|x> `<@U0GRACE>`") == ["U0ADA", "!channel"]


async def test_a_real_mention_or_disguised_link_is_seen_for_what_it_is(
    slack: StandInSlack, client: AsyncWebClient
) -> None:
    await client.chat_postMessage(channel=OPS, text="*a `b*` c* <!channel> <@U0ADA> <https://evil.example|login>")
    assert "a `b*` c @channel @Ada Lovelace login (https://evil.example)" in slack.render_text(OPS)


async def test_a_person_cannot_press_a_button_that_is_not_there_unless_their_window_is_behind(
    slack: StandInSlack, client: AsyncWebClient
) -> None:
    posted: Any = await client.chat_postMessage(channel=OPS, text="x", blocks=[buttons("Approve")])
    await client.chat_update(channel=OPS, ts=posted["ts"], text="done", blocks=[section("done")])
    with pytest.raises(ImpossibleGesture):
        await slack.person.click(ADA, OPS, posted["ts"], "Approve")
    outcome = await slack.person.click(ADA, OPS, posted["ts"], "Approve", stale=True)
    assert outcome.failure == "dispatch_failed"  # sent, though nobody is connected


async def test_it_listens_on_loopback_only_and_refuses_other_websites(slack: StandInSlack) -> None:
    with pytest.raises(ValueError, match="loopback"):
        await StandInSlack().start(host="0.0.0.0")
    async with aiohttp.ClientSession() as http:
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            async with http.post(f"{slack.page_url}lab/slash", json={}, headers=headers) as answer:
                assert answer.status == 403


async def test_scripts_act_and_break_things_over_http(slack: StandInSlack, client: AsyncWebClient) -> None:
    async with in_socket_mode(slack, approval_app(slack)), aiohttp.ClientSession(slack.page_url) as http:

        async def act(name: str, **args: Any) -> tuple[int, Any]:
            async with http.post(f"/lab/{name}", json=args) as answer:
                return answer.status, await answer.json()

        assert (await act("slash", user=ADA, channel=OPS, line="/nats x"))[1]["ok"]
        await slack.workspace.wait_until(lambda: bool(slack.messages(OPS)))
        ts = slack.messages(OPS)[0].ts
        assert (await act("click", user=ADA, channel=OPS, ts=ts, what="Deny"))[0] == 409
        assert (await act("click", user=ADA, channel=OPS, ts=ts, what="Approve"))[1]["ok"]
        await slack.workspace.wait_until(lambda: slack.open_view(ADA) is not None)
        answer = (await act("submit", user=ADA, values={"Reason": "no"}))[1]
        assert (answer["ok"], answer["errors"]) == (False, {"reason": "Say more"})
        await act("faults", kind="refused", method="chat.postMessage", error="fatal_error")
        assert (await refusal(client.chat_postMessage(channel=OPS, text="x")))[0] == "fatal_error"
        async with http.get("/lab/state", params={"user": ADA}) as state:
            assert (await state.json())["view"]["callback_id"] == "approval"
        async with http.get("/lab/text", params={"channel": OPS}) as text:
            assert "[Approve]" in await text.text()


async def test_dialogs_are_pushed_updated_closed_and_cleared_as_the_app_answers(slack: StandInSlack) -> None:
    app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.api_url))
    answers: list[JsonObject] = [
        {"response_action": "push", "view": {**MODAL, "callback_id": "second", "notify_on_close": True}},
        {"response_action": "update", "view": {**MODAL, "callback_id": "third", "notify_on_close": True}},
        {"response_action": "errors", "errors": {"no such field": "x"}},
        {"response_action": "clear"},
    ]
    closed: list[str] = []

    async def on_shortcut(ack: Any, shortcut: Any, client: Any) -> None:
        await ack()
        await client.views_open(
            trigger_id=shortcut["trigger_id"], view={**MODAL, "callback_id": shortcut["message_ts"]}
        )

    async def on_submit(ack: Any) -> None:
        await ack(**answers.pop(0))

    async def on_closed(ack: Any, view: Any) -> None:
        await ack()
        closed.append(view["callback_id"])

    app.shortcut("explain")(on_shortcut)
    app.view(re.compile(".*"))(on_submit)
    app.view_closed(re.compile(".*"))(on_closed)
    said = slack.person.say(ADA, OPS, "what is this?")

    def shown() -> str | None:
        view = slack.open_view(ADA)
        return view.body["callback_id"] if view else None

    async with in_socket_mode(slack, app):
        assert (await slack.person.message_shortcut(ADA, OPS, said.ts, "explain")).ok
        await slack.workspace.wait_until(lambda: shown() == said.ts)
        await slack.person.submit(ADA, {"Reason": "first"})
        assert shown() == "second"
        await slack.person.submit(ADA, {"Reason": "second"})
        assert shown() == "third"
        assert (await slack.person.submit(ADA, {"Reason": "third"})).failure
        await slack.person.close_view(ADA)
        assert (shown(), closed) == (said.ts, ["third"])
        await slack.person.submit(ADA, {"Reason": "last"})
        assert shown() is None


async def test_the_app_home_is_asked_for_published_and_pressed(slack: StandInSlack) -> None:
    app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.api_url))
    pressed: list[str] = []

    async def on_home(event: Any, client: Any) -> None:
        await client.views_publish(user_id=event["user"], view={"type": "home", "blocks": [buttons("Freeze")]})

    async def on_freeze(ack: Any, body: Any) -> None:
        await ack()
        pressed.append(body["view"]["type"])

    app.event("app_home_opened")(on_home)
    app.action("freeze")(on_freeze)
    async with in_socket_mode(slack, app):
        slack.person.open_home(ADA)
        await slack.workspace.wait_until(lambda: slack.home(ADA) is not None)
        slack.duplicate_gestures(1)
        outcome = await slack.person.click_in_view(ADA, "Freeze", home=True)
    assert len(outcome.delivery_ids) == 2
    assert pressed == ["home", "home"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
async def test_a_visitor_approves_in_the_page_and_hostile_text_does_nothing(
    slack: StandInSlack, client: AsyncWebClient
) -> None:
    hostile = "<img src=x onerror=alert(1)> &lt;script&gt;alert(1)&lt;/script&gt; <javascript:alert(1)|press me>"
    complaints: list[str] = []
    asked: list[str] = []
    async with in_socket_mode(slack, approval_app(slack)), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        page = await browser.new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(slack.page_url)
        await client.chat_postMessage(channel=OPS, text="x", blocks=[section(hostile), buttons("Later")])
        await expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
        await expect(page.get_by_role("link", name="press me")).to_have_count(0)

        await page.get_by_label("Message or slash command").fill("/nats diagnose")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("working on it")).to_be_visible()
        await page.get_by_role("button", name="Approve").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Reason").fill("no")
        await dialog.get_by_role("button", name="Approve").click()
        await expect(dialog.get_by_role("alert").filter(has_text="Say more")).to_be_visible()
        await dialog.get_by_label("Reason").fill("looked at it")
        await dialog.get_by_role("button", name="Approve").click()
        await expect(page.get_by_text("Approved by @Ada Lovelace")).to_be_visible()
        await expect(dialog).to_have_count(0)
        await browser.close()
    assert complaints == []
    assert all(url.startswith(slack.page_url) for url in asked)
