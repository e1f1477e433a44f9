"""What the tests of the stand-in Slack share: a workspace, a clock that can be moved, a small bot, and some blocks."""

import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response, to_bolt_request
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.lab.slack import Channel, StandInSlack, User, UserGroup
from bot.model.base import JsonObject

OPS = "C0OPS"
ADA = "U0ADA"
GRACE = "U0GRACE"
ACK_S = 0.4  # instead of Slack's three seconds, to keep the tests short


class Clock:
    """The time, with a hand that can be moved on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def workspace(clock: Clock) -> StandInSlack:
    """A stand-in, not yet started, without rate limits."""
    return StandInSlack(
        users=[
            User(id=ADA, name="ada", real_name="Ada Lovelace"),
            User(id=GRACE, name="grace", real_name="Grace Hopper"),
            User(id="U0GUEST", name="guest", is_restricted=True),
            User(id="U0GONE", name="gone", deleted=True),
        ],
        channels=[
            Channel(id=OPS, name="nats-ops"),
            Channel(id="C0OLD", name="old", is_archived=True),
            Channel(id="C0OUT", name="outside", bot_is_member=False),
        ],
        usergroups=[UserGroup(id="S0OWN", handle="nats-owners", users=(ADA, GRACE))],
        rate_limits=False,
        ack_timeout_s=ACK_S,
        event_retry_delays_s=(0.0, 0.01, 0.01),
        clock=clock,
    )


def section(text: str, **more: Any) -> JsonObject:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}, **more}


def buttons(*labels: str) -> JsonObject:
    return {
        "type": "actions",
        "block_id": "decide",
        "elements": [
            {
                "type": "button",
                "action_id": label.lower(),
                "text": {"type": "plain_text", "text": label},
                "value": "prop-1",
            }
            for label in labels
        ],
    }


MODAL: JsonObject = {
    "type": "modal",
    "callback_id": "approval",
    "title": {"type": "plain_text", "text": "Approve"},
    "submit": {"type": "plain_text", "text": "Approve"},
    "private_metadata": "prop-1",
    "blocks": [
        {
            "type": "input",
            "block_id": "reason",
            "label": {"type": "plain_text", "text": "Reason"},
            "element": {"type": "plain_text_input", "action_id": "text"},
        }
    ],
}


def refused(slack_error: SlackApiError) -> tuple[str, list[str]]:
    answer: Any = slack_error.response
    return answer["error"], answer.get("response_metadata", {}).get("messages", [])


async def refusal(call: Awaitable[Any]) -> tuple[str, list[str]]:
    with pytest.raises(SlackApiError) as caught:
        await call
    return refused(caught.value)


def approval_app(slack: StandInSlack) -> AsyncApp:
    """A small bot of the kind natsmedic is: a command posts a proposal, Approve asks for a reason, then it is edited."""
    app = AsyncApp(
        client=AsyncWebClient(token=slack.bot_token, base_url=slack.api_url), signing_secret=slack.signing_secret
    )

    async def on_command(ack: Any, command: Any, client: Any) -> None:
        await ack("working on it")
        await client.chat_postMessage(
            channel=command["channel_id"], text="Proposal", blocks=[section("*Repair* orders"), buttons("Approve")]
        )

    async def on_approve(ack: Any, body: Any, client: Any) -> None:
        await ack()
        await client.views_open(
            trigger_id=body["trigger_id"], view={**MODAL, "private_metadata": body["container"]["message_ts"]}
        )

    async def on_submit(ack: Any, view: Any, body: Any, client: Any) -> None:
        reason = view["state"]["values"]["reason"]["text"]["value"]
        if len(reason) < 5:
            await ack(response_action="errors", errors={"reason": "Say more"})
            return
        await ack()
        await client.chat_update(
            channel=OPS,
            ts=view["private_metadata"],
            text="Done",
            blocks=[section(f"Approved by <@{body['user']['id']}>")],
        )

    app.command("/nats")(on_command)
    app.action("approve")(on_approve)
    app.view("approval")(on_submit)
    return app


@asynccontextmanager
async def in_socket_mode(slack: StandInSlack, app: AsyncApp) -> AsyncGenerator[None]:
    handler = AsyncSocketModeHandler(app, slack.app_token, ping_interval=0.1)
    await handler.connect_async()
    await slack.connected()
    try:
        yield
    finally:
        await handler.close_async()


@asynccontextmanager
async def in_http_mode(slack: StandInSlack, app: AsyncApp) -> AsyncGenerator[None]:
    async def receive(request: web.Request) -> web.StreamResponse:
        return await to_aiohttp_response(await app.async_dispatch(await to_bolt_request(request)))

    server = web.Application()
    server.router.add_post("/slack/events", receive)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events"
    assert await slack.deliveries.verify_request_url(url)
    slack.use_http_mode(url)
    try:
        yield
    finally:
        await runner.cleanup()
