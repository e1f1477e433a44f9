"""Asks a consumer's leader to step down: the members elect one again, the position stays. Seconds of stall, no message lost or repeated."""

from __future__ import annotations

from bot.actions import _elections
from bot.actions._elections import Found, Kind, StepDown, Succession, consumer_led
from bot.actions._facts import ConsumerFacts, cannot_write, consumer_facts, guard, settled_world
from bot.actions.consumer_delete import numbers
from bot.model import ConsumerKey, Snapshot
from bot.model.groups import config_digest
from bot.ports import Writers


class StepDownParams(Succession):
    """Whose leader steps down, and the facts that make it right."""

    account: str
    stream: str
    consumer: str
    stream_created: str
    stream_config: str
    """Digest of the stream's configuration."""
    created: str

    @property
    def key(self) -> ConsumerKey:
        return ConsumerKey(self.account, self.stream, self.consumer)


def hindrances(facts: ConsumerFacts) -> list[str]:
    """Reasons why the leader must not step down now."""
    lag = {peer.name: peer.lag for peer in (facts.state.group.peers if facts.state.group else ())}
    return _elections.hindrances(_elections.Led(f"consumer {facts.key}", facts.standing, lag, 0))


def step_down_stage(snapshot: Snapshot, facts: ConsumerFacts, preferred: str = "") -> StepDownParams:
    """Return the parameters for stepping down the consumer's present leader, for the member `preferred` where one is named."""
    led = consumer_led(snapshot, facts)
    return StepDownParams(
        account=facts.key.account,
        stream=facts.key.stream,
        consumer=facts.key.consumer,
        stream_created=facts.stream.state.created,
        stream_config=config_digest(facts.stream.state.config),
        created=facts.state.created,
        leader=led.leader,
        members=tuple(sorted(led.standing.members)),
        term=led.term,
        preferred=preferred,
    )


def _find(snapshot: Snapshot, params: StepDownParams) -> Found:
    facts = consumer_facts(snapshot, params.key)
    reasons = cannot_write(snapshot, facts.stream) + guard(facts.stream, params.stream_created, params.stream_config)
    foreign = ""
    if facts.state.created != params.created:
        foreign = (
            f"Consumer {facts.key} was created {facts.state.created}, not {params.created}: it is another consumer."
        )
    return Found(consumer_led(snapshot, facts), settled_world(facts), tuple(reasons), numbers(facts.state), foreign)


async def _ask(writers: Writers, params: StepDownParams) -> None:
    await writers.step_down_consumer(params.account, params.stream, params.consumer, params.preferred)


ACTION = StepDown(
    Kind(
        action="consumer.step_down",
        title="Consumer leader step-down",
        stall="no delivery",
        effect="The position stays. Messages on their way may be delivered once more.",
    ),
    StepDownParams,
    _find,
    _ask,
    lambda params: f"consumer {params.key}",
)
