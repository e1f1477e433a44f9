"""What natsmedic notices by itself, without any alert sender: JetStream advisories of a cluster, and a schedule of diagnoses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from bot.settings.section import Section, problem, shown

SHORTEST_SILENCE: Final = "60s"
"""A lost quorum is repeated every 10 to 28 s for as long as it lasts (measured on 2.10.26 to 2.15.1: `lostQuorumAdvInterval` of nats-server
is 10 s, and an election that finds no majority comes first), so two missing repeats are a silence and one is none."""


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds, written as a whole number with its unit: 90s, 5m, 1h. Both limits are allowed."""

    shortest: str
    longest: str

    def check(self, value: object) -> float:
        """Return the seconds, or raise a problem."""
        seconds = _seconds(value) if isinstance(value, str) else None
        expected = f"{self.shortest} to {self.longest}, written with s, m or h"
        if seconds is None:
            raise problem(f"is {shown(str(value))}, which is no duration", expected, "write a number and its unit")
        if not (_seconds(self.shortest) or 0) <= seconds <= (_seconds(self.longest) or 0):
            raise problem(f"is {value}", expected, "correct it")
        return seconds

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        del schema, handler
        return {"type": "string", "pattern": f"^{_DURATION}$"}


_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0}
_DURATION: Final = r"([1-9][0-9]{0,5})([smh])"


def _seconds(text: str) -> float | None:
    found = re.fullmatch(_DURATION, text)
    return int(found[1]) * _UNITS[found[2]] if found else None


class AdvisorySettings(Section):
    """Advisories that the servers publish about a cluster become alerts. Heard with the user of `nats.system`; on where there is one."""

    enabled: bool = True
    silence: Annotated[float, Duration(SHORTEST_SILENCE, "24h")] = Field(
        default=120.0, json_schema_extra={"default": "2m"}
    )
    """After so long without a repeat the alert is resolved."""
    repeat: Annotated[float, Duration("10s", "24h")] = Field(default=300.0, json_schema_extra={"default": "5m"})
    """Repeats within so long after a delivery are counted and folded into one more."""
    elections: int = Field(default=5, ge=2, le=100)
    """So many leader elections of one Raft group within `window` are a storm. A rolling restart of three servers makes up to three."""
    window: Annotated[float, Duration("10s", "1h")] = Field(default=300.0, json_schema_extra={"default": "5m"})
    most: int = Field(default=10, ge=1, le=1_000)
    """So many alerts of one name are open at once with a thread of their own; all beyond them share one more."""


class OpenAt(StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"


class ScheduleSettings(Section):
    """Diagnoses the cluster again and again, and opens an incident where the verdict turns bad."""

    every: Annotated[float, Duration("10s", "24h")]
    """From the start of one pass to the start of the next."""
    runbooks: tuple[str, ...] = ()
    """Codes of the runbooks that look; all of them where none is named."""
    open_at: OpenAt = OpenAt.CRITICAL
    """The mildest verdict that opens an incident. A verdict of *unknown* opens one where it lasts for two passes."""
