"""The alert rules and the dashboard of deploy/: every rule fires on what it says and is quiet on what looks alike, and no metric in them is made up."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from typing import Final

import pytest
import yaml
from prometheus_client import CollectorRegistry

from bot import registry
from bot.adapters.database import SqlStore
from bot.adapters.metrics import PrometheusMeter, Standing, StoreCollector, Words
from bot.model import JsonObject
from tests.integration.prometheus_rules import BOT, NATS, Claim
from tests.integration.store_records import NOW, FixedClock

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
RULES: Final = {"nats": NATS, "natsmedic": BOT}
PROMTOOL: Final = os.environ.get("PROMTOOL") or shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on PATH: apt-get install prometheus, or set PROMTOOL"
)
_METRIC: Final = re.compile(r"\bnatsmedic_[a-z0-9_]+")


def rules(name: str) -> list[JsonObject]:
    loaded: JsonObject = yaml.safe_load((DEPLOY / "alerts" / f"{name}.rules.yaml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


async def promtool(*arguments: str) -> tuple[int, str]:
    assert PROMTOOL is not None
    process = await asyncio.create_subprocess_exec(
        PROMTOOL, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


def unit_tests(claims: list[Claim], file: Path) -> JsonObject:
    """Return claims as promtool's unit tests: the value of each is how many alerts of this name fire then."""
    return {
        "rule_files": [str(file)],
        "evaluation_interval": "30s",
        "tests": [
            {
                "name": f"{number} {claim.alert}",
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in claim.series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{claim.alert}",alertstate="firing"}}) or vector(0)',
                        "eval_time": f"{claim.minutes}m",
                        "exp_samples": [{"labels": "{}", "value": claim.fires}],
                    }
                ],
            }
            for number, claim in enumerate(claims)
        ],
    }


@needs_promtool
@pytest.mark.parametrize("name", RULES)
async def test_prometheus_accepts_the_rules(name: str) -> None:
    code, said = await promtool(
        "check", "rules", "--lint=all", "--lint-fatal", str(DEPLOY / "alerts" / f"{name}.rules.yaml")
    )
    assert code == 0, said


@needs_promtool
@pytest.mark.parametrize("name", RULES)
async def test_every_rule_fires_when_it_should_and_only_then(tmp_path: Path, name: str) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump(unit_tests(RULES[name], DEPLOY / "alerts" / f"{name}.rules.yaml")))
    code, said = await promtool("test", "rules", str(file))
    assert code == 0, said


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_claim_that_it_fires_and_one_that_it_is_quiet(name: str) -> None:
    names = {str(rule["alert"]) for rule in rules(name)}
    assert names == {claim.alert for claim in RULES[name] if claim.fires}
    assert names == {claim.alert for claim in RULES[name] if not claim.fires}


def test_every_alert_on_nats_has_a_runbook_that_names_it() -> None:
    answered = {alert for runbook in registry.load().runbooks for alert in runbook.alerts}
    assert {rule["alert"] for rule in rules("nats")} <= answered


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_how_bad_it_is_and_what_was_seen(name: str) -> None:
    for rule in rules(name):
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]


async def exposed(folder: Path) -> frozenset[str]:
    """The names of all series that natsmedic can expose."""
    clock, found = FixedClock(), CollectorRegistry()
    PrometheusMeter(found, Words())
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        place: JsonObject = {"place": "file", "row": 1, "age_seconds": 1, "problem": None}
        collector = StoreCollector(store, clock, Standing(lambda: [place], lambda: NOW))
        found.register(collector)
        await collector.refresh()
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
        return frozenset(f"{family.name}{end}" for family in found.collect() for end in endings[family.type])


async def test_no_rule_asks_for_a_metric_that_does_not_exist(tmp_path: Path) -> None:
    asked = {metric for rule in rules("natsmedic") for metric in _METRIC.findall(rule["expr"])}
    assert asked
    assert asked <= await exposed(tmp_path)


def panels() -> list[JsonObject]:
    board: JsonObject = json.loads((DEPLOY / "grafana" / "natsmedic.json").read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


async def test_no_panel_asks_for_a_metric_that_does_not_exist_and_each_metric_is_shown(tmp_path: Path) -> None:
    known = await exposed(tmp_path)
    asked: set[str] = set()
    for panel in panels():
        found = {metric for target in panel["targets"] for metric in _METRIC.findall(target["expr"])}
        assert found, panel["title"]
        assert found <= known, panel["title"]
        asked |= found
    ends = re.compile(r"_(total|bucket|sum|count)$")
    assert {ends.sub("", one) for one in known} == {ends.sub("", one) for one in asked}


@needs_promtool
async def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    """As recording rules, with Grafana's variables filled in."""
    filled = {"$__rate_interval": "5m", "$__range": "6h", "$instance": "b", "$job": "natsmedic"}
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    for variable, value in filled.items():
        expressions = [expression.replace(variable, value) for expression in expressions]
    recorded = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(expressions)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    code, said = await promtool("check", "rules", str(file))
    assert code == 0, said


def test_panels_have_different_places_and_names() -> None:
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels()]
    assert len(set(places)) == len(places)
    assert len({p["title"] for p in panels()}) == len(panels())
    assert len({p["id"] for p in panels()}) == len(panels())
