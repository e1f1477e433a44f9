"""The storage runbook: streams without limits at their border, servers that switched JetStream off, and who answers which alert."""

from collections.abc import Callable
from typing import Any

import pytest

from bot.flow.notices import AdvisoryAlert
from bot.flow.ranking import rank
from bot.model import Finding, Focus, Severity, Snapshot
from runbooks.storage import RUNBOOK
from tests.unit.runbooks.every_check import REGISTRY
from tests.unit.snapshots import Raw, answers, both, recorded, streams

Change = Callable[[Raw], None]
ROOM = 1_000_000


def examined(seen: Snapshot) -> list[Finding]:
    checks = [check for check in RUNBOOK.checks if check.applies(seen)]
    return [f for check in checks for f in check.examine(seen, RUNBOOK.values(), Focus())]


def titles(seen: Snapshot) -> list[str]:
    return [p.draft.title for p in RUNBOOK.propose(seen, examined(seen), RUNBOOK.values(), Focus())]


def bounds(seen: Snapshot) -> Finding:
    return max((f for f in examined(seen) if f.check == "STORAGE_BOUNDS"), key=lambda f: f.severity.rank)


def holding(held: int, **config: Any) -> Change:
    """The stream holds so many of a million bytes, with these fields in its configuration."""

    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            jsz["config"]["max_storage"] = ROOM
        for stream in streams(raw):
            stream["state"]["bytes"] = held
            unlimited = {"max_bytes": -1, "max_msgs": -1, "max_age": 0}
            stream["config"] = stream["config"] | unlimited | config

    return change


@pytest.mark.parametrize(
    ("held", "severity"), [(249_999, Severity.OK), (250_000, Severity.WARNING), (250_001, Severity.WARNING)]
)
def test_a_stream_without_limits_is_told_from_a_quarter_of_the_storage_on(held: int, severity: Severity) -> None:
    found = bounds(recorded("healthy_2.15.1", holding(held)))
    assert found.severity is severity
    assert ("Stream APP > ORDERS has no limit" in found.sentence) is (severity is Severity.WARNING)


@pytest.mark.parametrize("config", [{"max_bytes": 1}, {"max_msgs": 1}, {"max_age": 1}, {"storage": "memory"}])
def test_any_limit_bounds_a_stream(config: dict[str, Any]) -> None:
    assert bounds(recorded("healthy_2.15.1", holding(900_000, **config))).severity is Severity.OK


@pytest.mark.parametrize("config", [{"max_bytes": "x"}, {"max_age": "x"}])
def test_a_limit_that_can_not_be_read_is_unknown(config: dict[str, Any]) -> None:
    assert bounds(recorded("healthy_2.15.1", holding(900_000, **config))).severity is Severity.UNKNOWN


def switched_off(raw: Raw) -> None:
    for jsz in answers(raw, "JSZ", "n1"):
        jsz.clear()
        jsz["disabled"] = True
    for healthz in answers(raw, "HEALTHZ", "n1"):
        healthz |= {"status": "unavailable"}


def test_room_is_made_before_a_server_that_switched_off_is_restarted() -> None:
    seen = recorded("audit_2.15.1", both(switched_off))
    root = rank(examined(seen)).root
    assert root is not None
    assert (root.check, root.subject.server) == ("AUDIT_JETSTREAM_MIX", "n1")
    assert titles(seen)[-1] == "Make room on n1, then restart it"


def test_limits_come_first_where_streams_have_none() -> None:
    assert titles(recorded("healthy_2.15.1", holding(900_000)))[0] == "Bound the streams that have no limit"


def test_a_healthy_cluster_has_nothing_to_do() -> None:
    assert titles(recorded("audit_2.15.1")) == []


@pytest.mark.parametrize("alert", list(AdvisoryAlert))
def test_every_alert_that_natsmedic_raises_itself_is_answered_by_one_runbook(alert: AdvisoryAlert) -> None:
    assert len([runbook.code for runbook in REGISTRY.runbooks if alert in runbook.alerts]) == 1


def test_a_removed_server_is_told_what_it_takes_to_come_back() -> None:
    readiness = REGISTRY.runbook("READINESS")
    assert readiness is not None
    seen = recorded("audit_2.15.1", switched_off)
    values = readiness.values()
    checks = [check for check in readiness.checks if check.applies(seen)]
    findings = [f for check in checks for f in check.examine(seen, values, Focus())]
    offered = [p.draft for p in readiness.propose(seen, findings, values, Focus())]
    (draft,) = [d for d in offered if d.title == "Decide whether n1 belongs to the meta group"]
    assert any("not before 5 minutes are over" in line for line in draft.guidance)
