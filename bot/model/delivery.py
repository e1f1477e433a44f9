"""What became of messages that natsmedic itself published on one server for a subscriber of its own on another."""

from __future__ import annotations

from typing import Self

from pydantic import NonNegativeFloat, NonNegativeInt, model_validator

from bot.model.base import Record
from bot.model.sample import Unknown


class PairDelivery(Record):
    """One way between two servers, in one account. Either messages were sent and counted, or it is `unknown` and nothing is counted."""

    account: str
    sender: str
    """Server that they were published on."""
    receiver: str
    """Server that the subscriber was connected to; never the sender."""
    sent: NonNegativeInt = 0
    received: NonNegativeInt = 0
    """Different ones of those sent."""
    seconds: NonNegativeFloat = 0.0
    """From the first message to the end of the wait for the last."""
    unknown: Unknown | None = None

    @property
    def lost(self) -> int:
        """Messages that did not arrive."""
        return self.sent - self.received

    @property
    def cut(self) -> bool:
        """True where messages were sent and not one arrived."""
        return self.sent > 0 and self.received == 0

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.unknown is None) != (self.sent > 0) or self.received > self.sent or self.sender == self.receiver:
            raise ValueError(
                "a delivery has messages sent, of which some arrived, between two servers, or it is unknown"
            )
        return self
