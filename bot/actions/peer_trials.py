"""Composes the trials that come before changes of replicas: one for each account, placement and storage, made and taken away again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bot.actions._facts import stream_facts
from bot.actions._peer_trial import TrialEndParams, TrialParams, holders, occupied, placement_of, replicas_for
from bot.actions._scale_facts import ScaleParams
from bot.actions.stream_probe_end import ProbeEnd
from bot.actions.stream_probe_peers import ProbePeers
from bot.model import JsonObject, Snapshot, StreamKey, canonical_json, digest

COMPOSES = (ProbePeers.kind, ProbeEnd.kind)

MARK_LENGTH = 26
"""Hex digits of a mark, as those of helper consumers: more than enough to tell proposals apart."""


@dataclass(frozen=True, slots=True)
class Trials:
    """The stages, and what they can't show."""

    stages: tuple[tuple[str, JsonObject], ...]
    cautions: tuple[str, ...]


def compose_trials(snapshot: Snapshot, scales: Sequence[ScaleParams]) -> Trials:
    """Return the trials of the servers that new replicas may come to; `scales` are the stages that follow. Raises `Refused` where a stream has no leader."""
    stages: list[tuple[str, JsonObject]] = []
    cautions: dict[str, None] = {}
    seen: set[StreamKey] = set()
    tried: set[str] = set()
    for scale in scales:
        if not scale.up or scale.key in seen:
            continue
        seen.add(scale.key)
        stream = stream_facts(snapshot, scale.key)
        placement, servers = placement_of(snapshot, stream), holders(snapshot, stream)
        storage = str(scale.config.get("storage") or "file")
        same = canonical_json([scale.account, placement, storage, list(servers)])
        if same in tried:
            continue
        tried.add(same)
        if taken := occupied(snapshot, scale.account):
            told = f"The servers can't be tried before: {taken}. A sick disk shows only in what servers tell of it."
            cautions[told] = None
            continue
        mark = digest([same, stream.state.created, str(snapshot.id)])[:MARK_LENGTH]
        params = TrialParams(
            account=scale.account,
            mark=mark,
            placement=placement,
            storage=storage,
            servers=servers,
            replicas=replicas_for(snapshot, servers),
            scale=scale,
        )
        stages.append((ProbePeers.kind, params.model_dump(mode="json")))
        stages.append((ProbeEnd.kind, TrialEndParams(account=scale.account, mark=mark).model_dump(mode="json")))
    return Trials(tuple(stages), tuple(cautions))
