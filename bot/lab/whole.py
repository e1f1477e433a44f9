"""The whole bot as a user has it: real nats-servers, the stand-in Slack, a config file, and the bot as a process of its own.

The demo and the end-to-end tests are scripts over this. Nothing here is known to the bot: it gets a config file and addresses.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import httpx
import yaml

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.flow.audit import pages
from bot.lab.config import READER, SYSREADER, WRITER, Login
from bot.lab.http import http_client
from bot.lab.servers import LabCluster, LabError
from bot.lab.slack import TEAM_ID, Channel, Message, Outcome, StandInSlack, User, UserGroup
from bot.model import AuditFilter, Json, JsonObject, part, parts
from bot.ports import EVERY
from bot.settings import load

CHANNEL = "C0NATSONCALL"
ADA, BO, CY, GUS = "U0ADA", "U0BO", "U0CY", "U0GUS"
ADA_TWICE = "U0ADA2"
OPS = "S0OPERATORS"

PEOPLE: Sequence[User] = (
    User(ADA, "ada", "Ada (on call)"),
    User(BO, "bo", "Bo (owns the data)"),
    User(CY, "cy", "Cy (no role)"),
    User(GUS, "gus", "Gus (guest)", is_restricted=True),
    User(ADA_TWICE, "ada.second", "Ada (second account)"),
)

SLACK_MANIFEST = Path(__file__).parents[2] / "deploy" / "slack-manifest.yaml"

VERIFIED_BOARD = "Verified healthy by natsmedic"
"""What the status board says once a diagnosis after a repair found nothing wrong any more."""

START_SECONDS = 120.0
"""Within which a bot process must answer `/readyz`; a warm start takes 3 to 5 s on two busy cores, and its imports alone 33 s where ten jobs share each."""
STOP_SECONDS = 15.0
"""Three times the grace of the config."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served(Protocol):
    """The servers that the bot looks after, as its config names them."""

    @property
    def name(self) -> str: ...

    @property
    def urls(self) -> Sequence[str]: ...


class BotProcess:
    """Writes the config, runs the bot process, posts alerts, acts as people. An async context manager.

    `directory` gets `natsmedic.yaml`, `natsmedic.db` and `natsmedic.log`. `overrides` replaces top-level sections of the config.
    """

    program: Sequence[str] = ("-m", "bot")
    """What Python runs: natsmedic itself, or a module that changes something of it first."""

    def __init__(
        self, directory: Path, servers: Served, slack: StandInSlack, overrides: JsonObject | None = None
    ) -> None:
        self.directory = directory
        self.servers = servers
        self.slack = slack
        self.port = free_port()
        self.secret = "lab-alertmanager-secret"
        self._overrides = overrides or {}
        self._process: asyncio.subprocess.Process | None = None

    def override(self, **sections: Json) -> None:
        """Replace top-level sections of the config; takes effect with the next `start`."""
        self._overrides = self._overrides | sections

    @property
    def config(self) -> Path:
        """The config file."""
        return self.directory / "natsmedic.yaml"

    @property
    def url(self) -> str:
        """Where the bot listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the bot has logged."""
        file = self.directory / "natsmedic.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def settings(self) -> JsonObject:
        """Return the config as a user would write it for this lab."""
        return {
            "mode": "approve",
            "database": {"url": "sqlite:///natsmedic.db"},
            "clusters": [
                {
                    "name": self.servers.name,
                    "channel": CHANNEL,
                    "nats": {
                        "servers": list(self.servers.urls),
                        "system": login(SYSREADER),
                        "accounts": {"APP": {"reader": login(READER), "writer": login(WRITER)}},
                        "timeout_seconds": 3,
                    },
                }
            ],
            "slack": {
                "bot_token": self.slack.bot_token,
                "app_token": self.slack.app_token,
                "api_url": self.slack.api_url,
                "workspaces": [TEAM_ID],
            },
            "policy": {
                "groups": {"operators": {"usergroups": [OPS]}, "data-owners": {"users": [BO, ADA_TWICE]}},
                "persons": {"ada": [ADA, ADA_TWICE], "bo": [BO]},
                "approvers": {
                    "low": ["operators"],
                    "medium": ["operators"],
                    "destructive": ["operators", "data-owners"],
                },
            },
            "shutdown": {"grace": "5s"},
            "webhooks": {"listen": f"127.0.0.1:{self.port}", "sources": {"alertmanager": {"bearer": self.secret}}},
        } | self._overrides

    async def start(self, *crash_at: str) -> None:
        """Start the bot and wait until it is ready; `crash_at` arms crash points such as `P11` or `P14:2`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(yaml.safe_dump(self.settings(), sort_keys=False))
        command = ["-m", "bot.lab.crashing", *crash_at, "--"] if crash_at else self.program
        with (self.directory / "natsmedic.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                "--config",
                str(self.config),
                "serve",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        async with http_client(2.0) as http:
            await self.wait(partial(self._ready, http), START_SECONDS, "the bot did not become ready")

    @property
    def pid(self) -> int:
        """The bot's process. Raises LabError where it was never started."""
        if self._process is None:
            raise LabError("the bot was never started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the bot's process runs."""
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> int | None:
        """Ask the bot to stop, and kill it where it does not; return its exit code, None where it was never started."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        return process.returncode

    async def kill(self) -> None:
        """Kill the bot with SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def crashed(self, within: float = 60.0) -> None:
        """Wait until an armed crash point has killed the bot."""
        if self._process is None:
            raise LabError("the bot was never started")
        await asyncio.wait_for(self._process.wait(), within)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- the command line, as a user beside the serving bot ---------------------------------------------------------------------

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run `natsmedic --config … ARGUMENTS` and return its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bot",
            "--config",
            str(self.config),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode(errors="replace")

    async def rows(self, wanted: AuditFilter = EVERY) -> list[JsonObject]:
        """Return audit entries, oldest first, read beside the bot as `audit export` reads them."""
        url = load(self.config, os.environ).database.url
        async with SqlStore.open(url, SystemClock(), read_only=True) as store, aclosing(pages(store, wanted)) as read:
            return [json.loads(line.text()) async for page in read for line in page]

    async def audit(self, kind: str) -> list[JsonObject]:
        """Return the audit entries of a kind, oldest first."""
        return await self.rows(AuditFilter(kind=kind))

    async def predicted(self) -> tuple[int, int]:
        """Return the newest recreation's start sequence and how many acknowledged messages it said are delivered again at most."""
        for entry in reversed(await self.audit("proposal.created")):
            for stage in parts(part(part(entry, "data"), "proposal"), "stages"):
                params = part(stage, "params")
                if stage["kind"] == "consumer.create" and params["purpose"] == "replace":
                    return int(params["start"] or 0), int(params["repeated_acked"])
        raise LabError("no recreation was proposed")

    # --- alerts -------------------------------------------------------------------------------------------------------------

    async def alert(
        self,
        name: str = "NatsConsumerStuck",
        *,
        state: str = "firing",
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        fingerprint: str = "f1a2b3c4d5e6f708",
        starts_at: str = "2026-11-21T03:00:00Z",
        truncated: int = 0,
    ) -> httpx.Response:
        """Post an Alertmanager v4 webhook, as Alertmanager 0.32 and later write it."""
        all_labels = {"alertname": name, "cluster": self.servers.name, "severity": "critical"} | (labels or {})
        alert: JsonObject = {
            "status": state,
            "labels": all_labels,
            "annotations": annotations or {"summary": "Messages wait and nobody gets them."},
            "startsAt": starts_at,
            "endsAt": "0001-01-01T00:00:00Z" if state == "firing" else datetime.now(UTC).isoformat(),
            "generatorURL": "http://prometheus.example/graph?g0.expr=nats",
            "fingerprint": fingerprint,
        }
        body: JsonObject = {
            "version": "4",
            "groupKey": '{}:{alertname="' + name + '"}',
            "truncatedAlerts": truncated,
            "receiver": "natsmedic",
            "status": state,
            "groupLabels": {"alertname": name},
            "commonLabels": all_labels,
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.example",
            "notification_reason": "firing",
            "alerts": [alert],
        }
        async with http_client() as client:
            return await client.post(
                f"{self.url}/webhooks/alertmanager",
                json=body,
                headers={"Authorization": f"Bearer {self.secret}"},
                timeout=15,
            )

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def board(self) -> Message | None:
        """The newest incident's parent message."""
        parents = [m for m in self.slack.messages(CHANNEL) if m.thread_ts in {None, m.ts}]
        return parents[-1] if parents else None

    def button(self, action: str, *, stale: bool = False) -> Message | None:
        """The newest message that has (or, stale, had) this button."""
        for message in reversed(_all(self.slack)):
            versions = [message.blocks, *(e.blocks for e in message.history)] if stale else [message.blocks]
            if any(_has_action(block, action) for blocks in versions for block in blocks):
                return message
        return None

    async def see_button(self, action: str, within: float = 40.0) -> Message:
        """Wait for a button and return its message."""
        await self.wait(lambda: self.button(action) is not None, within, f"no {action} button appeared")
        found = self.button(action)
        if found is None:
            raise LabError(f"the {action} button vanished")
        return found

    async def decide(
        self,
        user: str,
        action: str = "approve",
        *,
        reason: str = "checked the numbers",
        typed_name: str | None = "worker",
        code: str = "",
    ) -> Outcome:
        """Press Approve or Deny as this person and fill the form in; returns Slack's answer to the form.

        Raises LabError where no form opens: the bot has refused the click (see `slack.ephemerals(user)`).
        """
        message = await self.see_button(action)
        pressed = await self.slack.person.click(user, CHANNEL, message.ts, action)
        if not pressed.ok:
            return pressed
        await self.wait(
            lambda: self.form(user), 15, f"no form opened for {user}: {[m.text for m in self.slack.ephemerals(user)]}"
        )
        values: JsonObject = {"reason": reason} | ({"code": code} if code else {})
        if typed_name is not None and action == "approve":
            values["typed_name"] = typed_name
        return await self.slack.person.submit(user, values)

    def form(self, user: str) -> bool:
        """Whether this person has a form with fields open."""
        view = self.slack.open_view(user)
        return view is not None and any(block.get("type") == "input" for block in view.body["blocks"])

    def told(self, user: str) -> str:
        """What only this person was told, newest last."""
        return "\n".join(m.text for m in self.slack.ephemerals(user))

    async def see(self, text: str, within: float = 60.0) -> str:
        """Wait until the channel, threads included, shows this text; return the whole text."""
        await self.wait(lambda: text in self.slack.render_text(CHANNEL), within, f"the thread never said {text!r}")
        return self.slack.render_text(CHANNEL)

    async def wait(self, condition: Callable[[], bool | Awaitable[bool]], within: float, failure: str) -> None:
        """Wait for a condition; LabError with the channel and the bot's log where it does not come."""
        end = asyncio.get_running_loop().time() + within
        while True:
            result = condition()
            if inspect.isawaitable(result):
                result = await result
            if result:
                return
            if asyncio.get_running_loop().time() > end:
                seen = self.slack.render_text(CHANNEL)
                raise LabError(f"{failure} within {within:g} s\n--- channel\n{seen}\n--- log\n{self.log[-6000:]}")
            await asyncio.sleep(0.1)

    async def _ready(self, http: httpx.AsyncClient) -> bool:
        process = self._process
        if process is not None and process.returncode is not None:
            raise LabError(f"the bot ended with code {process.returncode}\n{self.log[-6000:]}")
        try:
            return (await http.get(f"{self.url}/readyz")).is_success
        except httpx.TransportError:
            return False


class Twin(BotProcess):
    """A further replica of a bot, with the same settings; `directory` is its own."""

    def __init__(self, first: BotProcess, directory: Path) -> None:
        super().__init__(directory, first.servers, first.slack)
        self._first = first

    def settings(self) -> JsonObject:
        """Return the first one's config, with an address of its own."""
        written = self._first.settings()
        return written | {"webhooks": part(written, "webhooks") | {"listen": f"127.0.0.1:{self.port}"}}


class WholeBot(BotProcess):
    """The bot beside a cluster of the lab."""

    def __init__(
        self, directory: Path, cluster: LabCluster, slack: StandInSlack, overrides: JsonObject | None = None
    ) -> None:
        super().__init__(directory, cluster, slack, overrides)
        self.cluster = cluster


def lab_slack(bot_token: str = "xoxb-lab", app_token: str = "xapp-lab") -> StandInSlack:  # noqa: S107  made up
    """Return the lab's Slack: one channel, an operator, a data owner, people who may decide nothing, and an app with the scopes of its manifest alone."""
    manifest = yaml.safe_load(SLACK_MANIFEST.read_text(encoding="utf-8"))
    return StandInSlack(
        bot_token=bot_token,
        app_token=app_token,
        scopes=manifest["oauth_config"]["scopes"]["bot"],
        users=PEOPLE,
        channels=(Channel(CHANNEL, "nats-oncall", topic="natsmedic reports here"),),
        usergroups=(UserGroup(OPS, "nats-operators", "NATS operators", (ADA,)),),
    )


def login(one: Login) -> JsonObject:
    """Return how the config writes a user of the lab."""
    return {"user": one.user, "password": one.password, "inbox_prefix": one.inbox_prefix}


def _all(slack: StandInSlack) -> list[Message]:
    parents = slack.messages(CHANNEL)
    threads = [m for p in parents for m in slack.thread(CHANNEL, p.ts)]
    return sorted({m.ts: m for m in [*parents, *threads]}.values(), key=lambda m: float(m.ts))


def _has_action(block: JsonObject, action: str) -> bool:
    return any(e.get("action_id") == action for e in [*parts(block, "elements"), part(block, "accessory")])
