"""The debouncer at its exact windows, with time passed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bot.flow.debounce import MOST_GROUPS, Debouncer
from bot.flow.incoming import IncomingAlert
from bot.flow.notices import AdvisoryAlert, Notice
from bot.model import AlertState
from bot.settings import AdvisorySettings

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
PACE = AdvisorySettings.model_validate(
    {"silence": "120s", "repeat": "300s", "elections": 3, "window": "200s", "most": 2}
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def sighting(seconds: float, fingerprint: str = "f1", name: str = AdvisoryAlert.STREAM_QUORUM_LOST) -> IncomingAlert:
    return IncomingAlert(
        fingerprint=fingerprint,
        state=AlertState.FIRING,
        name=name,
        labels={"cluster": "prod", "stream": fingerprint},
        annotations={},
        starts_at=at(seconds),
        ends_at=None,
    )


def election(seconds: float, fingerprint: str = "g1") -> IncomingAlert:
    return sighting(seconds, fingerprint, AdvisoryAlert.LEADER_ELECTIONS)


def fresh() -> Debouncer:
    return Debouncer("prod", PACE)


def told(notices: list[Notice]) -> list[tuple[str, AlertState, float]]:
    """Return fingerprint, state and start of each notice."""
    return [(n.alert.fingerprint, n.alert.state, (n.alert.starts_at - START).total_seconds()) for n in notices]


FIRING, RESOLVED = AlertState.FIRING, AlertState.RESOLVED


def test_the_first_is_news_and_due_at_once() -> None:
    debouncer = fresh()
    assert debouncer.hear(sighting(0), {"n": 1})
    (notice,) = debouncer.due(at(0))
    assert (notice.cluster, notice.heard, notice.evidence) == ("prod", 1, {"n": 1})
    assert told([notice]) == [("f1", FIRING, 0)]
    assert debouncer.due(at(0)) == []


def test_what_comes_before_the_first_is_fetched_is_counted_into_it() -> None:
    debouncer = fresh()
    assert all(debouncer.hear(sighting(n), {"n": n}) for n in (0, 1, 2))
    (notice,) = debouncer.due(at(2))
    assert (notice.heard, notice.evidence) == (3, {"n": 2})
    assert told([notice]) == [("f1", FIRING, 0)]


def test_repeats_fold_into_one_delivery_per_window() -> None:
    debouncer = fresh()
    debouncer.hear(sighting(0), {})
    debouncer.due(at(0))
    for second in range(10, 300, 10):
        assert not debouncer.hear(sighting(second), {"at": second})
        assert debouncer.due(at(second)) == []
    assert debouncer.due(at(299.9)) == []
    (notice,) = debouncer.due(at(300))
    assert (notice.heard, notice.evidence) == (29, {"at": 290})
    assert told([notice]) == [("f1", FIRING, 0)], "the same episode"
    assert debouncer.due(at(301)) == []


def test_a_window_in_which_nothing_was_heard_delivers_nothing() -> None:
    debouncer = Debouncer("prod", PACE.model_copy(update={"silence": 1_000.0}))
    debouncer.hear(sighting(0), {})
    debouncer.due(at(0))
    assert debouncer.due(at(600)) == []


def test_silence_resolves_at_its_end_and_not_before() -> None:
    debouncer = fresh()
    debouncer.hear(sighting(0), {})
    debouncer.due(at(0))
    debouncer.hear(sighting(50), {})
    assert debouncer.due(at(169.9)) == []
    (notice,) = debouncer.due(at(170))
    assert told([notice]) == [("f1", RESOLVED, 0)]
    assert notice.alert.ends_at == at(170)
    assert debouncer.due(at(1_000)) == []


def test_what_is_heard_after_silence_is_another_episode() -> None:
    debouncer = fresh()
    debouncer.hear(sighting(0), {})
    debouncer.due(at(0))
    debouncer.due(at(120))
    assert debouncer.hear(sighting(121), {})
    assert told(debouncer.due(at(121))) == [("f1", FIRING, 121)]


def test_what_was_heard_but_never_fetched_fires_before_it_is_resolved() -> None:
    debouncer = fresh()
    debouncer.hear(sighting(0), {})
    assert told(debouncer.due(at(500))) == [("f1", FIRING, 0)]
    assert told(debouncer.due(at(501))) == [("f1", RESOLVED, 0)]


def test_different_things_do_not_disturb_each_other() -> None:
    debouncer = fresh()
    debouncer.hear(sighting(0, "a"), {})
    debouncer.hear(sighting(60, "b"), {})
    debouncer.due(at(60))
    assert told(debouncer.due(at(120))) == [("a", RESOLVED, 0)]
    assert told(debouncer.due(at(180))) == [("b", RESOLVED, 60)]


def test_elections_are_a_storm_from_the_third_within_the_window() -> None:
    debouncer = fresh()
    assert not debouncer.hear(election(0), {})
    assert not debouncer.hear(election(100), {})
    assert debouncer.due(at(100)) == []
    assert debouncer.hear(election(200), {}), "exactly the window"
    assert told(debouncer.due(at(200))) == [("g1", FIRING, 200)]


def test_elections_that_take_longer_than_the_window_are_no_storm() -> None:
    debouncer = fresh()
    for second in (0, 100, 200.1, 310, 420):
        assert not debouncer.hear(election(second), {})
    assert debouncer.due(at(420)) == []


def test_elections_of_different_groups_are_counted_apart() -> None:
    debouncer = fresh()
    for number in range(50):
        assert not debouncer.hear(election(number, f"g{number // 2}"), {})


def test_a_storm_is_over_when_no_window_has_enough_elections() -> None:
    debouncer = fresh()
    for second in (0, 1, 2):
        debouncer.hear(election(second), {})
    debouncer.due(at(2))
    assert debouncer.due(at(201.9)) == [], "silence is 120 s, and a storm lasts at least its window"
    debouncer.hear(election(199), {})
    assert told(debouncer.due(at(202))) == []
    assert told(debouncer.due(at(399))) == [("g1", RESOLVED, 2)]


def test_beyond_the_most_all_further_ones_share_one_alert_without_a_focus() -> None:
    debouncer = fresh()
    for number in range(5):
        assert debouncer.hear(sighting(number, f"f{number}"), {"n": number})
    first, second, crowd = debouncer.due(at(4))
    assert [n.alert.labels["stream"] for n in (first, second)] == ["f0", "f1"]
    assert crowd.alert.labels == {"cluster": "prod"}
    assert (crowd.heard, crowd.evidence) == (3, {"n": 4})
    assert "2 of these are open" in crowd.alert.annotations["summary"]
    assert debouncer.hear(sighting(5, "other name", AdvisoryAlert.SERVER_REMOVED), {})


def test_a_thread_of_its_own_is_free_again_once_one_is_resolved() -> None:
    debouncer = fresh()
    for fingerprint in ("a", "b", "c"):
        debouncer.hear(sighting(0, fingerprint), {})
    debouncer.due(at(0))
    debouncer.hear(sighting(100, "b"), {})
    debouncer.hear(sighting(100, "c"), {})
    assert told(debouncer.due(at(120))) == [("a", RESOLVED, 0)]
    assert debouncer.hear(sighting(121, "c"), {})
    assert told(debouncer.due(at(121))) == [("c", FIRING, 121)]


def test_memory_is_bounded_however_many_names_are_heard() -> None:
    debouncer = fresh()
    for number in range(3 * MOST_GROUPS):
        debouncer.hear(election(0, f"g{number}"), {})
        debouncer.hear(sighting(0, f"f{number}"), {})
    assert len(debouncer._elections) == MOST_GROUPS
    assert len(debouncer._cases) == PACE.most + 1


def test_the_least_recently_electing_group_is_forgotten_first() -> None:
    debouncer = fresh()
    debouncer.hear(election(0, "old"), {})
    for number in range(MOST_GROUPS - 1):
        debouncer.hear(election(1, f"g{number}"), {})
    debouncer.hear(election(2, "old"), {})
    debouncer.hear(election(2, "new"), {})
    assert debouncer.hear(election(3, "old"), {}), "its three elections are still known"


def test_an_adopted_alert_is_resolved_after_silence_with_its_own_start() -> None:
    debouncer = fresh()
    debouncer.adopt(sighting(-5_000), at(0))
    assert debouncer.due(at(119.9)) == []
    assert told(debouncer.due(at(120))) == [("f1", RESOLVED, -5_000)]


def test_an_adopted_alert_that_goes_on_is_no_news() -> None:
    debouncer = fresh()
    debouncer.adopt(sighting(-5_000), at(0))
    assert not debouncer.hear(sighting(10), {})
    assert debouncer.due(at(100)) == []
    debouncer.hear(sighting(250), {})
    assert told(debouncer.due(at(300))) == [("f1", FIRING, -5_000)]


def test_what_was_heard_before_it_could_be_adopted_stays() -> None:
    debouncer = fresh()
    debouncer.hear(sighting(1), {"n": 1})
    debouncer.adopt(sighting(-5_000), at(2))
    assert not debouncer.hear(sighting(3), {})
    assert told(debouncer.due(at(302))) == [("f1", RESOLVED, 1)]
