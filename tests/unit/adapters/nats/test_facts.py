"""What the collectors read out of raw answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.adapters.nats import facts
from bot.adapters.nats.api import checked_filter, checked_name
from bot.errors import BadInput
from bot.model import Endpoint, JsonObject, canonical_json
from bot.model.assets import read_answer


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.10.26", (2, 10, 26)),
        ("v2.11.0-RC.1", (2, 11, 0)),
        ("2.15.0-dev", (2, 15, 0)),
        ("", (0, 0, 0)),
        ("x", (0, 0, 0)),
    ],
)
def test_a_version_is_read_and_an_unreadable_one_counts_as_the_oldest(text: str, version: tuple[int, int, int]) -> None:
    assert facts.version_of(text) == version


def page(answer: JsonObject) -> facts.Page:
    return facts.Page(*(read_answer(canonical_json(answer).encode(), jsz="connections" not in answer) or ({}, None)))


def test_pages_are_joined_and_an_account_on_two_pages_counts_once() -> None:
    one: JsonObject = {"accounts": 3, "account_details": [{"id": "A", "n": 1}, {"id": "B"}]}
    two: JsonObject = {"accounts": 3, "account_details": [{"id": "B"}, {"id": "C"}]}
    merged = facts.merge_pages([page(one), page(two)], facts.PAGED[Endpoint.JSZ])
    assert merged.assets is not None
    assert [account["id"] for account in merged.assets.details()] == ["A", "B", "C"]
    assert [account.id for account in merged.assets.accounts] == ["A", "B", "C"]
    assert merged.data == {"accounts": 3}


def test_connections_of_all_pages_are_joined_and_counted() -> None:
    one: JsonObject = {"total": 3, "num_connections": 2, "connections": [{"cid": 1}, {"cid": 2}]}
    two: JsonObject = {"total": 3, "num_connections": 1, "connections": [{"cid": 2, "n": "later"}, {"cid": 3}]}
    merged = facts.merge_pages([page(one), page(two)], facts.PAGED[Endpoint.CONNZ])
    assert merged.data == {
        "total": 3,
        "num_connections": 3,
        "connections": [{"cid": 1}, {"cid": 2, "n": "later"}, {"cid": 3}],
    }


def test_a_page_is_full_exactly_at_its_limit() -> None:
    jsz, connz = facts.PAGED[Endpoint.JSZ], facts.PAGED[Endpoint.CONNZ]
    assert facts.page_is_full(page({"account_details": [{}, {}]}), jsz, 2)
    assert not facts.page_is_full(page({"account_details": [{}]}), jsz, 2)
    assert facts.page_is_full(page({"connections": [{}]}), connz, 1)
    assert not facts.page_is_full(page({"connections": 7}), connz, 1)
    assert not facts.page_is_full(page({}), jsz, 1)


def test_raft_groups_come_by_account_name_and_an_account_without_groups_is_empty_not_absent() -> None:
    merged = facts.merge_raftz(
        {"SYS": {"_meta_": {"state": "LEADER"}}},
        {"ADPUBLICKEY": {"ADPUBLICKEY": {"S-R3F-1": {}}}, "AEMPTY": {}},
        {"ADPUBLICKEY": "orders", "AEMPTY": "idle"},
    )
    assert merged == {"SYS": {"_meta_": {"state": "LEADER"}}, "orders": {"S-R3F-1": {}}, "idle": {}}


def test_expected_servers_come_from_the_meta_group_and_from_every_group_without_placeholders() -> None:
    jsz: JsonObject = {
        "meta_cluster": {
            "leader": "n0",
            "replicas": [{"name": "n1"}, {"name": "Server name unknown at this time (peerID: x)"}],
        },
        "account_details": [
            {
                "stream_detail": [
                    {
                        "name": "S",
                        "cluster": {"leader": "n2", "replicas": [{"name": "n3"}]},
                        "consumer_detail": [{"name": "c", "cluster": {"replicas": [{"name": "n4"}]}}, {"name": "d"}],
                    },
                    {"name": "T", "cluster": None},
                ]
            }
        ],
    }
    whole = page(jsz)
    assert facts.named_in_jsz(whole.data, whole.assets) == {"n0", "n1", "n2", "n3", "n4"}
    assert facts.named_in_jsz({}, None) == frozenset()
    assert facts.named_in_routez({"routes": [{"remote_name": "n5"}, {}]}) == {"n5"}
    assert facts.linked({"routes": [{"name": "n1", "rid": 3}, {"rid": 4}]}) == {"n1"}


@given(st.text())
def test_no_name_that_passes_can_change_a_subject(name: str) -> None:
    try:
        passed = checked_name("stream", name)
    except BadInput:
        return
    assert passed == name
    assert passed
    assert not set(passed) & set(".*>/\\ \t\r\n\x00")
    assert passed.split() == [passed]


@pytest.mark.parametrize("subject", ["a.b", "a.*.c", "a.>", ">"])
def test_a_filter_may_have_wildcards(subject: str) -> None:
    assert checked_filter(subject) == subject


@pytest.mark.parametrize("subject", ["", "a b", "a..b", ".a", "a.", "a\r\nPUB x", "a\tb"])
def test_a_filter_that_is_no_subject_is_refused(subject: str) -> None:
    with pytest.raises(BadInput):
        checked_filter(subject)
