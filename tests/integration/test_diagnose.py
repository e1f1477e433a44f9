"""`natsmedic diagnose` and `gather` as a person runs them, on real servers: the verdict, the exit code, and the way in."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml

import bot.cli
from bot.lab import drills
from bot.lab.config import APP, READER, SYS, SYSREADER, Login
from bot.lab.servers import LabCluster
from bot.model import Endpoint
from tests.conftest import LabFactory
from tests.integration.nats_support import settings_of

SCHEMA = json.loads((Path(bot.cli.__file__).parent / "diagnose.schema.json").read_text(encoding="utf-8"))
CHECKOUT = Path(bot.cli.__file__).parents[2]
QUICK = {"STUCK_CONSUMER": {"settle": 1.0}, "READINESS": {"settle": 1.0}}
"""Seconds between rounds: the lab settles sooner than production."""


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON answer, which is what the schema says."""
        assert self.out, f"exit {self.code} without a document: {self.err}"
        read = json.loads(self.out)
        jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(read)
        return read


async def natsmedic(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Ran:
    """The command in a process of its own, without the caller's own way in."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NATS_", "NATSMEDIC_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=kept | {"PYTHONPATH": str(CHECKOUT)} | dict(env or {}),
    )
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


def way_in(cluster: LabCluster, login: Login = SYS) -> list[str]:
    servers = ",".join(cluster.urls)
    return ["-s", servers, "--user", login.user, "--password", login.password, "--inbox-prefix", login.inbox_prefix]


@pytest.fixture
def quick(tmp_path: Path) -> list[str]:
    """Settings whose thresholds are quick; the cluster in them is not there."""
    file = tmp_path / "quick.yaml"
    nobody = {"name": "nobody", "channel": "C0LAB", "nats": {"servers": ["nats://127.0.0.1:1"]}}
    file.write_text(yaml.safe_dump({"clusters": [nobody], "thresholds": QUICK}), encoding="utf-8")
    return ["--config", str(file)]


async def furnish(cluster: LabCluster) -> None:
    client = await cluster.connect()
    try:
        await drills.create_stream(client, "ORDERS", 3)
        await drills.create_consumer(client, "ORDERS", "worker")
    finally:
        await client.close()


def sick(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [f for f in document["findings"] if f["severity"] != "ok"]


async def test_a_healthy_cluster_is_found_healthy_by_every_way_in(
    lab_cluster: LabFactory, tmp_path: Path, quick: list[str]
) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    settings = tmp_path / "natsmedic.yaml"
    raw = settings_of(cluster).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    raw["nats"]["system"]["password"] = SYSREADER.password
    raw["nats"]["accounts"] = {}
    settings.write_text(yaml.safe_dump({"clusters": [raw], "thresholds": QUICK}), encoding="utf-8")
    folder = tmp_path / "xdg" / "nats" / "context"
    folder.mkdir(parents=True)
    context = {"url": ",".join(cluster.urls), "user": SYS.user, "password": SYS.password}
    (folder / "prod.json").write_text(json.dumps(context), encoding="utf-8")
    monitoring = [word for name in cluster.names for word in ("--monitoring", cluster.monitor_url(name))]
    ways: dict[str, tuple[list[str], dict[str, str]]] = {
        "server": (way_in(cluster) + quick, {}),
        "limited": (way_in(cluster, SYSREADER) + quick, {}),
        "monitoring": (monitoring + quick, {}),
        "context": (["--context", "prod", *quick], {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}),
        "settings": (["--config", str(settings)], {}),
        "named": (["--config", str(settings), "--cluster", cluster.name], {"NATS_URL": "nats://127.0.0.1:1"}),
        "environment": (
            quick,
            {"NATS_URL": ",".join(cluster.urls), "NATS_USER": SYS.user, "NATS_PASSWORD": SYS.password},
        ),
    }
    for name, (options, env) in ways.items():
        ran = await natsmedic("diagnose", *options, "--format", "json", env=env)
        document = ran.document
        # A check may warn for a reason that a lab really has (no TLS, small volumes); none may call it sick or guess.
        assert ran.code == {"ok": 0, "warning": 1}[document["verdict"]["severity"]], (name, sick(document), ran.err)
        assert not [f for f in sick(document) if f["severity"] == "critical"], name
        assert any(f["code"] == "SERVER_ANSWERS" and f["text"].startswith("3 servers") for f in document["findings"]), (
            name
        )
        assert not (name == "server" and ran.err)


async def test_a_split_consumer_is_critical_live_and_from_its_archive(
    lab_cluster: LabFactory, tmp_path: Path, quick: list[str]
) -> None:
    cluster = await lab_cluster("2.11.2", max_ha_assets={"n1": 8})
    drill = await drills.ghost_split(cluster)
    await drills.remove_decoys(cluster, drill)
    archive = tmp_path / "audit.zip"
    only = ["--runbook", "STUCK_CONSUMER"]

    live = await natsmedic("diagnose", *way_in(cluster), *quick, *only, "--format", "json")
    gathered = await natsmedic("gather", "-o", archive, *way_in(cluster), *quick)
    judged = await natsmedic("diagnose", "--archive", archive, *quick, *only, "--format", "json")
    everything = await natsmedic("diagnose", "--archive", archive, *quick, "--format", "json")

    assert (live.code, gathered.code, judged.code, everything.code) == (2, 0, 2, 2), (
        live.err,
        gathered.err,
        judged.err,
    )
    verdict = live.document["verdict"]
    assert (verdict["severity"], verdict["code"]) == ("critical", "CONSUMER_NODE")
    assert verdict["subject"] == "APP > ORDERS > worker on n1"
    now = judged.document
    assert {k: now["verdict"][k] for k in ("severity", "code", "subject")} == {
        k: verdict[k] for k in ("severity", "code", "subject")
    }
    assert [(f["code"], f["severity"]) for f in now["findings"]] == [
        (f["code"], f["severity"]) for f in live.document["findings"]
    ]
    assert now["cluster"] == live.document["cluster"]
    recreate = next(p for p in now["proposals"] if p["actions"])
    assert (recreate["risk"], [a["kind"] for a in recreate["actions"]]) == (
        "destructive",
        ["consumer.delete", "consumer.create"],
    )
    assert archive.stat().st_mode & 0o077 == 0
    told = re.search(r"3 servers, (\d+) answers, 0 unknown facts\.\n$", gathered.out)
    assert told is not None, gathered.out
    # Every endpoint once, and again what a split is compared by.
    assert int(told[1]) >= 3 * (len(Endpoint) + len({Endpoint.JSZ, Endpoint.RAFTZ}))


async def test_what_cannot_be_read_is_one_sentence_and_exit_code_3(
    lab_cluster: LabFactory, tmp_path: Path, quick: list[str]
) -> None:
    cluster = await lab_cluster("2.11.11")
    secret = "not-the-password"
    wrong = await natsmedic("diagnose", "-s", ",".join(cluster.urls), "--user", "sys", "--password", secret)
    assert (wrong.code, wrong.out) == (3, "")
    assert "refuse the login" in wrong.err
    assert secret not in wrong.err
    assert wrong.err.count("\n") == 1
    urls = cluster.urls
    await cluster.stop()
    for command in (["diagnose"], ["gather", "-o", str(tmp_path / "a.zip")]):
        stopped = await natsmedic(*command, "-s", ",".join(urls), "--user", "sys", "--password", "sys")
        assert (stopped.code, stopped.out, stopped.err.count("\n")) == (3, "", 1)
        assert "The cluster is not reachable" in stopped.err
    assert not await asyncio.to_thread(lambda: list(tmp_path.glob("*.zip*")))


async def test_an_application_user_learns_what_it_cannot_see(lab_cluster: LabFactory) -> None:
    cluster = await lab_cluster("2.11.11")
    await furnish(cluster)
    for login in (APP, READER):
        ran = await natsmedic("diagnose", *way_in(cluster, login), "--format", "json")
        document = ran.document
        assert (ran.code, document["verdict"]["severity"]) == (3, "unknown"), login
        assert {f["severity"] for f in document["findings"]} == {"unknown"}
        assert document["verdict"]["code"] == "SERVERS_VISIBLE"
        assert "versions, routes, health, Raft groups" in document["verdict"]["text"]
        assert any(u["server"] is None and u["reason"].startswith("not_configured") for u in document["unknown"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--no-such-option"], "No such option"),
        (["--watch", "0"], "--watch"),
        (["--runbook", "NONE", "-s", "x:1"], "There is no runbook NONE"),
        (["--archive", "/nowhere.zip"], "cannot be read"),
        (["--archive", "a.zip", "-s", "x:1"], "--server says where to look, and so does --archive"),
        (["--archive", "a.zip", "--cluster", "x"], "moment of the past"),
        (["--cluster", "x", "--context", "y"], "--context says where to look, and so does --cluster"),
        (["--password", "p", "-s", "x:1"], "--password is given without --user"),
        (["--user", "u", "--creds", "f", "-s", "x:1"], "different ways to log in"),
        (["--tlscert", "f", "-s", "x:1"], "belong together"),
        (["--monitoring", "ftp://x"], "--monitoring is not an address"),
        (["--monitoring", "http://u:p@x"], "--monitoring is not an address"),
        (["--context", "no-such-context"], "does not exist"),
        ([], "No cluster is named"),
    ],
)
async def test_a_wrong_option_never_looks_like_a_verdict(options: list[str], says: str, tmp_path: Path) -> None:
    ran = (
        await natsmedic("--config", tmp_path / "none.yaml", "diagnose", *options)
        if options
        else await _nowhere(tmp_path)
    )
    assert (ran.code, ran.out) == (3, "")
    assert says in " ".join(ran.err.replace("│", " ").split())


async def _nowhere(folder: Path) -> Ran:
    """The command in a folder without settings."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'cd "$1" && exec "$2" -m bot diagnose', "sh", str(folder), sys.executable),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"]},
    )
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def test_the_schema_is_printed_and_the_other_forms_name_the_verdict(
    tmp_path: Path, lab_cluster: LabFactory
) -> None:
    printed = await natsmedic("diagnose", "--schema")
    assert (printed.code, json.loads(printed.out)) == (0, SCHEMA)
    cluster = await lab_cluster("2.11.11")
    archive = tmp_path / "a.zip"
    assert (await natsmedic("gather", "-o", archive, *way_in(cluster))).code == 0
    table = await natsmedic("diagnose", "--archive", archive)
    markdown = await natsmedic("diagnose", "--archive", archive, "--format", "markdown")
    gauges = await natsmedic("diagnose", "--archive", archive, "--format", "prometheus")
    assert table.code == markdown.code == gauges.code
    assert "\x1b" not in table.out
    assert table.out.startswith(("HEALTHY ", "WARNING "))
    assert markdown.out.startswith("# ")
    assert f"}} {gauges.code}\n" in gauges.out
    archive.write_bytes(archive.read_bytes()[:1000])
    broken = await natsmedic("diagnose", "--archive", archive)
    assert (broken.code, broken.err.count("\n")) == (3, 1)


async def test_a_watch_looks_again_and_ends_as_its_last_verdict(lab_cluster: LabFactory, quick: list[str]) -> None:
    cluster = await lab_cluster("2.11.11")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "diagnose", *way_in(cluster), *quick, "--format", "json", "--watch", "1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )
    assert process.stdout is not None
    try:
        passes = [json.loads(await process.stdout.readline()) for _ in range(2)]
    finally:
        process.send_signal(2)
        await process.communicate()
    for document in passes:
        jsonschema.validate(document, SCHEMA)
    assert passes[0]["gathered_at"] < passes[1]["gathered_at"]
    assert process.returncode == {"ok": 0, "warning": 1}[passes[1]["verdict"]["severity"]]


async def test_runbooks_are_listed_and_shown_with_their_thresholds() -> None:
    listed = await natsmedic("runbooks", "list", "--format", "json")
    assert (await natsmedic("runbooks", "--format", "json")).out == listed.out
    code = "STUCK_CONSUMER"
    assert code in {runbook["code"] for runbook in json.loads(listed.out)}
    shown = await natsmedic("runbooks", "show", code)
    assert "check CONSUMER_NODE: Every member of a consumer runs a Raft node for it.\n  layer: consumers\n" in shown.out
    assert "settle: 15 s, How long a group must be seen sick" in shown.out
    assert "  reads: HEALTHZ, JSZ, RAFTZ\n  again: JSZ, RAFTZ, where the first look finds something\n" in shown.out
    assert "source: nats-server #6838" in shown.out
    missing = await natsmedic("runbooks", "show", "NONE")
    assert (missing.code, "There is no runbook NONE" in missing.err) == (2, True)
