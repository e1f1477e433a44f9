"""Ranks findings by layer: a finding in a lower layer explains those above it (reference/nats.md 7). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.model import Finding, Severity, Verdict


def rank(findings: Sequence[Finding]) -> Verdict:
    """Return the verdict: the root is the worst finding of the lowest sick layer, causes before symptoms.

    An unknown fact never makes a verdict healthy: without anything sick it makes the verdict unknown.
    """
    sick = [f for f in findings if f.severity in {Severity.CRITICAL, Severity.WARNING}]
    unknown = [f for f in findings if f.severity is Severity.UNKNOWN]
    if not sick:
        if unknown:
            root = min(unknown, key=lambda f: f.layer)
            return Verdict(
                severity=Severity.UNKNOWN,
                root=root,
                sentence=f"Could not tell: {root.sentence}",
                others=tuple(f for f in unknown if f is not root),
            )
        return Verdict(severity=Severity.OK, root=None, sentence="Nothing wrong was found: every check passed.")
    critical = [f for f in sick if f.severity is Severity.CRITICAL] or sick
    root = min(critical, key=lambda f: (not f.cause, f.layer))
    consequences = tuple(f for f in sick if f is not root and f.layer >= root.layer)
    others = tuple(f for f in sick if f is not root and f.layer < root.layer) + tuple(unknown)
    worst = max((f.severity for f in sick), key=lambda s: s.rank)
    return Verdict(severity=worst, root=root, sentence=root.sentence, consequences=consequences, others=others)
