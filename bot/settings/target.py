"""A cluster named on the command line, as the `nats` command names one, instead of in the settings file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.errors import SettingsError
from bot.settings.clusters import NATS_TIMEOUT

_ADDRESS: Final = re.compile(r"(nats|tls|ws|wss)://[^/\s]+(/[^\s]*)?")
_HTTP: Final = re.compile(r"https?://[^/\s@]+(/[^\s]*)?")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAME_LENGTH: Final = 63

INBOX: Final = "_INBOX"
"""Where answers arrive unless something else is said: the `nats` command's own default."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask and as whom. A `context` fills in what the other fields leave open. Its text never holds a secret.

    Raises `SettingsError` where it can't be used.
    """

    servers: tuple[str, ...] = field(default=(), repr=False)
    """May carry user and password, as the `nats` command allows."""
    user: str | None = None
    """A user, or a token where there is no password, as with the `nats` command."""
    password: str | None = field(default=None, repr=False)
    creds: Path | None = None
    nkey: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    context: str | None = None
    inbox_prefix: str | None = None
    monitoring: tuple[str, ...] = ()
    timeout: float = NATS_TIMEOUT

    def __post_init__(self) -> None:
        if not (self.servers or self.context or self.monitoring):
            raise SettingsError("No cluster is named: give --server, --context or --monitoring.")
        for server in self.servers:
            if not _ADDRESS.fullmatch(server):
                raise SettingsError("--server is not a list of addresses like nats://host:4222, separated by commas.")
        for address in self.monitoring:
            if not _HTTP.fullmatch(address):
                raise SettingsError("--monitoring is not an address like http://host:8222, without user or password.")
        if self.inbox_prefix is not None and not _PREFIX.fullmatch(self.inbox_prefix):
            raise SettingsError(f"--inbox-prefix {self.inbox_prefix!r} is not a subject prefix without wildcards.")
        self._check_login()

    def _check_login(self) -> None:
        logins = [name for name in ("user", "creds", "nkey") if getattr(self, name)]
        if len(logins) > 1:
            raise SettingsError(f"--{' and --'.join(logins)} are different ways to log in: give one of them.")
        if self.password and not self.user:
            raise SettingsError("--password is given without --user.")
        if (self.cert is None) != (self.key is None):
            raise SettingsError("--tlscert and --tlskey belong together: give both.")
        files = {"creds": self.creds, "nkey": self.nkey, "tlsca": self.ca, "tlscert": self.cert, "tlskey": self.key}
        for option, path in files.items():
            if path is not None and not path.is_file():
                raise SettingsError(f"--{option} names {path}, which is no file.")

    @property
    def name(self) -> str:
        """What the cluster is called in reports: its context, or the first address without user and password."""
        if self.context:
            return self.context
        address = (*self.servers, *self.monitoring)[0].split("//", 1)[-1]
        return address.rpartition("@")[2].split("/", 1)[0][:_NAME_LENGTH]


def addresses(text: str) -> tuple[str, ...]:
    """Return the addresses of a comma-separated list; one without a scheme is a `nats://` one."""
    found = (part.strip() for part in text.split(","))
    return tuple(part if "://" in part else f"nats://{part}" for part in found if part)
