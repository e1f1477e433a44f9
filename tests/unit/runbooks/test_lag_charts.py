"""How far servers are behind, and what the API has to do: lines and bars of the numbers that the servers gave."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.flow.examination import examine
from bot.model import (
    Bars,
    Chart,
    Endpoint,
    Finding,
    Focus,
    JsonObject,
    Layer,
    Limit,
    Lines,
    Sample,
    Severity,
    Snapshot,
    SnapshotId,
    StreamKey,
    Subject,
)
from runbooks import cluster_audit, stream_groups, stuck_consumer
from runbooks._queue_charts import api_load
from runbooks._raft_charts import meta_lag, replica_lag, stream_lag
from runbooks._series import MOST_LINES
from tests.unit.runbooks.audit_support import each, put
from tests.unit.snapshots import both, recorded, streams

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
Gaps = Mapping[str, Sequence[tuple[Any, Any] | None]]
"""Committed and applied of each server, round by round; None is no answer."""
ORDERS = Subject(cluster="prod", account="APP", stream="ORDERS")


def snapshot(*samples: Sample) -> Snapshot:
    return Snapshot(
        id=SnapshotId("snap_1"),
        cluster="prod",
        taken_at=NOW,
        via="monitoring",
        servers=(),
        samples=samples,
        expected=frozenset(sample.server for sample in samples),
    )


def answer(server: str, endpoint: Endpoint, data: JsonObject, number: int = 0) -> Sample:
    taken = NOW + timedelta(seconds=10 * number)
    return Sample(server=server, endpoint=endpoint, taken_at=taken, data=data, round=number)


def raft(gaps: Gaps, account: str = "SYS", group: str = "_meta_") -> Snapshot:
    return snapshot(
        *(
            answer(server, Endpoint.RAFTZ, {account: {group: {"committed": gap[0], "applied": gap[1]}}}, number)
            for server, rounds in gaps.items()
            for number, gap in enumerate(rounds)
            if gap is not None
        )
    )


def ends(chart: Lines | None) -> dict[str, list[float]]:
    assert chart is not None
    return {line.label: [value for _, value in line.points] for panel in chart.panels for line in panel.series}


def test_a_server_is_behind_by_what_it_has_not_applied_of_the_highest_commit_anywhere() -> None:
    found = meta_lag(
        raft({"n0": [(900, 900), (950, 950)], "n1": [(900, 600), (950, 600)], "n2": [(500, 500), (500, 500)]})
    )
    assert ends(found) == {"n2": [400, 450], "n1": [300, 350], "n0": [0, 0]}


@pytest.mark.parametrize(
    ("last", "word", "severity"),
    [
        (549, "the gap shrinks", None),
        (550, "the gap stays", Severity.CRITICAL),
        (551, "the gap grows", Severity.CRITICAL),
    ],
)
def test_a_gap_that_does_not_shrink_is_the_trouble(last: int, word: str, severity: Severity | None) -> None:
    found = meta_lag(raft({"n0": [(1_000, 1_000), (1_000, 1_000)], "n1": [(1_000, 450), (1_000, 1_000 - last)]}))
    assert found is not None
    assert found.title == f"Meta group: n1 {last} behind, {word}"
    assert found.panels[0].series[0].severity is severity


def test_a_gap_that_comes_and_goes_is_called_so_and_one_that_is_gone_too() -> None:
    waves = meta_lag(raft({"n0": [(9, 9)] * 4, "n1": [(9, 9), (9, 4), (9, 8), (9, 2)]}))
    assert waves is not None
    assert waves.title == "Meta group: n1 7 behind, the gap comes and goes"
    assert waves.panels[0].series[0].severity is None
    gone = meta_lag(raft({"n0": [(9, 9)] * 2, "n1": [(9, 4), (9, 9)]}))
    assert gone is not None
    assert gone.title == "Meta group: n1 was 5 behind, not any more"


def test_one_operation_behind_is_drawn_and_none_is_not() -> None:
    assert ends(meta_lag(raft({"n0": [(5, 5), (5, 5)], "n1": [(5, 4), (5, 4)]})))["n1"] == [1, 1]
    assert meta_lag(raft({"n0": [(5, 5), (5, 5)], "n1": [(5, 5), (5, 5)]})) is None


def test_one_reading_is_no_line() -> None:
    assert meta_lag(raft({"n0": [(900, 900)], "n1": [(900, 600)]})) is None
    two = meta_lag(raft({"n0": [(900, 900), (900, 900)], "n1": [(900, 600), (900, 600)], "n2": [(900, 0), None]}))
    assert ends(two) == {"n1": [300, 300], "n0": [0, 0]}


def test_the_worst_lines_are_shown_and_the_rest_is_counted() -> None:
    gaps: dict[str, list[tuple[int, int] | None]] = {
        f"n{n}": [(1_000, 900 - n), (1_000, 900 - n)] for n in range(MOST_LINES + 2)
    }
    found = meta_lag(raft(gaps))
    assert found is not None
    assert list(ends(found)) == ["n7", "n6", "n5", "n4", "n3", "n2"]
    assert found.note == "2 more lines, all lower, are left out."


def meta(*lags: Mapping[str, int], leader: str = "n0") -> Snapshot:
    """What JSZ of the meta leader says of the others, round by round; the others name the leader alone, as before 2.15."""
    samples: list[Sample] = []
    for number, lag in enumerate(lags):
        peers = [{"name": name, "current": True, "lag": value} for name, value in lag.items()]
        samples.append(answer(leader, Endpoint.JSZ, {"meta_cluster": {"leader": leader, "replicas": peers}}, number))
        samples += [answer(name, Endpoint.JSZ, {"meta_cluster": {"leader": leader}}, number) for name in lag]
    return snapshot(*samples)


def test_where_the_raft_nodes_were_read_once_the_leader_tells_who_is_behind() -> None:
    told = meta({"n1": 40, "n2": 0}, {"n1": 15, "n2": 0})
    assert ends(meta_lag(told)) == {"n1": [40, 15], "n0, n2": [0, 0]}
    once = raft({"n0": [(900, 900)], "n1": [(900, 600)]})
    assert ends(meta_lag(snapshot(*told.samples, *once.samples))) == {"n1": [40, 15], "n0, n2": [0, 0]}
    twice = raft({"n0": [(900, 900), (900, 900)], "n1": [(900, 600), (900, 600)]})
    assert ends(meta_lag(snapshot(*told.samples, *twice.samples))) == {"n1": [300, 300], "n0": [0, 0]}


def test_of_two_that_claim_to_lead_the_one_with_more_followers_tells() -> None:
    alone = answer("n3", Endpoint.JSZ, {"meta_cluster": {"leader": "n3", "replicas": []}})
    told = meta({"n1": 40}, {"n1": 15})
    assert ends(meta_lag(snapshot(*told.samples, alone))) == {"n1": [40, 15], "n0": [0, 0]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(2**64) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(value=JSON, other=JSON)
def test_no_answer_of_a_server_breaks_a_chart(value: Any, other: Any) -> None:
    raws: list[Any] = [
        value,
        {"SYS": value},
        {"SYS": {"_meta_": value}},
        {"SYS": {"_meta_": {"committed": value, "applied": other}}},
    ]
    for raw in raws:
        data: JsonObject = raw if isinstance(raw, dict) else {}
        meta_lag(snapshot(*(answer(f"n{n}", Endpoint.RAFTZ, data, r) for n in range(2) for r in range(2))))
    for endpoint, raw in (
        (Endpoint.JSZ, {"api": {"inflight": other}}),
        (Endpoint.VARZ, {"jetstream": {"stats": value}}),
    ):
        api_load(snapshot(answer("n0", endpoint, raw)), Limit(name="limit", value=1))


# --- the runbooks that use them ---------------------------------------------------------------------------------------


def found_by(check: str, subject: Subject, severity: Severity = Severity.CRITICAL) -> Finding:
    return Finding(check=check, layer=Layer.META, subject=subject, severity=severity, sentence="It is so.")


def consumer_charts(taken: Snapshot, *findings: Finding) -> list[str]:
    return [chart.code for chart in stuck_consumer.RUNBOOK.charts(taken, findings, {}, Focus())]


def test_the_meta_group_is_drawn_where_it_is_the_trouble() -> None:
    taken = raft({"n0": [(9, 9), (9, 9)], "n1": [(9, 2), (9, 2)]})
    cluster = Subject(cluster="prod")
    assert consumer_charts(taken, found_by("META_QUORUM", cluster)) == ["META_LAG"]
    assert consumer_charts(taken, found_by("META_QUORUM", cluster, Severity.OK)) == []
    assert consumer_charts(taken, found_by("HA_ASSETS", cluster)) == []


def test_a_stream_without_quorum_shows_its_group_by_the_name_the_servers_give() -> None:
    def behind(raw: dict[str, Any]) -> None:
        raftz = [sample for sample in raw["samples"] if sample["endpoint"] == "RAFTZ"]
        raw["samples"] += [sample | {"round": 1, "taken_at": raw["samples"][-1]["taken_at"]} for sample in raftz]
        for sample in raftz:
            for name, node in sample["data"]["APP"].items():
                node["applied"] = 3 if name.startswith("S-") and sample["server"] == "n1" else node["committed"]

    taken = recorded("healthy_2.15.1", behind)
    charts = stuck_consumer.RUNBOOK.charts(taken, [found_by("STREAM_QUORUM", ORDERS)], {}, Focus())
    assert [(chart.code, "n1" in chart.title) for chart in charts] == [("STREAM_LAG", True)]


def test_a_stream_whose_raft_nodes_were_read_once_shows_what_its_leader_says() -> None:
    def behind(raw: dict[str, Any]) -> None:
        for number, lag in ((0, 70), (1, 90)):
            for stream in streams(raw, at=number):
                for peer in stream["cluster"].get("replicas") or []:
                    peer["lag"] = lag if peer["name"] == "n2" else 0

    found = stream_lag(recorded("healthy_2.15.1", behind), StreamKey("APP", "ORDERS"))
    assert found is not None
    assert found.title == "Raft group of stream APP > ORDERS: n2 90 behind, the gap grows"


@pytest.mark.parametrize(("severity", "shown"), [(Severity.CRITICAL, ["STREAM_LAG"]), (Severity.OK, [])])
def test_a_stream_whose_member_lags_shows_it_and_a_finding_about_many_streams_shows_none(
    severity: Severity, shown: list[str]
) -> None:
    def behind(raw: dict[str, Any]) -> None:
        for stream in streams(raw):
            for peer in stream["cluster"].get("replicas") or []:
                peer["lag"] = 300 if peer["name"] == "n2" else 0

    taken, draw = recorded("healthy_2.15.1", behind), stream_groups.RUNBOOK.charts
    assert [c.code for c in draw(taken, [found_by("STREAM_LAG", ORDERS, severity)], {}, Focus())] == shown
    many = found_by("STREAM_LAG", Subject(cluster="prod", server="n2"))
    assert list(draw(taken, [many], {}, Focus())) == []


def test_a_stream_that_nobody_reports_has_no_lag() -> None:
    assert stream_lag(recorded("healthy_2.15.1"), StreamKey("APP", "NOBODY")) is None


def audited(*changes: Callable[[dict[str, Any]], None]) -> list[Chart]:
    taken = recorded("audit_2.15.1", both(*changes))
    runbook = cluster_audit.RUNBOOK
    judged = examine(taken, runbook, runbook.values(), Focus())
    return list(runbook.charts(taken, judged.findings, runbook.values(), Focus()))


def test_a_healthy_audit_has_no_picture() -> None:
    assert audited() == []


def test_replicas_that_lag_are_drawn() -> None:
    (chart,) = audited(each(streams, {"state.last_seq": 50}, "n1", 0), each(streams, {"state.last_seq": 60}, "n1", 1))
    assert isinstance(chart, Lines)
    assert ends(chart) == {"n1": [150, 140], "n0, n2": [0, 0]}
    assert chart.title == "Stream APP > ORDERS: n1 140 behind, the gap shrinks"


def test_replica_lag_of_an_unknown_stream_is_nothing() -> None:
    assert replica_lag(recorded("audit_2.15.1"), StreamKey("APP", "NOBODY")) is None


@pytest.mark.parametrize(("inflight", "count"), [(1_000, 0), (1_001, 1)])
def test_the_api_is_drawn_from_the_audits_threshold_on(inflight: int, count: int) -> None:
    charts = audited(put("VARZ", "jetstream.stats.api.inflight", inflight, "n1"))
    assert len(charts) == count
    for chart in charts:
        assert isinstance(chart, Bars)
        assert chart.title == "API requests on n1: 1,001"
        assert chart.limit == Limit(name="accepted", value=1_000)
