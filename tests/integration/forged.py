"""Mutants of what Slack delivers, and a bot that they are sent to in signed requests, without a network."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from bot.flow.stages import Stages
from bot.model import Json, JsonObject
from bot.ports import Phase
from bot.settings import Transport
from tests.integration.slack_adapter_support import House, house

Place = tuple[str | int, ...]
WORK: Final = frozenset(
    {
        "approve",
        "deny",
        "details",
        "form",
        "open",
        "tell",
        "late answer",
        "command",
        "misshapen",
        "shortcut",
        "question",
        "take",
        "silence",
        "end_silence",
        "open_thread",
        "tune",
        "page",
        "mention",
        "home",
        "follow",
    }
)
"""Names of the tasks that serve a gesture; after the last of them it has had its effect."""


@dataclass(frozen=True)
class Mutant:
    """A payload with one thing changed."""

    place: Place
    kind: str
    payload: JsonObject

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.place))} {self.kind}"


def mutants(payload: JsonObject) -> Iterator[Mutant]:
    """Every leaf removed, emptied, of another value, and of another type; every branch removed and turned into text."""
    for place, value in _places(payload):
        yield Mutant(place, "removed", _without(payload, place))
        if isinstance(value, dict | list):
            yield Mutant(place, "flattened", _with(payload, place, "text"))
            continue
        yield Mutant(place, "emptied", _with(payload, place, "" if isinstance(value, str) else None))
        yield Mutant(place, "changed", _with(payload, place, _another(value)))
        yield Mutant(place, "retyped", _with(payload, place, {"was": value} if isinstance(value, str) else [value]))


def _places(value: Json, above: Place = ()) -> Iterator[tuple[Place, Json]]:
    if above:
        yield above, value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _places(part, (*above, name))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _places(part, (*above, index))


def _another(value: Json) -> Json:
    if isinstance(value, str):
        return value + "X"
    return not value if isinstance(value, bool) or value is None else value + 1


def _with(payload: JsonObject, place: Place, value: Json) -> JsonObject:
    made = copy.deepcopy(payload)
    _parent(made, place)[place[-1]] = value
    return made


def _without(payload: JsonObject, place: Place) -> JsonObject:
    made = copy.deepcopy(payload)
    del _parent(made, place)[place[-1]]
    return made


def _parent(payload: JsonObject, place: Place) -> Json:
    found: Json = payload
    for step in place[:-1]:
        found = found[step]
    return found


@dataclass(frozen=True)
class Target:
    """A bot in HTTP mode with its database and its Slack."""

    running: House
    client: httpx.AsyncClient
    secret: str

    async def post(self, body: str, content_type: str, stamp: str | None = None) -> httpx.Response:
        """Send one request as Slack signs it, and wait until its work is done."""
        stamp = stamp or str(int(time.time()))
        mac = hmac.new(self.secret.encode(), f"v0:{stamp}:{body}".encode(), hashlib.sha256).hexdigest()
        headers = {"Content-Type": content_type, "X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}"}
        answer = await self.client.post("/slack/events", content=body.encode(), headers=headers)
        await self.settled()
        return answer

    async def interact(self, payload: JsonObject) -> httpx.Response:
        return await self.post(urlencode({"payload": json.dumps(payload)}), "application/x-www-form-urlencoded")

    async def slash(self, payload: JsonObject) -> httpx.Response:
        return await self.post(urlencode(payload), "application/x-www-form-urlencoded")

    async def settled(self) -> None:
        """Wait for the work of every gesture."""
        async with asyncio.timeout(10):
            while work := [task for task in asyncio.all_tasks() if task.get_name() in WORK]:
                await asyncio.wait(work)

    def recorded(self) -> JsonObject:
        """The payload of the last gesture, as Slack makes it."""
        return copy.deepcopy(self.running.slack.delivered()[-1].payload)

    def fresh(self, payload: JsonObject, user: str) -> JsonObject:
        """The payload with a trigger that has not been used."""
        return {**payload, "trigger_id": self.running.slack.workspace.new_trigger(user)}

    async def state(self) -> list[str]:
        """Everything a gesture could have changed, but the audit log."""
        store = self.running.store
        proposals = await store.proposals()
        approvals = [one for proposal in proposals for one in await store.approvals(proposal.id)]
        records = [repr(one) for one in (*proposals, *approvals, *await store.freezes(), *await store.incidents())]
        async with store.begin() as tx:
            waiting = f"{await tx.count_unprocessed()} questions"
        return [*records, waiting, *(f"{phase} {key}" for phase, key in self.running.engine.started)]

    async def refusals(self) -> int:
        kinds = {"click.refused", "command.refused"}
        return sum(entry.kind in kinds for entry in await self.running.store.audit_entries())

    def words(self) -> int:
        """Sentences that were sent to one person alone, whether Slack took them or not."""
        slack = self.running.slack
        answered = [call for call in slack.calls("response_url") if call.outcome == "ok"]
        return len(slack.calls("chat.postEphemeral")) + len(answered)

    def executions(self) -> int:
        return sum(phase is Phase.EXECUTION for phase, _ in self.running.engine.started)


@asynccontextmanager
async def target(
    tmp_path: Path, *, clusters: tuple[str, ...] = ("prod",), stages: Stages | None = None
) -> AsyncGenerator[Target]:
    """A bot that is served in this process."""
    async with house(tmp_path, transport=Transport.HTTP, clusters=clusters, stages=stages) as running:
        app = Starlette(routes=[Route("/slack/events", running.adapter.http_handler, methods=["POST"])])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot", trust_env=False) as client:
            yield Target(running, client, running.slack.signing_secret)
