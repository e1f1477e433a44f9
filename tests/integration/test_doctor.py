"""The doctor's checks against real servers with deploy's permission file, the stand-in Slack, a real database and a real port."""

import asyncio
import json
import socket
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bot.adapters.checkpoints import FileSink
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.webhooks import serving, webhook_app
from bot.bootstrap.checking import audit_checks, checks_of
from bot.cli.root import app as command_line
from bot.flow.doctor import examine
from bot.lab.slack import TEAM_ID, StandInSlack
from bot.lab.whole import ADA, BO, CHANNEL, GUS, OPS, free_port, lab_slack
from bot.model import AuditDraft, Checkpoint, JsonObject
from bot.model.checkup import CheckupLine, Health
from bot.settings import ClusterSettings, Mode, Settings, Transport
from bot.settings.root import DatabaseSettings
from tests.integration.nats_support import reading
from tests.integration.slack_adapter_support import house
from tests.integration.test_entry_points import Nobody
from tests.integration.test_nats_permissions import PASSWORDS, PERMISSIONS, logins, servers, until_both_answer

pytestmark = pytest.mark.timeout(60)

NOWHERE = {"name": "lab", "channel": CHANNEL, "nats": {"servers": ["nats://127.0.0.1:9"]}}


def settings_of(tmp_path: Path, **sections: object) -> Settings:
    raw: JsonObject = {
        "clusters": [NOWHERE],
        "database": {"url": f"sqlite:///{tmp_path}/natsmedic.db"},
        "webhooks": {"listen": f"127.0.0.1:{free_port()}", "sources": {"alertmanager": {"bearer": "tok-alerts"}}},
    }
    return Settings.model_validate(raw | sections)


async def examined(settings: Settings, only: str | None = None) -> list[CheckupLine]:
    return await examine(checks_of(settings, SystemClock(), only))


def of(lines: Sequence[CheckupLine], subject: str) -> CheckupLine:
    return next(line for line in lines if line.subject == subject)


async def seen_with(tmp_path: Path, permissions: str) -> list[CheckupLine]:
    config = tmp_path / "nats.conf"
    config.write_text(permissions, encoding="utf-8")
    async with servers(config, jetstream=True) as urls, asyncio.timeout(40):
        cluster: ClusterSettings = logins(urls)
        async with reading(cluster) as readers:
            await until_both_answer(readers)
            settings = settings_of(tmp_path, mode="observe").model_copy(update={"clusters": (cluster,)})
            lines = await examined(settings, "lab")
    return lines


async def test_with_the_shipped_permissions_every_right_is_as_it_must_be(tmp_path: Path) -> None:
    lines = await seen_with(tmp_path, PERMISSIONS.read_text(encoding="utf-8"))
    rights = [line for line in lines if "$" in line.subject]
    assert len(rights) > 60
    assert [line for line in rights if line.health is not Health.OK] == []
    assert of(lines, "Clock against NATS of lab").health is Health.OK
    needless = [line for line in lines if line.health is Health.WARN]
    assert {line.observed for line in needless} == {"configured"}
    assert len(needless) == 2, "both writers are told to be more than mode observe needs"
    assert not any(password in str(lines).split() for password in PASSWORDS.values())


async def test_a_reader_that_may_write_and_one_that_may_not_read_fail(tmp_path: Path) -> None:
    text = PERMISSIONS.read_text(encoding="utf-8")
    wider = text.replace('"$JS.API.INFO", "$JS.API.STREAM.NAMES"', '"$JS.API.STREAM.DELETE.*"', 1)
    assert wider != text
    lines = await seen_with(tmp_path, wider)
    failed = {line.subject.rpartition(": ")[2] for line in lines if line.health is Health.FAIL}
    assert {one.rsplit(".", 1)[0] if "DELETE" in one else one for one in failed} == {
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.DELETE",
    }


async def test_slack_is_looked_at_from_token_to_people(tmp_path: Path) -> None:
    async with lab_slack() as slack:
        section = {
            "bot_token": slack.bot_token,
            "app_token": slack.app_token,
            "api_url": slack.api_url,
            "workspaces": [TEAM_ID],
        }
        policy = {"groups": {"operators": {"usergroups": [OPS, "S0GONE"], "users": [ADA, GUS, "U0NOBODY"]}}}
        elsewhere = {**NOWHERE, "name": "other", "channel": "C0NOWHERE", "match": {"cluster": "other"}}
        here = {**NOWHERE, "match": {"cluster": "lab"}}
        settings = settings_of(tmp_path, slack=section, policy=policy, clusters=[here, elsewhere])
        lines = await examined(settings)
        assert slack.messages(CHANNEL) == []
    health = {line.subject: line.health for line in lines}
    assert health["Slack bot token"] is Health.OK
    assert health["Slack app token"] is Health.OK
    assert health["Slack scopes"] is Health.OK
    assert health[f"Slack channel {CHANNEL}"] is Health.OK
    assert health["Slack channel C0NOWHERE"] is Health.FAIL
    assert health[f"Slack user group {OPS}"] is Health.OK
    assert health["Slack user group S0GONE"] is Health.FAIL
    assert health[f"Slack user {ADA}"] is Health.OK
    assert health[f"Slack user {GUS}"] is Health.FAIL
    assert health["Slack user U0NOBODY"] is Health.FAIL
    assert slack.bot_token not in str(lines)
    assert slack.app_token not in str(lines)


async def test_scopes_beyond_the_manifest_are_a_warning(tmp_path: Path) -> None:
    async with StandInSlack() as slack:
        section = {"bot_token": slack.bot_token, "app_token": slack.app_token, "api_url": slack.api_url}
        lines = await examined(settings_of(tmp_path, slack=section))
    scopes = of(lines, "Slack scopes")
    assert (scopes.health, "reactions:write" in scopes.observed) == (Health.WARN, True)


async def test_the_natsmedic_that_serves_is_asked_whether_it_takes_the_signing_secret(tmp_path: Path) -> None:
    subject = "Slack signing secret"
    async with house(tmp_path, transport=Transport.HTTP) as running:
        section = {"bot_token": running.slack.bot_token, "api_url": running.slack.api_url}
        settings = settings_of(tmp_path, slack=section | {"signing_secret": running.slack.signing_secret})
        wrong = settings_of(tmp_path, slack=section | {"signing_secret": "planted-secret"}, webhooks=settings.webhooks)
        assert of(await examined(settings), subject).health is Health.UNKNOWN, "nobody serves"
        app = webhook_app(settings.webhooks, Nobody(), slack_handler=running.adapter.http_handler)
        async with serving(app, settings.webhooks.listen):
            assert of(await examined(settings), subject).health is Health.OK
            lines = await examined(wrong)
        assert (of(lines, subject).health, "401" in of(lines, subject).observed) == (Health.FAIL, True)
        assert "planted" not in str(lines)
        assert await running.store.newest_audit_lines(limit=1) == [], "looking leaves no row"


async def test_in_mode_approve_a_cluster_without_a_writer_is_told(tmp_path: Path) -> None:
    login = {"user": "u", "password": "p"}
    account = {"reader": login, "writer": login}
    nats = {"servers": ["nats://127.0.0.1:9"], "system_writer": login, "accounts": {"APP": account}}
    able = {**NOWHERE, "name": "able", "match": {"cluster": "able"}, "nats": nats}
    settings = settings_of(tmp_path, clusters=[{**NOWHERE, "match": {"cluster": "lab"}}, able])
    assert not [name for name in checks_of(settings, SystemClock()) if "writers" in name]
    approving = settings.model_copy(update={"mode": Mode.APPROVE})
    lines = await examined(approving)
    assert of(lines, "lab: writers").health is Health.WARN
    assert of(lines, "able: writers").observed == "nats.system_writer, nats.accounts.APP.writer"


async def test_wrong_tokens_fail_and_are_not_repeated(tmp_path: Path) -> None:
    async with lab_slack() as slack:
        wrong = {"bot_token": "xoxb-planted-1", "app_token": "xapp-planted-2", "api_url": slack.api_url}
        lines = await examined(settings_of(tmp_path, slack=wrong))
    assert of(lines, "Slack bot token").health is Health.FAIL
    assert of(lines, "Slack app token").health is Health.FAIL
    assert "planted" not in str(lines)


async def test_a_slack_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    gone = {"bot_token": "xoxb-1", "app_token": "xapp-1", "api_url": f"http://127.0.0.1:{free_port()}/api/"}
    lines = await examined(settings_of(tmp_path, slack=gone))
    slack = [line for line in lines if "Slack" in line.subject]
    assert {line.health for line in slack} == {Health.UNKNOWN}


async def test_a_database_is_written_to_by_nobody_and_its_head_is_checked(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert of(await examined(settings), "Database").health is Health.WARN
    assert not (tmp_path / "natsmedic.db").exists()
    async with SqlStore.open(settings.database.url, SystemClock()) as store:
        async with store.begin() as tx:
            await tx.audit(AuditDraft(kind="bot.started", actor="bot", sentence="It starts."))
        await store.acquire_process_lock()
        lines = await examined(settings)
        assert of(lines, "Audit log").health is Health.OK
        assert "serves with it" in of(lines, "Database").observed
        assert len(await store.newest_audit_lines(limit=9)) == 1
    (tmp_path / "natsmedic.db").write_bytes(b"no database at all" * 100)
    assert of(await examined(settings), "Database").health is Health.FAIL


async def test_the_head_of_a_chain_on_postgresql_is_checked(tmp_path: Path, postgres_url: str) -> None:
    settings = settings_of(tmp_path).model_copy(update={"database": DatabaseSettings(url=postgres_url)})
    assert of(await examined(settings), "Audit log").health is Health.FAIL, "there are no tables yet"
    async with SqlStore.open(postgres_url, SystemClock()) as store, store.begin() as tx:
        await tx.audit(AuditDraft(kind="bot.started", actor="bot", sentence="It starts."))
    async with SqlStore.open(postgres_url, SystemClock()) as store:
        await store.join("one")
    lines = await examined(settings)
    assert of(lines, "Audit log").observed == "row 1 is intact"
    assert of(lines, "Database").observed == "replicas on its list: 1"


async def test_an_address_that_somebody_else_holds_fails_and_a_free_one_is_well(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert of(await examined(settings), "Listening address").health is Health.OK
    host, _, port = settings.webhooks.listen.rpartition(":")
    with socket.create_server((host, int(port))):
        assert of(await examined(settings), "Listening address").health is Health.FAIL


async def test_the_audit_status_has_the_head_and_the_age_of_the_checkpoint_in_each_file(tmp_path: Path) -> None:
    kept = tmp_path / "heads"
    settings = settings_of(tmp_path, audit={"checkpoints": [{"file": str(kept)}]})
    place = f"Checkpoint in {kept}"
    assert of(await examine(audit_checks(settings, SystemClock())), place).health is Health.WARN
    async with SqlStore.open(settings.database.url, SystemClock()) as store, store.begin() as tx:
        row = await tx.audit(AuditDraft(kind="bot.started", actor="bot", sentence="It starts."))
    taken = SystemClock().now() - timedelta(seconds=90)
    await FileSink(kept).keep(Checkpoint(seq=row.seq, hash=row.hash, at=taken))
    lines = await examine(audit_checks(settings, SystemClock()))
    assert [line.health for line in lines] == [Health.OK] * 3
    assert "row 1 is intact" in of(lines, "Audit log").observed
    assert of(lines, place).observed in {f"the newest is {age} s old" for age in range(90, 100)}


def test_the_command_says_the_worst_by_its_exit_code_and_prints_every_line(tmp_path: Path) -> None:
    file = tmp_path / "natsmedic.yaml"
    file.write_text(yaml.safe_dump({"clusters": [NOWHERE], "database": {"url": f"sqlite:///{tmp_path}/x.db"}}))
    found = CliRunner().invoke(command_line, ["--config", str(file), "doctor", "--format", "json"])
    told = json.loads(found.stdout)
    assert (found.exit_code, told["health"]) == (2, "fail"), "no alert could ever come in"
    assert {"Database", "Checkpoints", "Listening address", "Alert sources"} == {c["subject"] for c in told["checks"]}
    status = CliRunner().invoke(command_line, ["--config", str(file), "audit", "status"])
    assert (status.exit_code, "verdict: warn (2 warn)" in status.stdout) == (1, True)
    table = CliRunner().invoke(command_line, ["--config", str(file), "doctor"]).stdout
    shown = [line.split()[0] for line in table.splitlines() if line.startswith(("ok ", "warn ", "fail "))]
    assert shown == ["ok", "warn", "warn", "fail"], "what is to be mended comes last"
    assert "verdict: fail (1 fail, 2 warn, 1 ok)" in table


@pytest.mark.parametrize(
    ("stuck", "problems", "health", "said"),
    [
        (None, [], Health.OK, "is ready"),
        (None, ["no disk"], Health.FAIL, "no disk"),
        ("the loop hangs", [], Health.FAIL, "the loop hangs"),
    ],
)
async def test_a_natsmedic_that_holds_the_address_says_how_it_is(
    tmp_path: Path, stuck: str | None, problems: list[str], health: Health, said: str
) -> None:
    settings = settings_of(tmp_path)

    async def ready() -> list[str]:
        return problems

    app = webhook_app(settings.webhooks, Nobody(), ready, alive=lambda: stuck)
    async with serving(app, settings.webhooks.listen):
        found = of(await examined(settings), "Listening address")
    assert (found.health, said in found.observed) == (health, True)


def test_people_of_the_policy_are_each_asked_about_once(tmp_path: Path) -> None:
    section = {"bot_token": "xoxb-1", "app_token": "xapp-1"}
    policy = {"groups": {"ops": {"users": [ADA]}}, "persons": {"ada": [ADA], "bo": [BO]}}
    names = checks_of(settings_of(tmp_path, slack=section, policy=policy), SystemClock())
    assert [name for name in names if name.startswith("Slack user ")] == [f"Slack user {ADA}", f"Slack user {BO}"]
