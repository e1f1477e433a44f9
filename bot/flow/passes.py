"""What follows from one scheduled pass: which runbooks raise their alert, which take it back, and which stay silent. Pure.

- A runbook is *sick* where it found something that counts: a critical finding, a warning where the settings say so, or a fact that is unknown.
- It is *bad* where it found more than unknown facts, or nothing but those in two passes in a row: one time-out is no incident.
- Of the runbooks that turn bad in one pass, the one with the root of them all fires. What else is sick then is its likely consequence (bot.flow.ranking)
  and stays silent for as long as that one is sick, so that one dead server opens one thread and not one per runbook. What turns bad later fires by itself.
- A runbook whose incident is open goes on firing while it is bad, is resolved once it is well, and says nothing where nobody can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bot.flow.ranking import rank
from bot.model import Finding, Severity, Subject
from bot.settings import OpenAt

UNKNOWN_PASSES: Final = 2
"""So many passes in a row must end in *unknown* before that is bad."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one runbook found in one pass."""

    code: str
    findings: tuple[Finding, ...]


class Decision(NamedTuple):
    """Codes of the runbooks that have something to say."""

    firing: frozenset[str]
    resolved: frozenset[str]


class Passes:
    """Of one cluster: remembers from pass to pass what was unknown, and what was explained by what."""

    def __init__(self, open_at: OpenAt) -> None:
        self._open_at = open_at
        self._unknown = Counter[str]()
        self._explained: dict[str, frozenset[str]] | None = None
        """Silent runbook to those that explain it; None before the first pass."""

    def decide(self, judged: Sequence[Judged], open_codes: frozenset[str]) -> Decision:
        """Return what this pass has to say, where the incidents of `open_codes` are not closed."""
        counting = {each.code: [f for f in each.findings if counts(f, self._open_at)] for each in judged}
        severities = {code: rank(findings).severity for code, findings in counting.items()}
        sick = {code for code, severity in severities.items() if severity is not Severity.OK}
        bad = {code for code in sick if severities[code] is not Severity.UNKNOWN or self._lasts(code)}
        self._unknown = Counter({c: self._unknown[c] + 1 for c in sick if severities[c] is Severity.UNKNOWN})
        explained = self._still_explained(sick, open_codes)
        new = {code: counting[code] for code in counting if code in bad - open_codes - explained.keys()}
        fresh = _owner_of_root(new)
        if fresh is not None:
            explained |= {code: frozenset({fresh}) for code in sick - open_codes - explained.keys() - {fresh}}
        self._explained = explained
        return Decision(
            firing=frozenset(bad & open_codes | ({fresh} if fresh else set())),
            resolved=frozenset(open_codes & severities.keys()) - sick,
        )

    def _lasts(self, code: str) -> bool:
        return self._unknown[code] + 1 >= UNKNOWN_PASSES

    def _still_explained(self, sick: set[str], open_codes: frozenset[str]) -> dict[str, frozenset[str]]:
        if self._explained is None:
            # After a restart nobody knows what came with what: everything sick is taken for a consequence of what is open.
            causes = open_codes & sick
            return dict.fromkeys(sick - open_codes, causes) if causes else {}
        return {code: by for code, by in self._explained.items() if code in sick and by & sick}


def counts(finding: Finding, open_at: OpenAt) -> bool:
    """Say whether a finding matters to a schedule that opens incidents at this severity."""
    return finding.severity is not Severity.WARNING or open_at is OpenAt.WARNING


def picture(findings: Iterable[Finding], open_at: OpenAt) -> frozenset[tuple[str, Subject, Severity]]:
    """Return what is wrong and matters, without the numbers that move from pass to pass."""
    return frozenset(
        (f.check, f.subject, f.severity) for f in findings if counts(f, open_at) and f.severity is not Severity.OK
    )


def _owner_of_root(found: dict[str, list[Finding]]) -> str | None:
    root = rank([finding for findings in found.values() for finding in findings]).root
    return next((code for code, findings in found.items() if any(f is root for f in findings)), None)
