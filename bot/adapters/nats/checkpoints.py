"""A JetStream stream that checkpoints are added to. The operator creates it with deny_delete and deny_purge; without them nothing is kept there.

Every message demands that the newest before it is the one that this writer knows (`Nats-Expected-Last-Subject-Sequence`), so a second writer is refused.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import orjson
from nats.aio.msg import Msg
from pydantic import ValidationError

from bot.adapters.nats.api import error_of, parsed, read, write_error
from bot.adapters.nats.connection import Connection, RequestFailed
from bot.errors import ApiRefused, OutcomeUnknown, Unreadable
from bot.model import Checkpoint, part

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
"""Header of a publish that is refused where the subject's last message has another sequence; 0 demands that there is none (nats-server stream.go)."""
NO_MESSAGE: Final = 10037
"""JSNoMessageFoundErr: nothing was kept on the subject yet."""
FLAGS: Final = ("deny_delete", "deny_purge")


class StreamSink:
    """Implements `bot.ports.CheckpointSink`."""

    def __init__(self, connection: Connection, stream: str, subject: str) -> None:
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._last: int | None = None

    @property
    def name(self) -> str:
        """Where the checkpoints go, for people."""
        return f"stream {self._stream}"

    async def newest(self) -> Checkpoint | None:
        """Return the newest message of the subject; None where there is none. Raises `Unreadable`, also where the stream could be rewritten."""
        await self._insist()
        answer = await read(
            self._connection,
            f"$JS.API.STREAM.MSG.GET.{self._stream}",
            {"last_by_subj": self._subject},
            absent=frozenset({NO_MESSAGE}),
        )
        if answer is None:
            self._last = 0
            return None
        message = part(answer, "message")
        try:
            found = Checkpoint.model_validate_json(base64.b64decode(str(message.get("data") or ""), validate=True))
            self._last = int(message["seq"])
        except (ValidationError, binascii.Error, KeyError, ValueError) as error:
            raise Unreadable(f"The newest message on {self._subject} of {self.name} is not a checkpoint.") from error
        return found

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Add a message behind the newest. Raises `NotApplied`, `OutcomeUnknown`, or `Unreadable` where the stream could be rewritten."""
        await self._insist()
        if self._last is None:
            await self.newest()
        expected = self._last or 0
        self._last = None  # in doubt until the server has answered
        body = orjson.dumps(checkpoint.model_dump(mode="json"))
        try:
            answer: Msg = await self._connection.request(self._subject, body, headers={EXPECTED: str(expected)})
        except RequestFailed as failed:
            raise write_error(failed) from failed
        said = parsed(answer.data) or {}
        if (error := error_of(said)) is not None:
            raise ApiRefused(error.code, error.err_code, error.description)
        if said.get("stream") != self._stream or not isinstance(said.get("seq"), int):
            raise OutcomeUnknown(f"The answer on {self._subject} does not say that {self.name} has the checkpoint.")
        self._last = said["seq"]

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()

    async def _insist(self) -> None:
        """Refuse a stream whose messages could be taken away, or that is not there."""
        answer = await read(self._connection, f"$JS.API.STREAM.INFO.{self._stream}")
        config = part(answer or {}, "config")
        if missing := [flag for flag in FLAGS if config.get(flag) is not True]:
            raise Unreadable(
                f"The stream {self._stream} is not made for checkpoints: it lacks {' and '.join(missing)}. Create it with both: "
                f"nats stream add {self._stream} --subjects {self._subject} --deny-delete --deny-purge"
            )
