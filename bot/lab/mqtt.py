"""An MQTT 3.1.1 client: as much as a drill needs to make a server work for many devices, and to see what reaches them.

Packets by OASIS MQTT 3.1.1, sections 3.1 (CONNECT), 3.2 (CONNACK), 3.3 (PUBLISH), 3.4 (PUBACK), 3.8 (SUBSCRIBE) and 3.9 (SUBACK).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from bot.lab.config import Login
from bot.lab.process import LabError

ANSWER_TIMEOUT: Final = 30.0
"""Seconds for a CONNACK or SUBACK; the server itself gives up after 4 (2.10) or 5 (reference/drills.md 5)."""

CONNECT: Final = 0x10
SUBSCRIBE: Final = 0x82
CONNACK: Final = 0x20
SUBACK: Final = 0x90
PUBLISH: Final = 0x30
PUBACK: Final = 0x40
"""Types with the flags that go with them; those of PUBLISH say the quality of service."""

_TYPE: Final = 0xF0
_QOS_1: Final = 0x02
_QOS: Final = 0x06

_LEVEL_3_1_1: Final = 4
_USER_AND_PASSWORD: Final = 0xC0
"""Connect flags. The bit of a clean session is not set: the server keeps the session."""

_NO_KEEP_ALIVE: Final = 0
_REFUSED: Final = 0x80
"""Return code of a subscription that the server did not make."""

_PACKET_ID: Final = 1


class MqttClient:
    """One device with a persistent session. `open` makes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        self._reader = reader
        self._writer = writer
        self._early: deque[tuple[int, bytes]] = deque()
        self._next_id = _PACKET_ID
        self.name = name

    @classmethod
    async def open(cls, address: tuple[str, int], name: str, login: Login) -> MqttClient:
        """Connects with client id `name`. Raises `LabError` where the server refuses or hangs up, `TimeoutError`, `OSError`."""
        client = cls(*await asyncio.open_connection(*address), name)
        flags = bytes([_LEVEL_3_1_1, _USER_AND_PASSWORD]) + _NO_KEEP_ALIVE.to_bytes(2, "big")
        body = _text("MQTT") + flags + _text(name) + _text(login.user) + _text(login.password)
        try:
            code = (await client._ask(CONNECT, body, CONNACK))[1]
            if code:
                raise LabError(f"the server refused MQTT client {name} with return code {code}")
        except BaseException:
            client.abort()
            raise
        return client

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribes; with QoS 1 the server makes a durable consumer. Raises as `open` does."""
        body = _PACKET_ID.to_bytes(2, "big") + _text(topic) + bytes([qos])
        if (await self._ask(SUBSCRIBE, body, SUBACK))[2] == _REFUSED:
            raise LabError(f"the server made no subscription to {topic} for MQTT client {self.name}")

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publishes with QoS 1 and returns when the server has it. Raises as `open` does. Not for a client that also receives in another task."""
        self._next_id += 1
        body = _text(topic) + self._next_id.to_bytes(2, "big") + payload
        answer = await self._ask(PUBLISH | _QOS_1, body, PUBACK)
        if int.from_bytes(answer[:2], "big") != self._next_id:
            raise LabError(f"the server acknowledged another message of MQTT client {self.name}")

    async def receive(self) -> bytes:
        """Returns the next message's payload and acknowledges it; waits without end. Raises `LabError` where the server hangs up."""
        while True:
            kind, body = self._early.popleft() if self._early else await self._packet()
            if kind & _TYPE != PUBLISH:
                continue
            start = 2 + int.from_bytes(body[:2], "big")
            if not kind & _QOS:
                return body[start:]
            self._writer.write(bytes([PUBACK, 2]) + body[start : start + 2])
            return body[start + 2 :]

    def abort(self) -> None:
        """Breaks the connection as a device does that loses its network; the session stays."""
        self._writer.transport.abort()

    async def _ask(self, kind: int, body: bytes, answer: int) -> bytes:
        """Sends a packet and returns the body of the answer. Messages that come before it are kept for `receive`."""
        self._writer.write(bytes([kind]) + _length(len(body)) + body)
        async with asyncio.timeout(ANSWER_TIMEOUT):
            while True:
                got, content = await self._packet()
                if got == answer:
                    return content
                if got & _TYPE != PUBLISH:
                    raise LabError(f"the server answered MQTT client {self.name} with packet {got:#x}, not {answer:#x}")
                self._early.append((got, content))

    async def _packet(self) -> tuple[int, bytes]:
        try:
            kind, size, shift = (await self._reader.readexactly(1))[0], 0, 0
            while True:
                digit = (await self._reader.readexactly(1))[0]
                size |= (digit & 0x7F) << shift
                shift += 7
                if not digit & 0x80:
                    return kind, await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as gone:
            raise LabError(f"the server hung up on MQTT client {self.name}") from gone


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _length(size: int) -> bytes:
    """The packet's remaining length: seven bits a byte, the lowest first."""
    found = bytearray()
    while True:
        size, digit = divmod(size, 128)
        found.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(found)
