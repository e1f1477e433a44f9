"""Clients let go slice by slice on real servers, with real MQTT devices and NATS workers: where they end up, what they miss, and when it stops."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nats.errors
import pytest
from nats.aio.client import Client

from bot.actions.clients_shed import NEEDS
from bot.actions.shedding import Pace, compose_shed
from bot.adapters.database import SqlStore
from bot.errors import OutcomeUnknown, Refused
from bot.lab import drills
from bot.lab.config import APP, SYS
from bot.lab.fleet import Fleet, fleet
from bot.lab.jetstream import request
from bot.lab.mqtt import MqttClient
from bot.lab.servers import LabCluster
from bot.model import Endpoint, ExecutionState, JsonObject, ProposalState, StageState
from bot.model.clients import OWN_NAME, ClientKind, Selection, clients_of
from bot.ports import Readers, Writers
from tests.integration.executing import Desk, database
from tests.integration.nats_support import NEWEST, WallClock, connected, credentials, settings_of

MQTT = Selection(kinds=(ClientKind.MQTT,), account="APP")
NATS = Selection(kinds=(ClientKind.NATS,), account="APP")
NEVER = 100.0
"""A share of the CPU that no server reaches: how busy this machine is must not decide a test."""
PACE = Pace(per_second=50.0, slice=30, most=1000, cpu=NEVER, waiting=5_000)
TIMEOUT = 2.0


@dataclass
class Hindered:
    """Writers whose requests to disconnect are counted, and whose answers may get lost."""

    writers: Writers
    kicked: list[int] = field(default_factory=list[int])
    lost_answers: set[int] = field(default_factory=set[int])
    """Numbers of the requests that are carried out without an answer."""
    lost_requests: set[int] = field(default_factory=set[int])
    """Numbers of those that do not arrive either."""
    at: dict[int, Callable[[], Awaitable[None]]] = field(default_factory=dict[int, Callable[[], Awaitable[None]]])
    """What happens right after a request."""

    async def kick_client(self, server_id: str, cid: int) -> None:
        number = len(self.kicked)
        self.kicked.append(cid)
        if number not in self.lost_requests:
            await self.writers.kick_client(server_id, cid)
        if number in self.at:
            await self.at[number]()
        if number in self.lost_requests | self.lost_answers:
            raise OutcomeUnknown("The change was sent and no answer came.")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.writers, name)


@dataclass
class World:
    cluster: LabCluster
    readers: Readers
    hands: Hindered
    desk: Desk

    async def stages(self, selection: Selection, pace: Pace = PACE) -> Sequence[tuple[str, JsonObject]]:
        return compose_shed(await self.readers.gather(NEEDS), "n0", selection, pace).stages

    async def others(self) -> set[tuple[str, object]]:
        """Connections of natsmedic and of the system account on n0."""
        rows = ((await self.readers.gather(NEEDS)).data("n0", Endpoint.CONNZ) or {})["connections"]
        return {
            (str(row.get("name")), row["cid"])
            for row in rows
            if row.get("name") == OWN_NAME or row.get("account") == "SYS"
        }


@asynccontextmanager
async def world(tmp_path: Path, version: str) -> AsyncGenerator[World]:
    async with (
        LabCluster(tmp_path / "servers", version, mqtt=True) as cluster,
        connected(settings_of(cluster, timeout=TIMEOUT, system_writer=credentials(SYS))) as (readers, writers),
        SqlStore.open(database(tmp_path), WallClock()) as store,
    ):
        await cluster.wait_ready()
        hands = Hindered(writers)
        yield World(cluster, readers, hands, Desk(store, readers, cast("Writers", hands)))


@dataclass
class Publisher:
    """Publishes to every device with QoS 1 in turn, and knows what the server has acknowledged."""

    devices: Fleet
    acknowledged: dict[str, set[bytes]] = field(default_factory=dict[str, set[bytes]])

    async def run(self, client: MqttClient) -> None:
        number = 0
        try:
            while True:
                device = self.devices.devices[number % len(self.devices.devices)]
                payload = str(number).encode()
                await client.publish(device.topic, payload)
                self.acknowledged.setdefault(device.name, set()).add(payload)
                number += 1
                await asyncio.sleep(0.005)
        finally:
            client.abort()

    def missed(self) -> dict[str, set[bytes]]:
        """What was acknowledged and has not reached its device."""
        found = {d.name: self.acknowledged.get(d.name, set()) - d.received.keys() for d in self.devices.devices}
        return {name: payloads for name, payloads in found.items() if payloads}


@pytest.mark.parametrize("version", NEWEST)
async def test_mqtt_clients_become_even_and_no_acknowledged_message_is_lost(tmp_path: Path, version: str) -> None:
    async with world(tmp_path, version) as w, fleet(w.cluster, 120, "n0") as devices:
        publisher = Publisher(devices)
        sender = await MqttClient.open(w.cluster.mqtt_address("n2"), "publisher", APP)
        publishing = asyncio.create_task(publisher.run(sender))
        others = await w.others()
        devices.balancer = devices.fewest
        stages = await w.stages(MQTT)
        ended = await w.desk.carry_out(stages)
        assert ended.state is ExecutionState.DONE, ended.sentence
        assert [(run.state, run.sent) for run in ended.stages] == [(StageState.VERIFIED, 1)] * 3
        # The publisher is one of the 121 clients, so a share is 41.
        assert len(w.hands.kicked) == len(set(w.hands.kicked)) == 120 - 41
        assert (devices.places["n0"], devices.places.total()) == (41, 120)
        assert max(devices.places.values()) == 41
        assert ended.stages[-1].after["clients of n0"] == 41
        assert (ended.stages[0].after["let go"], ended.stages[0].after["new on n0"]) == (27, 0)
        assert others <= await w.others()
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing
        async with asyncio.timeout(20):
            while publisher.missed():
                await asyncio.sleep(0.1)
        assert sum(map(len, publisher.acknowledged.values())) > 500
        sessions = await request(await w.cluster.connect(), "STREAM.INFO.$MQTT_sess")
        assert (
            sessions["state"]["messages"] == 121
        )  # one for every device, and the publisher's: none was lost, none came anew
        with pytest.raises(Refused, match="fewer than 20 could go"):
            await w.stages(MQTT)


async def test_what_was_approved_is_not_sent_once_the_server_has_its_share(tmp_path: Path) -> None:
    async with world(tmp_path, "2.11.11") as w, fleet(w.cluster, 60, "n0") as devices:
        devices.balancer = devices.fewest
        stages = await w.stages(MQTT)
        later = await w.desk.approved(await w.desk.plan(stages))
        assert (await w.desk.carry_out(stages)).state is ExecutionState.DONE
        kicked = len(w.hands.kicked)
        ended = await w.desk.run(later)
        assert ended.state is ExecutionState.DONE
        assert {(run.state, run.sent) for run in ended.stages} == {(StageState.VERIFIED, 0)}
        assert ended.sentence.startswith("Not sent: The 20 clients of this slice have left n0 by themselves.")
        assert len(w.hands.kicked) == kicked
        assert (await w.desk.proposal_of(ended)).state is ProposalState.DONE


async def test_clients_that_come_straight_back_are_a_failure_with_numbers_and_nothing_more_is_sent(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, "2.11.11") as w, fleet(w.cluster, 90, "n0") as devices:
        ended = await w.desk.carry_out(await w.stages(MQTT))
        assert ended.state is ExecutionState.NEEDS_HUMAN
        assert [run.state for run in ended.stages] == [StageState.FAILED, StageState.SKIPPED]
        assert "They come straight back to n0" in ended.sentence
        assert "nobody can send them back" in ended.sentence
        assert ended.stages[0].after["let go"] == 30
        back = ended.stages[0].after["new on n0"]
        assert isinstance(back, int)
        assert 23 <= back <= 30
        assert len(w.hands.kicked) == 30
        assert devices.balancer() == "n0"


async def test_a_storm_on_the_other_servers_stops_it(tmp_path: Path) -> None:
    async with world(tmp_path, "2.11.11") as w, fleet(w.cluster, 60, "n0") as devices:
        devices.balancer = devices.fewest
        strangers: list[MqttClient] = []

        async def storm() -> None:
            address = w.cluster.mqtt_address("n1")
            strangers.extend([await MqttClient.open(address, f"stranger-{number}", APP) for number in range(40)])

        w.hands.at[0] = storm
        stages = await w.stages(MQTT, Pace(50.0, 20, 1000, NEVER, 5_000))
        ended = await w.desk.carry_out(stages)
        for stranger in strangers:
            stranger.abort()
        assert [run.state for run in ended.stages] == [StageState.FAILED, StageState.SKIPPED]
        assert "The other servers are stormed" in ended.stages[0].sentence


async def test_lost_answers_are_resolved_by_the_connections_and_nobody_is_disconnected_twice(tmp_path: Path) -> None:
    async with world(tmp_path, "2.11.11") as w, fleet(w.cluster, 36, "n0") as devices:
        devices.balancer = devices.fewest
        w.hands.lost_answers = {3, 7}
        ended = await w.desk.carry_out(await w.stages(MQTT))
        assert (ended.state, [run.sent for run in ended.stages]) == (ExecutionState.DONE, [1]), ended.sentence
        assert len(w.hands.kicked) == len(set(w.hands.kicked)) == 24


async def test_a_request_that_got_lost_is_sent_again_for_those_who_are_still_there(tmp_path: Path) -> None:
    async with world(tmp_path, "2.11.11") as w, fleet(w.cluster, 36, "n0") as devices:
        devices.balancer = devices.fewest
        w.hands.lost_requests = {5, 6}
        ended = await w.desk.carry_out(await w.stages(MQTT))
        assert (ended.state, [run.sent for run in ended.stages]) == (ExecutionState.DONE, [2]), ended.sentence
        again = [cid for cid in w.hands.kicked if w.hands.kicked.count(cid) > 1]
        assert set(again) == {w.hands.kicked[5], w.hands.kicked[6]}


@pytest.mark.parametrize("version", NEWEST)
async def test_only_clients_subscribed_to_a_subject_go_whatever_their_protocol(tmp_path: Path, version: str) -> None:
    async with world(tmp_path, version) as w, fleet(w.cluster, 40, "n0") as devices:
        url = w.cluster.urls[0].replace("://", f"://{APP.user}:{APP.password}@")
        strangers = [await client_on([url]) for _ in range(25)]
        for stranger in strangers:
            await stranger.subscribe("orders.>")
        reader = await client_on([url])
        await reader.subscribe("devices.device-0")
        await reader.flush()
        devices.balancer = devices.fewest
        selection = Selection(subject="devices.>")
        stages = compose_shed(await w.readers.gather(NEEDS | selection.needs), "n0", selection, PACE).stages
        quick = [(kind, params | {"notice": 0.5}) for kind, params in stages]
        ended = await w.desk.carry_out(quick)
        assert ended.state is ExecutionState.DONE, ended.sentence
        # 40 devices and one reader make a share of 14; only one of them is warned of it.
        assert len(w.hands.kicked) == 41 - 14
        assert all(stranger.stats["reconnects"] == 0 for stranger in strangers)
        for client in (*strangers, reader):
            await client.close()


@pytest.mark.parametrize("version", NEWEST)
async def test_nats_workers_are_warned_and_miss_nothing_that_is_stored(tmp_path: Path, version: str) -> None:
    async with world(tmp_path, version) as w:
        everywhere = [url.replace("://", f"://{APP.user}:{APP.password}@") for url in w.cluster.urls]
        idle = [await client_on(everywhere) for _ in range(44)]
        publisher = await w.cluster.connect(name="n1")
        await drills.create_stream(publisher, "ORDERS", 3)
        worker = await client_on(everywhere)
        got: set[int] = set()
        working = asyncio.create_task(work(worker, got))
        acked: set[int] = set()

        async def publish() -> None:
            while True:
                acked.add((await publisher.jetstream().publish("ORDERS.x", b"x")).seq)
                await asyncio.sleep(0.01)

        publishing = asyncio.create_task(publish())
        stages = await w.stages(NATS, Pace(50.0, 15, 1000, NEVER, 5_000))
        quick = [(kind, params | {"notice": 0.5}) for kind, params in stages]
        assert [params["notice"] for _, params in stages] == [10.0] * len(stages)
        ended = await w.desk.carry_out(quick)
        assert ended.state is ExecutionState.DONE, ended.sentence
        publishing.cancel()
        snapshot = await w.readers.gather(NEEDS)
        own = clients_of(snapshot, "n0")
        assert own is not None
        assert sum(row.fits(NATS) for row in own.rows) < 45 - len(w.hands.kicked) / 2
        async with asyncio.timeout(30):
            while not acked <= got:
                await asyncio.sleep(0.1)
        assert len(acked) > 50
        assert worker.stats["reconnects"] == 1  # the youngest go first, and it was the youngest
        working.cancel()
        for client in (*idle, worker, publisher):
            await client.close()


async def client_on(urls: list[str]) -> Client:
    """A client that connects to the first server and knows the others."""
    client = Client()

    async def quiet(error: Exception) -> None:
        del error

    await client.connect(
        servers=urls, dont_randomize=True, reconnect_time_wait=0, error_cb=quiet, max_reconnect_attempts=-1
    )
    return client


async def work(client: Client, got: set[int]) -> None:
    """Takes and acknowledges messages, whatever happens to the connection."""
    subscription = await client.jetstream().pull_subscribe("ORDERS.*", durable="worker", stream="ORDERS")
    while True:
        with suppress(nats.errors.Error, TimeoutError, OSError):
            for message in await subscription.fetch(10, timeout=1):
                await message.ack_sync(timeout=1)
                got.add(message.metadata.sequence.stream)
