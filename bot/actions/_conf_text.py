"""The text of nats.conf, as an action edits it: read without a word of it getting out, and told by a digest. Pure."""

from __future__ import annotations

import re
from typing import Final

from bot.errors import Refused
from bot.model import JsonObject, digest, part
from bot.model.nats_conf import ConfError, NatsConf, read_conf, redact_conf

ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
"""Of a text in quotes (nats-server conf/lex.go, lexStringEscape)."""

_INDENT: Final = re.compile(r"[ \t]*")


def parsed(text: str) -> NatsConf:
    """Return what the file says by itself, without included files and variables. Raises `Refused` where nats-server could not load it."""
    try:
        return read_conf(text)
    except ConfError as error:
        raise Refused(f"nats-server can't load the file as it is: {error}.") from error


def redacted(text: str) -> str:
    """Return the file without secrets. Raises `Refused` where it can't be parsed: then nothing of it may be shown."""
    try:
        return redact_conf(text)
    except ConfError as error:
        raise Refused(f"nats-server can't load the file as it is: {error}.") from error


def fingerprint(text: str) -> str:
    """Return a digest of the file that gives no secret away."""
    return digest(redacted(text))


def text_of(raw: JsonObject, key: str) -> str:
    """Return one key of a ConfigMap. Raises `Refused` where it is no text."""
    value = part(raw, "data").get(key)
    if not isinstance(value, str):
        raise Refused(f"ConfigMap {part(raw, 'metadata').get('name')} has no text below {key} any more.")
    return value


def indent_at(text: str, at: int) -> str:
    """Return the blanks that the line at this offset begins with."""
    found = _INDENT.match(text, text.rfind("\n", 0, at) + 1)
    return found[0] if found else ""
