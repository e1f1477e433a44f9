"""Block Kit pieces. Every function that takes text from outside passes it through `bot.adapters.slack.text`; `ours` is the one that does not."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, cast

from bot.adapters.slack.text import HEADER_LIMIT, TEXT_LIMIT, safe, shorten, weight
from bot.model import Json, JsonObject

Block = JsonObject
Leaf = JsonObject
"""A rich-text leaf: text, user, date."""

MESSAGE_TEXT_BUDGET: Final = 12_000
"""Characters of all texts of one message: above about 13,200 Slack answers msg_blocks_too_long (reference/chatops.md 5)."""
VIEW_TEXT_BUDGET: Final = 28_000
"""Characters of all texts of a modal: below the 250 kB of a view's JSON even where each takes the six bytes of `\\u202e`."""
MESSAGE_BLOCKS: Final = 50
VIEW_BLOCKS: Final = 100
BUTTON_TEXT_LIMIT: Final = 75
_USER_ID: Final = re.compile(r"[UW][A-Z0-9]{2,20}")


def plain(content: str, limit: int = TEXT_LIMIT) -> JsonObject:
    """A plain_text object: Slack parses nothing in it, not even emoji names."""
    return {"type": "plain_text", "text": safe(content, limit), "emoji": False}


def header(content: str) -> Block:
    return {"type": "header", "text": plain(content, HEADER_LIMIT)}


def text(content: str, limit: int = TEXT_LIMIT, *, lines: bool = False) -> Leaf:
    return {"type": "text", "text": safe(content, limit, lines=lines)}


def bold(content: str, limit: int = TEXT_LIMIT) -> Leaf:
    return {**text(content, limit), "style": {"bold": True}}


def code(content: str, limit: int = TEXT_LIMIT) -> Leaf:
    return {**text(content, limit), "style": {"code": True}}


def user(user_id: str) -> Leaf:
    """The name of a person who acted in Slack, from the stored identity of their click; anything that is no user id stays text."""
    return {"type": "user", "user_id": user_id} if _USER_ID.fullmatch(user_id) else text(user_id, 60)


def usergroup(group_id: str) -> Leaf:
    """Mention a Slack user group; the id comes from the settings, never from data."""
    return {"type": "usergroup", "usergroup_id": group_id}


def link(address: str, label: str) -> Leaf:
    """A link to a message. The address is what Slack's own API answered, never data; anything but a web page stays text."""
    if not address.startswith(("https://", "http://127.0.0.1:")):
        return text(label)
    return {"type": "link", "url": address, "text": safe(label)}


def moment(at: datetime) -> Leaf:
    """A clock time in the reader's own time zone."""
    return {
        "type": "date",
        "timestamp": int(at.timestamp()),
        "format": "{date_short_pretty} {time_secs}",
        "fallback": f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }


def paragraph(*leaves: Leaf) -> JsonObject:
    return {"type": "rich_text_section", "elements": list(leaves)}


def preformatted(content: str, limit: int = TEXT_LIMIT) -> JsonObject:
    return {"type": "rich_text_preformatted", "elements": [text(content, limit, lines=True)]}


def bullets(items: Iterable[Sequence[Leaf]]) -> JsonObject:
    return {"type": "rich_text_list", "style": "bullet", "elements": [paragraph(*leaves) for leaves in items]}


def rich(*parts: JsonObject) -> Block:
    return {"type": "rich_text", "elements": list(parts)}


def ours(mrkdwn: str) -> Block:
    """A context line of natsmedic's own words and dates. Never give it text from outside."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": mrkdwn, "verbatim": True}]}


def small(content: str, limit: int = TEXT_LIMIT) -> Block:
    return {"type": "context", "elements": [plain(content, limit)]}


def divider() -> Block:
    return {"type": "divider"}


def button(action_id: str, label: str, value: str, style: str | None = None) -> JsonObject:
    """A button; `value` is an opaque id and nothing else."""
    made: JsonObject = {
        "type": "button",
        "action_id": action_id,
        "text": plain(label, BUTTON_TEXT_LIMIT),
        "value": value,
    }
    return made | ({"style": style} if style else {})


def actions(block_id: str, *elements: JsonObject) -> Block:
    return {"type": "actions", "block_id": block_id, "elements": list(elements)}


def fit(
    blocks: Sequence[Block], budget: int = MESSAGE_TEXT_BUDGET, most: int = MESSAGE_BLOCKS
) -> tuple[tuple[Block, ...], bool]:
    """Return `blocks` cut to Slack's sum of texts and number of blocks, and whether anything had to go. The longest texts are cut first."""
    kept = copy.deepcopy(list(blocks))
    dropped = len(kept) > most
    if dropped:
        kept = [*kept[: most - 1], small(f"… (cut, {len(blocks) - most + 1} more parts)")]
    leaves = list(_texts(kept))
    weights = sorted(weight(leaf["text"]) for leaf in leaves)
    if sum(weights) <= budget:
        return tuple(kept), dropped
    level = _level(weights, budget)
    for leaf in leaves:
        if leaf["type"] != "mrkdwn" and weight(leaf["text"]) > level:
            leaf["text"] = shorten(leaf["text"], level)
    return tuple(kept), True


def _level(weights: Sequence[int], budget: int) -> int:
    """The largest limit per text under which all texts together stay within the budget. `weights` ascend."""
    left = budget
    for index, one in enumerate(weights):
        share = left // (len(weights) - index)
        if one > share:
            return share
        left -= one
    return max(weights, default=0)


def _texts(value: Json) -> Iterator[JsonObject]:
    """Every object that shows text, depth first."""
    if isinstance(value, dict):
        found = cast("JsonObject", value)  # Block Kit is what this module built: JSON
        if isinstance(found.get("text"), str):
            yield found
        for part in found.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in cast("list[Json]", value):
            yield from _texts(part)
