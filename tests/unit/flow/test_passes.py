"""From pass to pass: which runbooks fire, which are resolved, which stay silent because another one explains them."""

from __future__ import annotations

import pytest

from bot.flow.passes import Decision, Judged, Passes, picture
from bot.model import Finding, Layer, Severity, Subject
from bot.settings import OpenAt

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN
LAYERS = {"SERVERS": Layer.REACHABILITY, "STREAMS": Layer.STREAMS, "CONSUMERS": Layer.CONSUMERS}


def found(code: str, *severities: Severity, cause: bool = False) -> Judged:
    return Judged(
        code,
        tuple(
            Finding(
                check=f"{code}_{number}",
                layer=LAYERS[code],
                subject=Subject(cluster="prod"),
                severity=severity,
                sentence="Looked.",
                cause=cause,
            )
            for number, severity in enumerate(severities)
        ),
    )


def everything(servers: Severity = OK, streams: Severity = OK, consumers: Severity = OK) -> list[Judged]:
    return [found("SERVERS", servers), found("STREAMS", streams), found("CONSUMERS", consumers)]


class Cluster:
    """Passes whose incidents are open as soon as they fire, and closed as soon as they are resolved."""

    def __init__(self, open_at: OpenAt = OpenAt.CRITICAL, *already_open: str) -> None:
        self.passes = Passes(open_at)
        self.open = set(already_open)

    def see(self, *judged: Judged) -> Decision:
        decision = self.passes.decide(judged, frozenset(self.open))
        self.open = self.open | decision.firing - decision.resolved
        self.open -= decision.resolved
        return decision


def says(*firing: str, resolved: tuple[str, ...] = ()) -> Decision:
    return Decision(frozenset(firing), frozenset(resolved))


NOTHING = says()


def test_a_healthy_cluster_says_nothing() -> None:
    cluster = Cluster()
    assert [cluster.see(*everything()) for _ in range(3)] == [NOTHING] * 3


def test_a_critical_finding_fires_goes_on_and_is_resolved_once() -> None:
    cluster = Cluster()
    assert cluster.see(*everything(streams=CRITICAL)) == says("STREAMS")
    assert cluster.see(*everything(streams=CRITICAL)) == says("STREAMS")
    assert cluster.see(*everything()) == says(resolved=("STREAMS",))
    assert cluster.see(*everything()) == NOTHING


@pytest.mark.parametrize(("open_at", "said"), [(OpenAt.CRITICAL, NOTHING), (OpenAt.WARNING, says("STREAMS"))])
def test_a_warning_fires_only_where_the_settings_say_so(open_at: OpenAt, said: Decision) -> None:
    assert Cluster(open_at).see(*everything(streams=WARNING)) == said


def test_a_critical_that_becomes_a_warning_is_good_again_unless_warnings_count() -> None:
    for open_at, said in ((OpenAt.CRITICAL, says(resolved=("STREAMS",))), (OpenAt.WARNING, says("STREAMS"))):
        cluster = Cluster(open_at)
        cluster.see(*everything(streams=CRITICAL))
        assert cluster.see(*everything(streams=WARNING)) == said


def test_unknown_for_one_pass_says_nothing_and_for_two_fires() -> None:
    cluster = Cluster()
    assert cluster.see(*everything(streams=UNKNOWN)) == NOTHING
    assert cluster.see(*everything()) == NOTHING
    assert cluster.see(*everything(streams=UNKNOWN)) == NOTHING, "not two in a row"
    assert cluster.see(*everything(streams=UNKNOWN)) == says("STREAMS")
    assert cluster.see(*everything()) == says(resolved=("STREAMS",))


def test_a_warning_beside_it_does_not_hide_what_is_unknown() -> None:
    cluster = Cluster()
    assert cluster.see(found("STREAMS", WARNING, UNKNOWN)) == NOTHING
    assert cluster.see(found("STREAMS", WARNING, UNKNOWN)) == says("STREAMS")


def test_a_critical_finding_fires_at_once_whatever_else_is_unknown() -> None:
    assert Cluster().see(found("STREAMS", UNKNOWN, CRITICAL)) == says("STREAMS")


def test_what_is_open_is_not_resolved_while_a_fact_is_unknown() -> None:
    cluster = Cluster()
    cluster.see(*everything(streams=CRITICAL))
    assert cluster.see(*everything(streams=UNKNOWN)) == NOTHING, "one pass may be a time-out"
    assert cluster.see(*everything(streams=UNKNOWN)) == says("STREAMS"), "it lasts"
    assert cluster.see(found("STREAMS", OK, UNKNOWN)) == says("STREAMS")
    assert cluster.see(*everything()) == says(resolved=("STREAMS",))


def test_of_what_turns_bad_together_the_root_alone_fires() -> None:
    cluster = Cluster()
    bad = everything(CRITICAL, CRITICAL, CRITICAL)
    assert cluster.see(*bad) == says("SERVERS")
    assert cluster.see(*bad) == says("SERVERS")
    assert cluster.see(*everything()) == says(resolved=("SERVERS",))


def test_a_named_cause_is_the_root_also_from_a_higher_layer() -> None:
    seen = Cluster().see(found("SERVERS", CRITICAL), found("CONSUMERS", CRITICAL, cause=True))
    assert seen == says("CONSUMERS")


def test_a_consequence_that_outlives_its_root_fires_then() -> None:
    cluster = Cluster()
    cluster.see(*everything(CRITICAL, CRITICAL, CRITICAL))
    assert cluster.see(*everything(OK, CRITICAL, CRITICAL)) == says("STREAMS", resolved=("SERVERS",))
    assert cluster.see(*everything(OK, OK, CRITICAL)) == says("CONSUMERS", resolved=("STREAMS",))


def test_what_turns_bad_later_fires_although_a_lower_layer_is_bad_already() -> None:
    cluster = Cluster()
    cluster.see(*everything(servers=CRITICAL))
    assert cluster.see(*everything(servers=CRITICAL, consumers=CRITICAL)) == says("SERVERS", "CONSUMERS")


def test_a_consequence_that_recovers_and_turns_bad_again_is_not_explained_any_more() -> None:
    cluster = Cluster()
    cluster.see(*everything(servers=CRITICAL, streams=CRITICAL))
    assert cluster.see(*everything(servers=CRITICAL)) == says("SERVERS")
    assert cluster.see(*everything(servers=CRITICAL, streams=CRITICAL)) == says("SERVERS", "STREAMS")


def test_what_became_unknown_with_the_root_is_its_consequence_too() -> None:
    cluster = Cluster()
    seen = everything(servers=CRITICAL, streams=UNKNOWN)
    assert [cluster.see(*seen) for _ in range(4)] == [says("SERVERS")] * 4


def test_a_root_that_nobody_can_tell_for_one_pass_still_explains() -> None:
    cluster = Cluster()
    cluster.see(*everything(servers=CRITICAL, streams=CRITICAL))
    assert cluster.see(*everything(servers=UNKNOWN, streams=CRITICAL)) == NOTHING
    assert cluster.see(*everything(servers=CRITICAL, streams=CRITICAL)) == says("SERVERS")


def test_a_cluster_that_cannot_be_read_fires_once_for_the_first_runbook() -> None:
    cluster, blind = Cluster(), found("SERVERS", UNKNOWN).findings
    seen = [Judged("STREAMS", blind), Judged("SERVERS", blind), Judged("CONSUMERS", blind)]
    assert [cluster.see(*seen) for _ in range(3)] == [NOTHING, says("STREAMS"), says("STREAMS")]
    assert cluster.see(*everything()) == says(resolved=("STREAMS",))


def test_after_a_restart_what_is_sick_is_explained_by_what_is_open() -> None:
    cluster = Cluster(OpenAt.CRITICAL, "SERVERS")
    assert cluster.see(*everything(CRITICAL, CRITICAL)) == says("SERVERS")
    assert cluster.see(*everything(CRITICAL, CRITICAL, CRITICAL)) == says("SERVERS", "CONSUMERS")
    assert cluster.see(*everything(OK, CRITICAL, CRITICAL)) == says("STREAMS", "CONSUMERS", resolved=("SERVERS",))


def test_after_a_restart_what_recovered_meanwhile_is_resolved_and_what_broke_fires() -> None:
    cluster = Cluster(OpenAt.CRITICAL, "SERVERS")
    assert cluster.see(*everything(streams=CRITICAL)) == says("STREAMS", resolved=("SERVERS",))


def test_an_incident_of_a_runbook_that_looks_no_longer_is_left_alone() -> None:
    cluster = Cluster(OpenAt.CRITICAL, "RETIRED")
    assert cluster.see(*everything()) == NOTHING
    assert cluster.see(*everything(streams=CRITICAL)) == says("STREAMS")


def test_the_picture_is_what_is_wrong_without_its_numbers() -> None:
    before, after = found("STREAMS", CRITICAL, OK), found("STREAMS", CRITICAL, OK)
    moved = tuple(f.model_copy(update={"sentence": "1 of 3.", "evidence": {"n": 1}}) for f in after.findings)
    assert picture(before.findings, OpenAt.CRITICAL) == picture(moved, OpenAt.CRITICAL)
    assert picture(before.findings, OpenAt.CRITICAL) != picture(
        found("STREAMS", CRITICAL, CRITICAL).findings, OpenAt.CRITICAL
    )
    milder = found("STREAMS", CRITICAL, WARNING).findings
    assert picture(before.findings, OpenAt.CRITICAL) == picture(milder, OpenAt.CRITICAL)
    assert picture(before.findings, OpenAt.WARNING) != picture(milder, OpenAt.WARNING)
