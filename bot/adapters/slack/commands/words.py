"""The words of `/nats`: what each takes, what it is for, and who may use it."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from bot.flow.admission import Rule
from bot.flow.asking import OBJECT
from bot.model import Person
from bot.model.span import EXAMPLES
from bot.policy import Decision, Reason, may_freeze, may_lift, may_run
from bot.settings import PolicySettings

FOREVER: Final = "lifted"
"""Instead of a duration: until it is lifted, as on the command line."""


def member(person: Person, rules: PolicySettings) -> Decision:
    """Everybody of the home workspaces may ask what natsmedic is and who they are themselves, guests too, and where Slack can't say who that is."""
    if person.problem is not None or person.home_workspace:
        return Decision(reason=Reason.ALLOWED, sentence="")
    return may_run(person, rules)


@dataclass(frozen=True, slots=True)
class Word:
    """One command."""

    name: str
    takes: str
    meaning: str
    rule: Rule = may_run

    @property
    def usage(self) -> str:
        return " ".join(filter(None, ("/nats", self.name, self.takes)))


WORDS: Final = {
    word.name: word
    for word in (
        Word("status", "", "open incidents, what waits for approval, freezes, whether threads can be drawn"),
        Word("diagnose", "[CLUSTER] [RUNBOOK]", "look at a cluster now; in an incident's thread, look at it again"),
        Word("run", f"RUNBOOK [CLUSTER] [{OBJECT}]", "look with one runbook, first at one thing"),
        Word("incidents", "", "open incidents and how each stands"),
        Word("proposals", "", "proposals that are not decided or not finished"),
        Word("runbooks", "", "what natsmedic knows to look for"),
        Word("audit", "[OBJECT | PERSON | SINCE]", f"what was told, decided and done; since: {EXAMPLES}"),
        Word(
            "freeze", "[CLUSTER] DURATION REASON", f"stop changes; {EXAMPLES}, or {FOREVER}: until lifted", may_freeze
        ),
        Word("unfreeze", "ID REASON", "let changes go on; two people must", may_lift),
        Word("whoami", "", "who natsmedic takes you for, what you may approve, and why not", member),
        Word("help", "", "this list", member),
    )
}


def nearest(word: str, known: list[str]) -> str:
    """Return ` Did you mean X?` where something is near; empty where nothing is."""
    close = get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""
