"""A door to a NATS cluster that counts every change that goes through it, and can keep the answer to one for itself.

A connection to the cluster stays open when its client is killed: a request that was sent is answered all the same, and the answer is what tells
whether it took effect.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import orjson

Address = tuple[str, int]

READING: Final = frozenset({"INFO", "NAMES", "LIST", "GET", "NEXT"})
"""Tokens of the JetStream API subjects that change nothing (reference/nats.md 3.3)."""
SYSTEM_CHANGES: Final = frozenset({"RELOAD", "KICK", "LDM"})
"""The requests of the system account that change a server."""
LINE_LIMIT: Final = 2**20
"""Bytes of one protocol line; an INFO that names many servers is longer than asyncio's 64 KiB."""
_CONNECT_URLS: Final = "connect_urls"
"""Of INFO: by them a client would go past this door when it connects again."""


@dataclass
class Sent:
    """One request that changes something, as it went through."""

    what: str
    """Its subject without the prefix of the API, e.g. `CONSUMER.DELETE.ORDERS.worker`."""
    at: datetime
    answer: bytes | None = None

    @property
    def effective(self) -> bool:
        """Whether the cluster says that it was done."""
        if self.answer is None:
            return False
        answer: object = orjson.loads(self.answer)
        return isinstance(answer, dict) and "error" not in answer


@dataclass
class Proxy:
    """`async with Proxy(addresses) as proxy:` listens at `proxy.url`. `addresses` is asked anew for each connection; one that can't be reached is passed over."""

    addresses: Callable[[], Sequence[Address]]
    sent: list[Sent] = field(default_factory=list[Sent])
    lose: Counter[str] = field(default_factory=Counter[str])
    """How many answers to requests that begin so never arrive, e.g. `CONSUMER.DELETE`."""
    lost: int = 0
    url: str = ""
    _open: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LINE_LIMIT)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def effects(self) -> list[str]:
        """What took effect, in the order of sending."""
        return [one.what for one in self.sent if one.effective]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: up to Python 3.11 asyncio logs the cancelling of one that it made itself as an error.
        task = asyncio.create_task(self._carry(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await self._dial()
        if there is None:
            writer.close()
            return
        answers, requests = there
        waiting: dict[bytes, Sent] = {}
        out = asyncio.create_task(self._requests(reader, requests, waiting))
        try:
            await self._answers(answers, writer, waiting)
        finally:
            out.cancel()
            await asyncio.gather(out, return_exceptions=True)
            requests.close()
            writer.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        addresses = list(self.addresses())
        random.shuffle(addresses)
        for host, port in addresses:
            with suppress(OSError):
                return await asyncio.open_connection(host, port, limit=LINE_LIMIT)
        return None

    async def _requests(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, waiting: dict[bytes, Sent]
    ) -> None:
        """Carry what the client sends until it is gone; the connection behind it stays."""
        with suppress(OSError):
            while (frame := await next_frame(reader)) is not None:
                line, _ = frame
                words = line.split()
                if words and words[0] in {b"PUB", b"HPUB"}:
                    self._count(words, waiting)
                there.write(b"".join(frame))
                await there.drain()

    def _count(self, words: Sequence[bytes], waiting: dict[bytes, Sent]) -> None:
        what = changed_by(words[1].decode())
        if what is None:
            return
        sent = Sent(what, datetime.now(UTC))
        self.sent.append(sent)
        if len(words) == (4 if words[0] == b"PUB" else 5):
            waiting[words[2]] = sent

    async def _answers(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, waiting: dict[bytes, Sent]
    ) -> None:
        """Carry what the cluster says, to whom is still there."""
        with suppress(OSError):
            while (frame := await next_frame(reader)) is not None:
                line, payload = frame
                words = line.split()
                if words and words[0] == b"INFO":
                    line = _without_ways_past(line)
                elif words and words[0] in {b"MSG", b"HMSG"} and (sent := waiting.pop(words[1], None)):
                    sent.answer = _body(words, payload)
                    if self._loses(sent):
                        continue
                with suppress(OSError):
                    back.write(line + payload)
                    await back.drain()

    def _loses(self, sent: Sent) -> bool:
        found = next((prefix for prefix, left in self.lose.items() if left > 0 and sent.what.startswith(prefix)), None)
        if found is None:
            return False
        self.lose[found] -= 1
        self.lost += 1
        return True


def changed_by(subject: str) -> str | None:
    """Return what a request on this subject changes, None where it changes nothing."""
    tokens = subject.split(".")
    if subject.startswith("$JS.API.") and not READING.intersection(tokens):
        return subject.removeprefix("$JS.API.")
    if subject.startswith("$SYS.REQ.") and tokens[-1] in SYSTEM_CHANGES:
        return subject.removeprefix("$SYS.REQ.")
    return None


async def next_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """Return the next line of the NATS protocol with its payload, both with their line ends; None at the end."""
    try:
        line = await reader.readuntil(b"\r\n")
        if not re.match(rb"(PUB|HPUB|MSG|HMSG) ", line):
            return line, b""
        return line, await reader.readexactly(int(line.split()[-1]) + 2)
    except asyncio.IncompleteReadError:
        return None


def _without_ways_past(line: bytes) -> bytes:
    info = orjson.loads(line.removeprefix(b"INFO "))
    info.pop(_CONNECT_URLS, None)
    return b"INFO " + orjson.dumps(info) + b"\r\n"


def _body(words: Sequence[bytes], payload: bytes) -> bytes | None:
    """Return the JSON of an answer; None where it is headers alone, as *no responders* is."""
    body = payload[int(words[-2]) :] if words[0] == b"HMSG" else payload
    return body.removesuffix(b"\r\n") or None
