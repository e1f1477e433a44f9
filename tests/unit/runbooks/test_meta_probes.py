"""Which probes of the charts a server fails, by its exact text and version."""

import pytest

from bot.model import Severity
from tests.unit.runbooks.audit_support import put
from tests.unit.runbooks.meta_support import (
    GROUP,
    NEW,
    NOT_CURRENT,
    OLD,
    QUIET,
    error,
    followers,
    healthz,
    titles,
    worst,
)
from tests.unit.snapshots import Raw, both, recorded


@pytest.mark.parametrize(
    ("name", "answer", "probes"),
    [
        (OLD, NOT_CURRENT, {"startup": "fails", "readiness": "fails", "liveness": "passes"}),
        (NEW, error("JetStream not enabled"), {"startup": "fails", "readiness": "passes", "liveness": "fails"}),
        (
            NEW,
            error("failed to be ready for connections after 1ms: server", "CONNECTION"),
            {"startup": "fails", "readiness": "fails", "liveness": "fails"},
        ),
    ],
)
def test_the_exact_text_and_the_version_say_which_probes_fail(name: str, answer: Raw, probes: dict[str, str]) -> None:
    one = followers(name)[0]
    found = worst(recorded(name, healthz(one, answer)), "READINESS_PROBES")
    assert (found.severity, found.subject.server, found.evidence["probes"]) == (Severity.WARNING, one, probes)
    assert answer["errors"][0]["error"] in found.sentence


def test_a_server_that_is_not_current_stays_ready_on_2_11_and_that_is_said() -> None:
    one = followers(NEW)[0]
    found = worst(recorded(NEW, healthz(one, NOT_CURRENT)), "READINESS_PROBES")
    assert found.severity is Severity.OK
    assert "does not mean that JetStream answers" in found.sentence
    assert one in found.sentence


def test_a_stream_that_is_behind_is_no_matter_of_the_meta_group() -> None:
    one = followers(OLD)[0]
    answer = error("JetStream stream 'APP > S' is not current: stream catching up", "STREAM")
    assert worst(recorded(OLD, healthz(one, answer)), "READINESS_PROBES").severity is Severity.OK


def test_a_server_that_opens_or_closes_its_ports_is_waited_for() -> None:
    one = followers(NEW)[0]
    starting = error("failed to be ready for connections after 1ms: server, route", "CONNECTION")
    snapshot = recorded(NEW, healthz(one, starting))
    assert "lame duck" in worst(snapshot, "READINESS_PROBES").sentence
    assert titles(snapshot) == ["Wait until the meta group has caught up"]


def test_jetstream_that_is_off_is_not_waited_for() -> None:
    assert titles(recorded(NEW, healthz(followers(NEW)[0], error("JetStream not enabled")))) == []


def test_an_unread_health_check_is_unknown() -> None:
    one = followers(QUIET)[0]
    found = worst(recorded(QUIET, healthz(one, None, "timed_out")), "READINESS_PROBES")
    assert (found.severity, f"HEALTHZ of {one}: timed_out" in found.sentence) == (Severity.UNKNOWN, True)


def test_a_version_that_must_not_be_asked_is_judged_by_its_raft_node() -> None:
    one = followers(OLD)[0]
    unasked = healthz(one, None, "not_in_version")
    assert worst(recorded(OLD, unasked), "READINESS_PROBES").severity is Severity.OK
    found = worst(recorded(OLD, both(unasked, put("RAFTZ", f"{GROUP}.leader", "", one))), "READINESS_PROBES")
    assert (found.severity, found.evidence["probes"]["readiness"]) == (Severity.WARNING, "fails")
