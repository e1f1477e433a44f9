"""Dead members of streams that a spare server can stand in for: what natsmedic offers to do itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.actions.meta_peer_remove import GONE
from bot.actions.stream_peer_remove import ACTION as REPLACE
from bot.actions.stream_peer_remove import replacement
from bot.errors import Refused
from bot.model import Finding, Rung, Snapshot, StreamKey
from bot.runbook import Draft, Proposed


def replacements(snapshot: Snapshot, dead: Sequence[Finding], most: int) -> list[Proposed]:
    """Return a replacement for each member that is away for long, where nothing speaks against it. Bringing it back is told elsewhere, and comes first."""
    found: list[Proposed] = []
    for finding in dead:
        peer, where = finding.subject.server, finding.subject
        if peer is None or len(found) == most:
            continue
        try:
            params = replacement(snapshot, StreamKey(where.account or "", where.stream or ""), peer, GONE)
        except Refused:
            continue  # then to bring it back is all that is offered
        draft = Draft(
            title=f"Replace {peer} as a member of stream {where.stream}",
            why=f"{finding.sentence} It is away for more than {GONE:.0f} s, and a spare server can take its place.",
            stages=((REPLACE.kind, params.model_dump(mode="json")),),
            rung=Rung(
                not_enough="The whole stream is copied to the new member, which takes as long as its disk and the network need.",
                go_on="the new member does not become current.",
            ),
            cautions=(
                f"Only where {peer} does not come back soon: its copy is thrown away, and the stream is copied anew.",
            ),
        )
        found.append(Proposed(where, draft))
    return found
