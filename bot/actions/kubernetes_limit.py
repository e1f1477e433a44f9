"""Writes one limit into nats.conf, in its ConfigMap. Servers run on with what they have loaded: the reloads are stages of their own."""

from __future__ import annotations

import asyncio
from typing import Final

from bot.action import Check, Receipt
from bot.actions._conf_text import parsed, text_of
from bot.actions._config_edit import ConfigTarget, apply_edit, check_edit, preview_edit, undo_edit
from bot.actions._limit_text import put_back, same, value_in, with_value
from bot.actions._limits import limit_tunables, runs_with_limit
from bot.actions._loading import PROPAGATION, Sleep, load_everywhere
from bot.actions._objects import object_receipt, read_object
from bot.errors import NotYet, Refused
from bot.model import OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Tunable, Verification
from bot.model.kubernetes import Kind
from bot.model.limits import Setting, Value, written
from bot.ports import Readers, Writers

FORMER: Final = "former.natsmedic.io/limit"
"""Annotation with what stood at the place. Its name begins with none of those whose values are shown, so it is redacted in all evidence."""

WAY_BACK: Final = PROPAGATION + 30.0
"""Seconds on the way back: until the pods have the former file, and every server has loaded it."""


class LimitParams(ConfigTarget):
    """Which file, as it was seen, and what it shall say."""

    setting: Setting
    former: Value | None
    """What it says now; None where it is not set."""
    value: Value
    servers: dict[str, str]
    """Those that load it afterwards, by pod; on the way back they load the former file."""
    reloader: bool = False
    """Whether a sidecar makes servers load a changed file by itself."""

    def edit(self, text: str) -> tuple[str, str]:
        """Return the file with the wanted value, and what stood there."""
        return with_value(text, self.setting, self.value)

    def restore(self, text: str, former: str) -> str:
        """Return the file with its former value, or none."""
        return put_back(text, self.setting, self.value, former)


class LimitEdit:
    """Edits one setting."""

    kind: str = "kubernetes.limit"
    title: str = "Limit in nats.conf"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = LimitParams
    settle: float = 0.0
    """The object is as it was written; what servers make of it is the next stages' condition."""
    patience: float = 10.0
    half_way: float = WAY_BACK

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    def tunables(self, params: LimitParams) -> tuple[Tunable, ...]:
        """The limit itself."""
        return limit_tunables(params.setting, params.value)

    async def check(self, readers: Readers, params: LimitParams) -> Check:
        """The file must be the very one that was looked at."""
        return await check_edit(readers, params, params.edit, {params.setting: _told(params.former)})

    async def preview(self, readers: Readers, params: LimitParams) -> Preview:
        """Show the file before and after, without secrets."""
        diff, notes = await preview_edit(readers, params, params.edit, FORMER)
        return Preview(
            summary=f"{params.key} in ConfigMap {params.config_map} sets {params.setting} to {written(params.value)} (now {_told(params.former)})",
            diff=diff,
            blast_radius="No pod is restarted. Running servers notice nothing before they load the file; a pod that starts meanwhile starts with it.",
            effects=(
                "Everything else in the file stays byte for byte the same.",
                f"What stood there is kept in the annotation {FORMER}.",
                *notes,
            ),
            way_back="The former value is written back, and every server that runs with the new one loads it.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: LimitParams, operation: OperationId) -> None:
        """Edit the live file at the one place."""
        await apply_edit(readers, writers, params, params.edit, FORMER, operation)

    async def receipt(self, readers: Readers, params: LimitParams, operation: OperationId) -> Receipt:
        """Read the annotation."""
        return await object_receipt(readers, Kind.CONFIG_MAP, params.config_map, params.config_map_uid, operation)

    async def verify(self, readers: Readers, params: LimitParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """The file says it."""
        try:
            raw = await read_object(readers, Kind.CONFIG_MAP, params.config_map, params.config_map_uid)
            found = value_in(parsed(text_of(raw, params.key)).root, params.setting)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused), final=True)
        good = same(params.setting, found, params.value)
        return Verification(
            outcome=Outcome.VERIFIED if good else Outcome.FAILED,
            sentence=f"{params.key} sets {params.setting} to {_told(found)}.",
            numbers={params.setting: _told(found)},
        )

    async def rollback(self, readers: Readers, writers: Writers, params: LimitParams, operation: OperationId) -> str:
        """Write the former value and make every server load it; waits until all have."""
        await undo_edit(readers, writers, params, params.restore, FORMER, operation)
        pods = {server: pod for pod, server in params.servers.items()}

        def loaded(snapshot: Snapshot, server: str) -> bool | None:
            return runs_with_limit(
                params.workload, params.workload_uid, params.setting, params.former, pods[server], snapshot, server
            )

        asking = None if params.reloader else writers
        if late := await load_everywhere(readers, asking, pods, loaded, self._sleep):
            raise NotYet(
                f"{params.key} has its former {params.setting} again, and {', '.join(late)} did not load it yet: the kubelet brings the file within 1 to 2 minutes."
            )
        return f"{params.key} has its former {params.setting} again, and {', '.join(pods)} run with it."


def _told(value: Value | None) -> str:
    return "not set" if value is None else written(value)


ACTION = LimitEdit()
