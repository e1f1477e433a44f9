"""How incidents become threads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bot.settings.section import Section
from bot.settings.watching import Duration


class ThreadSettings(Section):
    """For all channels."""

    reopen_within: Annotated[float, Duration("1m", "168h")] = Field(
        default=14_400.0, json_schema_extra={"default": "4h"}
    )
    """An alert that fires again so soon after it was cleared or verified goes on in the same thread; later it opens a new one, which names the old one."""
