"""One limit in the text of nats.conf: found, set, and put back, with everything else as it is. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from bot.actions._conf_text import indent_at, parsed
from bot.errors import Refused
from bot.model import JsonObject
from bot.model.limits import TRAITS, Setting, Value, written
from bot.model.nats_conf.section import seconds_of
from bot.model.nats_conf.tree import Block, Node, Variable

_BLOCKS: Final = frozenset({"limits"})
"""Blocks that are made where they are missing; without `mqtt` or `jetstream` a server has nothing to limit."""


def value_in(root: Block, setting: Setting) -> Value | None:
    """Return the value that a configuration sets, None where it sets none. Raises `Refused` where it stands in a variable or is no such value."""
    found = _find(root, setting)[0]
    if found is None:
        return None
    if found.reference is not None or isinstance(found.value, Variable):
        raise Refused(f"{setting} is written with the variable ${found.reference}: its value is set elsewhere.")
    kind = TRAITS[setting].kind
    if kind is str:
        # A bare number is seconds (server/opts.go, parseDuration).
        return f"{found.value}s" if isinstance(found.value, int) else str(found.value)
    if not isinstance(found.value, kind) or (kind is int and isinstance(found.value, bool)):
        raise Refused(f"{setting} has a value that a server would refuse.")
    return found.value


def with_value(text: str, setting: Setting, value: Value) -> tuple[str, str]:
    """Return the file with this value, and what was at its place, to be kept. Raises `Refused`, without a word of the text."""
    root = parsed(text).root
    value_in(root, setting)
    node, block, missing = _find(root, setting)
    for place in (node, block):
        if place is not None and place.file:
            raise Refused(
                f"{setting} is written in the included file {place.file}; natsmedic edits only the file that nats-server is started with."
            )
    if node is not None:
        made = f"{text[: node.start]}{written(value)}{text[node.end :]}"
        return _proven(made, setting, value), json.dumps({"was": text[node.start : node.end]})
    line = f"{setting.path[-1]}: {written(value)}"
    for name in reversed(missing):
        line = f"{name} {{ {line} }}"
    made, added = _inserted(text, block, line)
    return _proven(made, setting, value), json.dumps({"added": added})


def put_back(text: str, setting: Setting, value: Value, former: str) -> str:
    """Return the file as it was before `with_value`; what somebody else has changed in it since stays. Raises `Refused`."""
    kept: JsonObject = json.loads(former)
    root = parsed(text).root
    node = _find(root, setting)[0]
    if value_in(root, setting) != value or node is None or node.file:
        raise Refused(f"{setting} was edited since natsmedic wrote it, so it stays as it is.")
    if "was" in kept:
        made = f"{text[: node.start]}{kept['was']}{text[node.end :]}"
    else:
        added = str(kept["added"])
        if text.count(added) != 1:
            raise Refused(f"What natsmedic added for {setting} was edited since, so it stays as it is.")
        made = text.replace(added, "")
    parsed(made)
    return made


def same(setting: Setting, one: Value | None, other: Value | None) -> bool:
    """Tell whether two values mean the same: `60s` is `1m`."""
    if TRAITS[setting].kind is str and isinstance(one, str) and isinstance(other, str):
        return seconds_of(one) == seconds_of(other)
    return one == other


def _find(root: Block, setting: Setting) -> tuple[Node | None, Node | None, tuple[str, ...]]:
    """Return the setting's node, the innermost block that is there, None for the file itself, and the blocks between them that are not."""
    block: Block = root
    holder: Node | None = None
    *blocks, key = setting.path
    for number, name in enumerate(blocks):
        found = _named(block, (name,))
        if found is None and name in _BLOCKS:
            return None, holder, tuple(blocks[number:])
        if found is None or found.reference is not None or not isinstance(found.value, Mapping):
            raise Refused(f"nats.conf has no block `{'.'.join(blocks[: number + 1])}` for {setting} to stand in.")
        block, holder = found.value, found
    return _named(block, (key, *TRAITS[setting].aliases)), holder, ()


def _named(block: Block, names: tuple[str, ...]) -> Node | None:
    keys = {key.lower(): node for key, node in block.items()}
    return next((keys[name] for name in names if name in keys), None)


def _inserted(text: str, block: Node | None, line: str) -> tuple[str, str]:
    """Put a line at the beginning of a block, or at the end of the file; return the text, and what was put in."""
    if block is None:
        added = f"{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n"
        return text + added, added
    at = block.start + 1
    blank = text[at:].partition("\n")[0]
    added = f"\n{indent_at(text, block.start)}  {line}" + ("\n" if blank.strip() else "")
    return text[:at] + added + text[at:], added


def _proven(text: str, setting: Setting, value: Value) -> str:
    if not same(setting, value_in(parsed(text).root, setting), value):
        raise Refused("The edited file would not say what was approved, so it is not written.")
    return text
