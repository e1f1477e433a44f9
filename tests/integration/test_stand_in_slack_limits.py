"""What the stand-in Slack refuses, in Slack's own words: limits, tokens, triggers, response URLs, rates."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.lab.slack import StandInSlack
from bot.model.base import JsonObject
from tests.integration.slack_workspace import ADA, MODAL, OPS, Clock, buttons, refusal, section, workspace


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


LONG = "x" * 3001


@pytest.mark.parametrize(
    ("blocks", "error", "reason"),
    [
        ([section(LONG)], "invalid_blocks", "must be less than 3001 characters [json-pointer:/blocks/0/text/text]"),
        ([section("")], "invalid_blocks", "must be more than 0 characters [json-pointer:/blocks/0/text/text]"),
        ([section("x")] * 51, "invalid_blocks", "no more than 50 items allowed [json-pointer:/blocks]"),
        ([section("x", block_id="a")] * 2, "invalid_blocks", "`block_id`: a already exists"),
        ([section("x" * 2700)] * 5, "msg_blocks_too_long", ""),
        ([{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}], "invalid_blocks", "less than 151"),
        ([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}], "invalid_blocks", "must be one of: plain_text"),
        ([section("x", fields=[{"type": "mrkdwn", "text": "x" * 2001}])], "invalid_blocks", "less than 2001"),
        ([section("x", fields=[{"type": "mrkdwn", "text": "x"}] * 11)], "invalid_blocks", "no more than 10 items"),
        ([{"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 11}], "invalid_blocks", "more than 10"),
        ([buttons("x" * 76)], "invalid_blocks", "must be less than 76 characters"),
        ([buttons(*(f"b{n}" for n in range(26)))], "invalid_blocks", "no more than 25 items allowed"),
        ([section("x", block_id="b" * 256)], "invalid_blocks", "must be less than 256 characters"),
        ([{"type": "gauge"}], "invalid_blocks", "unsupported type: gauge [json-pointer:/blocks/0/type]"),
    ],
)
async def test_blocks_beyond_a_limit_are_refused_in_slacks_words(
    slack: StandInSlack, client: AsyncWebClient, blocks: list[JsonObject], error: str, reason: str
) -> None:
    got, reasons = await refusal(client.chat_postMessage(channel=OPS, text="x", blocks=blocks))
    assert got == error
    assert any(reason in found for found in reasons) or not reason
    assert slack.messages(OPS) == []


async def test_calls_slack_would_refuse_are_refused(slack: StandInSlack, client: AsyncWebClient) -> None:
    stranger = AsyncWebClient(token="xoxb-no", base_url=slack.api_url)
    said = slack.person.say(ADA, OPS, "mine")
    mine: Any = await client.chat_postMessage(channel=OPS, text="bot's")
    bad_metadata: Any = {"event_type": "x"}
    cases: list[tuple[Awaitable[Any], str]] = [
        (stranger.auth_test(), "invalid_auth"),
        (client.api_call("chat.shout"), "unknown_method"),
        (client.apps_connections_open(app_token=slack.bot_token), "not_allowed_token_type"),
        (client.chat_postMessage(channel="C404", text="x"), "channel_not_found"),
        (client.chat_postMessage(channel="C0OLD", text="x"), "is_archived"),
        (client.chat_postMessage(channel="C0OUT", text="x"), "not_in_channel"),
        (client.api_call("chat.postMessage", json={"channel": OPS}), "no_text"),
        (client.chat_postMessage(channel=OPS, text="x", metadata=bad_metadata), "invalid_metadata_format"),
        (client.chat_update(channel=OPS, ts=said.ts, text="x"), "cant_update_message"),
        (client.chat_update(channel=OPS, ts="1.1", text="x"), "message_not_found"),
        (client.chat_update(channel=OPS, ts=mine["ts"], text="x" * 4001), "msg_too_long"),
        (client.users_info(user="U404"), "user_not_found"),
        (client.views_open(trigger_id="1.x", view=MODAL), "invalid_trigger_id"),
    ]
    for call, error in cases:
        assert (await refusal(call))[0] == error
    slack.faults.missing_scopes = {"chat:write"}
    assert (await refusal(client.chat_postMessage(channel=OPS, text="x")))[0] == "missing_scope"


async def test_a_trigger_opens_one_view_within_three_seconds(
    slack: StandInSlack, client: AsyncWebClient, clock: Clock
) -> None:
    trigger = slack.workspace.new_trigger(ADA)
    await client.views_open(trigger_id=trigger, view=MODAL)
    assert (await refusal(client.views_open(trigger_id=trigger, view=MODAL)))[0] == "exchanged_trigger_id"
    late = slack.workspace.new_trigger(ADA)
    clock.ahead += 3.5
    assert (await refusal(client.views_open(trigger_id=late, view=MODAL)))[0] == "expired_trigger_id"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"title": {"type": "plain_text", "text": "x" * 25}}, "invalid_arguments"),
        ({"private_metadata": "x" * 3001}, "invalid_arguments"),
        ({"submit": None}, "invalid_arguments"),
        ({"blocks": [section("x")] * 101}, "invalid_arguments"),
        ({"blocks": [section("x" * 3000)] * 90}, "view_too_large"),
    ],
)
async def test_a_view_beyond_a_limit_is_refused(
    slack: StandInSlack, client: AsyncWebClient, change: JsonObject, error: str
) -> None:
    view = {**MODAL, **change}
    assert (await refusal(client.views_open(trigger_id=slack.workspace.new_trigger(ADA), view=view)))[0] == error


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"length": 0}, "missing_argument"),
        ({"length": 1, "alt_txt": "x" * 1001}, "alt_txt_too_large"),
        ({"length": 64 * 1024 * 1024 + 1}, "file_upload_size_restricted"),
    ],
)
async def test_a_file_beyond_a_limit_is_refused(client: AsyncWebClient, arguments: JsonObject, error: str) -> None:
    assert (await refusal(client.files_getUploadURLExternal(filename="a.png", **arguments)))[0] == error


async def test_a_file_at_the_limit_of_its_description_is_taken(slack: StandInSlack, client: AsyncWebClient) -> None:
    alt = "x" * 1000
    await client.files_upload_v2(channel=OPS, filename="a.png", content=b"no picture", alt_txt=alt)
    (message,) = slack.messages(OPS)
    assert slack.workspace.files[message.files[0]].alt_text == alt
    assert "original_w" not in slack.workspace.file_json(slack.workspace.files[message.files[0]])


async def test_a_response_url_works_five_times_and_thirty_minutes(slack: StandInSlack, clock: Clock) -> None:
    w = slack.workspace
    first, second = (w.new_response_url(ADA, OPS).id for _ in range(2))
    async with aiohttp.ClientSession() as http:

        async def use(url_id: str) -> int:
            async with http.post(f"{slack.page_url}response/{url_id}", json={"text": "hello"}) as answer:
                return answer.status

        assert [await use(first) for _ in range(6)] == [200] * 5 + [404]
        clock.ahead += 1801
        assert await use(second) == 404
    assert len(slack.ephemerals(ADA)) == 5


async def test_more_than_one_message_a_second_is_told_to_wait(slack: StandInSlack, client: AsyncWebClient) -> None:
    slack.faults.limited = True
    answers = await asyncio.gather(
        *(client.chat_postMessage(channel=OPS, text=str(n)) for n in range(8)), return_exceptions=True
    )
    limited = [a for a in answers if isinstance(a, SlackApiError)]
    assert len(slack.messages(OPS)) == 5 == 8 - len(limited)
    response: Any = limited[0].response
    assert (response.status_code, response.headers["Retry-After"]) == (429, "1")


async def test_a_file_goes_to_a_conversation_and_never_to_a_person(slack: StandInSlack, client: AsyncWebClient) -> None:
    with pytest.raises(SlackApiError) as refused:
        await client.files_upload_v2(channel=ADA, content="x", filename="x.txt")
    assert refused.value.response["error"] == "invalid_arguments"
    opened = await client.conversations_open(users=ADA)
    again = await client.conversations_open(users=ADA)
    assert opened["channel"] == again["channel"]
    answer: Any = opened.data
    channel = str(answer["channel"]["id"])
    await client.files_upload_v2(channel=channel, content="x", filename="x.txt")
    (message,) = slack.messages(channel)
    assert message.files


@pytest.mark.parametrize(("user", "error"), [("U0NATSMEDIC", "cannot_dm_bot"), ("U0NOBODY", "user_not_found")])
async def test_some_cannot_be_written_to_directly(client: AsyncWebClient, user: str, error: str) -> None:
    assert (await refusal(client.conversations_open(users=user)))[0] == error
