"""Secrets planted in every place that takes one are found nowhere that people or other programs read."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import zipfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pyotp
import pytest
from aiohttp import web
from pyotp.totp import TOTP
from typer.testing import CliRunner

from bot.cli import app as command_line
from bot.lab.http import http_client
from bot.lab.jetstream import section
from bot.lab.slack import StandInSlack
from bot.lab.stuck_consumer import break_consumer
from bot.lab.whole import ADA, BO, CHANNEL, VERIFIED_BOARD, WholeBot, free_port, lab_slack
from bot.model import Json, JsonObject
from tests.e2e.conftest import Whole

LABELS: Final = {"account": "APP", "stream": "ORDERS", "consumer": "worker"}
PLACES: Final = (
    *("bot_token", "app_token", "signing_secret", "bearer", "former_bearer", "basic", "grafana", "pagerduty"),
    *("former_pagerduty", "system", "reader", "writer", "stranger", "metrics", "factor_ada", "factor_bo", "collector"),
)
UNWRITTEN: Final = {"stranger", "collector"}
"""Those that are not in the settings: a stranger's, and what OpenTelemetry takes from the environment alone."""
COMMANDS: Final = (
    ("audit", "export"),
    ("audit", "export", "--format", "csv"),
    ("audit", "list"),
    ("audit", "status"),
    ("doctor",),
    ("doctor", "--format", "json"),
    ("incidents", "list", "--format", "json"),
    ("proposals", "list", "--format", "json"),
    ("policy", "show", "--format", "json"),
    ("diagnose", "--cluster", "away"),
)


class Planted(dict[str, str]):
    """A secret for each place, of no other meaning, and of no two alike."""

    def __init__(self) -> None:
        super().__init__((place, f"canary{secrets.token_hex(16)}") for place in PLACES)
        self |= {"bot_token": f"xoxb-{self['bot_token']}", "app_token": f"xapp-{self['app_token']}"}
        self |= {
            place: pyotp.random_base32() for place in ("factor_ada", "factor_bo")
        }  # authenticators know base32 only

    def found_in(self, *shown: str | bytes) -> set[str]:
        """The places whose secret stands in any of these, in the clear."""
        whole = b"\0".join(part.encode("utf-8", "replace") if isinstance(part, str) else part for part in shown)
        return {
            place
            for place, secret in self.items()
            if secret.removeprefix("xoxb-").removeprefix("xapp-").encode() in whole
        }

    def overrides(self, bot: WholeBot, collector: str) -> dict[str, Json]:
        """The config's sections with every secret in its place."""
        whole = bot.settings()
        away = {
            "name": "away",
            "channel": CHANNEL,
            "nats": {
                "servers": [f"nats://127.0.0.1:{free_port()}"],
                "system": {"user": "sys", "password": self["system"]},
                "accounts": {
                    "APP": {
                        "reader": {"user": "reader", "password": self["reader"]},
                        "writer": {"user": "writer", "password": self["writer"]},
                    }
                },
                "timeout_seconds": 1,
            },
        }
        sources = {
            "alertmanager": {"bearer": self["bearer"], "previous": self["former_bearer"]},
            "second": {"username": "second", "password": self["basic"]},
            "grafana": {"kind": "grafana", "hmac_secret": self["grafana"], "timestamp_header": "X-Grafana-Time"},
            "pagerduty": {
                "kind": "pagerduty",
                "hmac_secret": self["pagerduty"],
                "previous": self["former_pagerduty"],
            },
        }
        factors = {"ada": self["factor_ada"], "bo": self["factor_bo"]}
        return {
            "policy": whole["policy"] | {"second_factor": {"secrets": factors}},
            "clusters": [*whole["clusters"], away],
            "slack": {**whole["slack"], "signing_secret": self["signing_secret"], "transport": "socket"},
            "webhooks": {**whole["webhooks"], "sources": sources},
            "metrics": {"listen": f"127.0.0.1:{free_port()}", "bearer": self["metrics"]},
            "traces": {"endpoint": collector},
        }


@dataclass
class Collector:
    """Takes OpenTelemetry spans, as one does over HTTP."""

    url: str = ""
    headers: list[str | bytes] = field(default_factory=list[str | bytes])
    bodies: list[str | bytes] = field(default_factory=list[str | bytes])

    async def take(self, request: web.BaseRequest) -> web.Response:
        self.headers.append(str(request.headers))
        self.bodies.append(await request.read())
        return web.Response()


@asynccontextmanager
async def collecting() -> AsyncGenerator[Collector]:
    found = Collector()
    runner = web.ServerRunner(web.Server(found.take))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found
    finally:
        await runner.cleanup()


def unpacked(content: bytes) -> Iterator[bytes]:
    """The bytes of a file, and of each file in it where it is an archive."""
    yield content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield archive.read(name)


async def strangers(bot: WholeBot, planted: Planted) -> None:
    """Requests that carry a secret and are refused."""
    async with http_client() as client:
        for source in ("alertmanager", "second", "grafana", "pagerduty"):
            headers = {
                "Authorization": f"Bearer {planted['stranger']}",
                "X-Grafana-Alerting-Signature": planted["stranger"],
            }
            answer = await client.post(f"{bot.url}/webhooks/{source}", headers=headers, content=b"{}")
            assert answer.status_code == 401
            assert planted.found_in(answer.text, str(answer.headers)) == set()


def shown_in_slack(slack: StandInSlack) -> list[str | bytes]:
    calls: list[JsonObject] = [call.args for call in slack.calls()]
    files = [part for file in slack.workspace.files.values() for part in unpacked(file.content or b"")]
    return [repr(calls), slack.render_text(CHANNEL), *files]


def database_of(bot: WholeBot) -> list[str | bytes]:
    """The database's files; snapshots are packed in them, and are looked at as Slack's files."""
    return [file.read_bytes() for file in bot.directory.glob("natsmedic.db*")]


async def told(bot: WholeBot, *words: str) -> str:
    """What a command prints, run in this process: there are many, and each would take seconds to load."""
    result = await asyncio.to_thread(CliRunner().invoke, command_line, ["--config", str(bot.config), *words])
    assert "Usage:" not in result.output
    assert result.output.strip()
    return result.output


async def printed_by(bot: WholeBot) -> list[str]:
    """What the commands print that people run, about the one incident as well."""
    (offered, *_) = json.loads(await told(bot, "proposals", "list", "--format", "json"))
    about = (
        ("config", "check", str(bot.config)),
        ("incidents", "show", offered["incident_id"]),
        ("incidents", "report", offered["incident_id"]),
        ("proposals", "show", offered["id"]),
    )
    return [await told(bot, *words) for words in (*COMMANDS, *about)]


@pytest.mark.timeout(240)
async def test_no_planted_secret_is_seen_in_logs_messages_files_exports_spans_readiness_or_errors(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted()
    assert len(set(planted.values())) >= 12
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer {planted['collector']}")
    slack = lab_slack(planted["bot_token"], planted["app_token"])
    async with collecting() as spans, whole(slack=slack) as bot:
        bot.secret = planted["bearer"]
        bot.override(**planted.overrides(bot, spans.url))
        await break_consumer(bot.cluster)
        await bot.start()
        assert planted.found_in(bot.config.read_bytes()) == set(PLACES) - UNWRITTEN, "each is really in use"
        await strangers(bot, planted)
        assert (await bot.alert(labels=LABELS)).status_code == 202
        await bot.see_button("approve")
        await bot.alert(labels={"cluster": "away"}, fingerprint="a" * 16)
        assert set((await bot.decide(ADA, code="000000")).errors) == {"code"}
        assert (await bot.decide(ADA, code=TOTP(planted["factor_ada"]).now())).ok
        await bot.see("1 of 2")
        assert (await bot.decide(BO, code=TOTP(planted["factor_bo"]).now())).ok
        await bot.see(VERIFIED_BOARD, 120)
        async with http_client() as client:
            ready = await client.get(f"{bot.url}/readyz")
            address = f"http://{section(bot.settings(), 'metrics')['listen']}/metrics"
            turned_away = await client.get(address, headers={"Authorization": f"Bearer {planted['stranger']}"})
            metrics = await client.get(address, headers={"Authorization": f"Bearer {planted['metrics']}"})
        assert (turned_away.status_code, metrics.status_code) == (401, 200)
        printed = await printed_by(bot)
        await bot.stop()
        assert planted.found_in(*spans.headers) == {"collector"}, "the spans have come to where the secret is for"
        bot.config.write_text(bot.config.read_text().replace("sqlite:///natsmedic.db", "sqlite:////nonexistent/x.db"))
        code, died = await bot.command("--debug", "serve")
        assert (code != 0, "Traceback" in died) == (True, True)
        stored = database_of(bot)
        files = [file.content or b"" for file in bot.slack.workspace.files.values()]
        assert any(zipfile.is_zipfile(io.BytesIO(content)) for content in files), "the evidence was attached"
        assert any("away" in text for text in printed), "the cluster that takes no password of these was asked"
        places = {
            "log": [bot.log],
            "slack": shown_in_slack(bot.slack),
            "readyz": [ready.text],
            "metrics": [metrics.text, turned_away.text, str(turned_away.headers)],
            "commands": printed,
            "crash": [died],
            "spans": spans.bodies,
            "database": stored,
        }
        assert all(any(shown) for shown in places.values())
        assert {name: planted.found_in(*shown) for name, shown in places.items()} == {name: set() for name in places}
