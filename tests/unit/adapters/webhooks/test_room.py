"""Bodies that are held at once, counted to the byte."""

from __future__ import annotations

from contextlib import suppress

import pytest

from bot.adapters.webhooks.room import NoRoom, Room


def test_everything_up_to_the_limit_has_room_and_one_byte_more_has_not() -> None:
    room = Room(10)
    with room.hold() as first, room.hold() as second:
        first.add(6)
        second.add(4)
        with pytest.raises(NoRoom):
            first.add(1)


def test_what_a_request_held_is_free_once_it_is_over_however_it_ended() -> None:
    room = Room(10)
    with suppress(NoRoom), room.hold() as held:
        held.add(10)
        held.add(1)
    with room.hold() as held:
        held.add(10)
