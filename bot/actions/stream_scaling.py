"""Composes changes of replicas: for each stream the stages its servers' version calls for, one stream after another. Pure.

Why stages: two empty members of a group of three are a majority without the one that has the messages, and can begin a new history; one empty member of a
group of two is none (reference/drills.md 3.2b). Why no longer than that at two: a group of two survives no lost server at all (drills.md 3.6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.action import Composed
from bot.actions._facts import StreamFacts, stream_facts
from bot.actions._scale_facts import YOUNG, ScaleParams, hindrances, replicas_in
from bot.actions.stream_scale import StreamScale
from bot.errors import Refused
from bot.model import JsonObject, Snapshot, StreamKey
from bot.model.versions import Version, has

COMPOSES = (StreamScale.kind,)

DESIRED_STATE: Final[tuple[Version, ...]] = ((2, 15, 0),)
"""First version that adds a member only once it has caught up (nats-server #8432, #8460; `cluster.desired`, reference/nats.md 1.E)."""

WAITS_FOR_HOLDER: Final[tuple[Version, ...]] = ((2, 12, 8),)
"""Oldest version whose empty members were seen to wait for the one that has the messages, every time (tests/integration/test_stream_groups.py)."""

MOST_STREAMS: Final = 5
"""Streams of one proposal: with 30 s at two and 300 s at three replicas they keep the cluster's lock for half an hour."""

CATCH_UP: Final = 120.0
"""Seconds in which new members must be current: it takes 6 to 10 under load (drills.md 3.1), and a restart of a server meanwhile some more."""

CATCH_UP_AT_TWO: Final = 45.0
"""The same at two replicas: while the second member does not come the stream has no quorum, and the way back is safe."""

BYTES_PER_SECOND: Final = 10_000_000
"""What a slow disk or network copies: on top of `CATCH_UP` a large stream gets the time for it. A guess on the patient side."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the stages: how long everything must have been current at two replicas and elsewhere,  how old servers must be."""

    at_two: float = 30.0
    elsewhere: float = 300.0
    young: float = YOUNG
    catch_up: float = CATCH_UP
    catch_up_at_two: float = CATCH_UP_AT_TWO


@dataclass(frozen=True, slots=True)
class Scaling(Composed):
    """The stages, and what becomes of each stream."""

    streams: tuple[StreamKey, ...]
    rest: tuple[StreamKey, ...]
    """Those for which there was no place: a later proposal has them."""
    refused: Mapping[StreamKey, tuple[str, ...]]
    why: str
    """Why the stages are those they are, one sentence."""


def compose_scaling(snapshot: Snapshot, keys: Sequence[StreamKey], target: int, times: Times | None = None) -> Scaling:
    """Return the stages that give each stream `target` replicas. Raises `Refused` with all reasons where not even one stream may change now."""
    stages: list[tuple[str, JsonObject]] = []
    refused: dict[StreamKey, tuple[str, ...]] = {}
    chosen: list[StreamKey] = []
    waiting: list[StreamKey] = []
    for key in dict.fromkeys(keys):
        if len(chosen) == MOST_STREAMS:
            waiting.append(key)
            continue
        try:
            stages += _stream(snapshot, stream_facts(snapshot, key), target, times or Times())
        except Refused as reasons:
            refused[key] = reasons.reasons
        else:
            chosen.append(key)
    if not chosen:
        raise Refused(*dict.fromkeys(reason for reasons in refused.values() for reason in reasons))
    cautions = _cautions(snapshot, tuple(chosen), tuple(waiting), target)
    return Scaling(
        tuple(stages), cautions, tuple(chosen), tuple(waiting), refused, reason_of_stages(_versions(snapshot))
    )


def steps(start: int, target: int, versions: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of replicas on the way: straight to the target, except where the only copy would be outvoted by empty members."""
    if start != 1 or target <= 2 or all(has(version, WAITS_FOR_HOLDER) for version in versions):
        return (target,)
    # From 2 to 3 and from 3 to 5 the members that have everything are a majority, or all but one of it, and of one history.
    return (2, 3, target) if target > 3 else (2, target)


def reason_of_stages(versions: Sequence[str]) -> str:
    """Say why the stages are those they are."""
    running = ", ".join(sorted(set(versions)))
    if all(has(version, DESIRED_STATE) for version in versions):
        return f"{running} adds a member only once it has caught up and shows that as cluster.desired, so one stage is enough."
    if all(has(version, WAITS_FOR_HOLDER) for version in versions):
        return f"Empty members of {running} wait for the one that has the messages, so one stage is safe and the weak group of two is left out."
    return (
        f"On {running} two empty members can begin a new history without the one that has the messages, one can't: so first two replicas, and three "
        "as soon as both have been current for a while."
    )


def _stream(snapshot: Snapshot, stream: StreamFacts, target: int, times: Times) -> list[tuple[str, JsonObject]]:
    config, stored = stream.state.config, stream.state.stored
    found: list[tuple[str, JsonObject]] = []
    start = replicas_in(config)
    for to in steps(start, target, _versions(snapshot)):
        params = ScaleParams(
            account=stream.key.account,
            stream=stream.key.stream,
            stream_created=stream.state.created,
            config=config,
            start=start,
            to=to,
            target=target,
            messages=stored.messages,
            bytes=stored.bytes,
            consumers=len(stream.consumers),
            young=times.young,
            settle=times.at_two if to == 2 else times.elsewhere,
            patience=(times.catch_up_at_two if to == 2 else times.catch_up) + stored.bytes / BYTES_PER_SECOND,
        )
        if not found and (reasons := hindrances(snapshot, stream, params)):
            raise Refused(*reasons)
        found.append((StreamScale.kind, params.model_dump(mode="json")))
        start = to
    return found


def _cautions(
    snapshot: Snapshot, chosen: tuple[StreamKey, ...], rest: tuple[StreamKey, ...], target: int
) -> tuple[str, ...]:
    versions = _versions(snapshot)
    told = [
        f"Restart and stop no server until it is done, and for {YOUNG:.0f} s afterwards: an empty member that is left alone may begin a new history.",
        "Let nobody else change the stream meanwhile: JetStream has no conditional update. An edit between two stages stops the next one.",
    ]
    if target > 1 and not all(has(version, WAITS_FOR_HOLDER) for version in versions):
        told.append(
            "Back up first (nats stream backup): on these versions a stream with one replica can lose everything when its server dies within seconds of its "
            "first stage."
        )
    if len(chosen) > 1:
        told.append(
            "One stream after another; the first doubt stops the rest, and streams that are done stay as they are."
        )
    if rest:
        told.append(
            f"{len(rest)} more streams follow in a proposal of their own: {', '.join(map(str, rest[:MOST_STREAMS]))}{' …' if len(rest) > MOST_STREAMS else ''}."
        )
    return tuple(told)


def _versions(snapshot: Snapshot) -> tuple[str, ...]:
    return tuple(sorted({server.version for server in snapshot.servers}))
