"""What the settings say about advisories and schedules, and what `natsmedic config check` says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from bot.cli.root import app
from bot.errors import BadInput, SettingsError
from bot.registry import load as load_registry
from bot.settings import AdvisorySettings, ClusterSettings, OpenAt, json_schema
from tests.unit.test_settings import Tree, good, read, refusal

EXAMPLE = Path(__file__).parents[2] / "deploy" / "natsmedic.example.yaml"
ENVIRON = {
    "NATS_SYS_PASSWORD": "x",
    "NATS_READER_PASSWORD": "x",
    "ALERTMANAGER_TOKEN": "x",
    "SLACK_BOT_TOKEN": "xoxb-1",
    "SLACK_APP_TOKEN": "xapp-1",
}


def with_cluster(**sections: Any) -> Tree:
    tree = good()
    tree["clusters"][0] |= sections
    return tree


def cluster(folder: Path, **sections: Any) -> ClusterSettings:
    return read(folder, with_cluster(**sections)).clusters[0]


def test_advisories_are_heard_wherever_there_is_a_system_user_and_no_schedule_runs(tmp_path: Path) -> None:
    found = cluster(tmp_path)
    assert found.hears_advisories
    pace = found.advisories
    assert (pace.silence, pace.repeat, pace.window) == (120.0, 300.0, 300.0)
    assert (pace.elections, pace.most) == (5, 10)
    assert found.schedule is None
    assert read(tmp_path, good()).schedules == {}


def test_advisories_can_be_switched_off(tmp_path: Path) -> None:
    assert not cluster(tmp_path, advisories={"enabled": False}).hears_advisories


def test_without_a_system_user_nothing_is_heard_and_asking_for_it_is_a_mistake(tmp_path: Path) -> None:
    tree = good()
    del tree["clusters"][0]["nats"]["system"]
    assert not read(tmp_path, tree).clusters[0].hears_advisories
    tree["clusters"][0]["advisories"] = {"enabled": False}
    assert not read(tmp_path, tree).clusters[0].hears_advisories
    tree["clusters"][0]["advisories"] = {"most": 3}
    said = refusal(tmp_path, tree)
    assert "clusters[0]: has advisories, but no user of the system account" in said
    assert "enabled: false" in said


def test_durations_are_written_with_their_unit(tmp_path: Path) -> None:
    found = cluster(
        tmp_path,
        advisories={"silence": "90s", "repeat": "1h", "window": "10m"},
        schedule={"every": "5m", "runbooks": ["ROUTE_MESH"], "open_at": "warning"},
    )
    assert (found.advisories.silence, found.advisories.repeat, found.advisories.window) == (90.0, 3_600.0, 600.0)
    assert found.schedule is not None
    assert (found.schedule.every, found.schedule.open_at) == (300.0, OpenAt.WARNING)


@pytest.mark.parametrize("every", ["10s", "24h", "86400s"])
def test_the_limits_of_a_schedule_are_allowed(tmp_path: Path, every: str) -> None:
    assert cluster(tmp_path, schedule={"every": every}).schedule is not None


@pytest.mark.parametrize(
    ("every", "seen"),
    [
        ("9s", "is 9s"),
        ("25h", "is 25h"),
        ("5", "is '5', which is no duration"),
        (300, "is '300', which is no duration"),
        (5.0, "is '5.0', which is no duration"),
        (True, "is 'True', which is no duration"),
        (None, "is 'None', which is no duration"),
        ("5 m", "which is no duration"),
        ("-5m", "which is no duration"),
        ("0s", "which is no duration"),
        ("5m\n", "which is no duration"),
        ("9999999s", "which is no duration"),
        ("٥m", "which is no duration"),
    ],
)
def test_a_wrong_duration_is_named_with_what_was_expected(tmp_path: Path, every: object, seen: str) -> None:
    said = refusal(tmp_path, with_cluster(schedule={"every": every}))
    assert "clusters[0].schedule.every" in said
    assert seen in said
    assert "10s to 24h" in said


def test_a_silence_shorter_than_two_repeats_of_a_lost_quorum_is_refused(tmp_path: Path) -> None:
    assert cluster(tmp_path, advisories={"silence": "60s"}).advisories.silence == 60.0
    said = refusal(tmp_path, with_cluster(advisories={"silence": "59s"}))
    assert "clusters[0].advisories.silence: is 59s; expected 60s to 24h" in said


@pytest.mark.parametrize(
    ("section", "key", "wrong"),
    [
        ("advisories", "elections", 1),
        ("advisories", "most", 0),
        ("advisories", "enabled", "perhaps"),
        ("schedule", "open_at", "ok"),
        ("schedule", "runbooks", "ROUTE_MESH"),
        ("schedule", "evry", "5m"),
    ],
)
def test_every_other_mistake_is_named_with_its_key(tmp_path: Path, section: str, key: str, wrong: object) -> None:
    written = {"every": "5m"} if section == "schedule" else {}
    assert f"clusters[0].{section}.{key}" in refusal(tmp_path, with_cluster(**{section: written | {key: wrong}}))


def test_the_schema_accepts_what_is_accepted_and_refuses_what_is_not() -> None:
    schema = json_schema()
    jsonschema.validate(with_cluster(advisories={"silence": "2m"}, schedule={"every": "5m"}), schema)
    for wrong in ("5", 300, "5 m"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(with_cluster(schedule={"every": wrong}), schema)
    defaults = {k: v["default"] for k, v in schema["$defs"]["AdvisorySettings"]["properties"].items()}
    jsonschema.validate(with_cluster(advisories=defaults), schema)


def test_a_schedule_names_only_runbooks_that_exist() -> None:
    found = load_registry()
    assert found.chosen(()) == found.runbooks
    assert [r.code for r in found.chosen(("ROUTE_MESH", "ROUTE_MESH"))] == ["ROUTE_MESH"]
    with pytest.raises(BadInput, match=r"There is no runbook NOPE\. Known: .*ROUTE_MESH"):
        found.chosen(("ROUTE_MESH", "NOPE"))
    found.check_schedules({"prod": (), "stage": ("ROUTE_MESH",)})
    with pytest.raises(SettingsError, match=r"schedule\.runbooks of cluster stage: There is no runbook NOPE"):
        found.check_schedules({"prod": (), "stage": ("NOPE",)})


def check(folder: Path, tree: Tree) -> tuple[int, str]:
    file = folder / "natsmedic.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    result = CliRunner().invoke(app, ["config", "check", str(file)], env=ENVIRON)
    return result.exit_code, result.output


def test_config_check_says_what_is_noticed_and_what_is_not(tmp_path: Path) -> None:
    code, said = check(tmp_path, with_cluster(schedule={"every": "5m", "runbooks": ["ROUTE_MESH"]}))
    assert code == 0
    assert "delivered too often only in accounts with a reader (APP)" in said
    assert "Every 300 s: ROUTE_MESH, opening at critical." in said
    tree = good()
    tree["clusters"][0]["nats"]["accounts"] = {}
    assert "in no account, because none has a reader. No schedule." in check(tmp_path, tree)[1]
    tree = good()
    del tree["clusters"][0]["nats"]["system"]
    assert "advisories: none, because there is no nats.system" in check(tmp_path, tree)[1]
    assert "advisories: none, as set" in check(tmp_path, with_cluster(advisories={"enabled": False}))[1]


def test_config_check_refuses_a_schedule_of_a_runbook_that_does_not_exist(tmp_path: Path) -> None:
    code, said = check(tmp_path, with_cluster(schedule={"every": "5m", "runbooks": ["NOPE"]}))
    assert code == 2
    assert "schedule.runbooks of cluster prod" in said
    assert "NOPE" in said


def test_the_shipped_example_is_right_and_its_comments_are_the_defaults() -> None:
    result = CliRunner().invoke(app, ["config", "check", str(EXAMPLE)], env=ENVIRON)
    assert result.exit_code == 0, result.output
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    start = lines.index("    # advisories:")
    written = yaml.safe_load("\n".join(line.replace("# ", "", 1) for line in lines[start : start + 7]))
    assert AdvisorySettings.model_validate(written["advisories"]) == AdvisorySettings()
