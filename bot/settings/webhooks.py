"""Webhook sources, each with its own secret."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from bot.errors import SettingsError
from bot.settings.section import Secret, Section, Shape, problem

MIB: Final = 1024 * 1024
MAX_BODY_BYTES: Final = 5 * MIB
"""An Alertmanager group of a few thousand alerts; larger bodies are refused with 413 (design/safety.md, Taking in)."""
MAX_QUEUE: Final = 10_000
"""The storm of reference/safety.md B4: 10,000 distinct alerts may wait before the bot sheds load with 503."""

RouteName = Annotated[
    str, Shape(r"[a-z0-9][a-z0-9-]{0,62}", "a name of up to 63 small letters, digits or `-`, as in a path")
]
ListenAddress = Annotated[
    str, Shape(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}", "host:port, such as 127.0.0.1:8080")
]
UserName = Annotated[str, Shape(r"[^:]+", "a user name without colon (RFC 7617)")]


class SourceKind(StrEnum):
    ALERTMANAGER = "alertmanager"


class SourceSettings(Section):
    """A webhook source and its own secret: a bearer token, or a user name and password."""

    kind: SourceKind = SourceKind.ALERTMANAGER
    bearer: Secret | None = None
    username: UserName | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        way_out = "add bearer, bearer_file, or username with password"
        if (self.username is None) != (self.password is None):
            raise problem("has only one of username and password", "both", "add the missing one")
        if (self.bearer is None) == (self.password is None):
            raise problem("has two secrets" if self.bearer else "has no secret", "one secret per source", way_out)
        return self

    @property
    def secret(self) -> SecretStr:
        """The bearer token or the password."""
        found = self.bearer or self.password
        if found is None:
            raise SettingsError("A webhook source has no secret, which validation refuses.")
        return found


class WebhookSettings(Section):
    listen: ListenAddress = "127.0.0.1:8080"
    sources: dict[RouteName, SourceSettings] = {}
    """Name to source; its route is `POST /webhooks/<name>`."""
    max_body_bytes: int = Field(default=MAX_BODY_BYTES, ge=1024, le=64 * MIB)
    max_queue: int = Field(default=MAX_QUEUE, ge=1)

    @field_validator("listen", mode="after")
    @classmethod
    def _port(cls, value: str) -> str:
        if int(value.rpartition(":")[2]) > 65_535:
            raise problem(f"is {value!r}", "host:port with a port up to 65535", "correct the port")
        return value

    @model_validator(mode="after")
    def _secrets_differ(self) -> Self:
        owner: dict[str, str] = {}
        for name, source in self.sources.items():
            other = owner.setdefault(source.secret.get_secret_value(), name)
            if other != name:
                seen = f"has the same secret in sources.{other} and sources.{name}"
                raise problem(seen, "one secret per source", "give each source its own")
        return self
