"""What the adapter calls of slack_sdk and Bolt, with complete types.

Both annotate keyword arguments, dictionaries and patterns in part only. Their classes fit these protocols as they are, so nothing is cast.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from slack_bolt.context.ack.async_ack import AsyncAck

from bot.adapters.slack.blocks import Block
from bot.model import JsonObject

Listener = Callable[[AsyncAck, JsonObject], Awaitable[None]]
"""Bolt passes arguments by name: `ack` and `body`."""
Listen = Callable[[Listener], object]


class Answer(Protocol):
    """An answer of the Web API."""

    @property
    def data(self) -> object:
        """The JSON as answered; bytes where Slack answered something else."""
        ...


class Web(Protocol):
    """The Web API methods of `AsyncWebClient`. Each raises SlackApiError, SlackClientError, aiohttp.ClientError or TimeoutError."""

    @property
    def token(self) -> str | None: ...

    async def auth_test(self) -> Answer: ...

    async def chat_postMessage(  # noqa: N802 - Slack's name
        self,
        *,
        channel: str,
        text: str,
        blocks: Sequence[Block],
        thread_ts: str | None,
        metadata: JsonObject,
        unfurl_links: bool,
        unfurl_media: bool,
        link_names: bool,
        mrkdwn: bool,
    ) -> Answer: ...

    async def chat_update(
        self, *, channel: str, ts: str, text: str, blocks: Sequence[Block], link_names: bool
    ) -> Answer: ...

    async def chat_delete(self, *, channel: str, ts: str) -> Answer: ...

    async def chat_postEphemeral(  # noqa: N802 - Slack's name
        self,
        *,
        channel: str,
        user: str,
        text: str,
        thread_ts: str | None,
        blocks: Sequence[Block] | None,
        link_names: bool,
    ) -> Answer: ...

    async def chat_getPermalink(self, *, channel: str, message_ts: str) -> Answer: ...  # noqa: N802 - Slack's name

    async def files_upload_v2(
        self,
        *,
        channel: str,
        thread_ts: str | None,
        file_uploads: list[dict[str, object]],
        initial_comment: str | None,
    ) -> Answer: ...

    async def conversations_open(self, *, users: str) -> Answer: ...

    async def views_open(self, *, trigger_id: str, view: JsonObject) -> Answer: ...

    async def views_update(self, *, view_id: str, view: JsonObject, hash: str | None) -> Answer: ...  # noqa: A002 - Slack's name

    async def views_publish(self, *, user_id: str, view: JsonObject) -> Answer: ...

    async def users_info(self, *, user: str) -> Answer: ...

    async def usergroups_users_list(self, *, usergroup: str) -> Answer: ...

    async def conversations_replies(
        self, *, channel: str, ts: str, include_all_metadata: bool, limit: int, cursor: str | None
    ) -> Answer: ...

    async def conversations_history(
        self, *, channel: str, oldest: str, include_all_metadata: bool, limit: int, cursor: str | None
    ) -> Answer: ...


class HookAnswer(Protocol):
    """An answer to a use of a `response_url`."""

    @property
    def status_code(self) -> int: ...

    @property
    def body(self) -> str: ...


class Hook(Protocol):
    """A `response_url`, as `AsyncWebhookClient` uses it. Raises aiohttp.ClientError or TimeoutError."""

    async def send_dict(self, body: JsonObject) -> HookAnswer: ...


Hooks = Callable[[str], Hook | None]
"""Opens a `response_url`; None for an address that is none of Slack's."""


class Registry(Protocol):
    """Where `AsyncApp` takes listeners."""

    def action(self, constraints: str, /) -> Listen: ...

    def view_submission(self, constraints: str, /) -> Listen: ...

    def command(self, command: str, /) -> Listen: ...

    def event(self, event: str, /) -> Listen: ...

    def message_shortcut(self, callback_id: str, /) -> Listen: ...
