"""An MQTT 3.1.1 client that connects and subscribes: as much as a drill needs to make a server work for many devices.

Packets by OASIS MQTT 3.1.1, sections 3.1 (CONNECT), 3.2 (CONNACK), 3.8 (SUBSCRIBE) and 3.9 (SUBACK).
"""

from __future__ import annotations

import asyncio
from typing import Final

from bot.lab.config import Login
from bot.lab.process import LabError

ANSWER_TIMEOUT: Final = 30.0
"""Seconds for a CONNACK or SUBACK; the server itself gives up after 4 (2.10) or 5 (reference/drills.md 5)."""

CONNECT: Final = 0x10
SUBSCRIBE: Final = 0x82
CONNACK: Final = 0x20
SUBACK: Final = 0x90

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

    def abort(self) -> None:
        """Breaks the connection as a device does that loses its network; the session stays."""
        self._writer.transport.abort()

    async def _ask(self, kind: int, body: bytes, answer: int) -> bytes:
        """Sends a packet and returns the body of the answer."""
        self._writer.write(bytes([kind]) + _length(len(body)) + body)
        async with asyncio.timeout(ANSWER_TIMEOUT):
            try:
                # Both answers are shorter than 128 bytes, so their length is one byte.
                got, size = await self._reader.readexactly(2)
                content = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError) as gone:
                raise LabError(f"the server hung up on MQTT client {self.name}") from gone
        if got != answer:
            raise LabError(f"the server answered MQTT client {self.name} with packet {got:#x}, not {answer:#x}")
        return content


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
