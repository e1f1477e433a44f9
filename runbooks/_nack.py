"""A change of a stream or consumer that NACK keeps, made in its custom resource: the patches, the commands, and what NACK does at each of them. Pure.

Sources: reference/nats.md 4.5; nack internal/controller/consumer_controller.go (its control loop) and controllers/jetstream/consumer.go and controller.go (the
older way, which looks at a resource only when its spec changes). Both create a consumer that is not there, and send every change of the spec to one that is,
unless `preventUpdate` is set; JetStream refuses another start for an existing consumer (10012).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

import yaml

from bot.action import Draft
from bot.actions._command_line import command
from bot.actions._facts import owner_mark
from bot.actions._owners import resource_name
from bot.actions._scale_facts import SAFE_SCALE_DOWN
from bot.actions.consumer_create import ConsumerCreate, Purpose
from bot.actions.recreate import Position, Recreation
from bot.actions.stream_scaling import Times, compose_scaling, steps
from bot.errors import Refused
from bot.model import JsonObject, Patch, Snapshot, StreamKey, Unknown, part
from bot.model.kubernetes import ConsumerResource, StreamResource, owners_of
from bot.model.kubernetes.nack import consumer_keepers, stream_keepers
from bot.model.versions import has
from runbooks._ownership import IN_SOURCE_AS_WELL

CONSUMERS: Final = "consumers.jetstream.nats.io"
STREAMS: Final = "streams.jetstream.nats.io"

_MARKS: Final = ("nack", "jetstream.nats.io/")
"""How a mark begins that people or tools leave in JetStream for NACK; NACK itself leaves none."""
_POLICIES: Final = {"all": "all", "by_start_sequence": "byStartSequence"}
"""`deliver_policy` of a recreated consumer, as NACK's resources spell it (consumerSpecToConfig)."""
_NOT_IN_A_FILE_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]|^[.-]")


def recreated_in_source(snapshot: Snapshot, recreation: Recreation, why: str) -> Draft | None:
    """Return how a consumer that NACK keeps comes to be recreated by it; None where nothing says that NACK keeps it."""
    found = consumer_keepers(snapshot.kubernetes, recreation.facts.key)
    resources = () if isinstance(found, Unknown) else found
    match resources:
        case (resource,):
            return _draft(recreation, why, resource, ())
        case ():
            said = owner_mark(recreation.facts.config).lower().startswith(_MARKS)
            return _draft(recreation, why, None, _unread(snapshot, found)) if said else None
        case _:
            return _draft(recreation, why, None, (_several(resources, CONSUMERS),))


def scaled(snapshot: Snapshot, key: StreamKey, start: int, target: int, why: str, times: Times) -> tuple[Draft, ...]:
    """Return how the replicas of a stream that NACK keeps change: in its resource, and marked after it the direct change; nothing where none names it."""
    found = stream_keepers(snapshot.kubernetes, key)
    resources = () if isinstance(found, Unknown) else found
    if not resources:
        return ()
    source = _in_source(snapshot, resources, key, start, target, why)
    match resources:
        case (resource,):
            direct = _beside(snapshot, resource, key, target, why, times)
        case _:
            direct = ()
    if isinstance(direct, Draft):
        return source, direct
    return (source.model_copy(update={"guidance": (*source.guidance, *direct)}),)


def _beside(
    snapshot: Snapshot, resource: StreamResource, key: StreamKey, target: int, why: str, times: Times
) -> Draft | tuple[str, ...]:
    """Return the change that leaves the resource as it is, with what NACK does to it; or why there is none.

    NACK takes it back by a scale-down at the worst moment, right after the first stage, so it is offered only where that can't cost the copy that counts.
    """
    name = f"{resource.namespace}/{resource.name}"
    held = resource.spec.get("preventUpdate") is True
    old = sorted({server.version for server in snapshot.servers if not has(server.version, SAFE_SCALE_DOWN)})
    if old and not held:
        said = f"NACK would scale it down again, and {', '.join(old)} may then keep a member that has nothing yet"
        return (f"Not offered beside the resource: {said} (nats-server #8253, fixed in 2.12.10 and 2.14.2).",)
    try:
        scaling = compose_scaling(snapshot, [key], target, times, beside=resource_name(resource))
    except Refused as refused:
        return tuple(f"Not offered beside the resource: {reason}" for reason in refused.reasons)
    until = "somebody lifts its `preventUpdate`" if held else "NACK looks again"
    reverts = (
        f"NACK keeps the stream as {name} says, and its `preventUpdate` holds it back: once that is lifted, NACK sets the resource's number again."
        if held
        else f"NACK keeps the stream as {name} says: as a control loop (--control-loop) it sets the resource's number again at its next look, which may be within "
        "seconds and ends this repair as failed; in the older way as soon as the resource changes."
    )
    return Draft(
        title=f"Give stream {key.stream} {target} replicas, directly: it holds until {until}",
        why=f"{why} {scaling.why}",
        stages=scaling.stages,
        cautions=(reverts, IN_SOURCE_AS_WELL, *scaling.cautions),
    )


def _in_source(
    snapshot: Snapshot, found: Sequence[StreamResource], key: StreamKey, start: int, target: int, why: str
) -> Draft:
    """The change in the resource, in the stages its servers' version calls for."""
    resource = found[0] if len(found) == 1 else None
    told: list[str] = [] if resource else [_several(found, STREAMS)]
    files: list[Patch] = []
    for to in steps(start, target, [server.version for server in snapshot.servers]):
        file = f"{_file(key.stream)}-{to}-replicas.yaml"
        files.append(Patch(name=file, text=_yaml({"replicas": to})))
        told += [
            f"{command(*_patch(STREAMS, resource), f'--patch-file={file}')}   At this NACK sends the stream's whole configuration as its resource says.",
            f"Go on only when {to} members are current with the messages of before, and restart nothing meanwhile: {command('nats', 'stream', 'info', of=[key.stream])}",
        ]
    told += _held_back(resource)
    name = f"{resource.namespace}/{resource.name}" if resource else "that names it"
    return Draft(
        title=f"Give stream {key.stream} {target} replicas, in its source: NACK's resource {name}",
        why=f"{why} NACK keeps stream {key.stream} as its resource says, so only a change there lasts.",
        guidance=(
            f"Back it up first: {command('nats', 'stream', 'backup', of=[key.stream, f'{key.stream}-backup'])}",
            *told,
        ),
        cautions=(
            *(owner.reverts for owner in (owners_of(resource) if resource else ())),
            "What others have changed of the stream beside its resource goes with this change.",
        ),
        patches=tuple(files),
    )


def _held_back(resource: StreamResource | None) -> tuple[str, ...]:
    if resource is None or resource.spec.get("preventUpdate") is not True:
        return ()
    return ("Its `preventUpdate` keeps NACK from sending any change: somebody wants that, so ask first.",)


def edit_replicas(snapshot: Snapshot, key: StreamKey, replicas: int) -> str:
    """The command that changes a stream's replicas: of its custom resource, where one names it, for NACK takes back what is done beside it."""
    found = stream_keepers(snapshot.kubernetes, key)
    direct = command("nats", "stream", "edit", of=[key.stream], options=["--replicas", str(replicas)])
    if isinstance(found, Unknown):
        return f"{direct} (in its resource where NACK keeps it, which is not known: {found.detail.rstrip('.')})"
    if not found:
        return direct
    change = json.dumps({"spec": {"replicas": replicas}})
    commands = (
        command(*_patch(STREAMS, resource), f"--patch={change}")
        for resource in sorted(found, key=lambda one: (one.namespace, one.name))
    )
    return " or ".join(commands)


def _draft(recreation: Recreation, why: str, resource: ConsumerResource | None, first: tuple[str, ...]) -> Draft:
    key, state = recreation.facts.key, recreation.facts.state
    name = f"{resource.namespace}/{resource.name}" if resource else "that names it"
    hold, release = f"{_file(key.consumer)}-position.yaml", f"{_file(key.consumer)}-release.yaml"
    target = _patch(CONSUMERS, resource)
    before, after, files = _holder(recreation)
    where = f"ack floor {state.floor_stream_seq}, delivered {state.delivered_stream_seq}"
    guidance = (
        *first,
        f"Stop what pulls from {key.consumer}, so that it stays where it is: {where}.",
        (
            f"{command(*target, f'--patch-file={hold}')}   NACK changes nothing at this yet: `preventUpdate` keeps it from sending the new start to the consumer "
            "that is there, which JetStream refuses (10012)."
        ),
        *before,
        (
            f"Only if it still is at {where} ({command('nats', 'consumer', 'info', of=[key.stream, key.consumer])}): "
            f"{command('nats', 'consumer', 'rm', of=[key.stream, key.consumer], options=['--force'])}"
        ),
        (
            f"{command(*target, f'--patch-file={release}')}   At this NACK creates the consumer as its resource says; as a control loop (--control-loop) it does "
            "so at its own next look already, which comes to the same."
        ),
        *after,
        *_put_back(resource, target),
        "Diagnose again: every member must have its Raft node and name the same leader.",
    )
    return Draft(
        title=f"Create consumer {key.consumer} again at its position, in its source: NACK's resource {name}",
        why=f"{why} NACK keeps consumer {key.consumer} as its resource says, so only a change there lasts.",
        guidance=guidance,
        cautions=_cautions(recreation, resource),
        patches=(
            Patch(name=hold, text=_yaml({"preventUpdate": True} | _start(recreation.position))),
            Patch(name=release, text=_yaml({"preventUpdate": False})),
            *files,
        ),
    )


def _start(position: Position) -> JsonObject:
    """The resource's fields of a new start; none where the original start is the right one. A merge patch takes a field away with null."""
    if not position.policy:
        return {}
    return {
        "deliverPolicy": _POLICIES[str(position.policy["deliver_policy"])],
        "optStartSeq": position.policy.get("opt_start_seq"),
        "optStartTime": None,
    }


def _holder(recreation: Recreation) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Patch, ...]]:
    """What keeps an interest stream's messages while its consumer is away: the command before, the one after, and the file."""
    stream = recreation.facts.key.stream
    for kind, params in recreation.stages:
        if kind == ConsumerCreate.kind and params["purpose"] == Purpose.HOLDER:
            config, name = part(params, "config"), str(params["consumer"])
            file = f"{_file(name)}.json"
            add = command("nats", "consumer", "add", of=[stream], options=[f"--config={file}"])
            remove = command("nats", "consumer", "rm", of=[stream, name], options=["--force"])
            return (
                (f"{add}   It keeps the messages while the consumer is away: nobody reads from it.",),
                (f"Once the consumer is back, and not before: {remove}",),
                (Patch(name=file, text=json.dumps(config, indent=2) + "\n"),),
            )
    return (), (), ()


def _put_back(resource: ConsumerResource | None, target: tuple[str, ...]) -> tuple[str, ...]:
    if resource is None or resource.spec.get("preventUpdate") is not True:
        return ()
    change = json.dumps({"spec": {"preventUpdate": True}})
    return (f"It had `preventUpdate` before: {command(*target, f'--patch={change}')}",)


def _cautions(recreation: Recreation, resource: ConsumerResource | None) -> tuple[str, ...]:
    """What the owner of the resource must know, who may take its change back, and what applies to every recreation."""
    told = [owner.reverts for owner in (owners_of(resource) if resource else ())]
    told.append(
        "NACK creates what its resource says: what the consumer's configuration has beyond that is not there afterwards."
    )
    if recreation.position.start is not None:
        told.append(
            f"Leave the start at sequence {recreation.position.start} in the resource: JetStream refuses to change it back (10012)."
        )
    told.append(
        "natsmedic does not delete and create it itself: NACK could be faster, with the old start, and would work against it afterwards."
    )
    return tuple(told)


def _unread(snapshot: Snapshot, found: object) -> tuple[str, ...]:
    if isinstance(found, Unknown):
        why = found.detail
    elif snapshot.kubernetes is None:
        why = "this cluster has no `kubernetes` settings, or the archive was gathered without them."
    else:
        why = "no resource in this Kubernetes names it."
    return (f"Find its resource, which natsmedic could not read ({why.rstrip('.')}): {_listing(CONSUMERS)}",)


def _several(found: Sequence[ConsumerResource | StreamResource], plural: str) -> str:
    names = ", ".join(sorted(f"{r.namespace}/{r.name}" for r in found))
    return f"{len(found)} resources name it: {names}. Take the one whose account and servers lead to this stream: {_listing(plural)}"


def _listing(plural: str) -> str:
    return command("kubectl", "get", plural, "--all-namespaces")


def _patch(plural: str, resource: ConsumerResource | StreamResource | None) -> tuple[str, ...]:
    name, namespace = (resource.name, resource.namespace) if resource else ("<name>", "<namespace>")
    return ("kubectl", "patch", plural, name, "-n", namespace, "--type=merge")


def _file(name: str) -> str:
    """A consumer's name as part of a file's: JetStream takes characters that a file name or a shell does not."""
    return _NOT_IN_A_FILE_NAME.sub("_", name)


def _yaml(spec: JsonObject) -> str:
    return yaml.safe_dump({"spec": spec}, sort_keys=False)
