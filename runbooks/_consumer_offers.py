"""What is offered for a consumer that its clients or its owner hold up, the least that is done to it first. Pure.

Each change stands behind the guide for people: who paused it, which client is pinned and what its workers do is theirs to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from bot.action import Draft
from bot.actions._command_line import command
from bot.actions.consumer_pause import ACTION as PAUSE
from bot.actions.consumer_pause import compose_pause
from bot.actions.consumer_reset import ACTION as RESET
from bot.actions.consumer_reset import compose_reset
from bot.actions.consumer_resume import ACTION as RESUME
from bot.actions.consumer_resume import compose_resume
from bot.actions.consumer_unpin import ACTION as UNPIN
from bot.actions.consumer_unpin import compose_unpin
from bot.errors import Refused
from bot.model import ConsumerKey, Finding, Record, Rung, Severity, Snapshot
from bot.model.clients import moment_of
from bot.runbook import Proposed, Thresholds
from runbooks._consumer_clients import ACKS, FAILING, PIN, comes_again_in, read_at
from runbooks._consumer_delivery import Delivery, delivery

WORTH_A_RESET: Final = timedelta(minutes=1)
"""What comes again by itself sooner is waited for: the ladder's own first step is to observe for 1 to 2 minutes (reference/nats.md 1.E)."""

PAUSE_FOR: Final = timedelta(hours=1)
"""Long enough to put a release of the workers back, and it ends by itself."""


def client_side(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, most: int) -> list[Proposed]:
    """Return what is offered for at most so many consumers: nothing is wrong with the cluster, so it is said where to look first."""
    found: list[Proposed] = []
    told = [f for f in findings if f.severity is Severity.WARNING and f.check in _MAKERS]
    for finding in told[:most]:
        where = finding.subject
        key = ConsumerKey(where.account or "", where.stream or "", where.consumer or "")
        seen = delivery(snapshot, key)
        if seen is not None:
            found += _MAKERS[finding.check](snapshot, finding, key, seen, thresholds)
    return found


def start_again(snapshot: Snapshot, finding: Finding, key: ConsumerKey) -> list[Proposed]:
    """Return the reset of a consumer that stands still although its group is whole; nothing where it can't be reset, as before 2.14."""
    try:
        params = compose_reset(snapshot, key)
    except Refused:
        return []
    draft = Draft(
        title=f"Reset consumer {key.consumer} to its ack floor",
        why=f"{finding.sentence} A reset lets it begin again right behind its ack floor, with the name, the configuration and the clients that it has.",
        stages=((RESET.kind, params.model_dump(mode="json")),),
        rung=Rung(
            not_enough="Its members and their disks stay as they are: where one of them holds it up, it stands still again.",
            go_on="",
        ),
    )
    return [Proposed(finding.subject, draft)]


def _clients(
    snapshot: Snapshot, finding: Finding, key: ConsumerKey, seen: Delivery, thresholds: Thresholds
) -> list[Proposed]:
    del thresholds
    if seen.last.paused:
        return _paused(snapshot, finding, key, seen)
    guide = Draft(
        title=f"Look at the clients of consumer {key.consumer}",
        why=finding.sentence,
        guidance=(
            f"{command('nats', 'consumer', 'info', of=[key.stream, key.consumer])}: waiting pulls, outstanding acks, pause.",
            "A new leader or a new consumer would wait for the same clients.",
        ),
    )
    later = comes_again_in(snapshot, seen)
    if not (seen.full and seen.demand) or seen.moved or later is None or later <= WORTH_A_RESET:
        return [Proposed(finding.subject, guide)]
    reset = Draft(
        title=f"Deliver again what consumer {key.consumer} waits for",
        why=(
            f"{finding.sentence} Clients ask, and the last of these messages comes again in {_span(later)}: where those who took them are gone, "
            "a reset to the ack floor delivers them now."
        ),
        rung=Rung(not_enough="Workers that do not acknowledge use it up again.", go_on=""),
        cautions=(
            "Only where nobody works on these messages any more: otherwise each is worked on twice, and the first acknowledgement is not taken.",
        ),
    )
    waiting = guide.model_copy(
        update={
            "rung": Rung(
                not_enough=f"Workers that are gone acknowledge nothing, and what they took comes again only after ack_wait, in {_span(later)}.",
                go_on="nobody works on these messages any more, and that is too long to wait.",
            )
        }
    )
    return _then(finding, waiting, reset, RESET.kind, lambda: compose_reset(snapshot, key))


def _paused(snapshot: Snapshot, finding: Finding, key: ConsumerKey, seen: Delivery) -> list[Proposed]:
    until = str(seen.last.config.get("pause_until") or "")
    ends = moment_of(until)
    left = f"in {_span(ends - read_at(snapshot, seen.last))}, at {until}" if ends else "at a moment that is not known"
    guide = Draft(
        title=f"Ask who paused consumer {key.consumer}: it goes on by itself {left}",
        why=finding.sentence,
        guidance=(
            f"See the pause: {command('nats', 'consumer', 'info', of=[key.stream, key.consumer])}",
            "Somebody paused it on purpose, and servers do not keep who: ask its owners, and look into the audit where natsmedic may have done it.",
        ),
        rung=Rung(
            not_enough="Messages pile up until then, and limits of the stream may take some before they are delivered.",
            go_on="its owners say that the pause is not needed any more.",
        ),
    )
    resume = Draft(
        title=f"Resume consumer {key.consumer}",
        why=f"{finding.sentence} It would go on by itself {left}.",
        rung=Rung(not_enough="It delivers to those who ask: where nobody does, messages go on waiting.", go_on=""),
        cautions=("Whoever paused it may not be ready for its messages: ask first.",),
    )
    return _then(finding, guide, resume, RESUME.kind, lambda: compose_resume(snapshot, key))


def _pinned(
    snapshot: Snapshot, finding: Finding, key: ConsumerKey, seen: Delivery, thresholds: Thresholds
) -> list[Proposed]:
    del thresholds, seen
    group, timeout = str(finding.evidence.get("group") or ""), finding.evidence.get("priority_timeout")
    ends = "some time after its last request"
    if isinstance(timeout, int) and timeout > 0:
        ends = f"{_span(timedelta(microseconds=timeout / 1_000))} after its last request"
    guide = Draft(
        title=f"See what the client does that group {group} of consumer {key.consumer} is pinned to",
        why=finding.sentence,
        guidance=(
            f"See the pin: {command('nats', 'consumer', 'info', of=[key.stream, key.consumer])}",
            f"The server lets go of it {ends} (priority_timeout); restarting that client does the same at once.",
        ),
        rung=Rung(
            not_enough="A client that asks now and then keeps its place, whatever it does with the messages.",
            go_on="it still holds the group, and the others still wait.",
        ),
    )
    unpin = Draft(
        title=f"Unpin group {group} of consumer {key.consumer}",
        why=f"{finding.sentence} Without the pin the next client that asks gets the messages.",
        rung=Rung(not_enough="The same client gets its place back where it is the next that asks.", go_on=""),
    )
    return _then(finding, guide, unpin, UNPIN.kind, lambda: compose_unpin(snapshot, key, group))


def _failing(
    snapshot: Snapshot, finding: Finding, key: ConsumerKey, seen: Delivery, thresholds: Thresholds
) -> list[Proposed]:
    state, limit = seen.last, finding.evidence.get("max_deliver")
    guide = Draft(
        title=f"See why the workers of consumer {key.consumer} acknowledge nothing",
        why=finding.sentence,
        guidance=(
            f"See what waits: {command('nats', 'consumer', 'info', of=[key.stream, key.consumer])}",
            "Look at the workers: errors of what they write to, a release that came with it, an ack_wait shorter than their work takes.",
        ),
    )
    every = state.num_redelivered >= state.num_ack_pending
    if limit is None or not every or state.num_redelivered < thresholds[FAILING.name]:
        return [Proposed(finding.subject, guide)]
    failing = guide.model_copy(
        update={
            "rung": Rung(
                not_enough=f"Meanwhile each message is given up after {limit} deliveries, and this consumer never delivers it again.",
                go_on="the workers can't be mended before that.",
            )
        }
    )
    pause = Draft(
        title=f"Pause consumer {key.consumer} for {_span(PAUSE_FOR)}",
        why=f"{finding.sentence} Paused, it gives up nothing more, and its position stays.",
        rung=Rung(not_enough="It wins time: the workers fail as before when it goes on.", go_on=""),
        cautions=("Messages pile up meanwhile; limits of the stream may take some before they are delivered.",),
    )
    until = snapshot.taken_at + PAUSE_FOR
    return _then(finding, failing, pause, PAUSE.kind, lambda: compose_pause(snapshot, key, until))


def _then(finding: Finding, guide: Draft, change: Draft, kind: str, compose: Callable[[], Record]) -> list[Proposed]:
    """Return the guide and the change after it, or the guide alone with what speaks against the change."""
    try:
        params = compose()
    except Refused as refused:
        told = (f"natsmedic does not offer to do more: {reason}" for reason in refused.reasons)
        alone = guide.model_copy(update={"guidance": (*guide.guidance, *told), "rung": None})
        return [Proposed(finding.subject, alone)]
    staged = change.model_copy(update={"stages": ((kind, params.model_dump(mode="json")),)})
    return [Proposed(finding.subject, guide), Proposed(finding.subject, staged)]


def _span(time: timedelta) -> str:
    """A time as people say it, to the second below two minutes."""
    seconds = max(round(time.total_seconds()), 0)
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"


_Maker = Callable[[Snapshot, Finding, ConsumerKey, Delivery, Thresholds], list[Proposed]]

_MAKERS: Final[dict[str, _Maker]] = {
    "CONSUMER_CLIENTS": _clients,
    PIN.code: _pinned,
    ACKS.code: _failing,
}
