"""Checks that several runbooks ask: one record each, so that a report of all runbooks shows their findings once."""

from __future__ import annotations

from bot.model import Endpoint, Layer
from bot.runbook import Check
from runbooks._consumer_checks import meta_agrees, servers_answer
from runbooks._stream_checks import QUORUM, streams_have_quorum

_VIEWS = frozenset({Endpoint.VARZ, Endpoint.JSZ})
_JSZ = frozenset({Endpoint.JSZ})

SERVER_ANSWERS = Check("SERVER_ANSWERS", Layer.REACHABILITY, "Every server answers.", _VIEWS, servers_answer)

META_QUORUM = Check(
    "META_QUORUM", Layer.META, "All servers name one meta leader, which has quorum.", _VIEWS, meta_agrees, _JSZ
)

STREAM_QUORUM = QUORUM.check("Every stream has one leader and quorum.", _VIEWS, streams_have_quorum, trend=_JSZ)
