"""Subjects and the patterns that they match: tokens between dots, `*` for one of them, `>` for one or more at the end. Pure."""

from __future__ import annotations

import re
from typing import Final

PATTERN: Final = re.compile(r"(?:(?:[^\s.*>\x00-\x1f\x7f]+|\*)\.)*(?:[^\s.*>\x00-\x1f\x7f]+|\*|>)")
"""A subject or a pattern as a subscription may name it (server/sublist.go, `IsValidSubject`), a `*` or `>` only as a whole token."""

SUBJECT_LABEL: Final = "natsmedic_subject"
"""Label of an alert, or of a person's question, whose value is such a pattern. No exporter has it: a rule's author sets it."""


def lies_within(subject: str, pattern: str) -> bool:
    """Tell whether everything that `subject`, itself a pattern perhaps, takes is matched by `pattern`: what CONNZ's `filter_subject` asks
    (server/sublist.go, `SubjectMatchesFilter`).
    """
    own, wanted = subject.split("."), pattern.split(".")
    for place, one in enumerate(wanted):
        if one == ">":
            return len(own) > place
        if place >= len(own) or own[place] == ">" or (one != "*" and own[place] != one):
            return False
    return len(own) == len(wanted)


def overlap(a: str, b: str) -> bool:
    """Return whether some subject matches both patterns."""
    left, right = a.split("."), b.split(".")
    for x, y in zip(left, right, strict=False):
        if ">" in {x, y}:
            return True
        if x != y and "*" not in {x, y}:
            return False
    return len(left) == len(right)
