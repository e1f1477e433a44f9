"""A PostgreSQL server of the tests' own, on a free port of loopback.

Debian's `postgresql` package brings the programs. Where they are missing the tests that need them are skipped, or fail if `NATSMEDIC_REQUIRE_POSTGRES` is 1, as in CI.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

REQUIRE = "NATSMEDIC_REQUIRE_POSTGRES"
DEBIAN = Path("/usr/lib/postgresql")
"""Debian keeps initdb and pg_ctl below it, by major version, and off the PATH."""
OWNER = "nobody"
"""initdb refuses root, so it runs as this one then."""
USER = "natsmedic"
START_SECONDS = 60


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `url` is the address of its maintenance database."""

    programs: Path
    data: Path
    port: int

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self, name: str) -> Generator[str]:
        """An empty database of this name for the length of the block, as its URL."""
        self.create(name)
        try:
            yield self.url_of(name)
        finally:
            self.drop(name)

    def create(self, name: str, template: str = "template0") -> None:
        """Create a database. It sorts as English does, which looks past punctuation."""
        made = "CREATE DATABASE {} TEMPLATE {} LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
        self._do(sql.SQL(made).format(sql.Identifier(name), sql.Identifier(template)))

    def drop(self, name: str) -> None:
        """Remove a database and end its sessions."""
        self._do(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def restart(self) -> None:
        """End all sessions at once, as a crash does, and start again."""
        self.control("stop", "-m", "immediate")
        self.start()

    def start(self, *, fsync: bool = False) -> None:
        options = f"-p {self.port} -k {self.data} -c listen_addresses=127.0.0.1 -c fsync={'on' if fsync else 'off'}"
        self.control("start", "-l", str(self.data / "log"), "-o", options, "-t", str(START_SECONDS))

    def control(self, *arguments: str) -> None:
        as_owner(self.programs / "pg_ctl", "-w", "-D", str(self.data), *arguments)

    def _do(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


def programs() -> Path | None:
    """Return the folder of initdb and pg_ctl, of the newest version there is."""
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda found: int(found.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


def needed_programs() -> Path:
    """Return `programs`; skip the test where there are none, or fail it where they are required."""
    found = programs()
    if found is not None:
        return found
    reason = "PostgreSQL is not installed (Debian: apt install postgresql)"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason}, and {REQUIRE} is 1")
    pytest.skip(reason)


@contextmanager
def running_postgres(*, fsync: bool = False) -> Generator[PostgresServer]:
    """A server for the length of the block; `fsync` where a test cuts its power."""
    found = needed_programs()
    with tempfile.TemporaryDirectory(prefix="natsmedic-pg-") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, OWNER)
        server = PostgresServer(found, Path(folder) / "data", _free_port())
        as_owner(
            *(found / "initdb", "-D", str(server.data), "-U", USER, "-A", "trust", "--no-sync"),
            *("-E", "UTF8", "--locale=C.UTF-8"),
        )
        server.start(fsync=fsync)
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")


def as_owner(program: Path, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, which refuse to run as root. Raises RuntimeError with what it said."""
    owner = pwd.getpwnam(OWNER) if os.geteuid() == 0 else None
    with tempfile.TemporaryFile("w+") as said:  # a pipe would stay open in the server that pg_ctl leaves behind
        done = subprocess.run(
            [str(program), *arguments],
            stdout=said,
            stderr=said,
            cwd="/",
            timeout=START_SECONDS,
            check=False,
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=[] if owner else None,
        )
        if done.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{program.name} failed: {said.read()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
