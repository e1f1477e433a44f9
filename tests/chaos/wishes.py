"""The runbook of the chaos lab: what a consumer's own metadata wishes for is proposed as one small change. Pure.

Small changes on a server of its own make a repair cheap, so that thousands fit into an hour; all that stands between the alert and the change is the product's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Final

from bot.action import RECEIPT_KEY, Draft
from bot.actions import consumer_pause, consumer_reset, consumer_resume, recreate
from bot.actions._facts import NEEDS, ConsumerFacts, consumer_facts
from bot.errors import Refused
from bot.model import ConsumerKey, Finding, Focus, JsonObject, Layer, Severity, Snapshot, Subject, part
from bot.runbook import Check, Proposed, Runbook, Thresholds

ALERT: Final = "ChaosWish"
CODE: Final = "CHAOS_WISH"
KEY: Final = "chaos"
"""Key of the consumer's metadata that holds the wish."""
PAUSE_FOR: Final = timedelta(hours=2)
"""Longer than any run."""
AGAIN: Final = 2
"""The sequence that a reset goes back to."""

Stages = tuple[tuple[str, JsonObject], ...]


class Wish(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    RESET = "reset"
    RECREATE = "recreate"


def _pause(snapshot: Snapshot, key: ConsumerKey) -> Stages:
    until = snapshot.taken_at + PAUSE_FOR
    return ((consumer_pause.ACTION.kind, consumer_pause.compose_pause(snapshot, key, until).model_dump(mode="json")),)


def _resume(snapshot: Snapshot, key: ConsumerKey) -> Stages:
    return ((consumer_resume.ACTION.kind, consumer_resume.compose_resume(snapshot, key).model_dump(mode="json")),)


def _reset(snapshot: Snapshot, key: ConsumerKey) -> Stages:
    return ((consumer_reset.ACTION.kind, consumer_reset.compose_reset(snapshot, key, AGAIN).model_dump(mode="json")),)


def _recreate(snapshot: Snapshot, key: ConsumerKey) -> Stages:
    return recreate.compose(snapshot, key).stages


_COMPOSE: Final[Mapping[Wish, Callable[[Snapshot, ConsumerKey], Stages]]] = {
    Wish.PAUSE: _pause,
    Wish.RESUME: _resume,
    Wish.RESET: _reset,
    Wish.RECREATE: _recreate,
}


def _fulfilled(wish: Wish, facts: ConsumerFacts) -> bool:
    match wish:
        case Wish.PAUSE:
            return bool(consumer_pause.paused_until(facts))
        case Wish.RESUME:
            return not consumer_pause.paused_until(facts)
        case Wish.RESET:
            return facts.state.delivered_consumer_seq == 0
        case Wish.RECREATE:
            return bool(part(facts.config, "metadata").get(RECEIPT_KEY))


def _examine(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    del thresholds
    key = ConsumerKey(focus.account or "", focus.stream or "", focus.consumer or "")
    subject = Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream, consumer=key.consumer)
    try:
        facts = consumer_facts(snapshot, key)
        wish = Wish(str(part(facts.config, "metadata").get(KEY)))
    except (Refused, ValueError) as error:
        severity, sentence, evidence = Severity.UNKNOWN, f"What {key} wishes can't be read: {error}", {}
    else:
        done = _fulfilled(wish, facts)
        severity = Severity.OK if done else Severity.CRITICAL
        sentence = f"{key} wishes a {wish}, and {'has it' if done else 'waits for it'}."
        evidence: JsonObject = {"wish": wish.value}
    return [
        Finding(
            check=CODE, layer=Layer.CONSUMERS, subject=subject, severity=severity, sentence=sentence, evidence=evidence
        )
    ]


def _propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:
    del thresholds, focus
    proposed: list[Proposed] = []
    for finding in findings:
        if finding.severity is not Severity.CRITICAL:
            continue
        wish, where = Wish(str(finding.evidence["wish"])), finding.subject
        key = ConsumerKey(where.account or "", where.stream or "", where.consumer or "")
        try:
            draft = Draft(title=f"Fulfil the wish: {wish}", why=finding.sentence, stages=_COMPOSE[wish](snapshot, key))
        except Refused as refused:
            draft = Draft(title=f"Nothing to do about the wish: {wish}", why=finding.sentence, guidance=refused.reasons)
        proposed.append(Proposed(where, draft))
    return proposed


RUNBOOK = Runbook(
    code="CHAOS",
    title="Wishes of the chaos lab",
    alerts=frozenset({ALERT}),
    thresholds=(),
    checks=(Check(CODE, Layer.CONSUMERS, "Every consumer is as its metadata wishes.", NEEDS, _examine),),
    propose=_propose,
)
