"""The Web API methods about messages, channels and people: plain functions from arguments to Slack's answer."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bot.lab.slack import faults
from bot.lab.slack.records import (
    APP_ID,
    BOT_ID,
    BOT_USER_ID,
    TEAM_DOMAIN,
    TEAM_ID,
    Channel,
    Message,
    SlackRefusal,
    channel_json,
    group_json,
    user_json,
)
from bot.lab.slack.workspace import Workspace
from bot.model.base import Json, JsonObject

PAGE_DEFAULT = 100
PAGE_MAX = 1000

Handler = Callable[[Workspace, JsonObject], JsonObject]


@dataclass(frozen=True, slots=True)
class Method:
    """A Web API method: what runs it, the scope it needs (None: any bot token) and its rate limit tier."""

    run: Handler
    scope: str | None = None
    tier: int = faults.TIER_3
    posts: bool = False  # counts against one message a second and channel


def need(args: JsonObject, name: str) -> Json:
    """A required argument.

    Raises:
        SlackRefusal: `invalid_arguments`, naming it.
    """
    if args.get(name) in (None, ""):
        raise SlackRefusal("invalid_arguments", (f"[ERROR] missing required field: {name}",))
    return args[name]


def flag(args: JsonObject, name: str) -> bool:
    """A boolean argument in any of the spellings forms and JSON use."""
    return str(args.get(name, "")).lower() in ("true", "1")


def optional(args: JsonObject, name: str) -> Json:
    """The argument, None when it is absent or empty."""
    return args.get(name) or None


def page(items: list[JsonObject], args: JsonObject, key: str) -> JsonObject:
    """Slack's cursor paging over a list."""
    limit = max(1, min(PAGE_MAX, int(args.get("limit") or PAGE_DEFAULT)))
    start = int(args.get("cursor") or 0)
    more = start + limit < len(items)
    return {
        key: items[start : start + limit],
        "has_more": more,
        "response_metadata": {"next_cursor": str(start + limit) if more else ""},
    }


def auth_test(w: Workspace, _args: JsonObject) -> JsonObject:
    return {
        "url": f"{w.public_url}/",
        "team": TEAM_DOMAIN,
        "user": w.users[BOT_USER_ID].name,
        "team_id": TEAM_ID,
        "user_id": BOT_USER_ID,
        "bot_id": BOT_ID,
        "app_id": APP_ID,
        "is_enterprise_install": False,
    }


def post_message(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"), to_write=True)
    message = w.post(
        channel.id,
        BOT_USER_ID,
        args.get("text") or "",
        args.get("blocks") or (),
        args.get("attachments") or (),
        thread_ts=optional(args, "thread_ts"),
        metadata=optional(args, "metadata"),
    )
    return {"channel": channel.id, "ts": message.ts, "message": w.message_json(message)}


def update(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"), to_write=True)
    message = w.update(
        channel.id,
        need(args, "ts"),
        text=args.get("text"),
        blocks=args.get("blocks"),
        attachments=args.get("attachments"),
        metadata=args.get("metadata"),
    )
    return {"channel": channel.id, "ts": message.ts, "text": message.text, "message": w.message_json(message)}


def post_ephemeral(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"), to_write=True)
    user = w.users.get(need(args, "user"))
    if user is None or user.deleted or user.team_id != TEAM_ID:
        raise SlackRefusal("user_not_in_channel")
    message = w.post(
        channel.id,
        BOT_USER_ID,
        args.get("text") or "",
        args.get("blocks") or (),
        args.get("attachments") or (),
        thread_ts=optional(args, "thread_ts"),
        visible_to=user.id,
    )
    return {"message_ts": message.ts}


def delete(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"))
    message = w.message(channel.id, need(args, "ts"))
    if not message.by_bot:
        raise SlackRefusal("cant_delete_message")
    w.put(replace(message, deleted=True))
    return {"channel": channel.id, "ts": message.ts}


def permalink(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"))
    message = w.message(channel.id, need(args, "message_ts"))
    link = f"{w.public_url}/archives/{channel.id}/p{message.ts.replace('.', '')}"
    if message.thread_ts:
        link += f"?thread_ts={message.thread_ts}&cid={channel.id}"
    return {"channel": channel.id, "permalink": link}


def _within(message: Message, args: JsonObject) -> bool:
    oldest, latest = float(args.get("oldest") or 0), float(args.get("latest") or "inf")
    at = float(message.ts)
    return oldest <= at <= latest if flag(args, "inclusive") else oldest < at < latest


def history(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"))
    if not channel.bot_is_member:
        raise SlackRefusal("not_in_channel")
    found = [m for m in w.messages[channel.id].values() if not m.deleted and not m.thread_ts and _within(m, args)]
    with_metadata = flag(args, "include_all_metadata")
    shown = [w.message_json(m, with_metadata=with_metadata) for m in reversed(found)]
    return page(shown, args, "messages")


def replies(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"))
    if not channel.bot_is_member:
        raise SlackRefusal("not_in_channel")
    ts = need(args, "ts")
    asked = w.messages[channel.id].get(ts)
    if asked is None or asked.deleted:
        raise SlackRefusal("thread_not_found")
    with_metadata = flag(args, "include_all_metadata")
    found = [m for m in w.thread(channel.id, asked.thread_ts or ts) if m.ts == ts or _within(m, args)]
    return page([w.message_json(m, with_metadata=with_metadata) for m in found], args, "messages")


def channel_info(w: Workspace, args: JsonObject) -> JsonObject:
    return {"channel": channel_json(w.channel(need(args, "channel")))}


def channel_list(w: Workspace, args: JsonObject) -> JsonObject:
    kinds = str(args.get("types") or "public_channel").split(",")
    hide_archived = flag(args, "exclude_archived")
    found = [
        channel_json(c)
        for c in w.channels.values()
        if ("private_channel" if c.is_private else "public_channel") in kinds
        and not (hide_archived and c.is_archived)
        and not (c.is_private and not c.bot_is_member)
    ]
    return page(found, args, "channels")


def join(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"))
    if channel.is_archived:
        raise SlackRefusal("is_archived")
    if channel.is_private:
        raise SlackRefusal("method_not_supported_for_channel_type")
    joined = replace(channel, bot_is_member=True)
    w.channels[channel.id] = joined
    w.changed()
    return {"channel": channel_json(joined)}


def open_direct(w: Workspace, args: JsonObject) -> JsonObject:
    """The direct conversation of the bot with one person; to open it twice changes nothing."""
    user = w.user(need(args, "users"))
    if user.is_bot:
        raise SlackRefusal("cannot_dm_bot")
    if user.deleted:
        raise SlackRefusal("user_disabled")
    direct = Channel(id=f"D{user.id[1:]}", name=user.name, is_private=True)
    w.messages.setdefault(direct.id, {})
    return {"channel": {"id": w.channels.setdefault(direct.id, direct).id}}


def user_info(w: Workspace, args: JsonObject) -> JsonObject:
    return {"user": user_json(w.user(need(args, "user")), w.clock())}


def user_list(w: Workspace, args: JsonObject) -> JsonObject:
    own = [u for u in w.users.values() if u.team_id == TEAM_ID and not u.is_stranger]
    return page([user_json(u, w.clock()) for u in own], args, "members")


def group_list(w: Workspace, args: JsonObject) -> JsonObject:
    shown: list[JsonObject] = []
    for group in w.usergroups.values():
        if group.disabled and not flag(args, "include_disabled"):
            continue
        entry = group_json(group)
        if flag(args, "include_users"):
            entry["users"] = list(group.users)
        shown.append(entry)
    return {"usergroups": shown}


def group_users(w: Workspace, args: JsonObject) -> JsonObject:
    group = w.usergroups.get(need(args, "usergroup"))
    if group is None or (group.disabled and not flag(args, "include_disabled")):
        raise SlackRefusal("no_such_subteam")
    return {"users": list(group.users)}


def react(w: Workspace, args: JsonObject) -> JsonObject:
    channel = w.channel(need(args, "channel"), to_write=True)
    message = w.message(channel.id, need(args, "timestamp"))
    mark = (str(need(args, "name")), BOT_USER_ID)
    if mark in message.reactions:
        raise SlackRefusal("already_reacted")
    w.put(replace(message, reactions=(*message.reactions, mark)))
    return {}


METHODS: dict[str, Method] = {
    "auth.test": Method(auth_test, tier=600),  # "special" tier of hundreds a minute
    "chat.postMessage": Method(post_message, "chat:write", tier=600, posts=True),
    "chat.update": Method(update, "chat:write"),
    "chat.postEphemeral": Method(post_ephemeral, "chat:write", tier=faults.TIER_4),
    "chat.delete": Method(delete, "chat:write"),
    "chat.getPermalink": Method(permalink, tier=600),
    "conversations.history": Method(history, "channels:history"),
    "conversations.replies": Method(replies, "channels:history"),
    "conversations.info": Method(channel_info, "channels:read"),
    "conversations.list": Method(channel_list, "channels:read", tier=faults.TIER_2),
    "conversations.open": Method(open_direct, "im:write"),
    "conversations.join": Method(join, "channels:join"),
    "users.info": Method(user_info, "users:read", tier=faults.TIER_4),
    "users.list": Method(user_list, "users:read", tier=faults.TIER_2),
    "usergroups.list": Method(group_list, "usergroups:read", tier=faults.TIER_2),
    "usergroups.users.list": Method(group_users, "usergroups:read", tier=faults.TIER_2),
    "reactions.add": Method(react, "reactions:write"),
}
"""Scopes and tiers: docs.slack.dev/reference/methods, each method's page."""
