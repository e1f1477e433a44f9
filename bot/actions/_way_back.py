"""The way back from an edited template: the former one stands again, and whatever was made of the edited one is replaced, pod by pod.

A broken rollout does not heal itself: after the template is back, a pod that can't run stays as it is until somebody deletes it (forced rollback,
reference/nats.md 4.5). Meanwhile the strategy is OnDelete, so that Kubernetes, which does not know Raft, replaces nothing by itself, and a pod that is made
anew is made of the former template whatever the status says is current.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bot.actions._facts import look
from bot.actions._gate import ANY, NOTHING, hindrances, returned, stuck
from bot.actions._objects import change_object
from bot.actions._statefulset import (
    ON_DELETE,
    Edited,
    Target,
    fields_of,
    foreign,
    former_template,
    must_be_observed,
    pod_in,
    read_target,
    template_of,
    with_template,
)
from bot.errors import NotYet, OutcomeUnknown, Refused
from bot.model import JsonObject, OperationId, Outcome, part
from bot.model.kubernetes import Kind, Pod, deletion
from bot.ports import Readers, Writers

_NOTHING_BY_ITSELF: Final[JsonObject] = {"type": ON_DELETE}


async def bring_back(
    readers: Readers, writers: Writers, target: Target, edited: Edited, ordinals: Iterable[int], operation: OperationId
) -> None:
    """Return once these pods run the former template and their servers are whole; called again, it goes on where reality stands.

    Raises `NotYet` meanwhile, `Refused` where somebody else changed the StatefulSet, and whatever reading and writing raise.
    """
    former = await former_template(readers, target)
    raw = await read_target(readers, target)
    strategy = part(part(raw, "spec"), "updateStrategy")
    if not _is(raw, former) or strategy not in (_NOTHING_BY_ITSELF, target.strategy):
        undoing = OperationId(f"{operation}.undo")
        raw = await _write(readers, writers, target, edited, former, _NOTHING_BY_ITSELF, undoing)
    revisions = (target.former, must_be_observed(raw, target))
    for ordinal in sorted(ordinals):
        await _pod_back(readers, writers, target, ordinal, revisions)


async def put_back(readers: Readers, writers: Writers, target: Target, edited: Edited, operation: OperationId) -> None:
    """Let the former strategy stand again, once every pod runs the former template: under it Kubernetes then finds nothing to do."""
    await bring_back(readers, writers, target, edited, range(target.replicas), operation)
    former = await former_template(readers, target)
    ending = OperationId(f"{operation}.end")
    await _write(readers, writers, target, edited, former, target.strategy, ending)


async def _write(
    readers: Readers,
    writers: Writers,
    target: Target,
    edited: Edited,
    former: JsonObject,
    strategy: JsonObject,
    operation: OperationId,
) -> JsonObject:
    def edit(raw: JsonObject) -> JsonObject:
        if not _is(raw, former) and (moved := foreign(raw, former, edited)):
            hold = part(raw, "spec").get("updateStrategy")
            raise Refused(
                f"{target.statefulset} was changed by somebody else, so nothing is put back, and its updateStrategy stays {hold}.",
                *moved,
            )
        return with_template(raw, former, strategy)

    try:
        return await change_object(readers, writers, Kind.STATEFUL_SET, target.statefulset, target.uid, edit, operation)
    except OutcomeUnknown as error:
        raise _looks_again(error) from error


async def _pod_back(
    readers: Readers, writers: Writers, target: Target, ordinal: int, revisions: tuple[str, ...]
) -> None:
    pod = pod_in(await readers.gather(NOTHING), target, ordinal)
    if pod is not None and not pod.deleting and pod.revision not in revisions:
        if not stuck(pod, target.container):
            await _spared(readers, target, ordinal)
        try:
            await delete_pod(writers, pod)
        except OutcomeUnknown as error:
            raise _looks_again(error) from error
        raise NotYet(f"{pod.name} was deleted, to be made of the former template.")
    seen = await returned(readers, target, ordinal, revisions, ANY)
    if seen.outcome is not Outcome.VERIFIED:
        raise NotYet(seen.sentence)


async def _spared(readers: Readers, target: Target, ordinal: int) -> None:
    if why := hindrances(await look(readers), target, ordinal, ANY):
        raise NotYet(f"{target.pod(ordinal)} must wait before it is replaced.", *why)


async def delete_pod(writers: Writers, pod: Pod) -> None:
    """Delete the very pod that was looked at. Raises `NotApplied` or `OutcomeUnknown`."""
    await writers.write_object(deletion(Kind.POD, pod.raw))


def _looks_again(error: OutcomeUnknown) -> NotYet:
    """An unknown outcome is no end of the way back: the next call looks at reality, and each write of it holds only for the very object that was read."""
    return NotYet(str(error))


def _is(raw: JsonObject, template: JsonObject) -> bool:
    return fields_of(template_of(raw)) == fields_of(template)
