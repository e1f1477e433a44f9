"""Slack's Web API as the rest of the adapter uses it: paced, without hidden retries, and with errors that say whether the call happened.

slack_sdk repeats POSTs on connection errors by default and Slack has no idempotency key (reference/safety.md, finding 10), so its retry handlers
are emptied and every failure is one of four: `Limited` and `RefusedBySlack` and `NotSent` did nothing, `Doubtful` may have done it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final, cast

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.adapters.fenced import always
from bot.adapters.slack.blocks import Block
from bot.adapters.slack.pacer import Pacer
from bot.adapters.slack.waits import Wait
from bot.adapters.slack.web import Answer, Hook, Hooks, Web
from bot.adapters.timed import timing
from bot.errors import NatsmedicError
from bot.model import Json, JsonObject, part
from bot.ports import UNMETERED, Clock, End, Meter, System, end_of

POSTS_PER_SECOND: Final = 1.0
"""Messages per second and channel (docs.slack.dev/apis/web-api/rate-limits)."""
POST_BURST: Final = 3.0
"""Slack allows short bursts without a number; three draw the first view of an incident at once."""
EDITS_PER_SECOND: Final = 50 / 60
"""chat.update and the conversations.* reads are Tier 3, about 50 a minute (reference/chatops.md 5)."""
EDIT_BURST: Final = 20.0
POSTS_SPARED: Final = 1.0
EDITS_SPARED: Final = 5.0
"""Calls that whoever is patient leaves at hand for what people wait for; they cost it one wait, and no calls in the long run."""
DEFAULT_RETRY_AFTER: Final = 30.0
"""Seconds to wait where a 429 has no Retry-After; the slack_sdk default for Socket Mode."""
PAGE: Final = 200
"""Messages per page when looking for our own."""
RESPONSE: Final = "response_url"
METADATA_TYPE: Final = "natsmedic"
DOUBTFUL_ERRORS: Final = frozenset({"internal_error", "fatal_error", "request_timeout", "service_unavailable"})
"""`ok: false` answers of which Slack says that part of the operation may have succeeded (docs.slack.dev, errors of chat.postMessage)."""


class SlackCallFailed(NatsmedicError):
    """A Web API call did not succeed."""

    end: End = End.FAILED


class Limited(SlackCallFailed):
    """Slack wants no call of this method before `until`; nothing was done."""

    retry_helps = True
    end = End.LIMITED

    def __init__(self, method: str, until: datetime) -> None:
        super().__init__(f"Slack limits {method} until {until:%H:%M:%S} UTC.")
        self.until = until


class RefusedBySlack(SlackCallFailed):
    """Slack answered `ok: false`; nothing was done. `code` is Slack's error string."""

    end = End.REFUSED

    def __init__(self, method: str, code: str, needed: str = "") -> None:
        super().__init__(f"Slack refused {method}: {code}{f', scope {needed} is missing' if needed else ''}.")
        self.code = code


class NotSent(SlackCallFailed):
    """No connection to Slack; nothing was sent."""

    retry_helps = True
    end = End.UNREACHABLE


class Doubtful(SlackCallFailed):
    """The call was sent and no clear answer came: look before doing it again."""

    retry_helps = True
    end = End.UNKNOWN


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the bot is in Slack."""

    user_id: str
    bot_id: str
    team_id: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A message found in Slack: its ts, its key where it is ours, the names of its files."""

    ts: str
    key: str | None
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A modal that somebody sees."""

    id: str
    hash: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to post. `alt` tells what a picture shows."""

    name: str
    title: str
    content: bytes
    alt: str = ""


def no_hooks(address: str) -> Hook | None:
    """Answer no gesture by its `response_url`."""
    del address


class SlackApi:
    """The calls the adapter makes. Pacing waits inside; a method that Slack has limited is refused locally until its time has come."""

    def __init__(
        self,
        client: Web,
        clock: Clock,
        hooks: Hooks = no_hooks,
        meter: Meter = UNMETERED,
        may_send: Callable[[], bool] = always,
    ) -> None:
        self._client = client
        self._may_send = may_send
        self._meter = meter
        self._clock = clock
        self._hooks = hooks
        self._blocked: dict[str, Wait] = {}
        self._pacer = Pacer(clock)
        self._identity: Identity | None = None

    @property
    def token(self) -> str:
        """The bot token, for Bolt."""
        return self._client.token or ""

    async def identity(self) -> Identity:
        """Return who the token belongs to; asked once."""
        if self._identity is None:
            answer = await self._call("auth.test", self._client.auth_test)
            self._identity = Identity(str(answer["user_id"]), str(answer.get("bot_id") or ""), str(answer["team_id"]))
        return self._identity

    async def post(self, channel: str, text: str, blocks: Sequence[Block], key: str, thread: str | None) -> str:
        """Post a message with its key as metadata and return its ts."""
        await self._pace(f"post {channel}", POSTS_PER_SECOND, POST_BURST, "chat.postMessage", POSTS_SPARED)
        answer = await self._call(
            "chat.postMessage",
            lambda: self._client.chat_postMessage(
                channel=channel,
                text=text,
                blocks=list(blocks),
                thread_ts=thread,
                metadata={"event_type": METADATA_TYPE, "event_payload": {"key": key}},
                unfurl_links=False,
                unfurl_media=False,
                link_names=False,
                mrkdwn=False,
            ),
        )
        return str(answer["ts"])

    async def edit(self, channel: str, ts: str, text: str, blocks: Sequence[Block]) -> None:
        """Replace text and blocks of one of our messages; its metadata stays."""
        await self._pace("edit", EDITS_PER_SECOND, EDIT_BURST, "chat.update", EDITS_SPARED)
        await self._call(
            "chat.update",
            lambda: self._client.chat_update(channel=channel, ts=ts, text=text, blocks=list(blocks), link_names=False),
        )

    async def delete(self, channel: str, ts: str) -> None:
        """Delete one of our messages."""
        await self._call("chat.delete", lambda: self._client.chat_delete(channel=channel, ts=ts))

    async def attach(self, channel: str, thread: str | None, uploads: Sequence[Upload], comment: str) -> str:
        """Upload files into a thread as one message, and return the id of the first. `comment` is fallback text: escaped."""
        await self._pace(f"post {channel}", POSTS_PER_SECOND, POST_BURST, "files", POSTS_SPARED)
        answer = await self._call(
            "files",
            lambda: self._client.files_upload_v2(
                channel=channel,
                thread_ts=thread,
                file_uploads=[
                    {"filename": one.name, "title": one.title, "alt_txt": one.alt or None, "content": one.content}
                    for one in uploads
                ],
                initial_comment=comment or None,
            ),
        )
        return str(answer["files"][0]["id"])

    async def whisper(
        self, channel: str, user: str, text: str, thread: str | None, blocks: Sequence[Block] = ()
    ) -> None:
        """Show something to one person alone."""
        await self._call(
            "chat.postEphemeral",
            lambda: self._client.chat_postEphemeral(
                channel=channel, user=user, text=text, thread_ts=thread, blocks=list(blocks) or None, link_names=False
            ),
        )

    async def respond(self, address: str, body: JsonObject) -> None:
        """Answer a gesture by its `response_url`: without being in the channel, but only 5 times and for 30 minutes (reference/chatops.md 5)."""
        self._refuse_while_limited(RESPONSE)
        hook = self._hooks(address)
        if hook is None:
            raise RefusedBySlack(RESPONSE, "no_address_of_slack")
        with timing(self._meter, System.SLACK, RESPONSE, ends=_end):
            await self._respond(hook, body)

    async def _respond(self, hook: Hook, body: JsonObject) -> None:
        try:
            answer = await hook.send_dict(body)
        except aiohttp.ClientConnectorError as error:
            raise NotSent(f"No connection to Slack for {RESPONSE}: {type(error).__name__}.") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Doubtful(f"No clear answer of Slack to {RESPONSE}: {type(error).__name__}.") from error
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise self._limit(RESPONSE, "")
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Doubtful(f"Slack answered {RESPONSE} with HTTP {answer.status_code}.")
        if answer.status_code != HTTPStatus.OK:
            raise RefusedBySlack(RESPONSE, _error_of(answer.body))

    async def direct(self, user: str) -> str:
        """Return the channel of the bot's direct messages with a person, the one place where a file is theirs alone."""
        answer = await self._call("conversations.open", lambda: self._client.conversations_open(users=user))
        return str(answer["channel"]["id"])

    async def permalink(self, channel: str, ts: str) -> str:
        """Return the address of a message."""
        answer = await self._call(
            "chat.getPermalink", lambda: self._client.chat_getPermalink(channel=channel, message_ts=ts)
        )
        return str(answer["permalink"])

    async def open_view(self, trigger: str, view: JsonObject) -> Opened:
        """Open a modal within the 3 s a trigger lives."""
        answer = await self._call("views.open", lambda: self._client.views_open(trigger_id=trigger, view=view))
        return Opened(str(answer["view"]["id"]), str(answer["view"]["hash"]))

    async def update_view(self, view_id: str, view: JsonObject, seen: str | None = None) -> None:
        """Replace a modal. With `seen`, the hash of what is open, only that: a view that has changed since is not overwritten."""
        await self._call("views.update", lambda: self._client.views_update(view_id=view_id, view=view, hash=seen))

    async def publish(self, user_id: str, view: JsonObject) -> None:
        """Replace somebody's App Home."""
        await self._call("views.publish", lambda: self._client.views_publish(user_id=user_id, view=view))

    async def user(self, user_id: str) -> JsonObject:
        """Return Slack's user object, raw."""
        answer = await self._call("users.info", lambda: self._client.users_info(user=user_id))
        found: JsonObject = answer["user"]
        return found

    async def group_members(self, group: str) -> frozenset[str]:
        """Return the user ids of a user group."""
        answer = await self._call("usergroups.users.list", lambda: self._client.usergroups_users_list(usergroup=group))
        users: list[str] = answer["users"]
        return frozenset(users)

    async def ours(self, channel: str, *, thread: str | None, since: datetime) -> list[Seen]:
        """Return the bot's own messages, oldest first: of a thread, or of the channel itself since a time."""
        seen = [one async for page in self._own_pages(channel, thread, since) for one in page]
        return sorted(seen, key=lambda one: float(one.ts))

    async def newest_of_ours(self, channel: str, since: datetime, wanted: Callable[[Seen], bool]) -> Seen | None:
        """Return the newest of the bot's own messages in a channel that is wanted. A channel is read from its end, so a long one costs no more."""
        async for page in self._own_pages(channel, None, since):
            if found := [one for one in page if wanted(one)]:
                return max(found, key=lambda one: float(one.ts))
        return None

    async def _own_pages(self, channel: str, thread: str | None, since: datetime) -> AsyncGenerator[list[Seen]]:
        """Yield the bot's own messages page by page; Slack lists a channel newest first and a thread oldest first."""
        me = await self.identity()
        method = "conversations.replies" if thread else "conversations.history"
        cursor: str | None = None
        while True:
            await self._pace(method, EDITS_PER_SECOND, EDIT_BURST, method)
            answer = await self._call(method, self._lister(channel, thread, since, cursor))
            messages: list[JsonObject] = answer.get("messages") or []
            yield [
                _seen(one)
                for one in messages
                if one.get("user") == me.user_id or (me.bot_id and one.get("bot_id") == me.bot_id)
            ]
            cursor = str(part(answer, "response_metadata").get("next_cursor") or "") or None
            if cursor is None:
                return

    def _lister(
        self, channel: str, thread: str | None, since: datetime, cursor: str | None
    ) -> Callable[[], Awaitable[Answer]]:
        if thread:
            return lambda: self._client.conversations_replies(
                channel=channel, ts=thread, include_all_metadata=True, limit=PAGE, cursor=cursor
            )
        oldest = f"{since.timestamp():.6f}"
        return lambda: self._client.conversations_history(
            channel=channel, oldest=oldest, include_all_metadata=True, limit=PAGE, cursor=cursor
        )

    async def _call(self, method: str, request: Callable[[], Awaitable[Answer]]) -> JsonObject:
        self._refuse_while_limited(method)
        if not self._may_send():
            raise NotSent(f"{method} was not sent: another natsmedic may be drawing by now.")
        with timing(self._meter, System.SLACK, method, ends=_end):
            return await self._answer(method, request)

    async def _answer(self, method: str, request: Callable[[], Awaitable[Answer]]) -> JsonObject:
        try:
            response = await request()
        except SlackApiError as error:
            raise self._classified(method, error) from error
        except aiohttp.ClientConnectorError as error:
            raise NotSent(f"No connection to Slack for {method}: {type(error).__name__}.") from error
        except (aiohttp.ClientError, SlackClientError, TimeoutError, OSError, ValueError) as error:
            raise Doubtful(f"No clear answer of Slack to {method}: {type(error).__name__}.") from error
        data = response.data
        if not isinstance(data, dict):
            raise Doubtful(f"Slack answered {method} with something that is no JSON object.")
        return cast("JsonObject", data)  # slack_sdk parsed it from JSON and declares a bare dict

    def _classified(self, method: str, error: SlackApiError) -> SlackCallFailed:
        response: Json = error.response
        status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0) or 0)
        headers: Json = getattr(response, "headers", {}) or {}
        data: Json = getattr(response, "data", None)
        answer = cast("JsonObject", data) if isinstance(data, dict) else {}  # as in _call
        code = str(answer.get("error") or "")
        if status == HTTPStatus.TOO_MANY_REQUESTS or code in {"ratelimited", "rate_limited"}:
            return self._limit(method, str(headers.get("Retry-After") or ""))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or not code or code in DOUBTFUL_ERRORS:
            return Doubtful(f"Slack answered {method} with HTTP {status} {code or 'and no error code'}.")
        return RefusedBySlack(method, code, str(answer.get("needed") or ""))

    def _limit(self, method: str, retry_after: str) -> Limited:
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else DEFAULT_RETRY_AFTER
        now = self._clock.now()
        until = now + timedelta(seconds=seconds)
        known = self._blocked.get(method)
        if known is None or not known.lasts(now) or known.until < until:
            self._blocked[method] = Wait(now, until)
        return Limited(method, until)

    def _refuse_while_limited(self, method: str) -> None:
        wait = self._blocked.get(method)
        if wait is not None and wait.lasts(self._clock.now()):
            raise Limited(method, wait.until)

    async def _pace(self, name: str, rate: float, burst: float, method: str, spared: float = 0.0) -> None:
        """Wait for a token of the bucket, `patiently` for one beyond those that are spared; raises `Limited` at once where Slack has limited the method."""
        self._refuse_while_limited(method)
        await self._pacer.take(name, rate, burst, spared)


def _end(error: BaseException | None) -> End:
    return error.end if isinstance(error, SlackCallFailed) else end_of(error)


def _error_of(body: str) -> str:
    """The error of a refused use of a `response_url`, which Slack answers as JSON or as one word."""
    try:
        found: Json = json.loads(body)
        return str(found["error"])
    except (ValueError, TypeError, KeyError):
        return body[:80] or "no_reason"


def _seen(message: JsonObject) -> Seen:
    metadata: JsonObject = message.get("metadata") or {}
    payload: JsonObject = metadata.get("event_payload") or {}
    key = str(payload["key"]) if metadata.get("event_type") == METADATA_TYPE and "key" in payload else None
    files: list[JsonObject] = message.get("files") or []
    return Seen(ts=str(message.get("ts") or "0"), key=key, files=tuple(str(one.get("name") or "") for one in files))
