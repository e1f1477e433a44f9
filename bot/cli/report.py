"""A report as text: JSON, Markdown, Prometheus, and a table for a person. Names and sentences come from the cluster and stay inert."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot.adapters.documents.markdown import escaped
from bot.cli.draw import visible, when
from bot.flow.examination import Offer, Report
from bot.model import Finding, JsonObject, Severity

EXIT_CODES: Final = {Severity.OK: 0, Severity.WARNING: 1, Severity.CRITICAL: 2, Severity.UNKNOWN: 3}

MOST_ROWS: Final = 50
"""Findings a person is shown; one sick server can make thousands, which JSON has."""

_STYLES: Final = {
    Severity.OK: "green",
    Severity.WARNING: "yellow",
    Severity.CRITICAL: "bold red",
    Severity.UNKNOWN: "magenta",
}
_MARKS: Final = {Severity.OK: "🟢", Severity.WARNING: "🟡", Severity.CRITICAL: "🔴", Severity.UNKNOWN: "🟣"}


def document(report: Report) -> JsonObject:
    """Return the report as `diagnose.schema.json` describes it. Its form is stable."""
    verdict = report.verdict
    return {
        "cluster": report.cluster,
        "gathered_at": report.gathered_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "verdict": {
            "severity": verdict.severity.value,
            "code": verdict.root.check if verdict.root else None,
            "subject": str(verdict.root.subject) if verdict.root else report.cluster,
            "text": verdict.sentence,
        },
        "findings": [_finding(finding) for finding in report.findings],
        "proposals": [
            {
                "title": offer.title,
                "risk": offer.risk.value,
                "actions": [{"kind": action.kind, "params": action.params} for action in offer.actions],
                "guidance": list(offer.guidance),
                "rung": offer.rung.model_dump() if offer.rung else None,
                "files": [{"name": patch.name, "text": patch.text} for patch in offer.patches],
            }
            for offer in report.proposals
        ],
        "unknown": [{"fact": u.fact, "server": u.server, "reason": u.reason} for u in report.unknown],
    }


def as_json(report: Report, *, one_line: bool = False) -> str:
    """Return the document in ASCII, so that nothing in it steers the terminal."""
    return json.dumps(document(report), indent=None if one_line else 2, ensure_ascii=True)


def as_prometheus(report: Report) -> str:
    """Return gauges in the text format of Prometheus, e.g. for node_exporter's textfile collector."""
    cluster = label(report.cluster)
    verdict = report.verdict
    code = label(verdict.root.check if verdict.root else "")
    subject = label(str(verdict.root.subject) if verdict.root else report.cluster)
    counts = Counter((f.check, f.severity.value) for f in report.findings)
    lines = [
        "# HELP natsmedic_verdict Verdict of the last diagnosis: 0 ok, 1 warning, 2 critical, 3 could not tell.",
        "# TYPE natsmedic_verdict gauge",
        f'natsmedic_verdict{{cluster="{cluster}",code="{code}",subject="{subject}"}} {EXIT_CODES[verdict.severity]}',
        "# HELP natsmedic_findings Findings of the last diagnosis by check and severity.",
        "# TYPE natsmedic_findings gauge",
        *(
            f'natsmedic_findings{{cluster="{cluster}",code="{label(check)}",severity="{severity}"}} {count}'
            for (check, severity), count in sorted(counts.items())
        ),
        "# HELP natsmedic_unknown_facts Facts that the last diagnosis could not read.",
        "# TYPE natsmedic_unknown_facts gauge",
        f'natsmedic_unknown_facts{{cluster="{cluster}"}} {len(report.unknown)}',
        "# HELP natsmedic_gathered_timestamp_seconds When the facts of the last diagnosis were read.",
        "# TYPE natsmedic_gathered_timestamp_seconds gauge",
        f'natsmedic_gathered_timestamp_seconds{{cluster="{cluster}"}} {report.gathered_at.timestamp():.3f}',
    ]
    return "\n".join(lines)


def label(text: str) -> str:
    """Return `text` as the value of a label: backslash, quote and line feed escaped (Prometheus text format 0.0.4)."""
    shown = "".join(char if char == "\n" else visible(char) for char in text)
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def as_markdown(report: Report) -> str:
    """Return a report to paste into a ticket."""
    return "\n".join(_markdown(report))


def markdown(text: str) -> str:
    """Return `text` as plain text of Markdown: no markup, link, mention or line break comes from data."""
    return escaped(visible(text))


def _markdown(report: Report) -> Iterator[str]:
    verdict = report.verdict
    yield f"# {_MARKS[verdict.severity]} {markdown(report.cluster)}: {_word(verdict.severity)}"
    yield ""
    yield markdown(verdict.sentence)
    yield ""
    yield f"Facts of {when(report.gathered_at.astimezone(UTC))}."
    if sick := _sick(report):
        yield from (
            "",
            "## Findings",
            "",
            "| severity | check | nats audit | subject | finding |",
            "|---|---|---|---|---|",
        )
        for finding in sick[:MOST_ROWS]:
            cells = (finding.severity.value, *_cells(finding))
            yield f"| {' | '.join(markdown(cell) for cell in cells)} |"
        if left_out := _left_out(len(sick)):
            yield from ("", left_out)
    if report.proposals:
        yield from ("", "## What can be done")
    for number, offer in enumerate(report.proposals, start=1):
        yield from ("", f"### {number}. {markdown(offer.title)} ({offer.risk})", "", markdown(offer.why), "")
        yield from (f"- {markdown(line)}" for line in _lines_of(offer))
    if report.unknown:
        yield from ("", "## Not known", "")
        yield from (f"- {markdown(line)}" for line in _unknown_lines(report))


def print_table(report: Report, console: Console) -> None:
    """Draw the report for a person: the verdict first."""
    verdict = report.verdict
    head = Text.assemble((f"{_word(verdict.severity).upper()} ", _STYLES[verdict.severity]), visible(report.cluster))
    console.print(head.append(f"  ({when(report.gathered_at.astimezone(UTC))})", "dim"))
    console.print(Text(visible(verdict.sentence)))
    if sick := _sick(report):
        console.print()
        drawn = Table("severity", "check", "nats audit", "subject", "finding", box=None, pad_edge=False)
        for finding in sick[:MOST_ROWS]:
            severity = Text(finding.severity.value, _STYLES[finding.severity])
            drawn.add_row(severity, *(Text(visible(cell), overflow="fold") for cell in _cells(finding)))
        console.print(drawn)
        if left_out := _left_out(len(sick)):
            console.print(Text(left_out, "dim"))
    for number, offer in enumerate(report.proposals, start=1):
        console.print()
        title = Text.assemble((f"{number}. {visible(offer.title)}", "bold"), (f"  [{offer.risk}]", "dim"))
        console.print(title)
        console.print(Text(f"   {visible(offer.why)}"))
        for line in _lines_of(offer):
            console.print(Text(f"   • {visible(line)}"))
    if report.unknown:
        console.print()
        console.print(Text("Not known", "bold"))
        for line in _unknown_lines(report):
            console.print(Text(f"   • {visible(line)}"))
    passed = len({f.check for f in report.findings} - {f.check for f in sick})
    console.print(Text(f"\n{passed} checks passed.", "dim"))


def _finding(finding: Finding) -> JsonObject:
    return {
        "code": finding.check,
        "counterpart": finding.counterpart,
        "layer": finding.layer.name.lower(),
        "severity": finding.severity.value,
        "subject": str(finding.subject),
        "text": finding.sentence,
        "evidence": finding.evidence,
    }


def _sick(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.severity is not Severity.OK]


def _cells(finding: Finding) -> tuple[str, str, str, str]:
    return finding.check, finding.counterpart or "", str(finding.subject), finding.sentence


def _lines_of(offer: Offer) -> Iterator[str]:
    for number, action in enumerate(offer.actions, start=1):
        yield f"Stage {number} of {len(offer.actions)}: {action.kind} {json.dumps(action.params, ensure_ascii=False)}"
    yield from offer.guidance
    if offer.rung is not None:
        yield f"May not be enough: {offer.rung.not_enough}"
        if offer.rung.go_on:
            yield f"Go on to the next when: {offer.rung.go_on}"
    for patch in offer.patches:
        yield f"{patch.name}:"
        yield from patch.text.splitlines()


def _unknown_lines(report: Report) -> Iterator[str]:
    for unknown in report.unknown[:MOST_ROWS]:
        where = f"{unknown.fact} of {unknown.server}" if unknown.server is not None else unknown.fact
        yield f"{where}: {unknown.reason}"
    if left_out := _left_out(len(report.unknown)):
        yield left_out


def _left_out(count: int) -> str:
    return f"… and {count - MOST_ROWS} more; --format json has all." if count > MOST_ROWS else ""


def _word(severity: Severity) -> str:
    return {"ok": "healthy", "unknown": "could not tell"}.get(severity.value, severity.value)
