"""The report of an incident as the files that are posted when it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

from bot.adapters.archive import redact
from bot.adapters.documents import as_html, as_markdown
from bot.flow.incident_report import Account, account_of, compose
from bot.model import Checkpoint, IncidentId
from bot.model.document import Document
from bot.ports import Clock, Store, WriteReport


def reporter(store: Store, clock: Clock, checkpoint: Callable[[], Checkpoint | None]) -> WriteReport:
    """Return what writes reports. `checkpoint` gives the newest one that is kept outside: the audit log is verified from there or from the incident's
    first row on, whichever is earlier. The whole chain is what `natsmedic incidents report` verifies.
    """

    async def write(incident: IncidentId) -> Mapping[str, bytes]:
        account = await account_of(store, incident, whole_chain=False, checkpoint=checkpoint())
        return {} if account is None else await asyncio.to_thread(_files, account, clock.now())

    return write


def _files(account: Account, now: datetime) -> Mapping[str, bytes]:
    """Without secrets: what an alert or a finding quotes was written by others."""
    told = Document.model_validate(redact(compose(account, now).model_dump(mode="json")))
    return {"md": as_markdown(told).encode(), "html": as_html(told).encode()}
