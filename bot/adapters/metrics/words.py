"""The words that labels may have. A label whose values came from outside would let a sender of alerts make as many series as it likes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from bot.flow.asking import COMMAND
from bot.flow.notices import ADVISORIES, SCHEDULE
from bot.model import STORM
from bot.runbook import Runbook

OTHER: Final = "other"
"""What stands for every word that is none of ours."""
OWN_CHECKS: Final = frozenset({"CLUSTER_READABLE"})
"""Findings of no check: nothing could be read (bot/flow/examination.py)."""
OWN_SOURCES: Final = frozenset({ADVISORIES, SCHEDULE, COMMAND, STORM})
MOST_REASONS: Final = 64
"""Reasons of refusals are words of policy, limits and desks, which no one list holds; there are some thirty. A defect that made them of data stops here."""
_REASON: Final = re.compile(r"[a-z][a-z_]{0,39}")


@dataclass(frozen=True)
class Words:
    """What settings and runbooks name; everything else is `other`."""

    sources: Collection[str] = ()
    runbooks: Collection[str] = ()
    checks: Collection[str] = ()
    actions: Collection[str] = ()
    _reasons: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, sources: Collection[str], runbooks: Sequence[Runbook], actions: Collection[str]) -> Words:
        """Return the words of a bot with these webhook sources, runbooks and kinds of action."""
        codes = {runbook.code for runbook in runbooks}
        checks = {check.code for runbook in runbooks for check in runbook.checks}
        own = OWN_CHECKS | {f"{code}_PROPOSALS" for code in codes}
        return cls(frozenset(sources) | OWN_SOURCES, frozenset(codes), frozenset(checks | own), frozenset(actions))

    def source(self, word: str) -> str:
        return word if word in self.sources else OTHER

    def runbook(self, word: str) -> str:
        return word if word in self.runbooks else OTHER

    def check(self, word: str) -> str:
        return word if word in self.checks else OTHER

    def action(self, word: str) -> str:
        return word if word in self.actions else OTHER

    def reason(self, word: str) -> str:
        """Return a word of a refusal; after `MOST_REASONS` different ones, and for what is no such word, `other`."""
        if word not in self._reasons:
            if len(self._reasons) >= MOST_REASONS or not _REASON.fullmatch(word):
                return OTHER
            self._reasons.add(word)
        return word
