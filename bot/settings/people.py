"""How the bot talks to Slack, and the ids by which Slack knows people."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator

from bot.settings.section import Secret, Section, Shape, mapping_of, problem

_LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?/")

SlackUserId = Annotated[str, Shape(r"[UW][A-Z0-9]+", "a Slack user id such as U0123456789, not a name or e-mail")]
SlackGroupId = Annotated[str, Shape(r"S[A-Z0-9]+", "a Slack user-group id such as S0123456789, not a handle")]
SlackTeamId = Annotated[str, Shape(r"[TE][A-Z0-9]+", "a Slack workspace id such as T0123456789, not a name")]


class Transport(StrEnum):
    """How Slack reaches the bot."""

    SOCKET = "socket"
    HTTP = "http"


class SlackSettings(Section):
    bot_token: Secret
    app_token: Secret | None = None
    """For Socket Mode."""
    signing_secret: Secret | None = None
    """For HTTP mode: `POST /slack/events` on the webhooks' listen address."""
    api_url: str = "https://slack.com/api/"
    transport: Transport = Field(
        default=Transport.SOCKET, description="socket where app_token is given and http otherwise, if absent"
    )
    workspaces: tuple[SlackTeamId, ...] = ()
    """Ids of the home workspaces; members of others decide nothing."""

    @model_validator(mode="before")
    @classmethod
    def _derive_transport(cls, data: object) -> object:
        written = mapping_of(data)
        if written is None or "transport" in written:
            return data
        signed = "signing_secret" in written or "signing_secret_file" in written
        if signed and "app_token" not in written and "app_token_file" not in written:
            return written | {"transport": Transport.HTTP}
        return data

    @field_validator("api_url", mode="after")
    @classmethod
    def _safe_address(cls, value: str) -> str:
        address = value if value.endswith("/") else value + "/"
        if "@" in address or not (re.match(r"https://[^/\s]+/", address) or _LOOPBACK.match(address)):
            raise problem(
                "is not an https address",
                "https://…, or http:// on a loopback address",
                "tokens travel on it: use https",
            )
        return address

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.transport is Transport.SOCKET and self.app_token is None:
            raise problem(
                "has no app_token",
                "one for transport socket",
                "add app_token (xapp-…), or signing_secret for transport http",
            )
        if self.transport is Transport.HTTP and self.signing_secret is None:
            raise problem(
                "has no signing_secret",
                "one for transport http",
                "add signing_secret, or app_token for transport socket",
            )
        return self
