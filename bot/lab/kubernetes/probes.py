"""Probes as the kubelet makes them: real requests, with its thresholds and its words (pkg/kubelet/prober, pkg/probe)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp

from bot.lab.kubernetes.objects import Raw, parts

_GOOD: Final = range(200, 400)


class ProbeKind(StrEnum):
    STARTUP = "Startup"
    READINESS = "Readiness"
    LIVENESS = "Liveness"

    @property
    def field(self) -> str:
        return f"{self.value.lower()}Probe"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one probe said; `why` in the kubelet's words where it failed."""

    good: bool
    why: str = ""


Verdict = Callable[[bool], Awaitable[bool]]
"""Hears when enough probes in a row have said the same; its answer tells whether probing goes on."""


class Prober:
    """Asks one container the way its probe says."""

    def __init__(self, probe: Raw, container: Raw, address: str) -> None:
        self._probe = probe
        self._address = address
        self._ports = {port.get("name"): port["containerPort"] for port in parts(container, "ports")}

    async def watch(self, failed: Callable[[str], None], verdict: Verdict) -> None:
        """Probes until `verdict` has enough. `failed` hears every failure."""
        await asyncio.sleep(self._probe.get("initialDelaySeconds", 0))
        thresholds = {True: self._probe["successThreshold"], False: self._probe["failureThreshold"]}
        same, last = 0, None
        while True:
            began = asyncio.get_running_loop().time()
            outcome = await self.ask()
            same = same + 1 if outcome.good is last else 1
            last = outcome.good
            if not outcome.good:
                failed(outcome.why)
            if same >= thresholds[outcome.good] and not await verdict(outcome.good):
                return
            spent = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(self._probe["periodSeconds"] - spent, 0))

    async def ask(self) -> Outcome:
        if http := self._probe.get("httpGet"):
            return await self._get(http)
        if tcp := self._probe.get("tcpSocket"):
            return await self._connect(str(tcp.get("host") or self._address), self._port(tcp["port"]))
        return Outcome(good=False, why="the stand-in runs no commands in containers")

    async def _get(self, http: Raw) -> Outcome:
        host, port = http.get("host") or self._address, self._port(http["port"])
        url = f"{http['scheme'].lower()}://{host}:{port}{http['path']}"
        headers = {h["name"]: h["value"] for h in parts(http, "httpHeaders")}
        timeout = aiohttp.ClientTimeout(total=self._probe["timeoutSeconds"])
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.get(url, headers={"User-Agent": "kube-probe/1.21", **headers}, ssl=False) as answer,
            ):
                await answer.read()
                if answer.status in _GOOD:
                    return Outcome(good=True)
                return Outcome(good=False, why=f"HTTP probe failed with statuscode: {answer.status}")
        except TimeoutError:
            words = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return Outcome(good=False, why=f'Get "{url}": {words}')
        except aiohttp.ClientConnectorError:
            words = f"dial tcp {host}:{port}: connect: connection refused"
            return Outcome(good=False, why=f'Get "{url}": {words}')
        except aiohttp.ClientError:
            return Outcome(good=False, why=f'Get "{url}": EOF')

    async def _connect(self, host: str, port: int) -> Outcome:
        try:
            async with asyncio.timeout(self._probe["timeoutSeconds"]):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return Outcome(good=False, why=f"dial tcp {host}:{port}: i/o timeout")
        except OSError:
            return Outcome(good=False, why=f"dial tcp {host}:{port}: connect: connection refused")
        writer.close()
        return Outcome(good=True)

    def _port(self, port: int | str) -> int:
        """A port by number or by its name in the container. Raises `KeyError` for a name that it does not have."""
        return port if isinstance(port, int) else int(self._ports[port])
