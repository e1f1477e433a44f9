"""Random requests to the Slack address, most of them rightly signed: answered 200, 400 or 401, and never an exception.

400 is for what Slack can't have sent though the signature is right: a body that Bolt can't read a gesture out of. Its contract asks for 2xx for its own
requests only (docs.slack.dev/apis/events-api, "Responding to events").
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import pytest
from starlette.requests import Request
from starlette.types import Message, Scope
from structlog.testing import capture_logs

from bot.adapters.slack.app import COMMAND, HOME, MENTION
from bot.adapters.slack.modals import CALLBACK, HUSH, QUESTION
from bot.adapters.slack.wanted import APPROVE, DENY, DETAILS, TAKE
from bot.model import Json, JsonObject, Proposal, ProposalState
from tests.exhaustive import EXHAUSTIVE
from tests.integration.forged import Target, target
from tests.integration.slack_adapter_support import ADA, OPS, offer

COUNT: Final = 100_000 if EXHAUSTIVE else 500
SEED: Final = 6
TYPES: Final = (
    *("block_actions", "view_submission", "view_closed", "message_action", "shortcut", "event_callback"),
    *("url_verification", "block_suggestion", "dialog_submission", "workflow_step_edit", "interactive_message", "x"),
)
NAMES: Final = (
    *("type", "user", "id", "team", "team_id", "user_id", "channel", "channel_id", "container", "actions", "value"),
    *("action_id", "view", "state", "values", "private_metadata", "callback_id", "trigger_id", "event", "event_id"),
    *("message", "ts", "thread_ts", "message_ts", "authorizations", "response_urls", "enterprise", "command", "text"),
    *("challenge", "is_ext_shared_channel", "bot_id", "tab", "subtype", "workflow_step", "function_data"),
)
WORDS: Final = (
    *(APPROVE, DENY, DETAILS, TAKE, CALLBACK, HUSH, QUESTION, COMMAND, MENTION, HOME, "btn_opaque", ADA, OPS, "T0LAB"),
    *("", "null", "\x00", "\ud7ff\u202e", "<!channel>", "home", "freeze 1h x", "message", "workflow_step", "A" * 5_000),
)


class Fuzz:
    """Makes requests from one seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def value(self, depth: int = 3) -> Json:
        kind = self.dice.randrange(9 if depth else 6)
        if kind >= 7:
            return {self.dice.choice(NAMES): self.value(depth - 1) for _ in range(self.dice.randrange(5))}
        if kind == 6:
            return [self.value(depth - 1) for _ in range(self.dice.randrange(3))]
        return (self.dice.choice(WORDS), self.dice.choice(WORDS), None, True, -1, 1e300)[kind]

    def gesture(self, recorded: JsonObject) -> JsonObject:
        """A recorded gesture with some of its parts replaced, or one that is made up of names Slack uses."""
        made: JsonObject = json.loads(json.dumps(recorded)) if self.dice.random() < 0.7 else {}
        for _ in range(self.dice.randrange(1, 6)):
            inside = made
            while self.dice.random() < 0.5:
                deeper = [part for part in inside.values() if isinstance(part, dict)]
                if not deeper:
                    break
                inside = self.dice.choice(deeper)
            inside[self.dice.choice([*NAMES, *inside])] = self.value()
        if self.dice.random() < 0.7:
            made["type"] = self.dice.choice(TYPES)
        return made

    def body(self, recorded: JsonObject) -> tuple[bytes, str]:
        """A body and its content type."""
        gesture = self.gesture(recorded)
        form = "application/x-www-form-urlencoded"
        match self.dice.randrange(6):
            case 0:
                return self.dice.randbytes(self.dice.randrange(60)), self.dice.choice(
                    [form, "application/json", "", "x"]
                )
            case 1:
                return json.dumps(self.value()).encode(), "application/json"
            case 2:
                return json.dumps(gesture).encode(), "application/json"
            case 3:
                texts = {self.dice.choice(NAMES): self.dice.choice(WORDS) for _ in range(6)}
                return urlencode({**texts, "command": COMMAND}).encode(), form
            case 4:
                return b"payload=" + quote(json.dumps(self.value())).encode(), form
            case _:
                return urlencode({"payload": json.dumps(gesture)}).encode(), form

    def headers(self, body: bytes, content_type: str, secret: str) -> list[tuple[bytes, bytes]]:
        """Right ones for two of three requests."""
        stamp = str(int(time.time()))
        mac = "v0=" + hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        if self.dice.random() < 0.33:
            stamp = self.dice.choice([stamp, "", "-1", "1e9", "0", stamp + "0" * 30, "\u0661" * 10])
            mac = self.dice.choice(["", "v0=", mac[:-1], mac.upper(), "v1" + mac[2:], "v0=" + "0" * 64, mac + "\xe9"])
        found = [("x-slack-request-timestamp", stamp), ("x-slack-signature", mac), ("content-type", content_type)]
        return [(name.encode(), value.encode("utf-8")) for name, value in found]


async def status(to: Target, body: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/slack/events",
        "query_string": b"",
        "headers": headers,
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return (await to.running.adapter.http_handler(Request(scope, receive))).status_code


async def send(to: Target, fuzz: Fuzz, count: int) -> Counter[int]:
    """Send that many; every answer is one of three."""
    await offer(to.running)
    await to.running.slack.person.click(ADA, OPS, to.running.message("proposal").ts, "approve")
    recorded, seen = to.recorded(), Counter[int]()
    for number in range(count):
        body, content_type = fuzz.body(recorded)
        answer = await status(to, body, fuzz.headers(body, content_type, to.secret))
        assert answer in {200, 400, 401}, (number, body[:2_000])
        seen[answer] += 1
    await to.settled()
    return seen


@pytest.mark.timeout(3_000 if EXHAUSTIVE else 60)
async def test_no_request_is_answered_with_anything_but_200_400_or_401_and_none_decides(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        with capture_logs() as logs:
            seen = await send(to, Fuzz(SEED), COUNT)
        assert [one for one in logs if one["log_level"] in {"error", "critical"}] == [], (
            "no fault behind an answer either"
        )
        assert set(seen) == {200, 400, 401}
        assert seen[200] > COUNT // 4
        assert await to.running.store.approvals("prop_1") == []
        stored = await to.running.store.get(Proposal, "prop_1")
        assert stored is not None
        assert stored.state is ProposalState.PENDING
        assert to.executions() == 0
