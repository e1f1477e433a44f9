"""Slack's limits on messages and views, refused with Slack's own error strings.

Numbers: reference/chatops.md, section 5 (constants of python-slack-sdk 3.43 and Slack's pages). The wording of the
reasons in `response_metadata.messages` follows what Slack answers (`[ERROR] ... [json-pointer:/blocks/0/text]`).
"""

import json
from dataclasses import dataclass, field

from bot.lab.slack.records import SlackRefusal, is_array, is_object
from bot.model.base import Json, JsonObject

MESSAGE_BLOCKS_MAX = 50
VIEW_BLOCKS_MAX = 100
SECTION_TEXT_MAX = 3000
FIELDS_MAX = 10
FIELD_TEXT_MAX = 2000
HEADER_MAX = 150
MARKDOWN_MAX = 12_000
CONTEXT_ELEMENTS_MAX = 10
ACTIONS_ELEMENTS_MAX = 25
BUTTON_TEXT_MAX = 75
BUTTON_VALUE_MAX = 2000
URL_MAX = 3000
ID_MAX = 255
OPTIONS_MAX = 100
CHECKS_MAX = 10
OPTION_TEXT_MAX = 75
OPTION_VALUE_MAX = 150
PLACEHOLDER_MAX = 150
INPUT_LABEL_MAX = 2000
CONFIRM_LIMITS = {"title": 100, "text": 300, "confirm": 30, "deny": 30}
ALT_TEXT_MAX = 2000
TABLE_ROWS_MAX = 100
TABLE_COLUMNS_MAX = 20
ATTACHMENTS_MAX = 100
POST_TEXT_MAX = 40_000
UPDATE_TEXT_MAX = 4000
VIEW_TITLE_MAX = 24
PRIVATE_METADATA_MAX = 3000
VIEW_BYTES_MAX = 250_000
BLOCKS_TEXT_SUM_MAX = 13_200  # undocumented: slackapi/bolt-js issue 2509

SELECTS = frozenset({"static_select", "multi_static_select"})
CHECKS = frozenset({"checkboxes", "radio_buttons"})
PICKERS = frozenset(
    {
        "users_select",
        "multi_users_select",
        "conversations_select",
        "channels_select",
        "external_select",
        "datepicker",
        "timepicker",
        "datetimepicker",
    }
)
TYPED = frozenset({"plain_text_input", "number_input", "email_text_input", "url_text_input", "rich_text_input"})
IN_ACTIONS = SELECTS | CHECKS | PICKERS | {"button", "overflow", "workflow_button"}
IN_INPUT = SELECTS | CHECKS | PICKERS | TYPED | {"file_input"}
RICH_TEXT_PARTS = frozenset({"rich_text_section", "rich_text_list", "rich_text_preformatted", "rich_text_quote"})
RICH_TEXT_LEAVES = frozenset({"text", "link", "user", "usergroup", "channel", "broadcast", "emoji", "date", "color"})
UNCHECKED_BLOCKS = frozenset({"divider", "file", "video"})
PLAIN = ("plain_text",)
ANY_TEXT = ("plain_text", "mrkdwn")


@dataclass(slots=True)
class _Check:
    """Collects every reason against one list of blocks."""

    root: str
    reasons: list[str] = field(default_factory=list[str])
    block_ids: set[str] = field(default_factory=set[str])
    tables: int = 0

    def refuse(self, reason: str, pointer: str) -> None:
        self.reasons.append(f"[ERROR] {reason} [json-pointer:{pointer}]")

    def string(self, value: Json, limit: int, at: str, least: int = 0) -> None:
        if not isinstance(value, str):
            self.refuse("must be a string", at)
        elif len(value) > limit:
            self.refuse(f"must be less than {limit + 1} characters", at)
        elif len(value) < least:
            self.refuse(f"must be more than {least - 1} characters", at)

    def text(self, value: Json, limit: int, at: str, kinds: tuple[str, ...] = ANY_TEXT) -> None:
        if not is_object(value):
            self.refuse("must provide an object", at)
        elif value.get("type") not in kinds:
            self.refuse(f"must be one of: {', '.join(kinds)}", f"{at}/type")
        else:
            self.string(value.get("text"), limit, f"{at}/text", least=1)

    def required(self, holder: JsonObject, name: str, at: str) -> bool:
        if name not in holder:
            self.refuse(f"missing required field: {name}", at)
        return name in holder

    def items(self, value: Json, most: int, at: str, least: int = 1) -> list[JsonObject]:
        if not is_array(value):
            self.refuse("must provide an array", at)
            return []
        found = value
        if len(found) > most:
            self.refuse(f"no more than {most} items allowed", at)
        if len(found) < least:
            self.refuse(f"no fewer than {least} items allowed", at)
        return found

    def blocks(self, value: Json, most: int, least: int = 0) -> None:
        for index, block in enumerate(self.items(value, most, self.root, least)):
            at = f"{self.root}/{index}"
            if not is_object(block):
                self.refuse("must provide an object", at)
                continue
            block_id: Json = block.get("block_id")
            if block_id is not None:
                self.string(block_id, ID_MAX, f"{at}/block_id")
                if block_id in self.block_ids:
                    self.refuse(f"`block_id`: {block_id} already exists", f"{at}/block_id")
                self.block_ids.add(str(block_id))
            self.block(block, at)

    def block(self, block: JsonObject, at: str) -> None:
        kind = block.get("type")
        check = {
            "section": self.section,
            "header": self.header,
            "context": self.context,
            "actions": self.actions,
            "image": self.image,
            "input": self.input,
            "markdown": self.markdown,
            "rich_text": self.rich_text,
            "table": self.table,
        }.get(str(kind))
        if check is not None:
            check(block, at)
        elif kind not in UNCHECKED_BLOCKS:
            self.refuse(f"unsupported type: {kind}", f"{at}/type")

    def header(self, block: JsonObject, at: str) -> None:
        if self.required(block, "text", at):
            self.text(block["text"], HEADER_MAX, f"{at}/text", PLAIN)

    def context(self, block: JsonObject, at: str) -> None:
        for index, part in enumerate(self.items(block.get("elements"), CONTEXT_ELEMENTS_MAX, f"{at}/elements")):
            if part.get("type") == "image":
                self.image(part, f"{at}/elements/{index}")
            else:
                self.text(part, SECTION_TEXT_MAX, f"{at}/elements/{index}")

    def actions(self, block: JsonObject, at: str) -> None:
        for index, part in enumerate(self.items(block.get("elements"), ACTIONS_ELEMENTS_MAX, f"{at}/elements")):
            self.element(part, f"{at}/elements/{index}", IN_ACTIONS)
        self.distinct_action_ids(block.get("elements"), at)

    def markdown(self, block: JsonObject, at: str) -> None:
        self.string(block.get("text"), MARKDOWN_MAX, f"{at}/text", least=1)

    def rich_text(self, block: JsonObject, at: str) -> None:
        self.rich_text_parts(block.get("elements"), f"{at}/elements")

    def section(self, block: JsonObject, at: str) -> None:
        if "text" not in block and "fields" not in block:
            self.refuse("missing required field: text or fields", at)
        if "text" in block:
            self.text(block["text"], SECTION_TEXT_MAX, f"{at}/text")
        if "fields" in block:
            for index, part in enumerate(self.items(block["fields"], FIELDS_MAX, f"{at}/fields")):
                self.text(part, FIELD_TEXT_MAX, f"{at}/fields/{index}")
        if "accessory" in block:
            self.element(block["accessory"], f"{at}/accessory", IN_ACTIONS | {"image"})

    def distinct_action_ids(self, elements: Json, at: str) -> None:
        seen: set[str] = set()
        parts: list[JsonObject] = elements if is_array(elements) else []
        for part in parts:
            action_id = part.get("action_id")
            if action_id in seen:
                self.refuse(f"`action_id`: {action_id} already exists", at)
            if action_id is not None:
                seen.add(action_id)

    def element(self, element: JsonObject, at: str, allowed: frozenset[str]) -> None:
        kind = element.get("type")
        if kind not in allowed:
            self.refuse(f"unsupported type: {kind}", f"{at}/type")
            return
        if "action_id" in element:
            self.string(element["action_id"], ID_MAX, f"{at}/action_id")
        if "confirm" in element:
            for name, limit in CONFIRM_LIMITS.items():
                if name in element["confirm"]:
                    kinds = ANY_TEXT if name == "text" else PLAIN
                    self.text(element["confirm"][name], limit, f"{at}/confirm/{name}", kinds)
        if "placeholder" in element:
            self.text(element["placeholder"], PLACEHOLDER_MAX, f"{at}/placeholder", PLAIN)
        if kind == "button":
            self.button(element, at)
        elif kind == "image":
            self.image(element, at)
        elif kind in SELECTS and "options" in element:
            self.options(element["options"], OPTIONS_MAX, f"{at}/options", PLAIN)
        elif kind in CHECKS or kind == "overflow":
            self.options(element.get("options"), CHECKS_MAX, f"{at}/options", PLAIN if kind == "overflow" else ANY_TEXT)

    def button(self, button: JsonObject, at: str) -> None:
        if self.required(button, "text", at):
            self.text(button["text"], BUTTON_TEXT_MAX, f"{at}/text", PLAIN)
        if "value" in button:
            self.string(button["value"], BUTTON_VALUE_MAX, f"{at}/value")
        if "url" in button:
            self.string(button["url"], URL_MAX, f"{at}/url")
        if button.get("style") not in (None, "primary", "danger"):
            self.refuse("must be one of: primary, danger", f"{at}/style")

    def options(self, value: Json, most: int, at: str, kinds: tuple[str, ...]) -> None:
        for index, option in enumerate(self.items(value, most, at)):
            self.text(option.get("text"), OPTION_TEXT_MAX, f"{at}/{index}/text", kinds)
            self.string(option.get("value"), OPTION_VALUE_MAX, f"{at}/{index}/value")

    def image(self, image: JsonObject, at: str) -> None:
        if "image_url" not in image and "slack_file" not in image:
            self.refuse("missing required field: image_url", at)
        if "image_url" in image:
            self.string(image["image_url"], URL_MAX, f"{at}/image_url", least=1)
        if self.required(image, "alt_text", at):
            self.string(image["alt_text"], ALT_TEXT_MAX, f"{at}/alt_text")
        if image.get("title") is not None:
            self.text(image["title"], ALT_TEXT_MAX, f"{at}/title", PLAIN)

    def input(self, block: JsonObject, at: str) -> None:
        if self.required(block, "label", at):
            self.text(block["label"], INPUT_LABEL_MAX, f"{at}/label", PLAIN)
        if block.get("hint") is not None:
            self.text(block["hint"], INPUT_LABEL_MAX, f"{at}/hint", PLAIN)
        if self.required(block, "element", at):
            self.element(block["element"], f"{at}/element", IN_INPUT)

    def rich_text_parts(self, elements: Json, at: str) -> None:
        for index, part in enumerate(self.items(elements, ID_MAX, at, least=0)):
            here = f"{at}/{index}"
            kind = part.get("type")
            if kind not in RICH_TEXT_PARTS:
                self.refuse(f"unsupported type: {kind}", f"{here}/type")
            elif kind == "rich_text_list":
                self.rich_text_parts(part.get("elements"), f"{here}/elements")
            else:
                for number, leaf in enumerate(self.items(part.get("elements"), ID_MAX * 4, f"{here}/elements", 0)):
                    if leaf.get("type") not in RICH_TEXT_LEAVES:
                        self.refuse(f"unsupported type: {leaf.get('type')}", f"{here}/elements/{number}/type")
                    elif leaf["type"] == "text":
                        self.string(leaf.get("text"), BLOCKS_TEXT_SUM_MAX, f"{here}/elements/{number}/text", least=1)

    def table(self, block: JsonObject, at: str) -> None:
        self.tables += 1
        if self.tables > 1:
            self.refuse("only one table allowed", at)
        for index, row in enumerate(self.items(block.get("rows"), TABLE_ROWS_MAX, f"{at}/rows")):
            for number, cell in enumerate(self.items(row, TABLE_COLUMNS_MAX, f"{at}/rows/{index}")):
                if cell.get("type") not in ("raw_text", "rich_text"):
                    self.refuse("must be one of: raw_text, rich_text", f"{at}/rows/{index}/{number}/type")
                elif cell["type"] == "raw_text":
                    self.string(cell.get("text"), SECTION_TEXT_MAX, f"{at}/rows/{index}/{number}/text", least=1)


def block_text_length(value: Json) -> int:
    """Characters of all `text` strings anywhere in the blocks."""
    if is_object(value):
        own = len(value["text"]) if isinstance(value.get("text"), str) else 0
        return own + sum(block_text_length(part) for part in value.values())
    if is_array(value):
        return sum(block_text_length(part) for part in value)
    return 0


def check_message(blocks: list[JsonObject], attachments: list[JsonObject]) -> None:
    """Refuses a message Slack would refuse.

    Raises:
        SlackRefusal: `invalid_blocks`, `invalid_attachments`, `too_many_attachments` or `msg_blocks_too_long`.
    """
    check = _Check("/blocks")
    check.blocks(blocks, MESSAGE_BLOCKS_MAX)
    if check.reasons:
        raise SlackRefusal("invalid_blocks", tuple(check.reasons))
    if len(attachments) > ATTACHMENTS_MAX:
        raise SlackRefusal("too_many_attachments")
    for index, attachment in enumerate(attachments):
        inner = _Check(f"/attachments/{index}/blocks")
        inner.blocks(attachment.get("blocks", []), MESSAGE_BLOCKS_MAX)
        if inner.reasons:
            raise SlackRefusal("invalid_attachments", tuple(inner.reasons))
    if block_text_length(blocks) + block_text_length(attachments) > BLOCKS_TEXT_SUM_MAX:
        raise SlackRefusal("msg_blocks_too_long")


def check_metadata(metadata: Json) -> None:
    """Refuses message metadata without `event_type` (string) and `event_payload` (object).

    Raises:
        SlackRefusal: `invalid_metadata_format`.
    """
    if not is_object(metadata):
        raise SlackRefusal("invalid_metadata_format")
    if metadata and not (isinstance(metadata.get("event_type"), str) and is_object(metadata.get("event_payload"))):
        raise SlackRefusal("invalid_metadata_format")


def check_view(view: Json) -> None:
    """Refuses a modal or App Home Slack would refuse.

    Raises:
        SlackRefusal: `view_too_large`, or `invalid_arguments` with the reasons.
    """
    if not is_object(view):
        raise SlackRefusal("invalid_arguments", ("[ERROR] must provide an object [json-pointer:/view]",))
    body = view
    if len(json.dumps(body).encode()) > VIEW_BYTES_MAX:
        raise SlackRefusal("view_too_large")
    check = _Check("/view/blocks")
    if body.get("type") not in ("modal", "home"):
        check.refuse("must be one of: modal, home", "/view/type")
    if body.get("type") == "modal":
        if check.required(body, "title", "/view"):
            check.text(body["title"], VIEW_TITLE_MAX, "/view/title", PLAIN)
        for name in ("submit", "close"):
            if body.get(name) is not None:
                check.text(body[name], VIEW_TITLE_MAX, f"/view/{name}", PLAIN)
    check.string(body.get("private_metadata", ""), PRIVATE_METADATA_MAX, "/view/private_metadata")
    check.string(body.get("callback_id", ""), ID_MAX, "/view/callback_id")
    check.blocks(body.get("blocks"), VIEW_BLOCKS_MAX)
    blocks: list[JsonObject] = body["blocks"] if is_array(body.get("blocks")) else []
    if body.get("type") == "modal" and body.get("submit") is None and any(b.get("type") == "input" for b in blocks):
        check.refuse("missing required field: submit", "/view")
    if check.reasons:
        raise SlackRefusal("invalid_arguments", tuple(check.reasons))
