"""The route-mesh runbook: the expected connections as a table, and recorded meshes varied by hand at the thresholds."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.flow.ranking import rank
from bot.model import (
    Endpoint,
    Finding,
    Focus,
    PairDelivery,
    Sample,
    ServerIdentity,
    Severity,
    Snapshot,
    SnapshotId,
    Unknown,
    UnknownReason,
)
from bot.model.mesh import read_mesh, seconds
from bot.model.mesh_pool import Expected, Side, expected, slot_of
from bot.runbook import Proposed
from runbooks.route_mesh import RUNBOOK, route_list
from tests.exhaustive import examples
from tests.unit.actions.kubernetes_scene import cluster
from tests.unit.snapshots import Raw, answers, both, recorded

SYS = frozenset({"SYS"})
NONE = frozenset[str]()
OLD = {"young": 0.0}
Change = Callable[[Raw], None]


def examined(snapshot: Snapshot, **thresholds: float) -> list[Finding]:
    values = RUNBOOK.values(OLD | thresholds)
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, values, Focus())]


def proposed(snapshot: Snapshot, **thresholds: float) -> list[Proposed]:
    return list(RUNBOOK.propose(snapshot, examined(snapshot, **thresholds), RUNBOOK.values(OLD | thresholds), Focus()))


def worst(snapshot: Snapshot, check: str, **thresholds: float) -> Finding:
    return max((f for f in examined(snapshot, **thresholds) if f.check == check), key=lambda f: f.severity.rank)


def rows(raw: Raw, server: str, remote: str) -> list[Raw]:
    return [r for routez in answers(raw, "ROUTEZ", server) for r in routez["routes"] if r["remote_name"] == remote]


def without(one: str, two: str, *, account: str | None = None, count: int = 1) -> Change:
    """Takes `count` connections of the pool, or of the pinned account, away on both ends."""

    def change(raw: Raw) -> None:
        for server, remote in ((one, two), (two, one)):
            (routez,) = answers(raw, "ROUTEZ", server)
            gone = [r for r in rows(raw, server, remote) if r.get("account") == account][:count]
            routez["routes"] = [r for r in routez["routes"] if r not in gone]
            routez["num_routes"] -= len(gone)

    return change


def cut(one: str, two: str) -> Change:
    return both(without(one, two, count=3), without(one, two, account="SYS"))


def silence(server: str, *endpoints: str) -> Change:
    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == server and (not endpoints or sample["endpoint"] in endpoints):
                sample |= {"data": None, "unknown": {"reason": "timed_out", "detail": "no answer"}}

    return change


def varz(server: str, **fields: Any) -> Change:
    def change(raw: Raw) -> None:
        for answer in answers(raw, "VARZ", server):
            answer.update(fields)

    return change


def block(server: str, **fields: Any) -> Change:
    def change(raw: Raw) -> None:
        for answer in answers(raw, "VARZ", server):
            answer["cluster"].update(fields)

    return change


def version(server: str, number: str) -> Change:
    def change(raw: Raw) -> None:
        for identity in raw["servers"]:
            if identity["name"] == server:
                identity["version"] = number

    return change


def on(server: str, remote: str, **fields: Any) -> Change:
    def change(raw: Raw) -> None:
        for row in rows(raw, server, remote):
            row.update(fields)

    return change


HEALTHY = "mesh_healthy_2.11.11"


@pytest.mark.parametrize(
    ("one", "other", "pinned", "wanted"),
    [
        ((2, 10, 0), 3, SYS, Expected(3, SYS)),
        ((2, 15, 1), 3, SYS, Expected(3, SYS)),
        ((2, 15, 1), 3, SYS | {"APP"}, Expected(3, SYS | {"APP"})),
        ((2, 11, 2), 1, SYS, Expected(3, SYS)),
        ((2, 11, 2), 5, SYS, Expected(5, SYS)),
        ((2, 11, 1), 1, SYS, Expected(0, refused=True)),
        ((2, 11, 1), 3, SYS, Expected(3, SYS)),
        ((2, 10, 26), 5, SYS, Expected(0, refused=True)),
        ((2, 10, 26), -1, SYS, Expected(1)),
        ((2, 15, 1), -1, SYS, Expected(1)),
        ((2, 9, 25), -1, SYS, Expected(1)),
        ((2, 9, 25), 3, SYS, Expected(1)),
        ((2, 15, 1), 3, NONE, Expected(3)),
    ],
)
def test_a_pair_needs_what_both_ends_versions_and_pool_sizes_say(
    one: tuple[int, int, int], other: int, pinned: frozenset[str], wanted: Expected
) -> None:
    here, there = Side(one, other), Side((2, 15, 1), 3)
    assert expected(here, there, pinned) == expected(there, here, pinned) == wanted


@pytest.mark.parametrize(
    ("sizes", "each"), [((3, 3, 3), 8), ((-1, -1, -1), 2), ((1, 1, 1), 4), ((5, 5, 5), 12), ((3, 3, -1), 5)]
)
def test_the_totals_of_a_server_are_those_that_were_measured(sizes: tuple[int, int, int], each: int) -> None:
    sides = [Side((2, 11, 11), size) for size in sizes]
    total = sum(e.slots + len(e.pinned) for e in (expected(sides[0], other, SYS) for other in sides[1:]))
    assert total == each


@pytest.mark.parametrize(("account", "slot"), [("APP", 1), ("$G", 2), ("SYS", 0)])
def test_an_accounts_slot_is_the_servers_own_hash(account: str, slot: int) -> None:
    # FNV-1a of the empty string is its offset basis, and of "a" 0xe40c292c (the test vectors of its authors).
    assert slot_of("", 0xFFFFFFFF) == 0x811C9DC5
    assert slot_of("a", 0xFFFFFFFF) == 0xE40C292C
    assert slot_of(account, 3) == slot
    assert slot_of(account, 1) == slot_of(account, -1) == 0


@pytest.mark.parametrize(
    ("text", "wanted"), [("0s", 0.0), ("1.5ms", 0.0015), ("250µs", 0.00025), ("1m2s", 62.0), ("x", None), (7, None)]
)
def test_a_round_trip_time_is_read_as_the_server_writes_it(text: object, wanted: float | None) -> None:
    assert seconds(text) == (None if wanted is None else pytest.approx(wanted))


@pytest.mark.parametrize("number", ["2.10.26", "2.11.11", "2.12.8", "2.15.1"])
def test_a_healthy_mesh_has_no_finding_and_no_proposal(number: str) -> None:
    snapshot = recorded(f"mesh_healthy_{number}")
    assert {f.severity for f in examined(snapshot)} == {Severity.OK}
    assert proposed(snapshot) == []


def test_a_server_without_a_pool_is_no_gap() -> None:
    snapshot = recorded("mesh_pool_off_2.11.11")
    assert {f.severity for f in examined(snapshot)} == {Severity.OK}
    assert proposed(snapshot) == []


def test_the_short_list_is_the_root_of_a_missing_pair() -> None:
    snapshot = recorded("mesh_seed_2.11.11")
    verdict = rank(examined(snapshot))
    assert verdict.root is not None
    assert (verdict.severity, verdict.root.check, verdict.root.cause) == (Severity.CRITICAL, "MESH_LISTS", True)
    assert [f.evidence["pair"] for f in verdict.consequences if f.check == "MESH_PAIRS"] == [["n1", "n2"]]


def test_islands_are_named_with_their_meta_leaders() -> None:
    root = rank(examined(recorded("mesh_islands_2.15.1"))).root
    assert root is not None
    assert root.check == "MESH_ISLANDS"
    assert "{n2, n3, n4} with meta leader n" in root.sentence
    assert "{n0, n1} with meta leader n" in root.sentence


def test_one_name_for_all_is_the_root_and_the_list_names_the_pods() -> None:
    snapshot = recorded("mesh_headless_2.11.11")
    root = rank(examined(snapshot)).root
    assert root is not None
    assert root.check == "MESH_LISTS"
    assert "Behind one name each connection is dialled to a random server" in root.sentence
    hosts = [address.rpartition(":")[0] for address in route_list(read_mesh(snapshot)).values()]
    assert hosts == ["n0.nats-headless", "n1.nats-headless", "n2.nats-headless"]


def test_the_name_of_one_pod_gives_the_names_of_the_others() -> None:
    lists = both(*(block(n, urls=["n0.nats-headless.ns.svc:6222"]) for n in ("n0", "n1", "n2")))
    addresses = route_list(read_mesh(recorded(HEALTHY, lists)))
    assert list(addresses.values()) == [f"n{i}.nats-headless.ns.svc:6222" for i in range(3)]


def test_an_address_that_nobody_tells_is_a_placeholder() -> None:
    change = both(block("n1", addr="0.0.0.0"), *(block(n, urls=["10.0.0.1:6222"]) for n in ("n0", "n1", "n2")))
    assert route_list(read_mesh(recorded(HEALTHY, change)))["n1"] == "<address of n1>:6222"


@pytest.mark.parametrize(("gone", "severity"), [(0, Severity.OK), (1, Severity.CRITICAL), (2, Severity.CRITICAL)])
def test_one_missing_slot_is_enough(gone: int, severity: Severity) -> None:
    found = worst(recorded(HEALTHY, without("n0", "n1", count=gone)), "MESH_SLOTS")
    assert found.severity is severity
    if gone:
        assert found.evidence["pair"] == ["n0", "n1"]
        assert f"{3 - gone} of 3 connections of their pool" in found.sentence
        assert "slot 1: APP; slot 2: $G" in found.sentence
        assert found.issue is not None  # The lists are whole, so the server's own defect is the likely reason.


def test_without_any_slot_all_accounts_are_named() -> None:
    found = worst(recorded(HEALTHY, without("n0", "n1", count=3)), "MESH_SLOTS")
    assert "accounts $G, APP lose messages between them" in found.sentence.replace("APP, $G", "$G, APP")


def test_a_missing_connection_of_a_pinned_account_names_it() -> None:
    found = worst(recorded(HEALTHY, without("n0", "n2", account="SYS")), "MESH_SLOTS")
    assert (found.severity, found.evidence["pair"]) == (Severity.CRITICAL, ["n0", "n2"])
    assert "no connection for pinned account SYS" in found.sentence


def test_a_pinned_account_counts_where_both_ends_have_it_elsewhere() -> None:
    def pin(raw: Raw) -> None:
        for one, two in (("n0", "n1"), ("n1", "n2"), ("n0", "n2")):
            for server, remote in ((one, two), (two, one)):
                if {one, two} != {"n0", "n2"}:
                    (routez,) = answers(raw, "ROUTEZ", server)
                    routez["routes"].append(rows(raw, server, remote)[0] | {"account": "APP"})
                    routez["num_routes"] += 1

    found = [f for f in examined(recorded(HEALTHY, pin)) if f.check == "MESH_SLOTS"]
    assert [f.evidence["missing pinned accounts"] for f in found] == [["APP"]]
    assert found[0].evidence["pair"] == ["n0", "n2"]


def test_a_missing_pair_is_told_by_one_end_alone() -> None:
    found = worst(recorded(HEALTHY, both(cut("n1", "n2"), silence("n2"))), "MESH_PAIRS")
    assert (found.severity, found.evidence["pair"]) == (Severity.CRITICAL, ["n1", "n2"])
    assert "(told by n1 alone)" in found.sentence


def test_a_server_that_is_down_is_unknown_and_no_broken_pair() -> None:
    snapshot = recorded(HEALTHY, both(cut("n1", "n2"), cut("n0", "n2"), silence("n2")))
    assert worst(snapshot, "MESH_PAIRS").severity is Severity.OK
    assert worst(snapshot, "MESH_MEMBERS").severity is Severity.UNKNOWN
    assert "no server has a route with it" in worst(snapshot, "MESH_MEMBERS").sentence
    assert proposed(snapshot) == []


def test_a_silent_server_that_pools_with_others_is_judged_like_them() -> None:
    found = worst(recorded(HEALTHY, both(without("n0", "n2"), silence("n2"))), "MESH_SLOTS")
    assert (found.severity, found.evidence["pair"]) == (Severity.CRITICAL, ["n0", "n2"])


def test_a_silent_server_that_may_not_pool_is_unknown() -> None:
    snapshot = recorded("mesh_pool_off_2.11.11", silence("n2"))
    assert worst(snapshot, "MESH_SLOTS").severity is Severity.UNKNOWN
    assert worst(snapshot, "MESH_PAIRS").severity is Severity.OK


YOUNG = [
    ("MESH_PAIRS", cut("n0", "n1")),
    ("MESH_SLOTS", without("n0", "n1")),
    ("MESH_ISLANDS", both(cut("n0", "n1"), cut("n0", "n2"))),
    ("MESH_SERVER_NAMES", on("n0", "n1", remote_id="NOTHER")),
    ("MESH_LISTS", both(cut("n1", "n2"), block("n1", urls=["a:1"]), block("n2", urls=["a:1"]))),
]


@pytest.mark.parametrize(
    ("age", "severity"), [(59.9, Severity.WARNING), (60.0, Severity.CRITICAL), (60.1, Severity.CRITICAL)]
)
@pytest.mark.parametrize(("check", "broken"), YOUNG)
def test_a_young_server_may_still_be_finding_the_others(
    check: str, broken: Change, age: float, severity: Severity
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = {"start": start.isoformat(), "now": (start + timedelta(seconds=age)).isoformat()}
    aged = both(*(varz(n, **times) for n in ("n0", "n1", "n2")))
    snapshot = recorded(HEALTHY, both(aged, broken))
    found = worst(snapshot, check, young=60.0)
    assert found.severity is severity
    assert check == "MESH_LISTS" or ("wait" in found.sentence) is (severity is Severity.WARNING)
    assert bool(proposed(snapshot, young=60.0)) is (severity is Severity.CRITICAL or check == "MESH_LISTS")


def test_different_versions_make_a_missing_slot_a_warning_and_a_missing_pair_no_less() -> None:
    rolling = version("n0", "2.11.10")
    assert worst(recorded(HEALTHY, both(rolling, without("n0", "n1"))), "MESH_SLOTS").severity is Severity.WARNING
    assert worst(recorded(HEALTHY, both(rolling, cut("n0", "n1"))), "MESH_PAIRS").severity is Severity.CRITICAL


def test_a_server_before_pooling_has_one_connection() -> None:
    def old(raw: Raw) -> None:
        both(version("n2", "2.9.25"), without("n0", "n2", account="SYS"), without("n1", "n2", account="SYS"))(raw)
        both(without("n0", "n2", count=2), without("n1", "n2", count=2))(raw)
        answers(raw, "VARZ", "n2")[0]["cluster"].pop("pool_size")

    assert {f.severity for f in examined(recorded(HEALTHY, old))} == {Severity.OK}


def test_ends_that_disagree_are_told() -> None:
    def half(raw: Raw) -> None:
        (routez,) = answers(raw, "ROUTEZ", "n0")
        routez["routes"].remove(rows(raw, "n0", "n1")[0])
        routez["num_routes"] -= 1

    found = worst(recorded(HEALTHY, half), "MESH_VIEWS")
    assert found.severity is Severity.WARNING
    assert "n0 shows 3 connections with n1, and n1 shows 4 with n0" in found.sentence


def test_another_cluster_name_is_the_root_unless_gateways_or_leaf_nodes_explain_it() -> None:
    other = both(block("n2", name="other"), cut("n0", "n2"), cut("n1", "n2"))
    root = rank(examined(recorded(HEALTHY, other))).root
    assert root is not None
    assert (root.check, root.subject.server) == ("MESH_CLUSTER_NAME", "n2")
    far = both(other, block("n2", urls=["far:6222"]), varz("n0", gateway={"name": "lab"}))
    assert worst(recorded(HEALTHY, far), "MESH_CLUSTER_NAME").severity is Severity.OK


def test_two_servers_of_one_name_are_told() -> None:
    snapshot = recorded(HEALTHY, on("n0", "n1", remote_id="NOTHER"))
    found = worst(snapshot, "MESH_SERVER_NAMES")
    assert (found.severity, found.subject.server) == (Severity.CRITICAL, "n1")
    assert "NOTHER" in found.evidence["ids"]
    assert worst(snapshot, "MESH_SERVER_NAMES", young=60.0).severity is Severity.WARNING


@pytest.mark.parametrize(
    ("urls", "severity"),
    [
        (["a:1", "b:1"], Severity.OK),
        (["a:1"], Severity.WARNING),
        (["a:1", "a:1"], Severity.WARNING),
        ([], Severity.WARNING),
    ],
)
def test_lists_that_leave_servers_out_are_a_warning_while_the_mesh_is_whole(
    urls: list[str], severity: Severity
) -> None:
    lists = both(block("n1", urls=urls), block("n2", urls=urls))
    found = worst(recorded(HEALTHY, lists), "MESH_LISTS")
    assert (found.severity, found.cause) == (severity, False)


def test_one_seed_that_lists_nobody_is_found_by_the_others() -> None:
    assert worst(recorded(HEALTHY, block("n0", urls=[])), "MESH_LISTS").severity is Severity.OK


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"rtt": "99.9ms"}, Severity.OK),
        ({"rtt": "100ms"}, Severity.WARNING),
        ({"rtt": "100.1ms"}, Severity.WARNING),
        ({"pending_size": 6_710_886}, Severity.OK),
        ({"pending_size": 6_710_887}, Severity.WARNING),
        ({"rtt": [1]}, Severity.UNKNOWN),
    ],
)
def test_a_slow_route_is_told_at_its_threshold(fields: dict[str, Any], severity: Severity) -> None:
    assert worst(recorded(HEALTHY, on("n0", "n1", **fields)), "MESH_SPEED").severity is severity


@pytest.mark.parametrize(("size", "severity"), [(9, Severity.OK), (10, Severity.WARNING), (11, Severity.WARNING)])
def test_what_waits_on_a_route_is_compared_with_max_pending(size: int, severity: Severity) -> None:
    change = both(varz("n0", max_pending=100), on("n0", "n1", pending_size=size))
    assert worst(recorded(HEALTHY, change), "MESH_SPEED").severity is severity


@pytest.mark.parametrize(
    "change",
    [
        silence("n1", "ROUTEZ"),
        silence("n1", "VARZ"),
        block("n1", pool_size="3"),
        on("n1", "n2", account=["APP"]),
        lambda raw: raw["samples"].clear(),
        lambda raw: answers(raw, "ROUTEZ", "n1")[0].update(num_routes=9),
        lambda raw: answers(raw, "ROUTEZ", "n1")[0].update(routes="none"),
    ],
)
def test_what_can_not_be_read_is_unknown_and_never_broken_or_healthy(change: Change) -> None:
    snapshot = recorded(HEALTHY, change)
    assert rank(examined(snapshot)).severity is Severity.UNKNOWN
    assert proposed(snapshot) == []


def test_the_commands_hold_the_ids_and_the_credentials_of_routes_stay_out() -> None:
    lists = both(*(block(n, urls=["user:secret@10.0.0.1:6222"]) for n in ("n0", "n1", "n2")), cut("n1", "n2"))
    snapshot = recorded(HEALTHY, lists)
    (offer,) = proposed(snapshot)
    assert offer.draft.stages == ()
    reloads = [line for line in offer.draft.guidance if line.startswith("nats server config reload ")]
    assert reloads == [f"nats server config reload {s.id}" for s in snapshot.servers]
    assert "secret" not in str(examined(snapshot)) + str(offer)


def test_a_name_from_the_cluster_never_reaches_the_configuration_unless_it_is_plain() -> None:
    def rename(raw: Raw) -> None:
        both(*(block(n, urls=["nats-headless:6222"]) for n in ("n0", "n1", "n2")), cut("n1", "n2"))(raw)
        for item in (*raw["samples"], *raw["servers"]):
            key = "server" if "server" in item else "name"
            item[key] = 'x"] }\nrm' if item[key] == "n2" else item[key]

    lines = [
        line for offer in proposed(recorded(HEALTHY, rename)) for line in offer.draft.guidance if "routes: [" in line
    ]
    assert len(lines) == 1
    assert 'x"]' not in lines[0]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    *("cluster", "urls", "pool_size", "addr", "cluster_port", "start", "now", "system_account", "gateway", "leafnodes"),
    *("routes", "num_routes", "remote_name", "remote_id", "account", "rtt", "pending_size", "max_pending", "name"),
    *("accounts", "account_details", "id", "meta_cluster", "leader"),
)
ROW = st.dictionaries(st.sampled_from(FIELDS), JUNK | st.sampled_from(["n0", "n1", "1ms"]), max_size=6)
ANSWER = st.dictionaries(st.sampled_from(FIELDS), JUNK | ROW | st.lists(ROW, max_size=3), max_size=8)


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["n0", "n1", "n2", ""]), st.sampled_from(sorted(RUNBOOK.needs)), ANSWER), max_size=9
    ),
    st.sampled_from(["2.11.11", "2.9.1", "", "x"]),
)
def test_no_answer_breaks_a_check(given_answers: list[tuple[str, Endpoint, Raw]], number: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    snapshot = Snapshot(
        id=SnapshotId("snap_junk"),
        cluster="lab",
        taken_at=now,
        via="system account",
        servers=tuple(ServerIdentity(name=n, id=n * 2, version=number) for n in ("n0", "n1")),
        samples=tuple(Sample.of(server, endpoint, now, data) for server, endpoint, data in given_answers),
        expected=frozenset({"n0", "n1", "n2"}),
        deliveries=(PairDelivery(account="n0", sender="n0", receiver="n1", sent=40, seconds=5.0),),
    )
    findings = examined(snapshot)
    assert {f.check for f in findings} == {check.code for check in RUNBOOK.checks if check.applies(snapshot)}
    assert Severity.UNKNOWN in {f.severity for f in findings}  # n2 never says anything readable about a version.
    RUNBOOK.propose(snapshot, findings, RUNBOOK.values(), Focus())


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from(["VARZ", "ROUTEZ", "JSZ", "ACCOUNTZ"]), st.data())
def test_one_wrong_field_of_a_real_answer_breaks_no_check(endpoint: str, data: st.DataObject) -> None:
    def change(raw: Raw) -> None:
        answer = data.draw(st.sampled_from(answers(raw, endpoint)))
        inner = [answer, *(answer["routes"] if endpoint == "ROUTEZ" else [])]
        inner += [answer["cluster"]] if endpoint == "VARZ" else []
        where = data.draw(st.sampled_from(inner))
        where[data.draw(st.sampled_from(sorted(where)))] = data.draw(JUNK)

    snapshot = recorded(HEALTHY, change)
    assert {f.check for f in examined(snapshot)} == {check.code for check in RUNBOOK.checks if check.applies(snapshot)}
    proposed(snapshot)


def test_on_kubernetes_the_list_is_a_proposal_that_natsmedic_carries_out():
    (only,) = proposed(cluster().snapshot())
    assert [kind for kind, _ in only.draft.stages] == ["kubernetes.routes", *["nats.reload"] * 3]
    assert (only.draft.guidance, only.draft.title) == ((), "Name every pod in cluster.routes and reload")
    assert any("Duplicate Route" in line for line in only.draft.cautions)
    assert any("nats.system_writer" in line for line in only.draft.cautions)


def test_where_natsmedic_cannot_edit_the_file_it_says_why_and_what_people_do():
    scene = cluster()
    scene.config_file = lambda file: file.model_copy(update={"live": False})
    (only,) = proposed(scene.snapshot())
    assert only.draft.stages == ()
    why = "natsmedic does not offer it now: /etc/nats-config/nats.conf is mounted by subPath"
    assert any(line.startswith(why) for line in only.draft.guidance)
    assert any("cluster { routes:" in line for line in only.draft.guidance)


def test_a_stateful_set_that_is_not_known_is_said_so():
    scene = cluster()
    scene.extra = {"stateful_set": Unknown(reason=UnknownReason.DENIED, detail="The reader may not list statefulsets")}
    (only,) = proposed(scene.snapshot())
    assert only.draft.guidance[-1] == "natsmedic does not offer it now: The reader may not list statefulsets."
