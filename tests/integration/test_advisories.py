"""Listening to real servers: what is heard of each incident, by whom, and what happens when the connection or a permission is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.adapters.nats import AdvisoryListener, advisory_listeners
from bot.adapters.nats import advisories as module
from bot.bootstrap.serving import end
from bot.flow.debounce import Debouncer
from bot.flow.incoming import IncomingAlert
from bot.flow.notices import AdvisoryAlert
from bot.lab import config as lab_config
from bot.lab.config import APP, READER, SYS, SYSREADER
from bot.lab.drills import create_consumer, create_stream, fetch, publish, request, until
from bot.lab.jetstream import ApiRefused, section
from bot.lab.servers import LabCluster
from bot.model import JsonObject
from bot.settings import AdvisorySettings, ClusterSettings
from tests.conftest import LabFactory
from tests.integration.nats_support import NEWEST, WallClock, credentials, settings_of

ASSET = {"account": "APP", "stream": "ORDERS", "consumer": "worker"}
STORM = AdvisorySettings.model_validate({"elections": 3})


@dataclass
class Heard:
    """What the listeners of one cluster have heard."""

    listeners: list[AdvisoryListener]
    alerts: list[IncomingAlert] = field(default_factory=list[IncomingAlert])
    raw: list[JsonObject] = field(default_factory=list[JsonObject])

    def labels(self, name: AdvisoryAlert) -> list[dict[str, str]]:
        return [{k: v for k, v in a.labels.items() if k != "cluster"} for a in self.alerts if a.name == name]

    async def see(self, name: AdvisoryAlert, times: int = 1) -> list[dict[str, str]]:
        async def seen() -> bool:
            return len(self.labels(name)) >= times

        await until(seen, f"{name} was not heard {times} times; heard {[a.name for a in self.alerts]}")
        return self.labels(name)

    async def ready(self) -> None:
        """Wait until every listener has subscribed."""

        async def subscribed() -> bool:
            return all([await listener._ear.alive() for listener in self.listeners])

        await until(subscribed, "a listener did not subscribe")

    def server(self, cluster: LabCluster, number: int = 0) -> str:
        """Return the server that a listener is connected to."""
        client = self.listeners[number]._ear._client
        assert client is not None
        assert client.connected_url is not None
        return next(name for name in cluster.names if cluster.url(name).endswith(f":{client.connected_url.port}"))


@asynccontextmanager
async def hearing(settings: ClusterSettings, clock: Any = None, *, ready: bool = True) -> AsyncGenerator[Heard]:
    heard = Heard([])

    def take(alert: IncomingAlert, raw: JsonObject) -> None:
        heard.alerts.append(alert)
        heard.raw.append(raw)

    heard.listeners = advisory_listeners(settings, clock or WallClock(), take)
    tasks = [asyncio.create_task(listener.run()) for listener in heard.listeners]
    try:
        if ready:
            await heard.ready()
        yield heard
    finally:
        await end(tasks)
    assert all(task.cancelled() for task in tasks), "a listener never ends by itself"


@pytest.mark.parametrize("version", NEWEST)
async def test_a_lost_quorum_is_heard_for_stream_and_consumer(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version)
    owner = await cluster.connect(APP)
    await create_stream(owner, "ORDERS", 3)
    await create_consumer(owner, "ORDERS", "worker")
    keep = str(section(await request(owner, "STREAM.INFO.ORDERS"), "cluster")["leader"])
    await owner.close()
    async with hearing(settings_of(cluster)) as heard:
        for name in cluster.names:
            if name != keep:
                await cluster.kill(name)
        stream = {"account": "APP", "stream": "ORDERS"}
        assert (await heard.see(AdvisoryAlert.STREAM_QUORUM_LOST))[0] == stream
        assert (await heard.see(AdvisoryAlert.CONSUMER_QUORUM_LOST))[0] == ASSET


@pytest.mark.parametrize("version", NEWEST)
async def test_a_full_api_queue_is_heard_with_the_server_that_dropped(lab_cluster: LabFactory, version: str) -> None:
    cluster = await lab_cluster(version, jetstream={"request_queue_limit": 20})
    owner = await cluster.connect(APP, "n0")
    await create_stream(owner, "ORDERS", 3)
    async with hearing(settings_of(cluster)) as heard:
        for number in range(3_000):
            body = {"stream_name": "ORDERS", "config": {"name": f"b{number}", "mem_storage": True, "num_replicas": 1}}
            await owner.publish(f"$JS.API.CONSUMER.CREATE.ORDERS.b{number}", json.dumps(body).encode(), reply="nobody")
        await owner.flush()
        labels = await heard.see(AdvisoryAlert.API_LIMIT_REACHED)
        assert labels[0]["server_name"] in cluster.names
        assert max(raw["dropped"] for raw in heard.raw if "dropped" in raw) >= 20
        limits = [a for a in heard.alerts if a.name == AdvisoryAlert.API_LIMIT_REACHED]
        assert len({a.fingerprint for a in limits}) == 1, "whichever server drops"
    await owner.close()


async def test_repeated_step_downs_are_a_storm_of_that_group_and_of_no_other(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    owner, system = await cluster.connect(APP), await cluster.connect(SYS)
    await create_stream(owner, "CALM", 3)
    await create_stream(owner, "ORDERS", 3)
    async with hearing(settings_of(cluster)) as heard:
        await create_consumer(owner, "ORDERS", "worker")
        for times in range(1, 4):
            await step_down(heard, lambda: request(owner, "STREAM.LEADER.STEPDOWN.ORDERS"), "stream", times)
            await step_down(heard, lambda: request(owner, "CONSUMER.LEADER.STEPDOWN.ORDERS.worker"), "consumer", times)
            await step_down(heard, lambda: request(system, "META.LEADER.STEPDOWN"), "meta", times)
        debouncer = Debouncer(cluster.name, STORM)
        news = [alert for alert in heard.alerts if debouncer.hear(alert, {})]
        focus = [{k: v for k, v in alert.labels.items() if k != "cluster"} for alert in news]
        assert {"account": "APP", "stream": "ORDERS"} in focus
        assert ASSET in focus
        assert {} in focus
        assert all(labels.get("stream") != "CALM" for labels in focus)
        quiet = Debouncer(cluster.name, AdvisorySettings.model_validate({"elections": 100}))
        assert not any(quiet.hear(alert, {}) for alert in heard.alerts)
    await owner.close()
    await system.close()


async def step_down(heard: Heard, ask: Callable[[], Any], group: str, times: int) -> None:
    """Move a group's leader until its election is heard for the nth time. Asks again: a group that is just electing has no leader to ask."""

    def elections() -> int:
        found = [
            a.labels for a in heard.alerts if a.name in {AdvisoryAlert.LEADER_ELECTIONS, AdvisoryAlert.META_ELECTIONS}
        ]
        kinds = ["consumer" if "consumer" in labels else "stream" if "stream" in labels else "meta" for labels in found]
        return kinds.count(group)

    async def elected() -> bool:
        if elections() < times:
            try:
                await ask()
            except (ApiRefused, TimeoutError):
                return False
            await asyncio.sleep(0.5)
        return elections() >= times

    await until(elected, f"no {times} elections of the {group} were heard")


@pytest.mark.parametrize("version", NEWEST)
async def test_a_message_delivered_too_often_is_heard_in_its_account_only(
    lab_cluster: LabFactory, version: str
) -> None:
    cluster = await lab_cluster(version)
    owner = await cluster.connect(APP)
    await create_stream(owner, "ORDERS", 3)
    settings = settings_of(cluster)
    blind = settings_of(cluster, accounts={})
    async with hearing(settings) as heard, hearing(blind) as deaf:
        await create_consumer(owner, "ORDERS", "worker", {"max_deliver": 1, "ack_wait": 500_000_000})
        await publish(owner, "ORDERS", 1)
        assert list(await fetch(owner, "ORDERS", "worker", 1)) == [1]
        await asyncio.sleep(1)
        await fetch(owner, "ORDERS", "worker", 1, wait=0.5)
        assert await heard.see(AdvisoryAlert.MAX_DELIVERIES) == [ASSET]
        assert deaf.labels(AdvisoryAlert.MAX_DELIVERIES) == []
    await owner.close()


async def test_what_somebody_publishes_in_an_account_is_taken_for_no_more_than_it_can_be(
    lab_cluster: LabFactory,
) -> None:
    cluster = await lab_cluster("2.11.11")
    owner = await cluster.connect(APP)
    subject = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.c"
    forged = {"type": "io.nats.jetstream.advisory.v1.server_removed", "server": "n0"}
    mine = {"type": "io.nats.jetstream.advisory.v1.max_deliver", "account": "SYS", "stream": "S", "consumer": "c"}
    async with hearing(settings_of(cluster)) as heard:
        for payload in (b"", b"\xff", json.dumps(forged).encode(), json.dumps(mine).encode()):
            await owner.publish(subject, payload)
        assert await heard.see(AdvisoryAlert.MAX_DELIVERIES) == [{"account": "APP", "stream": "S", "consumer": "c"}]
        assert len(heard.alerts) == 1
        assert [listener.unreadable for listener in heard.listeners] == [0, 3]
    await owner.close()


async def test_a_killed_server_is_a_loss_that_is_counted_and_the_next_one_is_heard(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    with capture_logs() as logs:
        async with hearing(settings_of(cluster)) as heard:
            system = heard.listeners[0]
            await cluster.kill(heard.server(cluster))

            async def again() -> bool:
                return system.losses == 1 and await system._ear.alive()

            await until(again, "the listener did not come back")
            await elect(cluster, heard)
    said = [entry for entry in logs if entry["event"] == "advisories not heard" and "sysreader" in entry["reason"]]
    assert [entry["losses"] for entry in said] == [1]


async def test_a_frozen_server_is_left_for_another_one(
    lab_cluster: LabFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.5)
    cluster = await lab_cluster("2.11.11")
    async with hearing(settings_of(cluster, timeout=2.0)) as heard:
        frozen = heard.server(cluster)
        await cluster.freeze(frozen)

        async def moved() -> bool:
            ear = heard.listeners[0]._ear
            return ear._client is not None and await ear.alive() and heard.server(cluster) != frozen

        await until(moved, "the listener stayed with the frozen server")
        assert heard.listeners[0].losses >= 1
        await elect(cluster, heard)
        await cluster.thaw(frozen)


async def elect(cluster: LabCluster, heard: Heard) -> None:
    """Have a leader elected among the servers that answer, and wait until that is heard."""
    owner = await cluster.connect(APP, cluster.answering[0])
    async with asyncio.timeout(60):
        while not heard.labels(AdvisoryAlert.LEADER_ELECTIONS):
            try:
                await request(owner, "STREAM.CREATE.NEW", {"name": "NEW", "subjects": ["NEW.>"], "num_replicas": 3})
                await request(owner, "STREAM.LEADER.STEPDOWN.NEW")
            except (ApiRefused, TimeoutError):
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.2)
    await owner.close()


async def test_a_denied_subject_is_named_with_its_remedy_and_the_others_are_heard(
    lab_cluster: LabFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.2)
    denied = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.*"
    allowed = tuple(subject for subject in lab_config.SYSREADER_SUBSCRIBE if subject != denied)
    monkeypatch.setattr(lab_config, "SYSREADER_SUBSCRIBE", allowed)
    cluster = await lab_cluster("2.11.11")
    owner = await cluster.connect(APP)
    with capture_logs() as logs:
        async with hearing(settings_of(cluster)) as heard:
            await create_stream(owner, "ORDERS", 3)
            await create_consumer(owner, "ORDERS", "worker")
            assert await heard.see(AdvisoryAlert.LEADER_ELECTIONS) == [ASSET]
            assert heard.listeners[0]._ear.denied == {denied}
            assert heard.listeners[0].losses == 0
            async with asyncio.timeout(10):
                while not any(entry["event"] == "advisories missed" for entry in logs):
                    await asyncio.sleep(0.05)
    (told,) = [entry for entry in logs if entry["event"] == "advisories missed"]
    assert told["denied"] == [denied]
    assert "nats-permissions.conf" in told["way_out"]
    await owner.close()


async def test_a_permission_that_is_given_later_is_found_without_a_restart(
    lab_cluster: LabFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(module, "DENIED_SECONDS", 1.0)
    monkeypatch.setattr(lab_config, "SYSREADER_SUBSCRIBE", ())
    cluster = await lab_cluster("2.11.11")
    async with hearing(settings_of(cluster)) as heard:
        assert len(heard.listeners[0]._ear.denied) == 8
        monkeypatch.undo()
        monkeypatch.setattr(module, "PROBE_SECONDS", 0.2)
        monkeypatch.setattr(module, "DENIED_SECONDS", 1.0)
        for name in cluster.names:
            await cluster.reload(name, cluster.block(name))
        await elect(cluster, heard)
        assert heard.listeners[0].losses == 0


async def test_a_refused_login_is_tried_again_with_growing_pauses(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    clock = Impatient()
    wrong = credentials(lab_config.SYSREADER) | {"password": "wrong-canary"}
    with capture_logs() as logs:
        async with hearing(settings_of(cluster, system=wrong, accounts={}), clock, ready=False) as heard:

            async def tried() -> bool:
                return heard.listeners[0].losses >= 8

            await until(tried, "the login was not tried again")
    assert clock.slept[:8] == [1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 60.0, 60.0]
    assert "canary" not in str(logs)
    assert "refuse the login" in str(logs)


class Impatient(WallClock):
    """A clock that remembers how long it should have slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


async def test_the_limited_users_can_listen_to_nothing_else(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    for login in (SYSREADER, READER):
        refused: list[str] = []

        async def on_error(error: Exception, heard: list[str] = refused) -> None:
            heard.append(str(error))

        client = await cluster.connect(login, on_error=on_error)
        wanted = (
            ">",
            "$SYS.>",
            "$JS.EVENT.ADVISORY.>",
            "$JS.EVENT.ADVISORY.API",
            "$JS.EVENT.ADVISORY.SERVER.*",
            "_INBOX.>",
        )
        for subject in wanted:
            await client.subscribe(subject)
        await client.flush()
        async with asyncio.timeout(5):  # the client tells its callback after it has read the answer to the flush
            while len(refused) < len(wanted):
                await asyncio.sleep(0.01)
        assert len(refused) == len(wanted), (login.user, refused)
        await client.close()
