"""The overload runbook's queues: recorded floods, and their lengths varied by hand at the thresholds."""

from dataclasses import replace
from typing import Any

import pytest

from bot.runbook import Draft
from runbooks._overload_views import Backlog, Course
from tests.unit.runbooks.overload_support import (
    CRITICAL,
    META,
    OK,
    REQUESTS,
    UNKNOWN,
    VERSIONS,
    WARNING,
    Change,
    Severity,
    answers,
    busy,
    examined,
    found,
    idle,
    leader,
    nats,
    proposed,
    queue,
    rounds,
    unread,
    varz,
    verdict,
    versions,
)
from tests.unit.snapshots import Raw

API, OTHERS = "OVERLOAD_API_QUEUE", "OVERLOAD_QUEUES"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_flood_is_the_root_on_the_meta_leader_and_its_feeder_is_named(version: str) -> None:
    snapshot = busy(version)
    root = verdict(snapshot).root
    assert root is not None
    assert (root.check, root.severity, root.evidence["course"]) == (API, CRITICAL, "lasting")
    assert root.evidence["meta leader"] is True
    assert root.evidence["lengths"] == sorted(root.evidence["lengths"])
    assert root.sentence.startswith(f"Server {root.subject.server}, the meta leader, has ")
    drafts = [p.draft for p in proposed(snapshot)]
    assert drafts[0].title == "Find who floods the JetStream API, and stop it"
    assert any("account 'APP', name 'lab-app'" in line for line in drafts[0].guidance)


def test_an_idle_cluster_is_healthy_and_nothing_is_proposed() -> None:
    snapshot = idle()
    assert {f.severity for f in examined(snapshot)} == {OK}
    assert proposed(snapshot) == []


@pytest.mark.parametrize(
    ("lengths", "course"),
    [
        ((), Course.SHORT),
        ((9,), Course.SHORT),
        ((10,), Course.ONCE),
        ((9, 10), Course.ONCE),
        ((0, 0, 500), Course.ONCE),
        ((10, 10), Course.LASTING),
        ((10, 0, 10), Course.LASTING),
        ((500, 0, 400), Course.LASTING),
        ((100, 95, 91), Course.LASTING),
        ((100, 95, 90), Course.DRAINING),
        ((100, 100, 50), Course.LASTING),
        ((100, 20, 10), Course.DRAINING),
        ((100, 50, 9), Course.DRAINED),
        ((9, 10, 9), Course.DRAINED),
        ((9, 9, 9), Course.SHORT),
    ],
)
def test_the_readings_of_a_queue_make_its_course(lengths: tuple[int, ...], course: Course) -> None:
    assert Backlog("n0", "q", lengths or (0,), 2.0).course(10) is course


@pytest.mark.parametrize(
    ("lengths", "level"),
    [
        ((999,), OK),
        ((1000,), WARNING),
        ((4999,), WARNING),
        ((5000,), CRITICAL),
        ((999, 999, 999), OK),
        ((1000, 1000, 1000), CRITICAL),
        ((6519, 3000, 1500), WARNING),
        ((6519, 3000, 0), WARNING),
        ((9000, 200, 5000), CRITICAL),
        ((10, 20, 4999), WARNING),
        ((10, 20, 5000), CRITICAL),
    ],
)
def test_an_api_queue_at_its_thresholds(lengths: tuple[int, ...], level: Severity) -> None:
    assert found(API, idle(rounds(len(lengths)), queue(REQUESTS, *lengths)))[0].severity is level


def test_requests_that_are_being_worked_on_count_as_waiting() -> None:
    snapshot = idle(rounds(1), queue(REQUESTS, 5000, key="in_progress"))
    assert found(API, snapshot)[0].severity is CRITICAL


def test_a_smaller_limit_of_the_servers_is_a_setting() -> None:
    snapshot = idle(rounds(1), queue(REQUESTS, 100))
    assert found(API, snapshot)[0].severity is OK
    assert found(API, snapshot, queue_limit=200)[0].severity is CRITICAL


def test_what_the_meta_leader_drops_comes_first_and_means_more() -> None:
    def elsewhere(raw: Raw) -> None:
        other = next(s for s in ("n0", "n1") if s != leader(raw))
        queue(REQUESTS, 9000, server=other)(raw)

    first, second = found(API, idle(rounds(1), queue(REQUESTS, 6000), elsewhere))
    assert (first.evidence["meta leader"], second.evidence["meta leader"]) == (True, False)
    assert "6000 JetStream API requests waiting (60% of 10000)" in first.sentence
    assert "every create and delete among them fails" in first.sentence
    assert "those that it had to answer are never answered" in second.sentence


def test_a_queue_that_shrinks_in_every_reading_says_wait_and_how_long() -> None:
    snapshot = idle(queue(REQUESTS, 6000, 4000, 2000))
    finding = found(API, snapshot)[0]
    assert (finding.severity, finding.evidence["course"]) == (WARNING, "draining")
    assert "6000 → 4000 → 2000 within" in finding.sentence
    assert f"it is empty in {2000 * finding.evidence['seconds'] / 4000:.0f} s at this pace, wait" in finding.sentence
    assert [p.draft.title for p in proposed(snapshot)][:2] == [
        "Wait until the queues are empty",
        "Find who floods the JetStream API, and stop it",
    ]


def test_waiting_is_no_advice_while_another_queue_lasts() -> None:
    titles = [p.draft.title for p in proposed(idle(queue(REQUESTS, 6000, 4000, 2000), queue(META, 2000, 2000, 2000)))]
    assert "Wait until the queues are empty" not in titles


@pytest.mark.parametrize(
    ("meta", "severity"),
    [
        ({"pending": 5000}, CRITICAL),
        ({"pending": 999}, OK),
        ({"pending": 6000, "pending_requests": 5000, "pending_infos": 1000}, CRITICAL),
        ({"pending": 1000, "pending_requests": 500, "pending_infos": 500}, OK),
        ({"pending": 1001, "pending_requests": 1, "pending_infos": 1000}, WARNING),
        ({"pending": 2**64 - 18}, OK),
        ({"pending": "many"}, UNKNOWN),
        ({}, UNKNOWN),
    ],
)
def test_varz_tells_where_ipqueuesz_is_not_known(meta: Raw, severity: Severity) -> None:
    def change(raw: Raw) -> None:
        for answer in answers(raw, "VARZ"):
            answer["jetstream"]["meta"] = {"leader": answer["jetstream"]["meta"]["leader"]} | meta

    snapshot = idle(rounds(1), unread("IPQUEUESZ", reason="not_in_version"), change)
    assert found(API, snapshot)[0].severity is severity


def test_without_ipqueuesz_and_varz_nobody_knows_the_queues_and_the_reason_is_named() -> None:
    (finding,) = found(API, idle(unread("IPQUEUESZ", "VARZ", server="n1", reason="denied")))
    assert finding.severity is UNKNOWN
    assert "IPQUEUESZ of n1: denied: a test" in finding.sentence


def test_a_version_that_calls_the_queue_otherwise_is_unknown_and_not_healthy() -> None:
    def renamed(raw: Raw) -> None:
        for answer in answers(raw, "IPQUEUESZ"):
            answer["A new name"] = {"pending": 0}
        for answer in answers(raw, "VARZ"):
            del answer["jetstream"]["meta"]

    (finding,) = found(API, idle(renamed))
    assert (finding.severity, "no queue of the JetStream API" in finding.sentence) == (UNKNOWN, True)


def test_a_server_that_lists_only_queues_that_are_not_empty_has_empty_api_queues() -> None:
    def alone(raw: Raw) -> None:
        for answer in answers(raw, "VARZ"):
            del answer["jetstream"]["meta"]

    assert found(API, idle(alone))[0].severity is OK


def test_an_archive_does_not_tell_all_queues_so_what_it_lacks_is_unknown() -> None:
    def alone(raw: Raw) -> None:
        for answer in answers(raw, "VARZ"):
            del answer["jetstream"]["meta"]

    assert found(API, replace(idle(alone), via="archive"))[0].severity is UNKNOWN
    assert found(API, replace(idle(), via="archive"))[0].severity is OK  # VARZ tells
    assert found(OTHERS, replace(idle(), via="archive"))[0].severity is UNKNOWN


def test_a_server_without_jetstream_has_no_api_queue() -> None:
    assert found(API, idle(unread("IPQUEUESZ", server="n1"), varz("n1", jetstream={})))[0].severity is OK


def test_a_counter_below_zero_tells_of_drops_in_the_past() -> None:
    def change(raw: Raw) -> None:
        for answer in answers(raw, "VARZ", "n1"):
            answer["jetstream"]["stats"]["api"]["inflight"] = 2**64 - 18

    (finding,) = found(API, idle(change))
    assert finding.severity is OK
    assert "n1 dropped requests some time since the start" in finding.sentence


def test_answers_are_counted_as_a_pace_between_the_readings() -> None:
    def change(raw: Raw) -> None:
        for at, total in enumerate((100, 150, 800)):
            for answer in answers(raw, "VARZ", leader(raw), at):
                answer["jetstream"]["stats"]["api"]["total"] = total

    finding = found(API, idle(change, queue(REQUESTS, 2000, 2000, 2000)))[0]
    assert finding.evidence["answers a second"] == pytest.approx(700 / finding.evidence["seconds"], rel=0.2)
    assert found(API, idle(change, queue(REQUESTS, 2000), rounds(1)))[0].evidence["answers a second"] is None


@pytest.mark.parametrize(
    ("name", "lengths", "level", "layer"),
    [
        (META, (999, 999, 999), OK, "META"),
        (META, (1000, 1000, 1000), CRITICAL, "META"),
        (META, (5218,), WARNING, "META"),
        (META, (5218, 3000, 1200), WARNING, "META"),
        ("System recvQ", (1000, 1000, 1000), CRITICAL, "META"),
        ("[ACC:APP] stream 'ORDERS' messages", (1000, 1000, 1000), WARNING, "STREAMS"),
        ("[ACC:APP] stream 'ORDERS' messages", (9000,), OK, "META"),
        ("[ACC:APP] RAFT 'S-R3F-abcdefgh' appendEntry", (2000, 1500, 1000), OK, "META"),
    ],
)
def test_other_queues_at_their_threshold(name: str, lengths: tuple[int, ...], level: Severity, layer: str) -> None:
    finding = found(OTHERS, idle(rounds(len(lengths)), queue(name, *lengths)))[0]
    assert (finding.severity, finding.layer.name) == (level, layer)


def test_many_long_queues_of_a_server_are_one_finding() -> None:
    changes = [queue(f"[ACC:APP] RAFT 'C-R3F-{n}' entry", 2000, 2000, 2000) for n in range(30)]
    (finding,) = found(OTHERS, idle(*changes))
    assert "29 more of its queues are as long" in finding.sentence


def test_queues_that_are_not_listed_are_empty_and_unreadable_ones_are_unknown() -> None:
    def change(raw: Raw) -> None:
        for answer in answers(raw, "IPQUEUESZ", "n1"):
            answer["System sendQ"] = "long"

    assert found(OTHERS, idle(change))[0].severity is UNKNOWN
    assert found(OTHERS, idle(unread("IPQUEUESZ", server="n1")))[0].severity is UNKNOWN


def test_a_silent_server_is_the_root_of_a_long_queue() -> None:
    snapshot = idle(queue(REQUESTS, 2000, 2000, 2000), unread("VARZ", "JSZ", "IPQUEUESZ", "CONNZ", server="n0"))
    root = verdict(snapshot).root
    assert root is not None
    assert (root.check, root.subject.server) == ("AUDIT_SERVERS", "n0")
    assert proposed(snapshot)[0].draft.title == "Bring the silent server back"


@pytest.mark.parametrize(
    ("number", "lacks"),
    [
        ("2.10.20", ["2.10.21", "2.11.3", "2.11.10", "2.14.0"]),
        ("2.11.2", ["2.11.3", "2.11.10", "2.14.0"]),
        ("2.11.11", ["2.14.0"]),
        ("2.14.0", []),
        ("unreadable", []),
    ],
)
def test_an_upgrade_is_proposed_last_for_what_the_version_lacks(number: str, lacks: list[str]) -> None:
    last = proposed(idle(queue(REQUESTS, 2000, 2000, 2000), versions(number)))[-1].draft
    gains = [line.partition(" ")[0] for line in last.guidance if line[0].isdigit()]
    assert gains == lacks
    assert (last.title == "Upgrade nats-server") is bool(lacks)


LEADERS_MOVE = pytest.mark.parametrize(("number", "chosen"), [("2.10.26", False), ("2.11.0", True), ("2.15.1", True)])


def leaders_moved(*changes: Change) -> Draft:
    snapshot = idle(queue(REQUESTS, 2000, 2000, 2000), *changes)
    (draft,) = [p.draft for p in proposed(snapshot) if p.draft.title.startswith("Move leaders off server n")]
    return draft


@LEADERS_MOVE
def test_leaders_are_moved_and_to_a_chosen_server_where_the_version_can(number: str, *, chosen: bool) -> None:
    draft = leaders_moved(versions(number))
    assert draft.stages[0][0] == "meta.step_down", "it leads the meta group, and that request waits for nobody"
    targets = [params["preferred"] for kind, params in draft.stages if kind == "meta.step_down"]
    targets += [move["to"] for kind, params in draft.stages if kind == "leaders.move" for move in params["moves"]]
    assert {bool(target) for target in targets} == {chosen}
    assert draft.guidance == ()


@LEADERS_MOVE
def test_where_leaders_can_not_be_moved_now_the_reason_and_the_commands_are_told(number: str, *, chosen: bool) -> None:
    def waiting(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            jsz["meta_cluster"]["pending"] = 1000

    draft = leaders_moved(versions(number), waiting)
    text = "\n".join(draft.guidance)
    assert draft.stages == ()
    assert ("--preferred" in text, "--host" in text) == (chosen, chosen)
    assert "nats server cluster step-down" in text
    assert "Not offered: 1000 API requests wait on n" in text


def test_names_from_the_cluster_never_become_shell() -> None:
    evil = "n1; reboot"

    def rename(raw: Raw) -> None:
        for holder in (*raw["servers"], *raw["samples"]):
            key = "name" if "name" in holder else "server"
            holder[key] = evil if holder[key] == "n1" else holder[key]
        raw["expected"] = [evil if name == "n1" else name for name in raw["expected"]]
        for answer in answers(raw, "VARZ"):
            answer["jetstream"]["meta"]["leader"] = evil

    snapshot = idle(rename, queue(REQUESTS, 2000, 2000, 2000, server=evil))
    commands = [line for p in proposed(snapshot) for line in p.draft.guidance if evil in line and "nats " in line]
    assert commands
    assert all(f"'{evil}'" in line for line in commands)


def test_restarting_the_busy_server_is_never_offered_without_its_warning() -> None:
    drafts: list[Any] = [p.draft for p in proposed(idle(queue(REQUESTS, 6000, 6000, 6000)))]
    assert drafts
    assert all(any("Do not restart the busy server" in caution for caution in d.cautions) for d in drafts)


def test_a_loud_connection_is_a_suspect_and_a_quiet_one_is_not() -> None:
    def loud(raw: Raw) -> None:
        for connz in answers(raw, "CONNZ", "n1"):
            connz["connections"][-1] |= {"in_msgs": 36_000, "name": "poller"}

    (feeder,) = [
        p.draft
        for p in proposed(idle(nats(n1=2), loud, queue(REQUESTS, 6000, 6000, 6000)))
        if p.draft.title.startswith("Find who floods")
    ]
    (line,) = [line for line in feeder.guidance if "messages a second." in line]
    assert line == "cid 10001 of n1, account 'APP', name 'poller': 10 messages a second."
