"""One nats-server of the lab: its process, its folder, and how it ended."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.lab.config import ClusterBlock, Ports

_WATCH: Final = 'read -r _; kill -9 "$1"'
"""Shell that ends a server when the pipe from this process closes: also after SIGTERM or SIGKILL, which run no clean-up."""

LOG_TAIL: Final = 20
"""Lines of a dead server's log that an error shows."""


class LabError(RuntimeError):
    """The lab could not bring a server where the caller wanted it."""


class ServerDied(LabError):
    """A server ended by itself; the message holds the end of its log."""


@dataclass(slots=True)
class ServerProcess:
    """What the lab knows of one server."""

    name: str
    version: str
    directory: Path
    ports: Ports
    max_ha_assets: int
    block: ClusterBlock
    process: asyncio.subprocess.Process | None = None
    watch: asyncio.subprocess.Process | None = None
    frozen: bool = field(default=False)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def log(self) -> str:
        """Log and console output; a server that refuses its configuration writes only to the console."""
        files = (self.directory / "console.txt", self.directory / "nats.log")
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def died(self) -> ServerDied:
        code = self.process.returncode if self.process else None
        tail = "\n".join(self.log().splitlines()[-LOG_TAIL:])
        return ServerDied(f"nats-server {self.name} ({self.version}) ended with code {code}; end of its log:\n{tail}")


async def watch_over(process: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    """Starts what ends a server with this process, however that ends. The caller kills it once the server is reaped, before the process id can be
    given to another process.
    """
    return await asyncio.create_subprocess_exec(
        *("sh", "-c", _WATCH, "watch", str(process.pid)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
