"""Whether the address that the bot listens on is free, or held by a natsmedic that lives."""

from __future__ import annotations

import socket
from typing import Final, NamedTuple, cast

import httpx

from bot.model import Json, JsonObject

PATIENCE: Final = 2.0
"""Seconds for a process of this machine to answer that it lives."""
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - translated, not listened on


class Listening(NamedTuple):
    """Who holds an address: `ready` is what a natsmedic there says of itself; without one, `problem` says why the address can't be had, empty where it is free."""

    ready: JsonObject | None
    problem: str


async def look_at(listen: str) -> Listening:
    """Ask `host:port` whether a natsmedic lives there; where nobody answers, try to listen there for a moment."""
    base = served_at(listen)
    try:
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            alive: Json = (await client.get(f"{base}/livez")).json()
            ready: Json = (await client.get(f"{base}/readyz")).json()
    except (httpx.HTTPError, ValueError):
        return Listening(None, _hindrance(*_place(listen)))
    match alive, ready:
        case {"alive": True}, dict():
            return Listening(cast("JsonObject", ready), "")
        case {"alive": False, "problem": str(problem)}, _:
            return Listening({"problems": [problem]}, "")
        case _:
            return Listening(None, "something answers there that is no natsmedic")


def served_at(listen: str) -> str:
    """Return the address, without a path, under which this machine reaches who listens on `host:port`."""
    host, port = _place(listen)
    asked = _EVERYWHERE.get(host, host)
    return f"http://[{asked}]:{port}" if ":" in asked else f"http://{asked}:{port}"


def _place(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _hindrance(host: str, port: int) -> str:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        with socket.create_server((host, port), family=family):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__
