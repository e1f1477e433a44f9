"""A real Prometheus and a real Alertmanager beside the bot, with the rules of deploy/, and an exporter whose numbers the test writes."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest
import yaml
from aiohttp import web

from bot.lab.whole import BotProcess, free_port
from bot.model import JsonObject

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
PROMETHEUS: Final = os.environ.get("PROMETHEUS") or shutil.which("prometheus")
ALERTMANAGER: Final = (
    os.environ.get("ALERTMANAGER") or shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
)
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or ALERTMANAGER is None,
    reason="prometheus and alertmanager are not on PATH: apt-get install prometheus prometheus-alertmanager, "
    "or set PROMETHEUS and ALERTMANAGER",
)
READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0


@dataclass
class Monitoring:
    """`exported` is what the exporter answers, in Prometheus' text."""

    url: str
    exported: str = ""

    async def value(self, query: str) -> float | None:
        """Return the one value of an instant query, None where there is none."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=5)
        found: list[JsonObject] = answer.json()["data"]["result"]
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None

    async def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.url}/api/v1/alerts", timeout=5)
        alerts: list[JsonObject] = answer.json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


@asynccontextmanager
async def monitoring(folder: Path, bot: BotProcess, metrics_port: int) -> AsyncGenerator[Monitoring]:
    """Scrape the exporter and the bot every second, and send what fires to the bot; nothing waits for its `for`."""
    prometheus, alertmanager, exporter = free_port(), free_port(), free_port()
    running = Monitoring(f"http://127.0.0.1:{prometheus}")
    rules = [_impatient(folder, name) for name in ("nats", "natsmedic")]
    scraped = {"nats-exporter": exporter, "natsmedic": metrics_port}
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(rule) for rule in rules],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
                "scrape_configs": [
                    {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                    for job, port in scraped.items()
                ],
            }
        )
    )
    async with (
        _exporter(running, exporter),
        running_alertmanager(folder, alertmanager, routes(bot, bot.url)),
        _process(
            folder / "prometheus.log",
            running.url,
            str(PROMETHEUS),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{prometheus}",
        ),
    ):
        yield running


@asynccontextmanager
async def running_alertmanager(folder: Path, port: int, config: JsonObject) -> AsyncGenerator[str]:
    """A real Alertmanager, alone; gives its address."""
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{port}"
    command = (
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    async with _process(folder / "alertmanager.log", url, str(ALERTMANAGER), *command):
        yield url


def _impatient(folder: Path, name: str) -> Path:
    """Return the file of the same rules without the minutes for which each must hold."""
    loaded: JsonObject = yaml.safe_load((DEPLOY / "alerts" / f"{name}.rules.yaml").read_text())
    for group in loaded["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    made = folder / f"{name}.rules.yaml"
    made.write_text(yaml.safe_dump(loaded))
    return made


ALONE: Final = "..."
"""To Alertmanager: every label, so that each alert is a group of its own."""


def routes(
    bot: BotProcess,
    url: str,
    wait: str = "0s",
    interval: str = "1s",
    group_by: Sequence[str] = ("alertname", "cluster"),
) -> JsonObject:
    """What fires goes to the bot at this address, and what is wrong with the bot to somebody else."""
    return {
        "route": {
            "receiver": "natsmedic",
            "group_by": list(group_by),
            "group_wait": wait,
            "group_interval": interval,
            "repeat_interval": "1h",
            "routes": [{"receiver": "people", "matchers": ['alertname=~"Natsmedic.*"']}],
        },
        "receivers": [
            {"name": "people"},
            {
                "name": "natsmedic",
                "webhook_configs": [
                    {
                        "url": f"{url}/webhooks/alertmanager",
                        "http_config": {"authorization": {"type": "Bearer", "credentials": bot.secret}},
                    }
                ],
            },
        ],
    }


@asynccontextmanager
async def _exporter(running: Monitoring, port: int) -> AsyncGenerator[None]:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=running.exported)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _process(log: Path, url: str, *command: str) -> AsyncGenerator[None]:
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(*command, stdout=written, stderr=written)
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await _ready(url, log, process):
                await asyncio.sleep(0.1)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), STOP_SECONDS)


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


async def _ready(url: str, log: Path, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None, _text(log)
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{url}/-/ready", timeout=2)).is_success
    except httpx.TransportError:
        return False
