"""Contexts of the `nats` command: `$XDG_CONFIG_HOME/nats/context/<name>.json`, by default below `~/.config`.

Keys as jsm.go's `natscontext` writes them: url (comma-separated), user, password, token, creds, nkey, cert, key, ca, inbox_prefix, user_jwt, user_seed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import orjson

from bot.errors import SettingsError
from bot.model import JsonObject

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_INBOX: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

_UNSUPPORTED: Final = (
    "nsc",
    "socks_proxy",
    "jetstream_domain",
    "jetstream_api_prefix",
    "windows_cert_store",
)
"""Keys that change how to log in or which subjects are meant; ignoring one would talk to the wrong place."""

MAX_BYTES: Final = 64 * 1024
"""A context is under 1 kB; more is not a context."""


@dataclass(frozen=True, slots=True)
class Context:
    """One context, with `~` resolved. Its text never holds a secret."""

    name: str
    servers: tuple[str, ...] = field(default=(), repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    creds: Path | None = None
    nkey: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    inbox_prefix: str = ""
    user_jwt: str = field(default="", repr=False)
    user_seed: str = field(default="", repr=False)
    """Signs the server's nonce for `user_jwt`; empty for a bearer token, which needs no signature."""


def context_path(name: str, environ: Mapping[str, str]) -> Path:
    """Return where the context called `name` is stored. Raises `SettingsError` for a name that is not one."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} is not the name of a nats context: use letters, digits, dots, dashes and underscores."
        )
    home = environ.get("XDG_CONFIG_HOME") or str(_home(environ) / ".config")
    return Path(home) / "nats" / "context" / f"{name}.json"


def read_context(name: str, environ: Mapping[str, str]) -> Context:
    """Read a context. Raises `SettingsError` where it is missing, malformed, or needs what natsmedic does not do."""
    path = context_path(name, environ)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise SettingsError(f"The nats context {name!r} does not exist at {path}; known contexts: {known}.") from error
    except OSError as error:
        raise SettingsError(f"The nats context {name!r} at {path} cannot be read: {error.strerror}.") from error
    raw = _object(name, path, text)
    if used := [key for key in _UNSUPPORTED if raw.get(key)]:
        raise SettingsError(
            f"The nats context {name!r} uses {', '.join(used)}, which natsmedic does not support: "
            "write servers and credentials into the settings instead."
        )
    inbox = _text(name, raw, "inbox_prefix").rstrip(".")
    if inbox and not _INBOX.fullmatch(inbox):
        raise SettingsError(f"The nats context {name!r} has the inbox_prefix {inbox!r}, which is not a subject prefix.")
    return Context(
        name=name,
        servers=tuple(url.strip() for url in _text(name, raw, "url").split(",") if url.strip()),
        user=_text(name, raw, "user"),
        password=_text(name, raw, "password"),
        token=_text(name, raw, "token"),
        inbox_prefix=inbox,
        user_jwt=_text(name, raw, "user_jwt"),
        user_seed=_text(name, raw, "user_seed"),
        **{key: _file(name, raw, key, environ) for key in ("creds", "nkey", "cert", "key", "ca")},
    )


def _object(name: str, path: Path, text: bytes) -> JsonObject:
    try:
        raw: object = orjson.loads(text) if len(text) <= MAX_BYTES else None
    except orjson.JSONDecodeError as error:
        # The decoder's own text would be safe, but its position is all that helps.
        raise SettingsError(f"The nats context {name!r} at {path} is not JSON (line {error.lineno}).") from error
    if not isinstance(raw, dict):
        raise SettingsError(f"The nats context {name!r} at {path} is not a JSON object of at most {MAX_BYTES} bytes.")
    return cast("JsonObject", raw)


def _text(name: str, raw: JsonObject, key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SettingsError(f"The nats context {name!r} has a {key} that is not a text.")
    return value


def _file(name: str, raw: JsonObject, key: str, environ: Mapping[str, str]) -> Path | None:
    value = _text(name, raw, key)
    if not value:
        return None
    path = _home(environ) / value[2:] if value.startswith("~/") else Path(value)
    if not path.is_file():
        raise SettingsError(f"The nats context {name!r} names the {key} file {path}, which does not exist.")
    return path


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
