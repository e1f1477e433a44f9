r"""The one place that makes text from outside safe to show in Slack.

Text from outside stands in `plain_text` objects and rich-text `text` leaves, where Slack parses nothing; only the top-level fallback `text` of a
message is parsed as mrkdwn, and there `&`, `<` and `>` are escaped (api.slack.com/reference/surfaces/formatting). Characters that cannot be seen or that turn the
reading direction are shown as `\u202e`; what is too long is cut with a mark that says how much there was.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from bot.adapters.visible import visible

TEXT_LIMIT: Final = 2_800
"""Characters of one text object: Slack's 3,000 for a section with room for a mark (reference/chatops.md 5)."""
HEADER_LIMIT: Final = 150
"""Slack's limit of a header block."""
FALLBACK_LIMIT: Final = 2_000
"""Characters of the top-level `text`; chat.update refuses more than 4,000."""

_MARK: Final = re.compile(r"… \(cut, [0-9,]+ characters\)\Z")


def escape(text: str) -> str:
    """Return `text` with Slack's three control characters escaped, so that mrkdwn has no mention and no link in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def weight(text: str) -> int:
    """Return the most characters Slack can count for `text`: escaped, in UTF-16 units."""
    return len(escape(text).encode("utf-16-le", "surrogatepass")) // 2


def safe(text: str, limit: int = TEXT_LIMIT, *, lines: bool = False) -> str:
    """Return `text` made visible and cut so that Slack counts at most `limit` characters; never empty."""
    shown = visible(text[: limit + 1], lines=lines)
    if len(text) <= limit and weight(shown) <= limit:
        return shown or "(empty)"
    return _cut(shown, limit, f"… (cut, {len(text):,} characters)")


def shorten(shown: str, limit: int) -> str:
    """Cut text that `safe` has made to a smaller limit; a mark that is already there keeps its number."""
    if weight(shown) <= limit:
        return shown
    earlier = _MARK.search(shown)
    return _cut(shown, limit, earlier.group() if earlier else f"… (cut, {len(shown):,} characters)")


def fallback(text: str) -> str:
    """Return the top-level `text` of a message: what notifications and screen readers get, and the one place that is parsed as mrkdwn."""
    return escape(safe(text, FALLBACK_LIMIT))


def date(moment: datetime, form: str = "{date_short_pretty} {time}") -> str:
    """Return mrkdwn that every reader sees in their own time zone. The only `<!…>` that natsmedic ever sends."""
    return f"<!date^{int(moment.timestamp())}^{form}|{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC>"


def _cut(shown: str, limit: int, mark: str) -> str:
    ending = mark if weight(mark) < limit else "…"
    return _head(shown, limit - weight(ending)) + ending


def _head(text: str, room: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += weight(char)
        if used > room:
            return text[:index]
    return text
