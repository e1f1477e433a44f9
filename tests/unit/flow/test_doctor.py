"""Each judgement of the doctor: healthy, not healthy, and not known; thresholds exactly."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

import bot
from bot.errors import Unreachable
from bot.flow import doctor
from bot.flow.doctor import SCOPES
from bot.model import JsonObject
from bot.model.checkup import EXIT_CODES, CheckupLine, Health, Permission, Reply, Right, moment_of_header, worst

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
SILENT = Reply(silence="Slack can't be reached: refused")
MANIFEST = Path(bot.__file__).parents[1] / "deploy" / "slack-manifest.yaml"


def only(lines: Sequence[CheckupLine]) -> CheckupLine:
    (line,) = lines
    return line


def line(health: Health) -> CheckupLine:
    return CheckupLine(subject="x", health=health, observed="x", expected="x")


def test_the_scopes_are_those_of_the_manifest() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    assert set(manifest["oauth_config"]["scopes"]["bot"]) == SCOPES.keys()


def test_exactly_the_needed_scopes_are_well() -> None:
    assert only(doctor.judge_scopes(Reply(scopes=tuple(SCOPES)))).health is Health.OK


def test_a_missing_scope_fails_and_a_superfluous_one_is_a_warning_and_both_are_told() -> None:
    given = (*(one for one in SCOPES if one != "users:read"), "admin")
    missing, more = doctor.judge_scopes(Reply(scopes=given))
    assert (missing.health, more.health) == (Health.FAIL, Health.WARN)
    assert "users:read" in missing.observed
    assert "admin" in more.observed


def test_scopes_that_are_not_told_are_unknown() -> None:
    assert only(doctor.judge_scopes(Reply())).health is Health.UNKNOWN


@pytest.mark.parametrize(
    ("reply", "homes", "health"),
    [
        (Reply(body={"team_id": "T1", "user_id": "U1"}), ("T1",), Health.OK),
        (Reply(body={"team_id": "T2", "user_id": "U1"}), ("T1",), Health.FAIL),
        (Reply(body={"team_id": "T1", "user_id": "U1"}), (), Health.WARN),
        (Reply(error="invalid_auth"), ("T1",), Health.FAIL),
        (Reply(error="ratelimited"), ("T1",), Health.UNKNOWN),
        (SILENT, ("T1",), Health.UNKNOWN),
    ],
)
def test_a_bot_token_is_well_in_a_home_workspace_only(reply: Reply, homes: tuple[str, ...], health: Health) -> None:
    found = only(doctor.judge_token(reply, homes))
    assert found.health is health
    assert bool(found.way_out) is (health is not Health.OK)


@pytest.mark.parametrize(
    ("status", "token", "serves", "health"),
    [
        (200, False, True, Health.OK),
        (401, False, True, Health.FAIL),
        (404, False, True, Health.FAIL),
        (None, False, True, Health.UNKNOWN),
        (None, False, False, Health.UNKNOWN),
        (None, True, False, Health.FAIL),
        (200, True, True, Health.FAIL),
    ],
)
def test_a_signing_secret_is_well_where_the_natsmedic_that_serves_takes_it(
    status: int | None, token: bool, serves: bool, health: Health
) -> None:
    found = only(doctor.judge_signing_secret(status, token=token, serves=serves))
    assert found.health is health
    assert bool(found.way_out) is (health is not Health.OK)


def test_a_cluster_that_nothing_may_change_is_a_warning_in_mode_approve() -> None:
    assert doctor.judge_writers("prod", ()).health is Health.WARN
    found = doctor.judge_writers("prod", ("nats.system_writer", "kubernetes.applier"))
    assert (found.health, found.observed) == (Health.OK, "nats.system_writer, kubernetes.applier")


@pytest.mark.parametrize(
    ("reply", "health"), [(Reply(), Health.OK), (Reply(error="not_in_channel"), Health.FAIL), (SILENT, Health.UNKNOWN)]
)
def test_a_channel_is_well_where_the_bot_may_read_it(reply: Reply, health: Health) -> None:
    assert only(doctor.judge_channel("C1", "clusters: prod", reply)).health is health


@pytest.mark.parametrize(
    ("reply", "health"),
    [
        (Reply(body={"users": ["U1"]}), Health.OK),
        (Reply(body={"users": []}), Health.FAIL),
        (Reply(body={}), Health.FAIL),
        (Reply(error="no_such_subteam"), Health.FAIL),
        (SILENT, Health.UNKNOWN),
    ],
)
def test_a_user_group_needs_people(reply: Reply, health: Health) -> None:
    assert only(doctor.judge_group("S1", "operators", reply)).health is health


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, ""),
        ({"deleted": True}, "deactivated"),
        ({"is_restricted": True}, "a guest"),
        ({"is_ultra_restricted": True}, "a guest"),
        ({"is_bot": "yes"}, "a bot"),
        ({"is_stranger": True}, "of another workspace"),
        ({"id": "U2"}, "somebody else"),
    ],
)
def test_a_person_who_may_decide_nothing_is_named_with_the_reason(flags: JsonObject, said: str) -> None:
    found = only(doctor.judge_person("U1", "policy.persons.ada", Reply(body={"user": {"id": "U1"} | flags})))
    assert found.health is (Health.FAIL if said else Health.OK)
    assert said in found.observed


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("seconds", "health"),
    [(0, Health.OK), (4.9, Health.OK), (5, Health.WARN), (29.9, Health.WARN), (30, Health.FAIL), (300, Health.FAIL)],
)
def test_clocks_are_5_s_apart_at_the_warning_and_30_s_at_the_failure(sign: int, seconds: float, health: Health) -> None:
    theirs = NOON + sign * timedelta(seconds=seconds)
    assert only(doctor.judge_clock("Slack", theirs, NOON)).health is health


def test_a_clock_that_nobody_told_is_unknown() -> None:
    assert only(doctor.judge_clock("Slack", None, NOON)).health is Health.UNKNOWN


@pytest.mark.parametrize(
    ("needed", "exact", "seen", "health"),
    [
        (True, True, Right.ALLOWED, Health.OK),
        (True, True, Right.DENIED, Health.FAIL),
        (True, False, Right.DENIED, Health.WARN),
        (False, True, Right.DENIED, Health.OK),
        (False, True, Right.ALLOWED, Health.FAIL),
        (False, False, Right.ALLOWED, Health.FAIL),
        (True, True, Right.UNKNOWN, Health.UNKNOWN),
        (False, True, Right.UNKNOWN, Health.UNKNOWN),
    ],
)
def test_what_is_needed_must_be_allowed_and_what_is_not_must_be_denied(
    needed: bool, exact: bool, seen: Right, health: Health
) -> None:
    one = Permission(who="reader", what="$JS.API.INFO", needed=needed, exact=exact, seen=seen)
    assert doctor.judge_permission(one, "mend it").health is health


@pytest.mark.parametrize(
    ("age", "problem", "health"),
    [(3.0, None, Health.OK), (None, None, Health.WARN), (3.0, "the disk is full", Health.FAIL)],
)
def test_a_place_of_checkpoints_that_fails_is_told(age: float | None, problem: str | None, health: Health) -> None:
    assert doctor.judge_checkpoint("a file", age, problem).health is health


@pytest.mark.parametrize(
    ("header", "moment"),
    [
        ("Fri, 27 Nov 2026 12:00:00 GMT", NOON),
        ("Fri, 27 Nov 2026 13:00:00 +0100", NOON),
        ("Fri, 27 Nov 2026 12:00:00 -0000", None),
        ("noon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_date_header_is_a_moment_or_nothing(header: str | None, moment: datetime | None) -> None:
    assert moment_of_header(header) == moment


async def test_a_check_that_fails_hangs_or_has_a_defect_hides_no_other() -> None:
    async def well() -> list[CheckupLine]:
        return [line(Health.OK)]

    async def refused() -> list[CheckupLine]:
        raise Unreachable("Nobody is there.")

    async def defect() -> list[CheckupLine]:
        raise RuntimeError("a secret that is not shown")

    async def hangs() -> list[CheckupLine]:
        await asyncio.Event().wait()
        return []

    checks = {"refused": refused, "well": well, "defect": defect, "hangs": hangs}
    found = await doctor.examine(checks, patience=0.01)
    assert [one.health for one in found] == [Health.UNKNOWN, Health.OK, Health.UNKNOWN, Health.UNKNOWN]
    assert "Nobody is there." in found[0].observed
    assert "secret" not in str(found)


def test_the_exit_code_is_that_of_the_worst_and_nothing_looked_at_is_not_well() -> None:
    ok, warn, fail, unknown = (line(one) for one in (Health.OK, Health.WARN, Health.FAIL, Health.UNKNOWN))
    assert worst([ok]) is Health.OK
    assert worst([ok, warn]) is Health.WARN
    assert worst([warn, unknown]) is Health.UNKNOWN
    assert worst([unknown, fail, ok]) is Health.FAIL
    assert worst([]) is Health.UNKNOWN
    assert [EXIT_CODES[one] for one in (Health.OK, Health.WARN, Health.FAIL, Health.UNKNOWN)] == [0, 1, 2, 3]
