"""Starts, stops and changed settings as audit rows: what ran, with which rules, and from when to when."""

from __future__ import annotations

from collections.abc import Mapping

from bot.model import AuditDraft, AuditEntry, AuditFilter, JsonObject
from bot.ports import Store

STARTED = "bot.started"
STOPPED = "bot.stopped"
CHANGED = "settings.changed"


async def started(store: Store, version: str, mode: str, sections: Mapping[str, str], replica: str = "") -> None:
    """Record a start, and which sections of the settings are not those of the start before. `sections`: digest by section name, without secrets.

    `replica` names it where several serve at once; that one of those has crashed, the others say (`replica.lost`).
    """
    before = await _newest(store, STARTED)
    stopped = await _newest(store, STOPPED)
    crashed = not replica and before is not None and (stopped is None or stopped.seq < before.seq)
    old: Mapping[str, str] = before.data.get("sections") or {} if before is not None else sections
    changed = sorted(name for name in old.keys() | sections.keys() if old.get(name) != sections.get(name))
    data: JsonObject = {
        "version": version,
        "mode": mode,
        "sections": dict(sections),
        "crashed": crashed,
        **_one(replica),
    }
    after = " The run before it has no end on record: it was killed or lost its machine." if crashed else ""
    async with store.begin() as tx:
        sentence = f"natsmedic {version} starts in mode {mode}{_as(replica)}.{after}"
        await tx.audit(AuditDraft(kind=STARTED, actor="bot", sentence=sentence, data=data))
        if changed:
            said = f"Since the start before, these sections of the settings have changed: {', '.join(changed)}."
            moved = {name: {"before": old.get(name), "after": sections.get(name)} for name in changed}
            await tx.audit(AuditDraft(kind=CHANGED, actor="bot", sentence=said, data={"sections": moved}))


async def stopped(store: Store, version: str, replica: str = "") -> None:
    """Record a stop that was asked for."""
    sentence = f"natsmedic {version} stops{_as(replica)}."
    data: JsonObject = {"version": version, **_one(replica)}
    async with store.begin() as tx:
        await tx.audit(AuditDraft(kind=STOPPED, actor="bot", sentence=sentence, data=data))


def _one(replica: str) -> JsonObject:
    return {"replica": replica} if replica else {}


def _as(replica: str) -> str:
    return f" as replica {replica}" if replica else ""


async def _newest(store: Store, kind: str) -> AuditEntry | None:
    found = await store.newest_audit_lines(limit=1, wanted=AuditFilter(kind=kind))
    return found[0].entry() if found else None
