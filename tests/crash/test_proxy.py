"""The counter in front of NATS: what it counts, what it lets through, and what it keeps."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from tests.crash.proxy import Proxy, changed_by

DELETE = "$JS.API.CONSUMER.DELETE.ORDERS.worker"


class Server:
    """As much of a NATS server as a client needs: it answers every request with `answer`, `delay` seconds later."""

    def __init__(self) -> None:
        self.answer = b'{"success":true}'
        self.delay = 0.0
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with Proxy(lambda: [("127.0.0.1", 1), ("127.0.0.1", self.port)]) as proxy:
            yield proxy
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'INFO {"server_id":"S","version":"2.11.0","max_payload":1048576,"headers":true,"connect_urls":["10.0.0.1:1"]}\r\n'
        )
        while line := await reader.readline():
            words = line.split()
            if words[:1] == [b"PING"]:
                writer.write(b"PONG\r\n")
            elif words[:1] == [b"PUB"]:
                await reader.readexactly(int(words[-1]) + 2)
                await asyncio.sleep(self.delay)
                writer.write(b"MSG %s 1 %d\r\n%s\r\n" % (words[2], len(self.answer), self.answer))
        writer.close()


@asynccontextmanager
async def client_of(proxy: Proxy) -> AsyncGenerator[Client]:
    client = await nats.connect(proxy.url, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


async def test_a_change_that_is_answered_with_success_is_one_effect_and_a_question_is_none():
    async with Server().running() as proxy, client_of(proxy) as client:
        await client.request("$JS.API.CONSUMER.INFO.ORDERS.worker", timeout=2)
        await client.request(DELETE, timeout=2)
        assert proxy.effects == ["CONSUMER.DELETE.ORDERS.worker"]


async def test_a_change_that_is_refused_is_sent_and_no_effect():
    server = Server()
    server.answer = b'{"error":{"code":404,"err_code":10014}}'
    async with server.running() as proxy, client_of(proxy) as client:
        await client.request(DELETE, timeout=2)
        assert (len(proxy.sent), proxy.effects) == (1, [])


async def test_a_lost_answer_never_arrives_and_the_change_counts():
    async with Server().running() as proxy, client_of(proxy) as client:
        proxy.lose["CONSUMER.DELETE"] = 1
        with pytest.raises(nats.errors.TimeoutError):
            await client.request(DELETE, timeout=0.3)
        assert (proxy.lost, len(proxy.effects)) == (1, 1)
        await client.request(DELETE, timeout=2)
        assert (proxy.lost, len(proxy.effects)) == (1, 2)


async def test_a_change_counts_though_its_sender_was_gone_before_the_answer():
    server = Server()
    server.delay = 0.2
    async with server.running() as proxy:
        async with client_of(proxy) as client:
            with pytest.raises(nats.errors.TimeoutError):
                await client.request(DELETE, timeout=0.05)
        assert proxy.effects == []
        async with asyncio.timeout(5):
            while not proxy.effects:
                await asyncio.sleep(0.01)


async def test_no_client_learns_a_way_past_it():
    async with Server().running() as proxy, client_of(proxy) as client:
        assert [uri.netloc for uri in client.servers] == [proxy.url.removeprefix("nats://")]


@pytest.mark.parametrize(
    ("subject", "what"),
    [
        ("$JS.API.STREAM.UPDATE.ORDERS", "STREAM.UPDATE.ORDERS"),
        ("$JS.API.META.LEADER.STEPDOWN", "META.LEADER.STEPDOWN"),
        ("$SYS.REQ.SERVER.NABC.RELOAD", "SERVER.NABC.RELOAD"),
        ("$SYS.REQ.SERVER.NABC.VARZ", None),
        ("$JS.API.STREAM.INFO.ORDERS", None),
        ("$JS.API.STREAM.MSG.GET.ORDERS", None),
        ("ORDERS.new", None),
    ],
)
def test_what_changes_something_is_told_from_what_asks(subject: str, what: str | None):
    assert changed_by(subject) == what
