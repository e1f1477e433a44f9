"""Asks a stream's leader to step down: the members elect one again. Publishers wait for seconds; what was acknowledged is on the new leader, too."""

from __future__ import annotations

from bot.actions._elections import Found, Kind, Numbers, StepDown, Succession, stream_led
from bot.actions._facts import StreamFacts, guard, stream_facts, stream_world
from bot.model import Snapshot, StreamKey
from bot.model.groups import config_digest
from bot.ports import Writers


class StreamStepDownParams(Succession):
    """Whose leader steps down, and the facts that make it right."""

    account: str
    stream: str
    stream_created: str
    stream_config: str
    """Digest of the stream's configuration."""
    last_seq: int
    """The leader's last sequence before; one that goes back is a loss."""

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.account, self.stream)


def step_down_stage(snapshot: Snapshot, facts: StreamFacts, preferred: str = "") -> StreamStepDownParams:
    """Return the parameters for stepping down the stream's present leader, for the member `preferred` where one is named."""
    led = stream_led(snapshot, facts)
    return StreamStepDownParams(
        account=facts.key.account,
        stream=facts.key.stream,
        stream_created=facts.state.created,
        stream_config=config_digest(facts.state.config),
        last_seq=facts.state.last_seq,
        leader=led.leader,
        members=tuple(sorted(led.standing.members)),
        term=led.term,
        preferred=preferred,
    )


def stream_numbers(facts: StreamFacts) -> Numbers:
    """The numbers people compare before and after."""
    return {
        "leader": facts.standing.leader,
        "members": len(facts.standing.members),
        "messages": facts.state.messages,
        "last sequence": facts.state.last_seq,
    }


def _find(snapshot: Snapshot, params: StreamStepDownParams) -> Found:
    facts = stream_facts(snapshot, params.key)
    other = facts.state.created != params.stream_created
    reasons = guard(facts, params.stream_created, params.stream_config)
    world = stream_world(facts) | {"stream.members": ", ".join(sorted(facts.standing.members))}
    lost = ""
    if facts.state.last_seq < params.last_seq and not other:
        lost = (
            f"Stream {facts.key} ends at sequence {facts.state.last_seq} on {facts.standing.leader}, and ended at {params.last_seq}: "
            "messages are missing."
        )
    return Found(
        stream_led(snapshot, facts),
        world,
        () if other else (*reasons, *([lost] if lost else [])),
        stream_numbers(facts),
        foreign=reasons[0] if other else "",
        lost=lost,
    )


async def _ask(writers: Writers, params: StreamStepDownParams) -> None:
    await writers.step_down_stream(params.account, params.stream, params.preferred)


ACTION = StepDown(
    Kind(
        action="stream.step_down",
        title="Stream leader step-down",
        stall="publishers wait for their acknowledgements",
        effect="Messages stay. A publish without an answer is to be sent again; with a message id it is stored once.",
    ),
    StreamStepDownParams,
    _find,
    _ask,
    lambda params: f"stream {params.key}",
)
