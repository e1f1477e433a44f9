"""Where heads of the audit chain are kept outside of the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from bot.settings.clusters import Credentials, Name, SlackChannelId
from bot.settings.section import Section, Shape, Situation, problem

StreamName = Annotated[
    str, Shape(r"[^\s.*>/\\\\]{1,255}", "a stream name without blank, dot, star, angle, slash or backslash")
]
PlainSubject = Annotated[str, Shape(r"[^\s.*>]+(\.[^\s.*>]+)*", "a subject without wildcards")]


class StreamSinkSettings(Section):
    """A stream that the operator created with deny_delete and deny_purge."""

    cluster: Name
    name: StreamName
    subject: PlainSubject
    login: Credentials
    """A user that may publish to `subject` and ask `$JS.API.STREAM.INFO.<name>` and `$JS.API.STREAM.MSG.GET.<name>`, and nothing else."""


class CheckpointSettings(Section):
    """One place: exactly one of file, channel and stream."""

    file: Path | None = None
    """Lines are appended to it; its folder should lie where the bot's machine can't rewrite it."""
    channel: SlackChannelId | None = Field(
        default=None, description="a Slack channel for these alone, e.g. C0123456789"
    )
    stream: StreamSinkSettings | None = None

    @field_validator("file", mode="after")
    @classmethod
    def _locate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        """A relative path lies below the config file's folder."""
        situation = info.context
        return situation.locate(str(value)) if value is not None and isinstance(situation, Situation) else value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [name for name in ("file", "channel", "stream") if getattr(self, name) is not None]
        if len(given) != 1:
            raise problem(
                f"names {' and '.join(given) or 'no place'}",
                "exactly one of file, channel and stream",
                "write one entry each",
            )
        return self


class AuditSettings(Section):
    checkpoints: tuple[CheckpointSettings, ...] = ()
    every_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """The head is kept at least so often while it moves (reference/safety.md, B17)."""
    every_rows: Annotated[int, Field(ge=1)] = 100
