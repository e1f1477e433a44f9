"""How incidents become threads: when one goes on in its old thread, and when many share one message."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bot.settings.section import Section
from bot.settings.watching import Duration


class ThreadSettings(Section):
    """For all channels; each channel is counted by itself."""

    reopen_within: Annotated[float, Duration("1m", "168h")] = Field(
        default=14_400.0, json_schema_extra={"default": "4h"}
    )
    """An alert that fires again so soon after it was cleared or verified goes on in the same thread; later it opens a new one, which names the old one."""
    storm_incidents: int = Field(default=5, ge=1, le=1_000)
    """More new incidents than this within `storm_window` are a storm: those that are not page-worthy share one message."""
    storm_window: Annotated[float, Duration("10s", "1h")] = Field(default=60.0, json_schema_extra={"default": "60s"})
    """Also how long no incident may have joined a storm for it to be over."""
    storm_pages: int = Field(default=20, ge=0, le=1_000)
    """So many page-worthy incidents of one storm get a thread of their own; Slack takes one message a second and channel. All beyond them stand first in
    the shared message."""
