"""The gap of the meta group over time, at its thresholds."""

from datetime import datetime, timedelta

import pytest

from bot.model import Severity
from bot.model.groups import system_account
from runbooks._meta_views import Trend, read_meta, trend
from runbooks.readiness import RUNBOOK
from tests.unit.runbooks.audit_support import Change, drop, put
from tests.unit.runbooks.meta_support import (
    BASE,
    GROUP,
    NEW,
    NOT_CURRENT,
    OLD,
    QUIET,
    age,
    apart,
    followers,
    gaps,
    hung,
    indexes,
    leader,
    rounds,
    titles,
    worst,
)
from tests.unit.snapshots import Raw, answers, both, recorded


@pytest.mark.parametrize(
    ("behind", "applied", "settled", "young", "expected"),
    [
        ([0, 0, 0], [5, 6, 7], True, False, Trend.CURRENT),
        ([3], [5], False, False, Trend.UNSETTLED),
        ([3, 3, 3], [5, 5, 5], True, False, Trend.STUCK),
        ([3, 9, 40], [5, 5, 5], True, False, Trend.STUCK),
        ([3, 3, 3], [5, 5, 5], False, False, Trend.UNSETTLED),
        ([3, 3, 3], [5, 5, 5], True, True, Trend.UNSETTLED),
        ([3, 3, 3], [5, 6, 7], True, False, Trend.COMES_AND_GOES),
        ([360, 115, 2], [5, 300, 420], True, False, Trend.CATCHING_UP),
        ([360, 115, 115], [5, 300, 300], True, False, Trend.CATCHING_UP),
        ([360, 2, 5], [5, 300, 420], True, True, Trend.CATCHING_UP),
        ([360, 2, 5], [5, 300, 420], True, False, Trend.COMES_AND_GOES),
        ([360, 2, 0], [5, 300, 420], True, True, Trend.CAUGHT_UP),
        ([360, 2, 0], [5, 300, 420], True, False, Trend.COMES_AND_GOES),
        ([0, 7, 0], [5, 6, 7], True, True, Trend.COMES_AND_GOES),
        ([0, 0, 7], [5, 6, 7], True, False, Trend.COMES_AND_GOES),
        ([0, 0, 7], [5, 5, 5], True, False, Trend.UNSETTLED),
        ([0, 7, 9], [5, 6, 6], True, False, Trend.UNSETTLED),
        ([0, 7, 9], [5, 6, 7], True, False, Trend.COMES_AND_GOES),
        ([3, 0, 7, 9], [5, 8, 8, 8], True, False, Trend.UNSETTLED),
        ([1, 50, 201], [5, 6, 7], True, False, Trend.COMES_AND_GOES),
        ([1, 50, 202], [5, 6, 7], True, False, Trend.LAGGING),
        ([1, 202], [5, 6], False, False, Trend.COMES_AND_GOES),
        ([300, 200, 310], [5, 6, 7], True, False, Trend.COMES_AND_GOES),
        ([300, 201, 310], [5, 6, 7], True, False, Trend.LAGGING),
    ],
)
def test_a_gap_is_named_by_how_it_went(
    behind: list[int], applied: list[int], settled: bool, young: bool, expected: Trend
) -> None:
    assert trend(behind, applied, settled=settled, young=young, lag=200) is expected


def test_a_follower_that_shrinks_its_gap_is_waited_for_and_nothing_else_is_proposed() -> None:
    one = followers(QUIET)[0]
    snapshot = recorded(QUIET, gaps(QUIET, {one: [90, 50, 10]}))
    found = worst(snapshot, "META_GAP")
    assert (found.severity, found.evidence["trend"], found.subject.server) == (Severity.WARNING, "catching up", one)
    assert "90, 50, 10" in found.sentence
    assert "Wait" in found.sentence
    assert titles(snapshot) == ["Wait until the meta group has caught up"]


@pytest.mark.parametrize(("count", "severity"), [(1, Severity.WARNING), (2, Severity.WARNING), (3, Severity.CRITICAL)])
def test_nothing_is_stuck_in_fewer_than_three_readings(count: int, severity: Severity) -> None:
    one = followers(QUIET)[0]
    found = worst(recorded(QUIET, both(hung(one, QUIET), rounds(count))), "META_GAP")
    assert (found.severity, found.subject.server) == (severity, one)


@pytest.mark.parametrize(("seconds", "severity"), [(0.89, Severity.WARNING), (0.91, Severity.CRITICAL)])
def test_three_readings_must_lie_the_settle_time_apart(seconds: float, severity: Severity) -> None:
    """Two intervals of one second, of which a tenth is allowed for the spread of a round's answers."""
    one = followers(QUIET)[0]
    snapshot = recorded(QUIET, both(hung(one, QUIET), rounds(3), apart(seconds)))
    assert worst(snapshot, "META_GAP").severity is severity


@pytest.mark.parametrize(("up", "severity"), [(299.9, Severity.WARNING), (300.0, Severity.CRITICAL)])
def test_a_server_that_has_just_started_may_replay_for_a_while(up: float, severity: Severity) -> None:
    one = followers(QUIET)[0]
    snapshot = recorded(QUIET, both(hung(one, QUIET), age(one, up)))
    assert worst(snapshot, "META_GAP", young=300.0).severity is severity
    assert ("Wait until the meta group has caught up" in titles(snapshot, young=300.0)) is (
        severity is Severity.WARNING
    )


def test_a_follower_that_receives_nothing_is_behind_what_its_leader_had_committed_a_reading_before() -> None:
    one = followers(QUIET)[0]
    others = [indexes(s, [50, 60, 70, 80], [50, 60, 70, 80]) for s in (leader(QUIET), *followers(QUIET)) if s != one]
    snapshot = recorded(QUIET, both(*others, indexes(one, [50] * 4, [50] * 4)))
    (member,) = [m for m in read_meta(snapshot, RUNBOOK.values(BASE)).members if m.name == one]
    assert member.gaps == (0, 0, 10, 20)
    assert member.trend is Trend.UNSETTLED
    # One reading later all that it knows of is behind, and nothing has moved.
    later = recorded(
        QUIET, both(*others, indexes(one, [40] * 4, [40] * 4), put("RAFTZ", f"{GROUP}.committed", 41, one, 0))
    )
    assert worst(later, "META_GAP").evidence["behind"] == [1, 10, 20, 30]
    assert worst(later, "META_GAP").severity is Severity.CRITICAL


def test_a_meta_leader_that_applies_nothing_steps_down_before_it_is_restarted() -> None:
    one = leader(QUIET)
    snapshot = recorded(QUIET, hung(one, QUIET))
    found = worst(snapshot, "META_GAP")
    assert (found.severity, found.evidence["leads"]) == (Severity.CRITICAL, True)
    assert found.sentence.startswith(f"Meta leader {one} has applied nothing")
    assert titles(snapshot) == ["Let another server lead the meta group", f"Restart server {one}"]


@pytest.mark.parametrize(("hits", "severity"), [([0, 9, 0, 0], Severity.OK), ([0, 9, 0, 1], Severity.WARNING)])
def test_one_reading_behind_is_no_pattern_and_two_are(hits: list[int], severity: Severity) -> None:
    snapshot = recorded(OLD, gaps(OLD, {followers(OLD)[0]: hits}))
    assert worst(snapshot, "META_GAP").severity is severity


def test_a_servers_own_word_counts_as_a_reading() -> None:
    one = followers(OLD)[0]

    def said(raw: Raw) -> None:
        for sample in raw["samples"]:
            if (sample["server"], sample["endpoint"]) == (one, "HEALTHZ"):
                sample["data"] = NOT_CURRENT

    found = worst(recorded(OLD, both(gaps(OLD, {one: [0, 9, 0, 0]}), said)), "META_GAP")
    assert (found.severity, found.evidence["by their own word"]) == (Severity.WARNING, [one])
    assert "in 2 of 5 readings" in found.sentence


def test_the_same_gaps_are_a_remark_from_2_11_on() -> None:
    behind = [0, 9, 0, 1]
    assert worst(recorded(NEW, gaps(NEW, {followers(NEW)[0]: behind})), "META_GAP").severity is Severity.OK
    assert titles(recorded(NEW, gaps(NEW, {followers(NEW)[0]: behind}))) == []


def test_only_servers_before_2_11_make_the_probe_too_strict_in_a_mixed_cluster() -> None:
    one, two = followers(NEW)

    def older(raw: Raw) -> None:
        for identity in raw["servers"]:
            if identity["name"] == one:
                identity["version"] = "2.10.29"

    found = worst(recorded(NEW, both(older, gaps(NEW, {one: [0, 9, 0, 1], two: [1, 1, 1, 0]}))), "META_GAP")
    assert (found.severity, found.evidence["too strict on"]) == (Severity.WARNING, [one])


def test_a_version_that_cannot_be_read_is_not_taken_for_a_new_one() -> None:
    one = followers(NEW)[0]

    def unreadable(raw: Raw) -> None:
        for identity in raw["servers"]:
            identity["version"] = "dev"

    found = worst(recorded(NEW, both(unreadable, gaps(NEW, {one: [0, 9, 0, 1]}))), "META_GAP")
    assert (found.severity, found.evidence["too strict on"]) == (Severity.WARNING, [one])


def test_the_leaders_own_gap_is_no_followers_gap() -> None:
    assert worst(recorded(OLD, gaps(OLD, {leader(OLD): [9, 5, 3, 2]})), "META_GAP").severity is Severity.OK
    assert worst(recorded(OLD, gaps(OLD, {leader(OLD): [9, 0, 3, 0]})), "META_GAP").severity is Severity.OK


def test_a_follower_far_behind_all_the_time_needs_resources_whatever_its_version() -> None:
    one = followers(NEW)[0]
    snapshot = recorded(NEW, gaps(NEW, {one: [300, 201, 310, 300]}))
    found = worst(snapshot, "META_GAP")
    assert (found.severity, found.evidence["trend"]) == (Severity.WARNING, "lagging")
    assert titles(snapshot) == ["Give the meta group less to do, or more to do it with"]


def written(ago: float, name: str) -> Change:
    """A change after which every server's meta log got its last entry so many seconds before VARZ was answered."""

    def change(raw: Raw) -> None:
        for server in (leader(name), *followers(name)):
            (varz,) = answers(raw, "VARZ", server, 0)
            at = datetime.fromisoformat(varz["now"]) - timedelta(seconds=ago)
            for raftz in answers(raw, "RAFTZ", server, 0):
                raftz["SYS"]["_meta_"]["wal"]["last_ts"] = at.isoformat()

    return change


@pytest.mark.parametrize(
    ("name", "count", "ago", "severity"),
    [
        (OLD, 1, 0.9, Severity.UNKNOWN),
        (OLD, 1, 1.0, Severity.OK),
        (OLD, 2, 0.9, Severity.OK),
        (NEW, 1, 0.9, Severity.OK),
    ],
)
def test_before_2_11_one_reading_clears_nothing_while_the_meta_group_changes(
    name: str, count: int, ago: float, severity: Severity
) -> None:
    assert worst(recorded(name, both(written(ago, name), rounds(count))), "META_GAP").severity is severity


def test_a_server_that_knows_no_leader_is_unknown_and_not_accused() -> None:
    one = followers(QUIET)[0]
    found = worst(recorded(QUIET, both(hung(one, QUIET), put("RAFTZ", f"{GROUP}.leader", "", one))), "META_GAP")
    assert found.severity is Severity.UNKNOWN
    assert "knows no meta leader" in found.sentence


@pytest.mark.parametrize("reason", ["denied", "timed_out", "not_in_version"])
def test_a_raftz_that_could_not_be_read_is_unknown_with_its_reason(reason: str) -> None:
    one = followers(QUIET)[0]

    def unread(raw: Raw) -> None:
        for sample in raw["samples"]:
            if (sample["server"], sample["endpoint"]) == (one, "RAFTZ"):
                sample |= {"data": None, "unknown": {"reason": reason, "detail": "a test"}}

    found = worst(recorded(QUIET, unread), "META_GAP")
    assert found.severity is Severity.UNKNOWN
    assert f"RAFTZ of {one}: {reason}" in found.sentence


def test_a_clustered_server_without_the_group_in_raftz_is_unknown() -> None:
    found = worst(recorded(QUIET, drop("RAFTZ", "SYS", followers(QUIET)[0])), "META_GAP")
    assert found.severity is Severity.UNKNOWN
    assert "no group _meta_" in found.sentence


def test_the_system_account_is_found_by_its_group_whatever_it_is_called() -> None:
    def renamed(raw: Raw) -> None:
        for raftz in answers(raw, "RAFTZ"):
            raftz["ADSYSKEY"] = raftz.pop("SYS")

    one = followers(QUIET)[0]
    snapshot = recorded(QUIET, both(hung(one, QUIET), renamed))
    assert system_account(snapshot) == "ADSYSKEY"
    assert worst(snapshot, "META_GAP").severity is Severity.CRITICAL


def test_leaf_domains_are_compared_with_their_own_leader_only() -> None:
    """Another meta group's leader, far ahead, is nobody's concern."""
    one = followers(QUIET)[0]
    ahead = both(
        put("RAFTZ", f"{GROUP}.id", "elsewhere", leader(QUIET)),
        put("RAFTZ", f"{GROUP}.committed", 9_000, leader(QUIET)),
    )
    members = read_meta(recorded(QUIET, ahead), RUNBOOK.values(BASE)).members
    assert {m.gaps for m in members if m.name == one} == {(0, 0, 0, 0)}
