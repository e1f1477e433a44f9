"""A thread as plain text, as a person reads it in Slack.

Only what Slack would treat as a mention or a link becomes one: `<@U1>` reads `@name`, `<https://x|docs>` reads
`docs (https://x)`, while the escaped `&lt;!channel&gt;` reads `<!channel>`. Control, zero-width and bidi characters
are shown as `⟦U+202E⟧`, so that the text is safe on a terminal and hides nothing.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from bot.lab.slack.records import Message, is_object
from bot.lab.slack.workspace import Workspace
from bot.model.base import Json, JsonObject

_TOKEN = re.compile(r"<([^<>]+)>")
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
_STYLED = re.compile(r"(?<![\w*_~])([*_~])(?=\S)([^\n]+?)(?<=\S)\1(?![\w*_~])")
_EMOJI_NAME = re.compile(r":([a-z0-9_+-]{2,40}):")
_EMOJI_FILE = Path(__file__).parent / "static" / "emoji.json"
_ASIDE = re.compile(r"\x00(\d+)\x00")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs"})  # control, format (bidi, zero width), private, surrogate
_HARMLESS = frozenset("\n\t\u200d\ufe0f")  # the last two join emoji


def visible(text: str) -> str:
    """The text with every character nobody can see written out."""
    return "".join(
        f"⟦U+{ord(char):04X}⟧" if unicodedata.category(char) in _HIDDEN_CATEGORIES and char not in _HARMLESS else char
        for char in text
    )


def unescaped(text: str) -> str:
    """`&lt; &gt; &amp;` as the characters they stand for."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def mentions(text: str) -> list[str]:
    """The ids and broadcasts this mrkdwn text would really notify: `U1`, `S1`, `!channel`."""
    found = [token.split("|")[0] for token in _TOKEN.findall(_CODE.sub("", text))]
    broadcasts = [t for t in found if t in ("!channel", "!here", "!everyone")]
    groups = [t.removeprefix("!subteam^") for t in found if t.startswith("!subteam^")]
    return [t[1:] for t in found if t.startswith("@")] + groups + broadcasts


class Renderer:
    """Draws messages with the names of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.emoji: dict[str, str] = json.loads(_EMOJI_FILE.read_text(encoding="utf-8"))

    def _name(self, user_id: str) -> str:
        user = self.workspace.users.get(user_id)
        return user.display if user else user_id

    def _token(self, token: str) -> str:
        body, _, label = token.partition("|")
        if body.startswith("@"):
            return f"@{self._name(body[1:])}"
        if body.startswith("#"):
            channel = self.workspace.channels.get(body[1:])
            return f"#{channel.name if channel else label or body[1:]}"
        if body.startswith("!subteam^"):
            group = self.workspace.usergroups.get(body.removeprefix("!subteam^"))
            return f"@{group.handle}" if group else f"@{body}"
        if body.startswith("!date^"):
            return label or body
        if body in ("!channel", "!here", "!everyone"):
            return f"@{body[1:]}"
        return f"{label} ({body})" if label and label != body else body

    def _with_emoji(self, text: str) -> str:
        return _EMOJI_NAME.sub(lambda found: self.emoji.get(found[1], found[0]), text)

    def mrkdwn(self, text: str) -> str:
        """Slack's markup as plain text."""
        code: list[str] = []

        def set_aside(found: re.Match[str]) -> str:
            code.append(found[0])
            return f"\x00{len(code) - 1}\x00"  # cannot be in the text: `visible` has written NUL out

        body = _CODE.sub(set_aside, visible(text))
        for _ in range(3):  # bold italic struck text nests at most three deep
            body = _STYLED.sub(r"\2", body)
        body = self._with_emoji(_TOKEN.sub(lambda found: self._token(found[1]), body))
        return unescaped(_ASIDE.sub(lambda found: code[int(found[1])], body))

    def text(self, value: Json) -> str:
        """A text object: markup for mrkdwn, the very characters for plain text."""
        if not is_object(value):
            return ""
        found = value
        body = str(found.get("text", ""))
        return self.mrkdwn(body) if found.get("type") == "mrkdwn" else self._with_emoji(visible(body))

    def element(self, part: JsonObject) -> str:
        """A button as `[Approve]`, a menu as `[Choose ▾]`, an image as its description."""
        match part.get("type"):
            case "button":
                return f"[{self.text(part.get('text'))}]"
            case "image":
                return f"(image: {visible(str(part.get('alt_text', '')))})"
            case "mrkdwn" | "plain_text":
                return self.text(part)
            case "checkboxes" | "radio_buttons":
                return " ".join(f"( ) {self.text(option['text'])}" for option in part["options"])
            case _:
                return f"[{self.text(part.get('placeholder')) or 'choose'} ▾]"

    def _leaf(self, leaf: JsonObject) -> str:
        kind = leaf.get("type")
        if kind == "text":
            return visible(leaf["text"])
        if kind == "link":
            label = visible(str(leaf.get("text") or leaf["url"]))
            return label if label == leaf["url"] else f"{label} ({visible(leaf['url'])})"
        if kind == "date":
            return visible(str(leaf.get("fallback") or datetime.fromtimestamp(leaf["timestamp"], UTC).isoformat()))
        named = {
            "user": lambda: f"@{self._name(leaf['user_id'])}",
            "usergroup": lambda: self._token(f"!subteam^{leaf['usergroup_id']}"),
            "channel": lambda: self._token(f"#{leaf['channel_id']}"),
            "broadcast": lambda: f"@{leaf['range']}",
            "emoji": lambda: self._with_emoji(f":{leaf['name']}:"),
        }.get(str(kind))
        return named() if named is not None else f"({kind})"

    def rich_text(self, parts: Iterable[JsonObject]) -> list[str]:
        """The lines of a rich_text block."""
        lines: list[str] = []
        for part in parts:
            if part["type"] == "rich_text_list":
                for number, item in enumerate(part["elements"], start=1):
                    mark = f"{number}." if part.get("style") == "ordered" else "•"
                    lines.append(
                        "  " * int(part.get("indent", 0)) + f"{mark} " + "".join(map(self._leaf, item["elements"]))
                    )
                continue
            body = "".join(self._leaf(leaf) for leaf in part.get("elements", [])).rstrip("\n")
            prefix = {"rich_text_quote": "> ", "rich_text_preformatted": "    "}.get(part["type"], "")
            lines += [prefix + line for line in body.split("\n")]
        return lines

    def _section(self, block: JsonObject) -> list[str]:
        lines = self.text(block.get("text")).split("\n") if "text" in block else []
        lines += [line for part in block.get("fields", []) for line in self.text(part).split("\n")]
        return lines + ([self.element(block["accessory"])] if "accessory" in block else [])

    def block(self, block: JsonObject) -> list[str]:
        """The lines of one block."""
        draw: dict[str, Callable[[], list[str]]] = {
            "header": lambda: [f"## {self.text(block['text'])}"],
            "section": lambda: self._section(block),
            "context": lambda: ["· " + " · ".join(self.element(part) for part in block["elements"])],
            "actions": lambda: [" ".join(self.element(part) for part in block["elements"])],
            "divider": lambda: ["———"],
            "image": lambda: [self.element(block)],
            "markdown": lambda: visible(block["text"]).split("\n"),
            "rich_text": lambda: self.rich_text(block["elements"]),
            "table": lambda: [" | ".join(self._cell(cell) for cell in row) for row in block["rows"]],
            "input": lambda: [f"{self.text(block['label'])}: ____"],
        }
        known = draw.get(block["type"])
        return known() if known is not None else [f"({block['type']})"]

    def _cell(self, cell: JsonObject) -> str:
        return visible(cell["text"]) if cell["type"] == "raw_text" else " ".join(self.rich_text(cell["elements"]))

    def message(self, message: Message) -> list[str]:
        """The lines of one message, its author first."""
        marks = " (edited)" if message.edited_at is not None else ""
        marks += " — only visible to you" if message.visible_to else ""
        lines = [f"{self._name(message.user)}{marks}:"]
        if not message.blocks and message.text:
            lines += self.mrkdwn(message.text).split("\n")
        for block in message.blocks:
            lines += self.block(block)
        for attachment in message.attachments:
            inner = [line for block in attachment.get("blocks", []) for line in self.block(block)]
            shown = inner or self.mrkdwn(str(attachment.get("text") or attachment.get("fallback", ""))).split("\n")
            lines += ["┃ " + line for line in shown]
        for file_id in message.files:
            file = self.workspace.files[file_id]
            picture = file.name.endswith(".png")
            about = visible(file.alt_text) if picture else f"{file.length} bytes"
            lines.append(f"{'🖼️' if picture else '📎'} {visible(file.title or file.name)} ({about})")
        return [lines[0], *("  " + line for line in lines[1:])]

    def channel(self, channel_id: str, *, for_user: str | None = None) -> str:
        """A whole channel: each message followed by its thread, indented."""
        stored = [m for m in self.workspace.messages.get(channel_id, {}).values() if not m.deleted]
        private = [m for m in self.workspace.ephemerals if m.channel == channel_id and m.visible_to == for_user]
        lines: list[str] = []
        everything = sorted((*stored, *private), key=lambda m: m.ts)
        for parent in (m for m in everything if m.thread_ts is None):
            lines += self.message(parent)
            for reply in (m for m in everything if m.thread_ts == parent.ts):
                lines += ["    " + line for line in self.message(reply)]
            lines.append("")
        return "\n".join(lines).rstrip() + "\n" if lines else ""
