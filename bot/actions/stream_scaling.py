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
from bot.actions._scale_facts import SAFE_SCALE_DOWN, YOUNG, ScaleParams, cluster_hindrances, hindrances, replicas_in
from bot.actions.peer_trials import Trials, compose_trials
from bot.actions.stream_scale import StreamScale
from bot.errors import Refused
from bot.model import JsonObject, Snapshot, StreamKey
from bot.model.versions import Version, has

COMPOSES = (StreamScale.kind,)

DESIRED_STATE: Final[tuple[Version, ...]] = ((2, 15, 0),)
"""First version that adds a member only once it has caught up (nats-server #8432, #8460; `cluster.desired`, reference/nats.md 1.E)."""

WAITS_FOR_HOLDER: Final[tuple[Version, ...]] = ((2, 12, 8),)
"""Oldest version whose empty members were seen to wait for the one that has the messages, every time (tests/integration/test_stream_groups.py)."""

MIN_RESET: Final = 3
"""Replicas; with fewer there is no majority beside the leader whose copies could be made anew."""

MOST_STREAMS: Final = 5
"""Streams of one proposal: with 30 s at two and 300 s at three replicas they keep the cluster's lock for half an hour."""

MOST_REFUSED: Final = 20
"""Streams that are left out before no further one is looked at: what speaks against so many speaks against all."""

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
    trial: bool = True
    """Whether the servers are tried first (`stream.probe_peers`)."""


@dataclass(frozen=True, slots=True)
class Scaling(Composed):
    """The stages, and what becomes of each stream."""

    streams: tuple[StreamKey, ...]
    rest: tuple[StreamKey, ...]
    """Those for which there was no place: a later proposal has them."""
    refused: Mapping[StreamKey, tuple[str, ...]]
    why: str
    """Why the stages are those they are, one sentence."""


def compose_scaling(
    snapshot: Snapshot, keys: Sequence[StreamKey], target: int, times: Times | None = None, *, beside: str = ""
) -> Scaling:
    """Return the stages that give each stream `target` replicas, `beside` a resource of NACK that keeps it (`ScaleParams.beside`).

    Raises `Refused` with all reasons where not even one stream may change now.
    """
    times = times or Times()
    stages: list[tuple[str, JsonObject]] = []
    refused: dict[StreamKey, tuple[str, ...]] = {}
    chosen: list[StreamKey] = []
    waiting: list[StreamKey] = []
    asked = list(dict.fromkeys(keys))
    # What speaks against all of them is told with the first, and the others need no look.
    for key in asked[:1] if cluster_hindrances(snapshot, times.young) else asked:
        if len(chosen) == MOST_STREAMS or len(refused) == MOST_REFUSED:
            waiting.append(key)
            continue
        try:
            stream = stream_facts(snapshot, key)
            path = steps(replicas_in(stream.state.config), target, _versions(snapshot))
            stages += _stages(snapshot, stream, path, times, beside)
        except Refused as reasons:
            refused[key] = reasons.reasons
        else:
            chosen.append(key)
    if not chosen:
        raise Refused(*dict.fromkeys(reason for reasons in refused.values() for reason in reasons))
    cautions = _cautions(snapshot, tuple(chosen), tuple(waiting), target)
    start = min(params["start"] for _, params in stages)
    why = reason_of_stages(start, target, _versions(snapshot))
    trials = _trials(snapshot, stages, times)
    cautions += trials.cautions
    return Scaling((*trials.stages, *stages), cautions, tuple(chosen), tuple(waiting), refused, why)


def compose_raft_reset(snapshot: Snapshot, key: StreamKey, times: Times | None = None) -> Composed:
    """Return the stages that take a stream down to its leader's copy and up again, so that all members but the leader are made anew. Raises `Refused`.

    What the other members hold is thrown away, so it is only for a stream whose leader has everything: with limits as its retention, on versions whose
    scale-down keeps the leader, and with every reason against a change of replicas out of the way.
    """
    stream = stream_facts(snapshot, key)
    count, versions = replicas_in(stream.state.config), _versions(snapshot)
    reasons: list[str] = []
    if count < MIN_RESET:
        reasons.append(f"Stream {key} has {count} replicas, and fewer than {MIN_RESET} are not reset.")
    if stream.retention != "limits":
        reasons.append(f"Stream {key} has retention {stream.retention}: what its consumers hold would move as well.")
    if old := sorted({version for version in versions if not has(version, SAFE_SCALE_DOWN)}):
        reasons.append(
            f"{', '.join(old)} may keep a member that is not the leader when it scales down (nats-server #8253, fixed in 2.12.10 and 2.14.2)."
        )
    if reasons:
        raise Refused(*reasons)
    stages = _stages(snapshot, stream, (1, *steps(1, count, versions)), times or Times())
    told = (
        f"Back up first (nats stream backup): for a while the only copy is that of {stream.standing.leader}. What other members hold beyond it is thrown away.",
        *_cautions(snapshot, (key,), (), count),
    )
    return Composed(tuple(stages), told)


def steps(start: int, target: int, versions: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of replicas on the way: straight to the target, except where the only copy would be outvoted by empty members."""
    if start != 1 or target <= 2 or all(has(version, WAITS_FOR_HOLDER) for version in versions):
        return (target,)
    # From 2 to 3 and from 3 to 5 the members that have everything are a majority.
    return (2, 3, target) if target > 3 else (2, target)


def reason_of_stages(start: int, target: int, versions: Sequence[str]) -> str:
    """Say why the stages are those they are."""
    if target < start:
        return "The leader keeps its copy and the members that go delete theirs, so one stage is enough."
    if start > 1:
        return "Those that hold everything now outvote the new members, so one stage is enough."
    running = ", ".join(sorted(set(versions)))
    if all(has(version, DESIRED_STATE) for version in versions):
        return f"{running} adds a member only once it has caught up and shows that as cluster.desired, so one stage is enough."
    if all(has(version, WAITS_FOR_HOLDER) for version in versions):
        return f"Empty members of {running} wait for the one that has the messages, so one stage is safe and the weak group of two is left out."
    return (
        f"On {running} two empty members can begin a new history without the one that has the messages, one can't: so first two replicas, and three "
        "as soon as both have been current for a while."
    )


def _stages(
    snapshot: Snapshot, stream: StreamFacts, path: Sequence[int], times: Times, beside: str = ""
) -> list[tuple[str, JsonObject]]:
    """One stage for each number of replicas on the way. Raises `Refused` where the first one must not run now."""
    config, stored = stream.state.config, stream.state.stored
    found: list[tuple[str, JsonObject]] = []
    start = replicas_in(config)
    for to in path:
        params = ScaleParams(
            account=stream.key.account,
            stream=stream.key.stream,
            stream_created=stream.state.created,
            config=config,
            start=start,
            to=to,
            target=path[-1],
            messages=stored.messages,
            bytes=stored.bytes,
            consumers=len(stream.consumers),
            young=times.young,
            beside=beside,
            settle=times.at_two if to == 2 else times.elsewhere,
            patience=(times.catch_up_at_two if to == 2 else times.catch_up) + stored.bytes / BYTES_PER_SECOND,
        )
        if not found and (reasons := hindrances(snapshot, stream, params)):
            raise Refused(*reasons)
        found.append((StreamScale.kind, params.model_dump(mode="json")))
        start = to
    return found


def _trials(snapshot: Snapshot, stages: Sequence[tuple[str, JsonObject]], times: Times) -> Trials:
    if not times.trial:
        return Trials((), ())
    return compose_trials(snapshot, [ScaleParams.model_validate(raw) for _, raw in stages])


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
