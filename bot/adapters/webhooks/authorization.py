"""Does this request carry the secret of this source? Compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from bot.settings import SourceSettings


def authorized(source: SourceSettings, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Say whether the one `Authorization` header (RFC 6750 bearer or RFC 7617 basic) carries the source's secret."""
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if len(values) != 1:
        return False
    scheme, _, credentials = values[0].strip().partition(b" ")
    if source.bearer is not None:
        return scheme.lower() == b"bearer" and _same(credentials.strip(), source.bearer.get_secret_value())
    try:
        given = base64.b64decode(credentials.strip(), validate=True)
    except binascii.Error:
        return False
    return scheme.lower() == b"basic" and _same(given, f"{source.username}:{source.secret.get_secret_value()}")


def _same(given: bytes, expected: str) -> bool:
    """Compare digests, so that not even the length of the secret shows in the time it takes."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected.encode()).digest())
