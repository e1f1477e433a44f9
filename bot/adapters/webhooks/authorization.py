"""Does this request carry, or is it signed with, a secret of this source? Compared in constant time, against every valid secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from bot.settings import SourceKind, SourceSettings

Headers = Sequence[tuple[bytes, bytes]]

CLOCK_SKEW: Final = 300.0
"""Seconds between the signed time and ours (reference/safety.md T4)."""
_UNIX_SECONDS: Final = re.compile(rb"\d{1,12}")
_SCHEME: Final = {
    SourceKind.GRAFANA: re.compile(rb"[0-9a-f]{64}"),
    SourceKind.GENERIC: re.compile(rb"[0-9a-f]{64}"),
    SourceKind.PAGERDUTY: re.compile(rb"v\d+=[0-9a-f]+( ?, ?v\d+=[0-9a-f]+)*"),
}
"""The form of a signature header. Grafana: bare hex (grafana/alerting http/hmac.go); PagerDuty: `v1=HEX[,v1=HEX]`, several while it rotates."""
_PAGERDUTY_VERSION: Final = b"v1="


def authorized(source: SourceSettings, headers: Headers, now: datetime) -> bool:
    """Say, before the body is read, whether the request may go on.

    Bearer (RFC 6750) and basic (RFC 7617) are decided here. Of a signature only its form and its signed time are: `signed` decides the rest.
    """
    if source.hmac_secret is not None:
        return _signature(source, headers) is not None and _timestamp(source, headers, now) is not None
    given = _only(headers, "Authorization")
    if given is None:
        return False
    scheme, _, credentials = given.partition(b" ")
    if source.bearer is not None:
        return scheme.lower() == b"bearer" and _any_same(credentials.strip(), [b"%b" % key for key in _keys(source)])
    try:
        pair = base64.b64decode(credentials.strip(), validate=True)
    except binascii.Error:
        return False
    user = (source.username or "").encode()
    return scheme.lower() == b"basic" and _any_same(pair, [b"%b:%b" % (user, key) for key in _keys(source)])


def signed(source: SourceSettings, headers: Headers, body: bytes, now: datetime) -> bool:
    """Say whether the body is signed with a secret of this source, not long ago where the time is signed too."""
    signature, timestamp = _signature(source, headers), _timestamp(source, headers, now)
    if signature is None or timestamp is None:
        return False
    text = body if source.timestamp_header is None else timestamp + b":" + body
    expected = [hmac.new(key, text, hashlib.sha256).hexdigest().encode() for key in _keys(source)]
    return True in [_any_same(given, expected) for given in _candidates(source, signature)]


def _candidates(source: SourceSettings, signature: bytes) -> list[bytes]:
    if source.kind is not SourceKind.PAGERDUTY:
        return [signature]
    parts = [part.strip() for part in signature.split(b",")]
    return [part.removeprefix(_PAGERDUTY_VERSION) for part in parts if part.startswith(_PAGERDUTY_VERSION)]


def _signature(source: SourceSettings, headers: Headers) -> bytes | None:
    """Return the signature header, None where there is not exactly one of the right form."""
    given = _only(headers, source.signature_name or "")
    return given if given is not None and _SCHEME[source.kind].fullmatch(given) else None


def _timestamp(source: SourceSettings, headers: Headers, now: datetime) -> bytes | None:
    """Return the signed time as written (empty where this kind has none), None where it is missing, malformed or too far from ours."""
    if source.timestamp_header is None:
        return b""
    given = _only(headers, source.timestamp_header)
    if given is None or not _UNIX_SECONDS.fullmatch(given):
        return None
    return given if abs(now.timestamp() - int(given)) <= CLOCK_SKEW else None


def _only(headers: Headers, wanted: str) -> bytes | None:
    values = [value for name, value in headers if name.lower() == wanted.lower().encode()]
    return values[0].strip() if len(values) == 1 else None


def _keys(source: SourceSettings) -> list[bytes]:
    return [secret.get_secret_value().encode() for secret in source.secrets]


def _any_same(given: bytes, expected: Sequence[bytes]) -> bool:
    """Compare digests with every expected one, so that neither a secret's length nor which one fits shows in the time it takes."""
    digest = hashlib.sha256(given).digest()
    return True in [hmac.compare_digest(digest, hashlib.sha256(each).digest()) for each in expected]
