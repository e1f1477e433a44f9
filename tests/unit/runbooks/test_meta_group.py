"""Who may still fail and whom the meta leader hears, at their thresholds."""

import pytest

from bot.model import Endpoint, Severity
from tests.unit.runbooks.audit_support import Change, drop, silence
from tests.unit.runbooks.meta_support import (
    QUIET,
    age,
    examined,
    followers,
    leader,
    no_leader,
    replica,
    rounds,
    titles,
    worst,
)
from tests.unit.snapshots import Raw, answers, both, recorded


@pytest.mark.parametrize("reason", ["timed_out", "unreachable"])
def test_a_member_that_is_lost_is_named_with_what_may_still_fail(reason: str) -> None:
    one = followers(QUIET)[0]
    snapshot = recorded(QUIET, both(silence(one, reason), replica(QUIET, one, current=False, offline=True)))
    found = next(f for f in examined(snapshot) if f.check == "META_MARGIN")
    assert (found.severity, found.evidence["absent"], found.evidence["may fail"]) == (Severity.WARNING, [one], 0)
    assert "no further server may fail" in found.sentence
    assert "proves nothing" in found.sentence
    assert found.counterpart == "META_001"
    assert titles(snapshot) == ["Wait until the meta group has caught up"]


@pytest.mark.parametrize(("seconds", "severity"), [(900.0, Severity.WARNING), (900.1, Severity.CRITICAL)])
def test_a_member_away_for_longer_than_a_restart_takes_is_critical(seconds: float, severity: Severity) -> None:
    one = followers(QUIET)[0]
    away = replica(QUIET, one, current=False, offline=True, active=int(seconds * 1e9))
    found = next(f for f in examined(recorded(QUIET, away)) if f.check == "META_MARGIN")
    assert found.severity is severity


def test_a_group_of_five_without_two_may_lose_no_third_and_without_one_it_may() -> None:
    one, two = followers(QUIET)

    def five(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            jsz["meta_cluster"]["cluster_size"] = 5
        for jsz in answers(raw, "JSZ", leader(QUIET)):
            more = [{"name": name, "current": True, "active": 1} for name in ("n3", "n4")]
            jsz["meta_cluster"]["replicas"] += more

    lost = [replica(QUIET, s, current=False, offline=True) for s in (one, two)]
    for changes, left in (([], 2), (lost[:1], 1), (lost, 0)):
        found = next(f for f in examined(recorded(QUIET, both(five, *changes))) if f.check == "META_MARGIN")
        assert f"{left or 'no'} further server" in found.sentence
        assert found.severity is (Severity.WARNING if changes else Severity.OK)


def test_a_group_of_two_can_spare_nobody() -> None:
    two = followers(QUIET)[1]

    def pair(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if s["server"] != two]
        raw["servers"] = [s for s in raw["servers"] if s["name"] != two]
        raw["expected"].remove(two)
        for jsz in answers(raw, "JSZ"):
            cluster = jsz["meta_cluster"]
            cluster["cluster_size"] = 2
            cluster["replicas"] = [r for r in cluster["replicas"] if r["name"] != two]

    found = worst(recorded(QUIET, pair), "META_MARGIN")
    assert found.severity is Severity.WARNING
    assert "three can spare one" in found.sentence


def test_a_member_that_follows_nobody_is_no_member_to_count_on() -> None:
    one = followers(QUIET)[0]
    found = worst(recorded(QUIET, no_leader(one)), "META_MARGIN")
    assert (found.severity, found.evidence["absent"]) == (Severity.WARNING, [one])
    assert worst(recorded(QUIET, no_leader(one, at=3)), "META_MARGIN").severity is Severity.OK


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        (no_leader(), Severity.CRITICAL),
        (no_leader(at=3), Severity.WARNING),
        (both(no_leader(), rounds(1)), Severity.WARNING),
    ],
)
def test_an_election_is_no_loss_of_quorum(change: Change, severity: Severity) -> None:
    snapshot = recorded(QUIET, change)
    found = worst(snapshot, "META_MARGIN")
    assert (found.severity, found.evidence["quorum"]) == (severity, False)
    assert titles(snapshot) == ["Bring the meta leader back and leave the probes alone"]


@pytest.mark.parametrize("reason", ["timed_out", "denied"])
def test_a_leader_that_the_others_name_and_we_could_not_read_is_unknown_and_no_loss_of_quorum(reason: str) -> None:
    snapshot = recorded(QUIET, silence(leader(QUIET), reason))
    found = worst(snapshot, "META_MARGIN")
    assert (found.severity, found.evidence["leader"]) == (Severity.UNKNOWN, leader(QUIET))
    assert worst(snapshot, "META_PEERS").severity is Severity.UNKNOWN
    assert titles(snapshot) == []


def test_a_leader_whom_only_a_server_we_may_not_ask_could_name_is_unknown() -> None:
    one, two = followers(QUIET)
    found = worst(
        recorded(QUIET, both(silence(leader(QUIET), "denied"), no_leader(one), silence(two, "denied"))), "META_MARGIN"
    )
    assert found.severity is Severity.UNKNOWN
    assert "could not be asked" in found.sentence


def test_a_leader_that_hears_nobody_has_no_quorum() -> None:
    lost = [replica(QUIET, s, current=False, active=11_000_000_000) for s in followers(QUIET)]
    snapshot = recorded(QUIET, both(*lost))
    assert (found := worst(snapshot, "META_MARGIN")).severity is Severity.CRITICAL
    assert "no quorum" in found.sentence
    assert titles(snapshot) == ["Bring the meta leader back and leave the probes alone"]


def test_servers_outside_a_cluster_are_in_no_meta_group() -> None:
    alone = both(drop("JSZ", "meta_cluster"), drop("RAFTZ", "SYS"))
    assert {f.severity for f in examined(recorded(QUIET, alone))} == {Severity.OK}


def unlinked(name: str, server: str) -> Change:
    """A change after which the leader has no route to the server."""

    def change(raw: Raw) -> None:
        for routez in answers(raw, "ROUTEZ", leader(name)):
            routez["routes"] = [r for r in routez["routes"] if r["remote_name"] != server]

    return change


@pytest.mark.parametrize(
    ("active", "severity"), [(10_000_000_000, Severity.UNKNOWN), (10_000_000_001, Severity.CRITICAL)]
)
def test_a_silent_server_is_frozen_when_its_leader_has_not_heard_it_for_10_s(active: int, severity: Severity) -> None:
    one = followers(QUIET)[0]
    found = worst(recorded(QUIET, both(silence(one, "timed_out"), replica(QUIET, one, active=active))), "META_PEERS")
    assert found.severity is severity
    assert ("frozen" in found.sentence) is (severity is Severity.CRITICAL)


def test_a_silent_server_without_a_route_is_away_and_not_frozen() -> None:
    one = followers(QUIET)[0]
    gone = both(
        silence(one, "unreachable"), unlinked(QUIET, one), replica(QUIET, one, current=False, active=12_000_000_000)
    )
    snapshot = recorded(QUIET, gone)
    assert worst(snapshot, "META_PEERS").severity is Severity.UNKNOWN
    assert titles(snapshot) == ["Wait until the meta group has caught up"]


def test_without_the_routes_a_silent_server_is_away_or_frozen() -> None:
    one = followers(QUIET)[0]

    def unread(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["endpoint"] == "ROUTEZ":
                sample |= {"data": None, "unknown": {"reason": "denied", "detail": "a test"}}

    quiet = both(silence(one, "unreachable"), unread, replica(QUIET, one, current=False, active=12_000_000_000))
    found = next(f for f in examined(recorded(QUIET, quiet)) if f.check == "META_PEERS" and f.subject.server == one)
    assert (found.severity, "away or frozen" in found.sentence) == (Severity.WARNING, True)


def test_a_server_that_answers_us_and_not_its_leader_lacks_a_route_and_is_not_restarted() -> None:
    one = followers(QUIET)[0]
    snapshot = recorded(QUIET, replica(QUIET, one, current=False, active=12_000_000_000))
    found = worst(snapshot, "META_PEERS")
    assert (found.severity, found.evidence["frozen"]) == (Severity.CRITICAL, False)
    assert "ROUTE_MESH" in found.sentence
    assert [title for title in titles(snapshot) if "Restart" in title] == []


@pytest.mark.parametrize(("lag", "severity"), [(200, Severity.OK), (201, Severity.CRITICAL)])
def test_a_member_more_than_the_lag_behind_in_every_reading_takes_nothing(lag: int, severity: Severity) -> None:
    one = followers(QUIET)[0]
    assert worst(recorded(QUIET, replica(QUIET, one, lag=lag)), "META_PEERS").severity is severity


@pytest.mark.parametrize(
    ("lags", "severity"),
    [
        ([900], Severity.WARNING),
        ([900, 900], Severity.WARNING),
        ([900, 900, 900], Severity.CRITICAL),
        ([900, 600, 300], Severity.WARNING),
    ],
)
def test_a_lag_must_stay_in_three_readings_before_it_accuses_anybody(lags: list[int], severity: Severity) -> None:
    one = followers(QUIET)[0]
    listed = [replica(QUIET, one, at, current=False, lag=lag) for at, lag in enumerate(lags)]
    found = worst(recorded(QUIET, both(rounds(len(lags)), *listed)), "META_PEERS")
    assert found.severity is severity
    assert ("catches up" in found.sentence) is (lags[-1] < lags[0])


def test_not_current_in_one_reading_of_several_is_an_entry_under_way() -> None:
    one = followers(QUIET)[0]
    flicker = replica(QUIET, one, 3, current=False, lag=2)
    assert worst(recorded(QUIET, flicker), "META_PEERS").severity is Severity.OK
    once = both(replica(QUIET, one, 0, current=False, lag=2), rounds(1))
    assert worst(recorded(QUIET, once), "META_PEERS").severity is Severity.WARNING


def test_a_young_server_that_takes_nothing_yet_is_waited_for() -> None:
    one = followers(QUIET)[0]
    snapshot = recorded(QUIET, both(replica(QUIET, one, current=False, lag=900), age(one, 10)))
    assert worst(snapshot, "META_PEERS", young=300.0).severity is Severity.WARNING


@pytest.mark.parametrize(("expected", "severity"), [(0, Severity.OK), (3, Severity.OK), (5, Severity.CRITICAL)])
def test_the_number_of_members_is_compared_where_it_is_set(expected: int, severity: Severity) -> None:
    assert worst(recorded(QUIET), "META_PEERS", peers=expected).severity is severity


def test_followers_lists_are_not_believed() -> None:
    """On 2.15.1 followers call each other not current, with no contact ever."""
    listed = [jsz["meta_cluster"]["replicas"] for jsz in raw_answers(QUIET) if jsz["meta_cluster"]["leader"] != ""]
    assert any(not row["current"] for rows in listed for row in rows)
    assert worst(recorded(QUIET), "META_PEERS").severity is Severity.OK


def raw_answers(name: str) -> list[Raw]:
    return [s.data for s in recorded(name).samples if s.endpoint is Endpoint.JSZ and s.data is not None]
