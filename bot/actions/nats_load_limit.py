"""Makes one server load nats.conf again, and proves that it runs with a limit. Nothing is restarted, no client is disconnected."""

from __future__ import annotations

import asyncio
from functools import partial

from bot.action import ELECTION, Check, Receipt
from bot.actions._limit_text import same, value_in
from bot.actions._limits import limit_tunables, runs_with_limit
from bot.actions._loading import Loaded, Sleep, ask_until_loaded, look_at, receipt_of_load, seen_loaded, told_of_asking
from bot.actions._servers import conf_of, workload_of
from bot.errors import Refused
from bot.model import Endpoint, OperationId, Outcome, Preview, Record, RiskClass, Tunable, Verification
from bot.model.limits import Setting, Value, shown, written
from bot.ports import Readers, Writers

NEEDS = frozenset({Endpoint.VARZ})


class LoadLimitParams(Record):
    """Which server, and what it shall run with."""

    workload: str
    workload_uid: str
    pod: str
    server: str
    setting: Setting
    value: Value
    reloader: bool = False
    """Whether a sidecar asks it; then it is only waited for."""

    @property
    def loaded(self) -> Loaded:
        """What is looked for."""
        return partial(runs_with_limit, self.workload, self.workload_uid, self.setting, self.value, self.pod)


class LoadLimit:
    """Asks until VARZ shows the limit, or the digest of the file."""

    kind: str = "nats.load_limit"
    title: str = "Configuration reload for a limit"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = LoadLimitParams
    settle: float = 1.0
    """A reload is whole when it is answered (server/reload.go applies every option before)."""
    patience: float = 30.0
    half_way: float = ELECTION

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    def tunables(self, params: LoadLimitParams) -> tuple[Tunable, ...]:
        """The limit itself."""
        return limit_tunables(params.setting, params.value)

    async def check(self, readers: Readers, params: LoadLimitParams) -> Check:
        """The file must say it, and the server must answer."""
        snapshot = await look_at(readers, [params.server], NEEDS)
        reasons: list[str] = []
        try:
            workload = workload_of(snapshot, params.workload, params.workload_uid)
            if not same(params.setting, value_in(conf_of(workload).root, params.setting), params.value):
                reasons.append(f"nats.conf does not set {params.setting} to {written(params.value)}.")
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        if all(one.name != params.server for one in snapshot.servers):
            reasons.append(f"Server {params.server} does not answer.")
        return Check(
            world={"statefulset.uid": workload.uid, "statefulset.image": workload.nats.image.reference},
            refusals=tuple(reasons),
            before={params.setting: shown(snapshot, params.server, params.setting)},
        )

    async def preview(self, readers: Readers, params: LoadLimitParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what comes in force."""
        return Preview(
            summary=f"{params.server} loads its configuration again, with {params.setting}: {written(params.value)}",
            blast_radius=f"Server {params.server}: no restart, and no client is disconnected.",
            effects=(
                told_of_asking(reloader=params.reloader),
                "It loads the whole file: whatever else was changed in it since it loaded it last comes in force too.",
            ),
            way_back="None of its own: with the former file back, it loads that.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: LoadLimitParams, operation: OperationId) -> None:
        """Ask until it shows it."""
        del operation
        asking, what = None if params.reloader else writers, f"the new {params.setting}"
        await ask_until_loaded(readers, asking, params.server, params.loaded, self._sleep, what, NEEDS)

    async def receipt(self, readers: Readers, params: LoadLimitParams, operation: OperationId) -> Receipt:
        """What the server runs with is the receipt."""
        del operation
        return receipt_of_load(await seen_loaded(readers, params.server, params.loaded, NEEDS))

    async def verify(self, readers: Readers, params: LoadLimitParams, operation: OperationId) -> Verification:
        """It runs with it."""
        del operation
        snapshot = await look_at(readers, [params.server], NEEDS)
        loaded = params.loaded(snapshot, params.server)
        seen: dict[str, str | int | None] = {params.setting: shown(snapshot, params.server, params.setting)}
        if loaded is None:
            text = f"What {params.server} runs with is not known."
            return Verification(outcome=Outcome.CANNOT_TELL, sentence=text, numbers=seen)
        runs = "runs" if loaded else "does not run"
        text = f"{params.server} {runs} with {params.setting}: {written(params.value)}."
        return Verification(outcome=Outcome.VERIFIED if loaded else Outcome.FAILED, sentence=text, numbers=seen)

    async def rollback(
        self, readers: Readers, writers: Writers, params: LoadLimitParams, operation: OperationId
    ) -> str:
        """The file decides what a server runs with, so it is the stage that edited it which makes servers load the former one."""
        del readers, writers, operation
        return f"{params.server} keeps its {params.setting} until the former file is back and loaded."


ACTION = LoadLimit()
