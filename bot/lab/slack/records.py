"""What the stand-in Slack remembers, as frozen records, and how each looks in Slack's own JSON.

Every `*_json` function returns the shape of Slack's reference pages (docs.slack.dev/reference/objects); times inside
the records are seconds since the epoch as `float`, `ts` values are Slack's strings (`"1732170000.000001"`).
"""

import copy
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeGuard

from bot.model.base import Json, JsonObject

Clock = Callable[[], float]
"""Gives seconds since the epoch; tests pass their own to let a trigger or a response_url grow old without waiting."""

TEAM_ID = "T0LAB"
TEAM_DOMAIN = "natsmedic-lab"
APP_ID = "A0NATSMEDIC"
BOT_USER_ID = "U0NATSMEDIC"
BOT_ID = "B0NATSMEDIC"
PNG_HEADER = 33  # signature and IHDR chunk: www.w3.org/TR/png
VERIFICATION_TOKEN = "lab-verification-token"


def is_object(value: Json) -> TypeGuard[JsonObject]:
    """True for a JSON object from the wire."""
    return isinstance(value, dict)


def is_array(value: Json) -> TypeGuard[list[Json]]:
    """True for a JSON array from the wire."""
    return isinstance(value, list)


class SlackRefusal(Exception):
    """A Web API call Slack answers with `ok: false`: `error` is Slack's own string, `messages` its reasons."""

    def __init__(self, error: str, messages: tuple[str, ...] = (), **extra: str) -> None:
        super().__init__(f"{error}: {'; '.join(messages)}" if messages else error)
        self.error = error
        self.messages = messages
        self.extra = extra


class ImpossibleGesture(ValueError):
    """A person cannot do that: the button is not on the message, no dialog is open, the field does not exist."""


@dataclass(frozen=True, slots=True)
class User:
    """A person or a bot. The flags are those of Slack's user object and decide whether the bot may trust a click."""

    id: str
    name: str
    real_name: str = ""
    team_id: str = TEAM_ID
    is_bot: bool = False
    is_app_user: bool = False
    deleted: bool = False
    is_restricted: bool = False  # guest of several channels
    is_ultra_restricted: bool = False  # guest of one channel
    is_stranger: bool = False  # from another workspace, in no shared channel
    is_admin: bool = False
    is_owner: bool = False
    tz: str = "Europe/Berlin"
    email: str = ""

    @property
    def display(self) -> str:
        """The name Slack draws beside a message."""
        return self.real_name or self.name


@dataclass(frozen=True, slots=True)
class Channel:
    """A conversation. `bot_is_member` False makes posting fail with `not_in_channel`, as in Slack."""

    id: str
    name: str
    is_private: bool = False
    is_archived: bool = False
    bot_is_member: bool = True
    topic: str = ""


@dataclass(frozen=True, slots=True)
class UserGroup:
    """A user group (`@nats-owners`); Slack sells these with paid plans only."""

    id: str
    handle: str
    name: str = ""
    users: tuple[str, ...] = ()
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """What a message looked like before one edit, and when that edit came."""

    at: float
    text: str
    blocks: tuple[JsonObject, ...]
    attachments: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `history` holds every former content, oldest first; `visible_to` makes it ephemeral."""

    channel: str
    ts: str
    user: str
    at: float
    text: str = ""
    blocks: tuple[JsonObject, ...] = ()
    attachments: tuple[JsonObject, ...] = ()
    thread_ts: str | None = None
    by_bot: bool = False
    metadata: JsonObject | None = None
    files: tuple[str, ...] = ()
    reactions: tuple[tuple[str, str], ...] = ()  # (emoji name, user id)
    edited_at: float | None = None
    deleted: bool = False
    visible_to: str | None = None
    history: tuple[Edit, ...] = ()

    def edited(
        self,
        at: float,
        text: str,
        blocks: tuple[JsonObject, ...],
        attachments: tuple[JsonObject, ...],
        metadata: JsonObject | None,
    ) -> "Message":
        """The message after an edit, with its present content moved into the history."""
        past = Edit(at=at, text=self.text, blocks=self.blocks, attachments=self.attachments)
        return replace(
            self,
            text=text,
            blocks=blocks,
            attachments=attachments,
            metadata=metadata,
            edited_at=at,
            history=(*self.history, past),
        )


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file. `content` is None between the request for an upload URL and the upload."""

    id: str
    name: str
    title: str
    length: int
    content: bytes | None = None
    shared: bool = False
    alt_text: str = ""


def png_size(content: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a PNG (its first chunk); None for anything else."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < PNG_HEADER:
        return None
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


class ViewState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class View:
    """A modal (or an App Home) as one person sees it; `body` is the view the app sent, with block ids filled in."""

    id: str
    user: str
    hash: str
    body: JsonObject
    root_id: str
    previous_id: str | None = None
    state: ViewState = ViewState.OPEN


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger_id: opens one view for one person, within three seconds."""

    id: str
    user: str
    at: float
    used: bool = False
    view_id: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseUrl:
    """A response_url: five answers within thirty minutes. `ts` is the message it belongs to, if there is one."""

    id: str
    user: str
    channel: str
    at: float
    ts: str | None = None
    thread_ts: str | None = None
    uses: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One Web API call: `outcome` is `"ok"`, Slack's error string, or the name of the fault that hit it."""

    method: str
    args: JsonObject
    at: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One payload sent to the app, and what came back. `failure` is None when the app acknowledged it in time.

    `failure` is one of Slack's words for the person who clicked: `dispatch_failed` (no connection, or not HTTP 2xx)
    or `operation_timeout` (no answer within three seconds).
    """

    id: str
    kind: str  # interactive, slash_commands, events_api
    payload: JsonObject
    at: float
    transport: str  # socket, http, none
    response: JsonObject | None = None
    failure: str | None = None
    retry_attempt: int = 0
    late_ack: bool = False
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a person sees after a gesture.

    `failure` is Slack's warning triangle, `errors` the texts under the fields of a dialog (block id to text),
    `delivery_ids` one id per delivered copy.
    """

    failure: str | None = None
    errors: dict[str, str] = field(default_factory=dict[str, str])
    response: JsonObject | None = None
    delivery_ids: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when the app acknowledged and no field has an error."""
        return self.failure is None and not self.errors


def user_json(user: User, now: float) -> JsonObject:
    """Slack's user object with every flag a bot decides by."""
    return {
        "id": user.id,
        "team_id": user.team_id,
        "name": user.name,
        "real_name": user.display,
        "deleted": user.deleted,
        "tz": user.tz,
        "is_admin": user.is_admin,
        "is_owner": user.is_owner,
        "is_primary_owner": False,
        "is_restricted": user.is_restricted,
        "is_ultra_restricted": user.is_ultra_restricted,
        "is_stranger": user.is_stranger,
        "is_bot": user.is_bot,
        "is_app_user": user.is_app_user,
        "is_email_confirmed": True,
        "updated": int(now),
        "profile": {
            "real_name": user.display,
            "display_name": user.name,
            "email": user.email,
            "team": user.team_id,
        },
    }


def channel_json(channel: Channel) -> JsonObject:
    """Slack's conversation object."""
    return {
        "id": channel.id,
        "name": channel.name,
        "name_normalized": channel.name,
        "is_channel": not channel.is_private,
        "is_group": channel.is_private,
        "is_im": channel.id.startswith("D"),
        "is_mpim": False,
        "is_private": channel.is_private,
        "is_archived": channel.is_archived,
        "is_general": False,
        "is_member": channel.bot_is_member,
        "context_team_id": TEAM_ID,
        "topic": {"value": channel.topic, "creator": "", "last_set": 0},
        "purpose": {"value": "", "creator": "", "last_set": 0},
    }


def group_json(group: UserGroup) -> JsonObject:
    """Slack's user group object; `users` is added by the caller where it was asked for."""
    return {
        "id": group.id,
        "team_id": TEAM_ID,
        "is_usergroup": True,
        "name": group.name or group.handle,
        "handle": group.handle,
        "date_delete": 1 if group.disabled else 0,
        "user_count": len(group.users),
    }


def view_json(view: View) -> JsonObject:
    """Slack's view object, as the app gets it back."""
    body = view.body
    return {
        "id": view.id,
        "team_id": TEAM_ID,
        "type": body["type"],
        "blocks": body["blocks"],
        "private_metadata": body.get("private_metadata", ""),
        "callback_id": body.get("callback_id", ""),
        "state": {"values": {}},
        "hash": view.hash,
        "title": body.get("title"),
        "clear_on_close": body.get("clear_on_close", False),
        "notify_on_close": body.get("notify_on_close", False),
        "close": body.get("close"),
        "submit": body.get("submit"),
        "previous_view_id": view.previous_id,
        "root_view_id": view.root_id,
        "app_id": APP_ID,
        "external_id": body.get("external_id", ""),
        "app_installed_team_id": TEAM_ID,
        "bot_id": BOT_ID,
    }


BOT_USER = User(id=BOT_USER_ID, name="natsmedic", real_name="natsmedic", is_bot=True)


def random_id(prefix: str) -> str:
    """An id in Slack's style, as in `V0A1B2C3D4E`."""
    return prefix + secrets.token_hex(5).upper()


def with_ids(blocks: Iterable[JsonObject]) -> tuple[JsonObject, ...]:
    """Copies of the blocks with the block ids and action ids Slack fills in where the app left them out."""
    filled = copy.deepcopy(list(blocks))
    for block in filled:
        block.setdefault("block_id", secrets.token_urlsafe(4))
        parts: list[JsonObject] = list(block.get("elements", [])) if block.get("type") == "actions" else []
        parts += [block[name] for name in ("accessory", "element") if name in block]
        for part in parts:
            if part.get("type") != "image":
                part.setdefault("action_id", secrets.token_urlsafe(4))
    return tuple(filled)


def with_ids_inside(attachments: Iterable[JsonObject]) -> tuple[JsonObject, ...]:
    """The attachments with ids in the blocks they carry."""
    return tuple({**a, "blocks": with_ids(a["blocks"])} if "blocks" in a else a for a in attachments)
