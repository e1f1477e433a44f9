"""Finding buttons and fields in blocks, and filling fields in as a person does."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bot.lab.slack.records import ImpossibleGesture, is_array
from bot.model.base import Json, JsonObject

REQUIRED = "Please complete this required field."  # Slack's own window says this
SINGLE_CHOICE = frozenset({"static_select", "radio_buttons", "overflow"})
MANY_CHOICES = frozenset({"multi_static_select", "checkboxes"})
PICKED_AS = {
    "users_select": "selected_user",
    "multi_users_select": "selected_users",
    "conversations_select": "selected_conversation",
    "channels_select": "selected_channel",
    "datepicker": "selected_date",
    "timepicker": "selected_time",
    "datetimepicker": "selected_date_time",
}


@dataclass(frozen=True, slots=True)
class Found:
    """An interactive element and the block it stands in."""

    block_id: str
    element: JsonObject

    def action(self, choice: Json, action_ts: str) -> JsonObject:
        """The entry of `actions` in a block_actions payload."""
        copied = ("type", "action_id", "text", "value", "style", "url")
        entry = {name: self.element[name] for name in copied if name in self.element}
        entry |= {"block_id": self.block_id, "action_ts": action_ts}
        return entry if self.element["type"] == "button" else entry | chosen(self.element, choice)


def elements(blocks: Iterable[JsonObject]) -> Iterator[Found]:
    """Every interactive element of the blocks, in reading order."""
    for block in blocks:
        parts: list[JsonObject] = list(block.get("elements", [])) if block["type"] == "actions" else []
        parts += [block[name] for name in ("accessory", "element") if name in block]
        for part in parts:
            if part.get("type") != "image":
                yield Found(block["block_id"], part)


def find_element(blocks: Iterable[JsonObject], what: str, block_id: str | None) -> Found | None:
    """The element with this action id or this text on it, within one block if `block_id` is given."""
    offered = [f for f in elements(blocks) if block_id in (None, f.block_id)]
    by_id = (f for f in offered if f.element.get("action_id") == what)
    by_text = (f for f in offered if f.element.get("text", {}).get("text") == what)
    return next(by_id, None) or next(by_text, None)


def _option(element: JsonObject, wanted: Json) -> JsonObject:
    options: list[JsonObject] = list(element.get("options", []))
    for group in element.get("option_groups", []):
        options += group["options"]
    for option in options:
        if wanted in (option["value"], option["text"]["text"]):
            return {"text": option["text"], "value": option["value"]}
    raise ImpossibleGesture(f"{wanted!r} is not among the choices of {element.get('action_id')}")


def chosen(element: JsonObject, value: Json) -> JsonObject:
    """What a field holds, in the form of `view.state.values`; None keeps what it starts with.

    Raises:
        ImpossibleGesture: the choice is not on offer.
    """
    kind = element["type"]
    if kind in SINGLE_CHOICE:
        option = _option(element, value) if value is not None else element.get("initial_option")
        return {"type": kind, "selected_option": option}
    if kind in MANY_CHOICES:
        wanted: list[Json] = value if is_array(value) else [value]
        picked = [_option(element, one) for one in wanted] if value is not None else element.get("initial_options", [])
        return {"type": kind, "selected_options": picked}
    if kind in PICKED_AS:
        name = PICKED_AS[kind]
        return {"type": kind, name: value if value is not None else element.get(name.replace("selected", "initial"))}
    typed = value if value is not None else element.get("initial_value")
    return {"type": kind, "value": None if typed in (None, "") else str(typed)}


def state_values(blocks: Iterable[JsonObject], values: JsonObject) -> JsonObject:
    """`view.state.values` of a filled-in form: block id → action id → value.

    Raises:
        ImpossibleGesture: `values` names a field the form does not have.
    """
    left = dict(values)
    result: JsonObject = {}
    for block in blocks:
        fields = [f.element for f in elements([block]) if f.element["type"] != "button"]
        for element in fields:
            names = [block["block_id"], element["action_id"], block.get("label", {}).get("text")]
            key = next((name for name in names if name in left), None)
            value = left.pop(key) if key is not None else None
            result.setdefault(block["block_id"], {})[element["action_id"]] = chosen(element, value)
    if left:
        raise ImpossibleGesture(f"the form has no field {', '.join(map(repr, left))}")
    return result


def refused_by_form(blocks: Iterable[JsonObject], filled: JsonObject) -> dict[str, str]:
    """Block id → what Slack's own window says about a required or ill-sized field, before anything is sent."""
    wrong: dict[str, str] = {}
    for block in blocks:
        if block["type"] != "input":
            continue
        element: JsonObject = block["element"]
        held: JsonObject = filled[block["block_id"]][element["action_id"]]
        value = next((v for name, v in held.items() if name != "type"), None)
        if not value and not block.get("optional", False):
            wrong[block["block_id"]] = REQUIRED
        elif isinstance(value, str) and len(value) < element.get("min_length", 0):
            wrong[block["block_id"]] = f"Please enter at least {element['min_length']} characters."
        elif isinstance(value, str) and len(value) > element.get("max_length", 3000):
            wrong[block["block_id"]] = f"Please enter no more than {element.get('max_length', 3000)} characters."
    return wrong
