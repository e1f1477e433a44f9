"""The command line over a real database: what it prints, how it ends, and that text from outside is inert."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.cli import app
from bot.model import AuditDraft, Incident, IncidentId, IncidentState

NASTY = "lag \x1b]0;owned\x07\x9b31m [red]markup[/red] \u202egnp.exe <!channel>"
INERT = r"lag \x1b]0;owned\x07\x9b31m [red]markup[/red] \u202egnp.exe <!channel>"
MOMENT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


async def _fill(folder: Path) -> None:
    async with SqlStore.open(f"sqlite:///{folder}/natsmedic.db", SystemClock()) as store, store.begin() as tx:
        await tx.put(
            Incident(
                id=IncidentId("inc_1"),
                cluster="prod",
                source="alertmanager",
                fingerprint="f1",
                starts_at=MOMENT,
                opened_at=MOMENT,
                updated_at=MOMENT,
                state=IncidentState.OPEN,
                title=NASTY,
                channel="C0PROD",
                labels={"stream": NASTY},
                annotations={},
            )
        )
        for number in range(1, 4):
            incident = "inc_1" if number == 2 else None
            await tx.audit(AuditDraft(kind="test.row", actor="bot", incident_id=incident, sentence=f"{number} {NASTY}"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "natsmedic.yaml"
    cluster = {"name": "prod", "channel": "C0PROD", "nats": {"servers": ["nats://127.0.0.1:4222"]}}
    file.write_text(yaml.safe_dump({"clusters": [cluster]}), encoding="utf-8")
    asyncio.run(_fill(tmp_path))
    return file


def natsmedic(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def alter(config: Path, statement: str) -> None:
    with sqlite3.connect(config.parent / "natsmedic.db") as database:
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            database.execute(f"DROP TRIGGER {name}")
        assert database.execute(statement).rowcount == 1
    database.close()


def test_an_intact_chain_verifies_with_its_rows_and_head(config: Path) -> None:
    result = natsmedic("--config", config, "audit", "verify", "--format", "json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["rows"], report["first_bad_seq"]) == (0, 3, None)
    head = f"{report['rows']}:{report['head_hash']}"
    assert natsmedic("--config", config, "audit", "verify", "--checkpoint", head).exit_code == 0


def test_an_altered_row_is_named_and_ends_with_1(config: Path) -> None:
    alter(config, "UPDATE audit SET sentence = 'nothing happened' WHERE seq = 2")
    result = natsmedic("--config", config, "audit", "verify")
    assert result.exit_code == 1
    assert "rows: 1\n" in result.stdout
    assert "first bad row: 2\n" in result.stdout


def test_a_cut_off_tail_shows_against_a_checkpoint(config: Path) -> None:
    report = json.loads(natsmedic("--config", config, "audit", "verify", "--format", "json").stdout)
    alter(config, "DELETE FROM audit WHERE seq = 3")
    result = natsmedic("--config", config, "audit", "verify", "--checkpoint", f"3:{report['head_hash']}")
    assert (result.exit_code, "cut off" in result.stdout) == (1, True)


def test_an_export_verifies_offline_and_an_edited_one_does_not(config: Path, tmp_path: Path) -> None:
    export = tmp_path / "audit.jsonl"
    assert natsmedic("--config", config, "audit", "export", "-o", export).exit_code == 0
    assert natsmedic("audit", "verify", "--file", export).exit_code == 0
    export.write_text(export.read_text(encoding="utf-8").replace("test.row", "test.rows", 1), encoding="utf-8")
    result = natsmedic("audit", "verify", "--file", export)
    assert (result.exit_code, "first bad row: 1" in result.stdout) == (1, True)


def test_the_log_is_filtered_by_incident_and_time(config: Path) -> None:
    def seqs(*options: str) -> list[int]:
        shown = natsmedic("--config", config, "audit", "list", "--format", "json", *options)
        return [row["seq"] for row in json.loads(shown.stdout)]

    assert seqs() == [1, 2, 3]
    assert seqs("--incident", "inc_1") == [2]
    assert seqs("--since", "1h") == [1, 2, 3]
    assert seqs("--since", "2999-01-01T00:00:00Z") == []
    assert seqs("--limit", "1") == [3]


@pytest.mark.parametrize(
    "command", [["audit", "list"], ["audit", "export"], ["incidents", "list"], ["incidents", "show", "inc_1"]]
)
def test_text_from_outside_is_inert_in_the_terminal(config: Path, command: list[str]) -> None:
    result = natsmedic("--config", config, *command)
    assert result.exit_code == 0
    assert not set(result.stdout) & set("\x1b\x07\x9b\u202e")
    assert "markup[/red]" in result.stdout
    assert "<!channel>" in result.stdout
    if command[-1] != "export":
        assert INERT in result.stdout


def test_an_incident_has_json_and_an_unknown_one_says_where_to_look(config: Path) -> None:
    shown = json.loads(natsmedic("--config", config, "incidents", "show", "inc_1", "--format", "json").stdout)
    assert shown["incident"]["title"] == NASTY
    result = natsmedic("--config", config, "incidents", "show", "inc_2")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "natsmedic: There is no incident inc_2. `natsmedic incidents list` shows what there is.\n"


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_the_report_of_an_incident_tells_its_row_and_that_the_chain_verifies(
    config: Path, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "report"
    command = ("--config", config, "incidents", "report", "inc_1", "--format", form)
    printed, written = natsmedic(*command), natsmedic(*command, "-o", file)
    text = file.read_text(encoding="utf-8")
    assert (printed.exit_code, written.exit_code, written.stdout) == (0, 0, "")
    assert "All 3 rows verify." in printed.stdout
    assert "All 3 rows verify." in text
    assert "2 lag" in text
    assert "1 lag" not in text
    assert "3 lag" not in text
    for shown in (text, printed.stdout):
        assert not set(shown) & set("\x1b\x07\x9b\u202e")
        assert "<!channel>" not in shown.replace("\\<", "")


def test_the_report_names_the_row_that_was_altered(config: Path) -> None:
    alter(config, "UPDATE audit SET sentence = 'nothing happened' WHERE seq = 2")
    result = natsmedic("--config", config, "incidents", "report", "inc_1")
    assert result.exit_code == 0
    assert "🔴 Row 2 was altered" in result.stdout
    assert "from 2 on say here is not vouched for" in result.stdout


def test_a_report_of_no_incident_or_into_no_folder_is_an_error(config: Path, tmp_path: Path) -> None:
    unknown = natsmedic("--config", config, "incidents", "report", "inc_2")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "There is no incident inc_2." in unknown.stderr
    nowhere = natsmedic("--config", config, "incidents", "report", "inc_1", "-o", tmp_path / "none" / "report")
    assert nowhere.exit_code == 2
    assert "cannot be written: No such file or directory." in nowhere.stderr


def test_proposals_are_none_and_an_unknown_one_is_an_error(config: Path) -> None:
    assert natsmedic("--config", config, "proposals", "list").stdout == "Proposals: none.\n"
    assert natsmedic("--config", config, "proposals", "show", "prop_x").exit_code == 2


def test_the_config_is_named_before_or_behind_the_command_or_by_the_environment(config: Path, tmp_path: Path) -> None:
    wrong = {"NATSMEDIC_CONFIG": str(tmp_path / "other.yaml")}
    assert natsmedic("--config", config, "audit", "verify", env=wrong).exit_code == 0
    assert natsmedic("audit", "verify", "--config", config, env=wrong).exit_code == 0
    assert natsmedic("audit", "verify", env={"NATSMEDIC_CONFIG": str(config)}).exit_code == 0
    assert natsmedic("audit", "verify", env=wrong).exit_code == 2


def test_an_error_is_one_sentence_and_debug_shows_where_it_comes_from(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    plain = natsmedic("--config", missing, "audit", "list")
    assert (plain.exit_code, plain.stderr.count("\n"), "Traceback" in plain.stderr) == (2, 1, False)
    debug = natsmedic("--debug", "--config", missing, "audit", "list")
    assert (debug.exit_code, "Traceback" in debug.stderr) == (2, True)


@pytest.mark.parametrize("since", ["yesterday", "5", "-1h", "999999d", "9999999d"])
def test_a_time_that_is_none_is_refused(config: Path, since: str) -> None:
    result = natsmedic("--config", config, "audit", "list", f"--since={since}")
    assert result.exit_code == 2
    assert "is no time" in result.stderr


@pytest.mark.parametrize("kind", ["approvals", "approval.", "click.accepted", "%"])
def test_a_kind_that_no_row_can_have_is_refused(config: Path, kind: str) -> None:
    result = natsmedic("--config", config, "audit", "list", "--kind", kind)
    assert result.exit_code == 2
    assert "There is no kind" in result.stderr
    for known in ("approval", "approval.recorded"):
        assert natsmedic("--config", config, "audit", "list", "--kind", known).exit_code == 0


def test_config_check_says_what_is_wrong_and_what_is_right(config: Path) -> None:
    assert natsmedic("config", "check", config).exit_code == 0
    config.write_text(config.read_text(encoding="utf-8") + "thresholds: {NO_SUCH_RUNBOOK: {x: 1}}\n", encoding="utf-8")
    result = natsmedic("config", "check", config)
    assert (result.exit_code, "NO_SUCH_RUNBOOK" in result.stderr) == (2, True)
    config.write_text("mode: aprove\n", encoding="utf-8")
    result = natsmedic("config", "check", config)
    assert (result.exit_code, "has 2 mistakes" in result.stderr) == (2, True)


def test_the_schema_is_json_and_every_runbook_is_listed() -> None:
    assert json.loads(natsmedic("config", "schema").stdout)["title"] == "natsmedic.yaml"
    listed = json.loads(natsmedic("runbooks", "--format", "json").stdout)
    assert listed
    table = natsmedic("runbooks").stdout
    assert all(runbook["code"] in table for runbook in listed)


def test_python_dash_m_bot_is_the_same_command_and_loads_no_more_than_the_command_needs() -> None:
    probe = (
        "import sys; sys.argv = ['natsmedic', 'version']\n"
        "from bot.cli import main\n"
        "try: main()\nexcept SystemExit: print(sorted({'dbos', 'kubernetes', 'nats', 'slack_bolt', 'sqlalchemy'} & set(sys.modules)))\n"
        "import bot.bootstrap.storing\n"
        "print(sorted({'dbos', 'kubernetes', 'slack_bolt', 'slack_sdk'} & set(sys.modules)), 'sqlalchemy' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.startswith("natsmedic")
    assert ran.stdout.endswith("[]\n[] True\n")
    assert subprocess.run([sys.executable, "-m", "bot", "version"], check=False, env=environment).returncode == 0
