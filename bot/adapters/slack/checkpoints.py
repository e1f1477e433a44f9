"""A Slack channel that checkpoints are posted to: the bot's own messages, in a channel of their own, read by people who would notice another one."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from bot.adapters.slack.api import SlackApi, SlackCallFailed
from bot.adapters.slack.blocks import plain
from bot.errors import Unreadable
from bot.model import Checkpoint
from bot.ports import Clock

LOOK_BACK: Final = timedelta(days=30)
"""How far back the newest is looked for: a bot that was off for longer has nothing to compare with here."""
_KEY: Final = re.compile(r"checkpoint:(\d{1,18}):([0-9a-f]{64})")


class ChannelSink:
    """Implements `bot.ports.CheckpointSink`."""

    def __init__(self, api: SlackApi, channel: str, clock: Clock) -> None:
        self._api = api
        self._channel = channel
        self._clock = clock

    @property
    def name(self) -> str:
        """Where the checkpoints go, for people."""
        return f"Slack channel {self._channel}"

    async def newest(self) -> Checkpoint | None:
        """Return the newest of the bot's own checkpoints; messages of others are not looked at. Raises `Unreadable`."""
        try:
            newest = await self._api.newest_of_ours(
                self._channel, self._clock.now() - LOOK_BACK, lambda one: _KEY.fullmatch(one.key or "") is not None
            )
        except SlackCallFailed as error:
            raise Unreadable(str(error)) from error
        found = _KEY.fullmatch(newest.key or "") if newest else None
        return Checkpoint(seq=int(found[1]), hash=found[2]) if found else None

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Post one message. Raises `SlackCallFailed`."""
        text = f"Audit log of natsmedic: row {checkpoint.seq} has hash {checkpoint.hash}"
        key = f"checkpoint:{checkpoint.seq}:{checkpoint.hash}"
        await self._api.post(self._channel, text, [{"type": "section", "text": plain(text)}], key, None)
