"""How much natsmedic may change in how short a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from bot.settings.section import Section, Situation

_LONGEST = 86_400
"""Seconds; what is looked back on, so no limit reaches further."""

Seconds = Annotated[int, Field(ge=0, le=_LONGEST)]


class LimitSettings(Section):
    """design/safety.md, Applying 8; the numbers are its own."""

    per_hour: Annotated[int, Field(ge=1)] = 4
    """Executions of one cluster that may send something within an hour."""
    rest_seconds: Seconds = 900
    """How long a cluster rests after an execution that did not succeed."""
    failures: Annotated[int, Field(ge=1)] = 3
    """So many executions on one target that failed, or did not last, block it."""
    block_seconds: Seconds = 3600
    freeze_file: Path | None = None
    """Everything is frozen while this file exists, e.g. a key of a ConfigMap; its first line is the reason. For when nothing else answers."""

    @field_validator("freeze_file", mode="after")
    @classmethod
    def _locate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        """A relative path lies below the config file's folder."""
        situation = info.context
        return situation.locate(str(value)) if value is not None and isinstance(situation, Situation) else value
