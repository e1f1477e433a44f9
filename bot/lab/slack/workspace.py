"""The state of the stand-in Slack: one workspace in memory, and everything that may change it.

Time comes from a clock that is passed in. Every change raises `version` and wakes whoever waits in `wait_until`.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from bot.lab.slack.limits import POST_TEXT_MAX, UPDATE_TEXT_MAX, check_message, check_metadata, check_view
from bot.lab.slack.records import (
    APP_ID,
    BOT_ID,
    BOT_USER,
    BOT_USER_ID,
    TEAM_ID,
    Call,
    Channel,
    Clock,
    Message,
    ResponseUrl,
    SlackRefusal,
    StoredFile,
    Trigger,
    User,
    UserGroup,
    View,
    ViewState,
    png_size,
    random_id,
    with_ids,
    with_ids_inside,
)
from bot.model.base import JsonObject

TRIGGER_LIFE_S = 3.0  # reference/chatops.md section 5
RESPONSE_URL_LIFE_S = 1800.0
RESPONSE_URL_USES = 5
VIEW_STACK_MAX = 3  # docs.slack.dev/surfaces/modals: a root view and two pushed ones


class Workspace:
    """One Slack workspace: people, channels, messages, views, files and the log of calls."""

    def __init__(
        self,
        users: Iterable[User],
        channels: Iterable[Channel],
        usergroups: Iterable[UserGroup],
        clock: Clock = time.time,
    ) -> None:
        self.clock = clock
        self.users: dict[str, User] = {user.id: user for user in (BOT_USER, *users)}
        self.channels: dict[str, Channel] = {channel.id: channel for channel in channels}
        self.usergroups: dict[str, UserGroup] = {group.id: group for group in usergroups}
        self.messages: dict[str, dict[str, Message]] = {channel_id: {} for channel_id in self.channels}
        self.ephemerals: list[Message] = []
        self.views: dict[str, View] = {}
        self.stacks: dict[str, list[str]] = {}
        self.homes: dict[str, View] = {}
        self.files: dict[str, StoredFile] = {}
        self.triggers: dict[str, Trigger] = {}
        self.response_urls: dict[str, ResponseUrl] = {}
        self.calls: list[Call] = []
        self.public_url = ""
        self.trigger_life_s = TRIGGER_LIFE_S
        self.version = 0
        self._wake = asyncio.Event()
        self._last_ts = 0

    # --- change and time ---------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Says that something a person or a test can see is different now."""
        self.version += 1
        woken, self._wake = self._wake, asyncio.Event()
        woken.set()

    async def wait_for_change(self, since: int, timeout_s: float) -> int:
        """The version once it differs from `since`, or the same version after `timeout_s` seconds."""
        if self.version == since:
            try:
                await asyncio.wait_for(self._wake.wait(), timeout_s)
            except TimeoutError:
                return self.version
        return self.version

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Returns when the condition holds; looked at after every change.

        Raises:
            TimeoutError: it did not come true in time.
        """
        async with asyncio.timeout(timeout_s):
            while not condition():
                await self._wake.wait()

    def next_ts(self) -> str:
        """A message timestamp: seconds and microseconds, never twice the same."""
        self._last_ts = max(self._last_ts + 1, int(self.clock() * 1_000_000))
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    # --- looking up --------------------------------------------------------------------------------------------

    def channel(self, channel_id: str, *, to_write: bool = False) -> Channel:
        """The channel; a person's id stands for the direct conversation with that person.

        Raises:
            SlackRefusal: `channel_not_found`, and when writing `is_archived` or `not_in_channel`.
        """
        channel = self.channels.get(channel_id)
        if channel is None and channel_id in self.users:
            channel = Channel(id=channel_id, name=self.users[channel_id].name, is_private=True)
            self.channels[channel_id] = channel
            self.messages[channel_id] = {}
        if channel is None or (channel.is_private and not channel.bot_is_member):
            raise SlackRefusal("channel_not_found")
        if to_write and channel.is_archived:
            raise SlackRefusal("is_archived")
        if to_write and not channel.bot_is_member:
            raise SlackRefusal("not_in_channel")
        return channel

    def message(self, channel_id: str, ts: str) -> Message:
        """A message that is still there.

        Raises:
            SlackRefusal: `message_not_found`.
        """
        found = self.messages.get(channel_id, {}).get(ts)
        if found is None or found.deleted:
            raise SlackRefusal("message_not_found")
        return found

    def thread(self, channel_id: str, ts: str) -> list[Message]:
        """The parent and its replies, oldest first, without deleted ones."""
        found = [m for m in self.messages.get(channel_id, {}).values() if ts in (m.ts, m.thread_ts)]
        return [m for m in found if not m.deleted]

    def user(self, user_id: str) -> User:
        """The person.

        Raises:
            SlackRefusal: `user_not_found`.
        """
        if user_id not in self.users:
            raise SlackRefusal("user_not_found")
        return self.users[user_id]

    # --- messages ----------------------------------------------------------------------------------------------

    def post(
        self,
        channel_id: str,
        user: str,
        text: str = "",
        blocks: Iterable[JsonObject] = (),
        attachments: Iterable[JsonObject] = (),
        *,
        thread_ts: str | None = None,
        metadata: JsonObject | None = None,
        files: tuple[str, ...] = (),
        visible_to: str | None = None,
    ) -> Message:
        """Stores a message, checked against Slack's limits; text beyond 40,000 characters is cut as Slack does.

        Raises:
            SlackRefusal: one of Slack's errors; nothing is stored then.
        """
        body, colored = list(blocks), list(attachments)
        if not (text or body or colored or files):
            raise SlackRefusal("no_text")
        check_message(body, colored)
        if metadata is not None:
            check_metadata(metadata)
        if thread_ts is not None:
            parent = self.messages[channel_id].get(thread_ts)
            if parent is None or parent.deleted:
                raise SlackRefusal("thread_not_found")
            thread_ts = parent.thread_ts or thread_ts
        message = Message(
            channel=channel_id,
            ts=self.next_ts(),
            user=user,
            at=self.clock(),
            text=text[:POST_TEXT_MAX],
            blocks=with_ids(body),
            attachments=with_ids_inside(colored),
            thread_ts=thread_ts,
            by_bot=user == BOT_USER_ID,
            metadata=metadata,
            files=files,
            visible_to=visible_to,
        )
        if visible_to is None:
            self.messages[channel_id][message.ts] = message
        else:
            self.ephemerals.append(message)
        self.changed()
        return message

    def update(
        self,
        channel_id: str,
        ts: str,
        *,
        text: str | None = None,
        blocks: list[JsonObject] | None = None,
        attachments: list[JsonObject] | None = None,
        metadata: JsonObject | None = None,
    ) -> Message:
        """Edits a message of the bot; what is None stays as it was.

        Raises:
            SlackRefusal: `message_not_found`, `cant_update_message`, `msg_too_long`, `no_text` or a block error.
        """
        old = self.message(channel_id, ts)
        if not old.by_bot:
            raise SlackRefusal("cant_update_message")
        if text is not None and len(text) > UPDATE_TEXT_MAX:
            raise SlackRefusal("msg_too_long")
        check_message(blocks or [], attachments or [])
        if metadata is not None:
            check_metadata(metadata)
        new = old.edited(
            at=self.clock(),
            text=old.text if text is None else text,
            blocks=old.blocks if blocks is None else with_ids(blocks),
            attachments=old.attachments if attachments is None else with_ids_inside(attachments),
            metadata=old.metadata if metadata is None else metadata or None,
        )
        if not (new.text or new.blocks or new.attachments or new.files):
            raise SlackRefusal("no_text")
        self.put(new)
        return new

    def put(self, message: Message) -> None:
        """Replaces a stored message by a changed copy."""
        self.messages[message.channel][message.ts] = message
        self.changed()

    def message_json(self, message: Message, *, with_metadata: bool = True) -> JsonObject:
        """Slack's message object. Replies are counted on the parent."""
        found: JsonObject = {
            "type": "message",
            "user": message.user,
            "ts": message.ts,
            "text": message.text,
            "team": self.users[message.user].team_id if message.user in self.users else TEAM_ID,
        }
        if message.by_bot:
            found |= {"bot_id": BOT_ID, "app_id": APP_ID}
        if message.blocks:
            found["blocks"] = list(message.blocks)
        if message.attachments:
            found["attachments"] = list(message.attachments)
        if message.thread_ts:
            found |= {"thread_ts": message.thread_ts}
        if message.edited_at is not None:
            found["edited"] = {"user": message.user, "ts": f"{message.edited_at:.6f}"}
        if message.files:
            found["files"] = [self.file_json(self.files[file_id]) for file_id in message.files]
        if message.metadata is not None and with_metadata:
            found["metadata"] = message.metadata
        if message.reactions:
            names = dict.fromkeys(name for name, _ in message.reactions)
            who = {name: [u for n, u in message.reactions if n == name] for name in names}
            found["reactions"] = [{"name": name, "users": who[name], "count": len(who[name])} for name in names]
        replies = [m for m in self.thread(message.channel, message.ts) if m.ts != message.ts]
        if replies:
            found |= {
                "thread_ts": message.ts,
                "reply_count": len(replies),
                "reply_users": sorted({m.user for m in replies}),
                "latest_reply": replies[-1].ts,
            }
        return found

    def file_json(self, file: StoredFile) -> JsonObject:
        """Slack's file object; the links lead to this stand-in."""
        kind = file.name.rsplit(".", 1)[-1].lower() if "." in file.name else "text"
        link = f"{self.public_url}/files/{file.id}"
        found: JsonObject = {
            "id": file.id,
            "name": file.name,
            "title": file.title or file.name,
            "filetype": kind,
            "size": file.length,
            "alt_txt": file.alt_text,
            "url_private": link,
            "permalink": link,
        }
        size = png_size(file.content or b"")
        return found if size is None else found | {"original_w": size[0], "original_h": size[1]}

    # --- triggers, views, response URLs ------------------------------------------------------------------------

    def new_trigger(self, user: str, view_id: str | None = None) -> str:
        """A fresh trigger_id for this person."""
        trigger = Trigger(id=f"{secrets.randbelow(10**12)}.{secrets.token_hex(16)}", user=user, at=self.clock())
        self.triggers[trigger.id] = replace(trigger, view_id=view_id)
        return trigger.id

    def exchange(self, trigger_id: str) -> Trigger:
        """Uses the trigger up.

        Raises:
            SlackRefusal: `invalid_trigger_id`, `exchanged_trigger_id` or `expired_trigger_id`.
        """
        trigger = self.triggers.get(trigger_id)
        if trigger is None:
            raise SlackRefusal("invalid_trigger_id")
        if trigger.used:
            raise SlackRefusal("exchanged_trigger_id")
        if self.clock() - trigger.at > self.trigger_life_s:
            raise SlackRefusal("expired_trigger_id")
        self.triggers[trigger_id] = replace(trigger, used=True)
        return trigger

    def show_view(self, user: str, body: JsonObject, *, push: bool = False) -> View:
        """Opens a view for a person, on top of what they have open when `push`.

        Raises:
            SlackRefusal: a limit error, `push_limit_reached` or `duplicate_external_id`.
        """
        check_view(body)
        stack = self.stacks.get(user, []) if push else []
        if len(stack) >= VIEW_STACK_MAX:
            raise SlackRefusal("push_limit_reached")
        external = body.get("external_id")
        if external and any(v.body.get("external_id") == external for v in self.open_views()):
            raise SlackRefusal("duplicate_external_id")
        if not push:
            self.close_views(user)
        view_id = random_id("V")
        view = View(
            id=view_id,
            user=user,
            hash=f"{self.clock():.0f}.{secrets.token_hex(4)}",
            body={**body, "blocks": list(with_ids(body["blocks"]))},
            root_id=stack[0] if stack else view_id,
            previous_id=stack[-1] if stack else None,
        )
        self.views[view_id] = view
        self.stacks[user] = [*stack, view_id]
        self.changed()
        return view

    def change_view(self, view: View, body: JsonObject) -> View:
        """Replaces the content of an open view.

        Raises:
            SlackRefusal: a limit error.
        """
        check_view(body)
        new = replace(
            view,
            body={**body, "blocks": list(with_ids(body["blocks"]))},
            hash=f"{self.clock():.0f}.{secrets.token_hex(4)}",
        )
        self.views[view.id] = new
        self.changed()
        return new

    def open_views(self) -> list[View]:
        """Every view somebody has open."""
        return [v for v in self.views.values() if v.state is ViewState.OPEN]

    def close_views(self, user: str, *, only_top: bool = False) -> None:
        """Closes the top view of a person, or all of them."""
        stack = self.stacks.get(user, [])
        gone, kept = (stack[-1:], stack[:-1]) if only_top else (stack, [])
        for view_id in gone:
            self.views[view_id] = replace(self.views[view_id], state=ViewState.CLOSED)
        self.stacks[user] = kept
        self.changed()

    def new_response_url(
        self, user: str, channel: str, ts: str | None = None, thread_ts: str | None = None
    ) -> ResponseUrl:
        """A fresh response_url of this person's gesture."""
        issued = ResponseUrl(
            id=secrets.token_urlsafe(12), user=user, channel=channel, at=self.clock(), ts=ts, thread_ts=thread_ts
        )
        self.response_urls[issued.id] = issued
        return issued

    def use_response_url(self, url_id: str) -> ResponseUrl:
        """Counts one use.

        Raises:
            SlackRefusal: `expired_url` after thirty minutes or for an unknown one, `used_url` after five uses.
        """
        issued = self.response_urls.get(url_id)
        if issued is None or self.clock() - issued.at > RESPONSE_URL_LIFE_S:
            raise SlackRefusal("expired_url")
        if issued.uses >= RESPONSE_URL_USES:
            raise SlackRefusal("used_url")
        self.response_urls[url_id] = replace(issued, uses=issued.uses + 1)
        return issued
