"""`natsmedic runbooks`: what the bot knows to look for."""

from __future__ import annotations

from bot.cli import draw
from bot.cli.session import Format, FormatOption
from bot.model import JsonObject
from bot.runbook import Runbook


def runbooks(format_: FormatOption = Format.TABLE) -> None:
    """List the runbooks: the alerts they answer, their checks and thresholds."""
    from bot.bootstrap import registry

    found = list(registry().runbooks)
    if format_ is Format.JSON:
        draw.as_json([_public(runbook) for runbook in found])
        return
    for runbook in found:
        draw.lines([(runbook.code, runbook.title), ("  alerts", ", ".join(sorted(runbook.alerts)))])
        draw.lines((f"  {check.code} ({check.layer.name.lower()})", check.healthy) for check in runbook.checks)
        draw.lines((f"  {t.name}", f"{t.default:g} {t.unit}, {t.meaning}") for t in runbook.thresholds)


def _public(runbook: Runbook) -> JsonObject:
    return {
        "code": runbook.code,
        "title": runbook.title,
        "alerts": sorted(runbook.alerts),
        "checks": [{"code": c.code, "layer": c.layer.name.lower(), "healthy": c.healthy} for c in runbook.checks],
        "thresholds": [
            {"name": t.name, "default": t.default, "unit": t.unit, "meaning": t.meaning} for t in runbook.thresholds
        ],
    }
