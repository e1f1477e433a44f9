"""What Slack delivers, read into records: a pressed button, a submitted form, a slash command.

Identity is (workspace, user id) of the payload's user object and nothing else: Bolt's own `team_id` is the workspace of the channel, not of the person
(reference/safety.md, finding 9). A payload of another shape is None, never a guess.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

from bot.adapters.slack.modals import (
    BREAK_GLASS,
    CLUSTER,
    CODE,
    LASTS,
    REASON,
    TYPED_NAME,
    read_choice,
    read_field,
    read_metadata,
    read_tick,
)
from bot.model import Choice, IncidentId, Json, JsonObject, SlackUser

VALUE_LIMIT: Final = 200
"""Characters of a button's value that are looked at; ours have 31."""
MENU: Final = "static_select"
_GESTURES: Final = frozenset({"trigger_id", "command", "user", "user_id", "actions"})
"""Names of which every gesture has several."""
_USER: Final = re.compile(r"[UW][A-Z0-9]{1,30}")
_MENTIONED: Final = re.compile(r"\A(?:[^<]|<(?!@))*<@[UW][A-Z0-9]{1,30}(\|[^>]*)?>")
"""What stands before the words for natsmedic: a greeting, and its name."""
_TEAM: Final = re.compile(r"([TE][A-Z0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class Press:
    """A button of a message."""

    user: SlackUser
    button: str
    channel: str
    ts: str
    thread: str | None
    trigger: str
    single: bool
    """Exactly one action came with the payload, as Slack sends it."""
    answer_to: str = ""
    """The gesture's `response_url`; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A form that was sent."""

    user: SlackUser
    button: str
    choice: Choice
    reason: str
    typed_name: str
    view_id: str
    break_glass: bool = False
    code: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Command:
    """A line typed behind `/nats`, or behind a mention; `event` is Slack's own id of the gesture."""

    user: SlackUser
    line: str
    channel: str
    event: str
    thread: str | None = None
    answer_to: str = ""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A shortcut used on a message. `text` is whatever somebody wrote: a hint, never a fact."""

    user: SlackUser
    channel: str
    ts: str
    thread: str | None
    text: str
    trigger: str
    answer_to: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """The form behind a shortcut, sent."""

    user: SlackUser
    channel: str
    ts: str
    thread: str | None
    title: str
    cluster: str
    view_id: str
    answer_to: str = ""
    """The `response_url` of the shortcut, for a form has none of its own; empty where somebody else has sent the form: what stands there only who used the
    shortcut sees.
    """


@dataclass(frozen=True, slots=True)
class Hush:
    """The form of a silence, sent."""

    user: SlackUser
    incident: IncidentId
    lasts: str
    reason: str
    view_id: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """The form of other values, sent. `values` are texts as they were typed, by the name of their field."""

    user: SlackUser
    button: str
    values: dict[str, str]
    view_id: str


@dataclass(frozen=True, slots=True)
class Traces:
    """What can be read of a gesture whose shape is unknown: who made it, and where they can be told so."""

    user: SlackUser | None
    channel: str | None
    thread: str | None


def traces(body: Json) -> Traces:
    """Return what there is; never fails."""
    try:
        typist = _identity(body["team_id"], body["user_id"])
    except (KeyError, TypeError):
        typist = None
    return Traces(_user(body) or typist, _text_at(body, "channel", "id"), _text_at(body, "container", "thread_ts"))


def is_served(body: JsonObject) -> bool:
    """Whether somebody listens to this type, and Bolt can look for who: it indexes these parts unseen (slack_bolt/request/payload_utils.py)."""
    if not isinstance(body.get("event", {}), dict):
        return False
    match body.get("type"):
        case "block_actions":
            try:
                first = body["actions"][0]
            except (KeyError, IndexError, TypeError):
                return False
            return isinstance(first, dict) and "action_id" in first
        case "view_submission":
            view = body.get("view")
            return isinstance(view, dict) and "type" in view
        case "event_callback" | "message_action" | "url_verification":
            return True
        case kind:
            return kind is None and "command" in body


def is_gesture(body: JsonObject) -> bool:
    """Whether a person made it, rather than Slack itself: an interaction or a slash command, not an event."""
    return "event" not in body and any(name in body for name in _GESTURES)


def press(body: Json) -> Press | None:
    """Return the button, or what was chosen in a menu, of a `block_actions` payload of a message."""
    try:
        container, actions, trigger = body["container"], body["actions"], body["trigger_id"]
        button = actions[0]["selected_option"]["value"] if actions[0].get("type") == MENU else actions[0]["value"]
        channel, ts = container["channel_id"], container["message_ts"]
        thread = container.get("thread_ts")
        count = len(actions)
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    user = _user(body)
    if user is None or not all(isinstance(part, str) for part in (button, channel, ts, trigger)):
        return None
    return Press(
        user=user,
        button=button[:VALUE_LIMIT],
        channel=channel,
        ts=ts,
        thread=thread if isinstance(thread, str) else None,
        trigger=trigger,
        single=count == 1 and len(button) <= VALUE_LIMIT,
        answer_to=_answer_to(body),
    )


def submission(body: Json) -> Submission | None:
    """Return the form of a `view_submission` payload."""
    try:
        view = body["view"]
        metadata, values, view_id = view["private_metadata"], view["state"]["values"], view["id"]
    except (KeyError, TypeError):
        return None
    user, found = _user(body), read_metadata(metadata)
    if user is None or found is None or not isinstance(view_id, str):
        return None
    button, choice = found
    reason, typed = read_field(values, REASON), read_field(values, TYPED_NAME)
    glass, code = read_tick(values, BREAK_GLASS), read_field(values, CODE)
    return Submission(user, button, choice, reason, typed, view_id, break_glass=glass, code=code)


def command(body: Json) -> Command | None:
    """Return the line of a slash command; here Slack names the person in `team_id` and `user_id`."""
    try:
        user = _identity(body["team_id"], body["user_id"])
        channel, event, line = body["channel_id"], body["trigger_id"], body.get("text") or ""
    except (KeyError, TypeError, AttributeError):
        return None
    if user is None or not all(isinstance(part, str) for part in (channel, event, line)):
        return None
    return Command(user=user, line=_typed(line), channel=channel, event=event, answer_to=_answer_to(body))


def mention(body: Json) -> Command | None:
    """Return the line behind a mention of the bot. What a bot said, or a person changed afterwards, is none."""
    try:
        event, event_id = body["event"], body["event_id"]
        team = event.get("user_team") or event.get("team") or ""
        user = _identity(team, event["user"])
        channel, line, thread = event["channel"], event["text"], event.get("thread_ts")
        made = event.get("bot_id") or event.get("subtype") or event.get("edited")
    except (KeyError, TypeError, AttributeError):
        return None
    if user is None or made or not all(isinstance(part, str) for part in (channel, line, event_id)):
        return None
    words = _typed(_MENTIONED.sub("", line, count=1))
    return Command(
        user=user, line=words, channel=channel, event=event_id, thread=thread if isinstance(thread, str) else None
    )


def home(body: Json) -> SlackUser | None:
    """Return who has opened App Home; None for its other tabs. The workspace is the event's: Slack names no other one here."""
    try:
        event = body["event"]
        return _identity(body["team_id"], event["user"]) if event["tab"] == "home" else None
    except (KeyError, TypeError):
        return None


def shortcut(body: Json) -> Shortcut | None:
    """Return the shortcut of a `message_action` payload."""
    try:
        message, channel, trigger = body["message"], body["channel"]["id"], body["trigger_id"]
        ts, thread, said = message["ts"], message.get("thread_ts"), message.get("text") or ""
    except (KeyError, TypeError, AttributeError):
        return None
    user = _user(body)
    if user is None or not all(isinstance(part, str) for part in (channel, trigger, ts, said)):
        return None
    place = thread if isinstance(thread, str) else None
    answer_to = _answer_to(body)
    return Shortcut(user, channel, ts, place, text=_typed(said), trigger=trigger, answer_to=answer_to)


def question(body: Json) -> Question | None:
    """Return the form behind a shortcut."""
    try:
        view = body["view"]
        found: Json = json.loads(view["private_metadata"])
        cluster = view["state"]["values"][CLUSTER][CLUSTER]["selected_option"]["value"]
        parts = (found["channel"], found["ts"], found["title"], cluster, view["id"])
        thread = found["thread"]
    except (KeyError, TypeError, ValueError):
        return None
    user = _user(body)
    if user is None or not all(isinstance(part, str) for part in parts):
        return None
    channel, ts, title, cluster, view_id = parts
    place = thread if isinstance(thread, str) else None
    answer_to: Json = found.get("answer_to") if found.get("asker") == user.user_id else None
    return Question(
        user=user,
        channel=channel,
        ts=ts,
        thread=place,
        title=title,
        cluster=cluster,
        view_id=view_id,
        answer_to=answer_to if isinstance(answer_to, str) else "",
    )


def hush(body: Json) -> Hush | None:
    """Return the form of a silence."""
    try:
        view = body["view"]
        found: Json = json.loads(view["private_metadata"])
        incident, values, view_id = found["incident"], view["state"]["values"], view["id"]
    except (KeyError, TypeError, ValueError):
        return None
    user = _user(body)
    if user is None or not isinstance(incident, str) or not isinstance(view_id, str):
        return None
    lasts, reason = read_choice(values, LASTS), read_field(values, REASON)
    return Hush(user=user, incident=IncidentId(incident), lasts=lasts, reason=reason, view_id=view_id)


def tuned(body: Json) -> Tuned | None:
    """Return the form of other values."""
    try:
        view = body["view"]
        found: Json = json.loads(view["private_metadata"])
        button, values, view_id = found["button"], view["state"]["values"], view["id"]
        typed = {str(name): read_field(values, str(name)) for name in values}
    except (KeyError, TypeError, ValueError):
        return None
    user = _user(body)
    if user is None or not isinstance(button, str) or not isinstance(view_id, str):
        return None
    return Tuned(user=user, button=button[:VALUE_LIMIT], values=typed, view_id=view_id)


def _answer_to(body: Json) -> str:
    found: Json = body.get("response_url")
    return found if isinstance(found, str) else ""


def _text_at(body: Json, outer: str, inner: str) -> str | None:
    try:
        found: Json = body[outer][inner]
    except (KeyError, TypeError, IndexError):
        return None
    return found if isinstance(found, str) and found else None


def _typed(line: str) -> str:
    """Return what a person typed: Slack escapes three characters of it (docs.slack.dev, formatting message text)."""
    return line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _user(body: Json) -> SlackUser | None:
    try:
        found = body["user"]
        return _identity(found.get("team_id") or "", found["id"])
    except (KeyError, TypeError, AttributeError):
        return None


def _identity(team: Json, user: Json) -> SlackUser | None:
    if not isinstance(team, str) or not isinstance(user, str) or not _TEAM.fullmatch(team) or not _USER.fullmatch(user):
        return None
    return SlackUser(team_id=team, user_id=user)
