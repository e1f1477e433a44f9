"""Secrets leave evidence here, before it is stored or shown (design/safety.md, Taking in 4)."""

from __future__ import annotations

import re
from typing import cast

from bot.model import Json

REDACTED = "[redacted]"

_USERINFO = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@]+@")
"""Everything before the @ of a URL: a NATS URL carries user:password or a bare token there."""
_NKEY_SEED = re.compile(r"\bS[ACNOUX][A-Z2-7]{56}\b")
"""An nkey seed of an account, cluster, server, operator, user or curve key (github.com/nats-io/nkeys: 58 base32 characters)."""
_SEED_LENGTH = 58
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_SECRET_NAMES = frozenset(
    {
        "password",
        "pass",
        "passwd",
        "token",
        "auth_token",
        "secret",
        "client_secret",
        "seed",
        "nkey_seed",
        "credentials",
        "creds",
        "private_key",
    }
)
"""Keys whose text is a secret whatever it looks like; compared in lower case."""


def redact(value: Json) -> Json:
    """Return `value` with every secret replaced by `[redacted]`; lone surrogates, which UTF-8 can't hold, become question marks."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        items = cast("dict[str, Json]", value).items()
        return {redact_text(key): _member(key, item) for key, item in items}
    if isinstance(value, list | tuple):
        return [redact(item) for item in cast("list[Json]", value)]
    return value


def redact_text(text: str) -> str:
    """Return the text without userinfo in URLs, nkey seeds and private keys. A test that costs nothing tells of most texts that
    they hold none.
    """
    clean = text if text.isascii() else text.encode("utf-8", "replace").decode()
    if "://" in clean:
        clean = _USERINFO.sub(rf"\g<scheme>{REDACTED}@", clean)
    if len(clean) >= _SEED_LENGTH:
        clean = _NKEY_SEED.sub(REDACTED, clean)
    return _PRIVATE_KEY.sub(REDACTED, clean) if "-----BEGIN " in clean else clean


def _member(key: str, item: Json) -> Json:
    if isinstance(item, str) and item and key.lower() in _SECRET_NAMES:
        return REDACTED
    return redact(item)
