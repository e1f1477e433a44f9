"""A pod's file system: nats-server sees the paths that its container would see, and host names of its own.

A private mount namespace with a changed root does it, which root may make, and anybody where the kernel allows unprivileged user namespaces. The network is
the machine's: every pod has a loopback address of its own.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Final

from bot.lab.process import LabError

_ENTER: Final = """
root=$1; shift
mount --rbind /proc "$root/proc" || exit 125
while [ "$1" != -- ]; do mount --bind "$1" "$root$2" || exit 125; shift 2; done
shift
exec chroot "$root" "$@"
"""
"""Shell that puts the mounts in their places and becomes the server; the process keeps its id."""

CANNOT_ENTER: Final = 125
"""Exit code where the mounts could not be made."""

PROGRAM: Final = "/bin/nats-server"
SEARCH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

LOWEST_BLOCK: Final = 16
HIGHEST_BLOCK: Final = 250
"""Second and third byte of the addresses of one stand-in: away from 127.0.0.1 and what else people use."""
FIRST_POD: Final = 10
LAST_POD: Final = 250
"""Last byte of a pod's address."""
CLIENT_PORT: Final = 4222


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of the machine, and the path that the server sees it at."""

    source: Path
    target: str


class Addresses:
    """A block of loopback addresses that belongs to one stand-in from `open` to `close`."""

    def __init__(self) -> None:
        self.prefix = ""
        """`127.16.3`."""
        self._claim: socket.socket | None = None
        self._next = FIRST_POD
        self._used: set[str] = set()

    def open(self) -> None:
        """Raises `LabError` where no block is free."""
        self.prefix, self._claim = self._take()

    def give(self) -> str:
        """An address that no pod has. Raises `LabError` where all are taken."""
        for _ in range(FIRST_POD, LAST_POD):
            address = f"{self.prefix}.{self._next}"
            self._next = self._next + 1 if self._next < LAST_POD - 1 else FIRST_POD
            if address not in self._used:
                self._used.add(address)
                return address
        raise LabError(f"all addresses of {self.prefix}.0/24 are taken")

    def take_back(self, address: str) -> None:
        self._used.discard(address)

    def close(self) -> None:
        """Gives the block back."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    @staticmethod
    def _take() -> tuple[str, socket.socket]:
        random = SystemRandom()
        for _ in range(100):
            prefix = f"127.{random.randint(LOWEST_BLOCK, HIGHEST_BLOCK)}.{random.randint(0, HIGHEST_BLOCK)}"
            claim = socket.socket()
            try:
                claim.bind(
                    (f"{prefix}.1", CLIENT_PORT)
                )  # bound and never listening: a claim that ends with the process
            except OSError:
                claim.close()
                continue
            return prefix, claim
        raise LabError(
            f"no loopback address has port {CLIENT_PORT} free: a server listens on every address, or this is no Linux"
        )


def prepare_root(root: Path, targets: Sequence[Mount]) -> None:
    """Makes the folders and empty files that mounts are put on."""
    for folder in ("proc", "bin", "etc", "tmp"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/nsswitch.conf").write_text("hosts: files\n")
    for mount in targets:
        place = root / mount.target.lstrip("/")
        if mount.source.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()


async def enter(
    root: Path,
    binary: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    mounts: Sequence[Mount],
    log: Path,
) -> asyncio.subprocess.Process:
    """Starts nats-server inside `root`. A machine that forbids the namespaces ends it with `CANNOT_ENTER`, and the log says why."""
    every = [*mounts, Mount(binary, PROGRAM)]
    await asyncio.to_thread(prepare_root, root, every)
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    places = [part for mount in every for part in (str(mount.source), mount.target)]
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *("unshare", "--mount", *user, "sh", "-c", _ENTER, "sh", str(root), *places, "--", PROGRAM, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": SEARCH, **environment},
            start_new_session=True,
        )


def send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Sends a signal to a process that may have just ended. `Process.send_signal` polls first, and thereby takes the exit code away from asyncio, which
    then reports 255 (Python 3.11, ThreadedChildWatcher).
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def reap(process: asyncio.subprocess.Process, watch: asyncio.subprocess.Process) -> int:
    """Waits for a server's end and returns its exit code as a container has it: 128 and the signal."""
    code = await process.wait()
    send(watch, signal.SIGKILL)
    await watch.wait()
    return 128 - code if code < 0 else code
