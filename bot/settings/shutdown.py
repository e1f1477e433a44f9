"""How natsmedic ends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bot.settings.section import Section
from bot.settings.watching import Duration


class ShutdownSettings(Section):
    grace: Annotated[float, Duration("5s", "10m")] = Field(default=25.0, json_schema_extra={"default": "25s"})
    """From SIGTERM to the end. Keep it below what kills the process: Kubernetes' terminationGracePeriodSeconds is 30 by default."""
