"""HTTP to the servers of this machine, none of which speaks TLS."""

import ssl
from collections.abc import Mapping
from typing import Final

import httpx

NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody. httpx reads all authorities that it knows for every client otherwise: 45 ms of CPU, many times what the question itself takes."""

TIMEOUT: Final = 5.0
"""Seconds for each part of an exchange, as httpx has it."""


def http_client(
    timeout: float = TIMEOUT, *, base_url: str = "", headers: Mapping[str, str] | None = None
) -> httpx.AsyncClient:
    """Make a client for `http://` addresses; one of `https://` it never believes. `timeout` is seconds."""
    return httpx.AsyncClient(timeout=timeout, base_url=base_url, headers=headers, verify=NO_CERTIFICATES)
