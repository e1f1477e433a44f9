"""The verdict of a diagnosis, and the evidence it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bot.adapters.slack.blocks import Block, Leaf, bold, bullets, fit, paragraph, rich, small, text
from bot.adapters.slack.text import fallback, safe
from bot.adapters.slack.wanted import File, WantedMessage
from bot.model import Chart, Diagnosis, Finding, Incident, Severity, Subject

SIGNS: Final = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠", Severity.UNKNOWN: "⚪", Severity.OK: "🟢"}
_LISTED: Final = 6
"""Findings listed per kind; the archive has them all."""
_FINDING_LIMIT: Final = 500
_SUBJECT_LIMIT: Final = 200
TITLE_LIMIT: Final = 200
"""Characters of a picture's title; Slack names no limit, and shows one line."""
ALT_LIMIT: Final = 1_000
"""Above it Slack answers alt_txt_too_large (docs.slack.dev, files.getUploadURLExternal)."""

ChartId = tuple[str, Subject]


def verdict(diagnosis: Diagnosis) -> WantedMessage:
    """Verdict first, then the root finding, its consequences, the rest, and what is not known."""
    found = diagnosis.verdict
    sign = SIGNS[found.severity]
    blocks: list[Block] = [rich(paragraph(bold(f"{sign} {found.sentence}", 1_000)))]
    if found.root is not None:
        said = found.root.sentence in found.sentence  # then the root needs no second telling, only its place
        root = [text(str(found.root.subject), _SUBJECT_LIMIT)] if said else _finding(found.root)
        blocks.append(rich(paragraph(bold("Root: "), *root)))
    known = [f for f in found.consequences if f.severity is not Severity.UNKNOWN]
    others = [f for f in found.others if f.severity not in {Severity.UNKNOWN, Severity.OK}]
    unknown = [f for f in diagnosis.findings if f.severity is Severity.UNKNOWN and f != found.root]
    blocks += _listed("Follows from it", known)
    blocks += _listed("Also found", others)
    blocks += _listed("Unknown, could not be read", unknown)
    blocks.append(small(_basis(diagnosis), 1_000))
    shown, _ = fit(blocks)
    return WantedMessage(key=f"verdict:{diagnosis.id}", blocks=shown, text=fallback(f"{sign} {found.sentence}"))


def evidence(diagnosis: Diagnosis) -> WantedMessage | None:
    """The snapshot archive, attached once; None where nothing could be read."""
    if diagnosis.snapshot_id is None:
        return None
    seal = f", SHA-256 {diagnosis.snapshot_digest[:12]}" if diagnosis.snapshot_digest else ""
    words = f"Evidence of this verdict: everything natsmedic read{seal}. `nats audit analyze` reads the archive too."
    name = f"evidence-{diagnosis.snapshot_id}.zip"
    return WantedMessage(
        key=f"evidence:{diagnosis.id}",
        text=fallback(words),
        file=File(name=name, title=name, snapshot=diagnosis.snapshot_id),
    )


def pictures(diagnosis: Diagnosis, shown: Mapping[ChartId, str]) -> tuple[WantedMessage, ...]:
    """The charts of a diagnosis that differ from the former one's, whose digests `shown` holds. A picture speaks for itself: its title is Slack's."""
    return tuple(
        _picture(diagnosis, number, chart)
        for number, chart in enumerate(diagnosis.charts, start=1)
        if shown.get(chart_id(chart)) != chart.digest
    )


def chart_id(chart: Chart) -> ChartId:
    """Return what makes a later chart the successor of this one."""
    return chart.code, chart.subject


def _picture(diagnosis: Diagnosis, number: int, chart: Chart) -> WantedMessage:
    name = f"{chart.slug}-{number}-{diagnosis.id}.png"
    title = safe(chart.title, TITLE_LIMIT)
    return WantedMessage(
        key=f"picture:{diagnosis.id}:{number}",
        text=fallback(title),
        file=File(name=name, title=title, chart=chart, alt=safe(chart.alt, ALT_LIMIT)),
    )


def unattached(incident: Incident, reason: str) -> WantedMessage:
    """What stands in the thread for all files that can't."""
    words = f"Not every picture and archive of this thread could be attached. {reason} The evidence is kept in the database of natsmedic."
    return WantedMessage(key=f"unattached:{incident.id}", blocks=(small(words, 1_000),), text=fallback(words))


def _finding(finding: Finding) -> list[Leaf]:
    return [
        text(f"{SIGNS[finding.severity]} "),
        bold(str(finding.subject), _SUBJECT_LIMIT),
        text(f": {finding.sentence}", _FINDING_LIMIT),
    ]


def _listed(title: str, findings: Sequence[Finding]) -> list[Block]:
    if not findings:
        return []
    parts = [paragraph(bold(title)), bullets(_finding(one) for one in findings[:_LISTED])]
    left = len(findings) - _LISTED
    if left > 0:
        parts.append(paragraph(text(f"and {left} more, all in the evidence")))
    return [rich(*parts)]


def _basis(diagnosis: Diagnosis) -> str:
    found = diagnosis.verdict
    rests_on = [found.root, *found.consequences] if found.root else [*found.others]
    parts = [f"Runbook {diagnosis.runbook}"]
    checks = _distinct(one.check for one in rests_on)
    parts += [f"checks {', '.join(checks)}"] if checks else []
    parts += _distinct(one.issue for one in rests_on if one.issue)
    seconds = (diagnosis.ended_at - diagnosis.started_at).total_seconds()
    parts += [f"took {seconds:.1f} s", f"reason: {diagnosis.reason}"]
    return " · ".join(parts)


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
