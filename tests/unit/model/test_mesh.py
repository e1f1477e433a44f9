"""When a pair of servers is whole: every slot of the pool and every pinned account, as both ends show them."""

import pytest

from bot.model import Endpoint, Unknown, UnknownReason
from bot.model.mesh import Pair, read_mesh
from tests.unit.snapshots import Raw, answered

SILENT = Unknown(reason=UnknownReason.TIMED_OUT, detail="no answer")


def routez(remote: str, slots: int = 3, pinned: tuple[str, ...] = ("SYS",)) -> Raw:
    rows: list[Raw] = [{"remote_name": remote, "remote_id": f"ID{remote}"} for _ in range(slots)]
    rows += [{"remote_name": remote, "remote_id": f"ID{remote}", "account": account} for account in pinned]
    return {"num_routes": len(rows), "routes": rows}


def varz(pool_size: int = 3) -> Raw:
    return {"cluster": {"name": "c", "pool_size": pool_size, "urls": []}, "system_account": "SYS"}


def pair(
    one: Raw | Unknown, other: Raw | Unknown, *, version: str = "2.11.11", varz_of_one: Raw | Unknown | None = None
) -> Pair:
    given = {
        "a": {Endpoint.VARZ: varz_of_one or varz(), Endpoint.ROUTEZ: one},
        "b": {Endpoint.VARZ: varz(), Endpoint.ROUTEZ: other},
    }
    (found,) = read_mesh(answered(given, versions={"a": version, "b": version})).pairs
    return found


def test_every_slot_and_every_pinned_account_on_both_ends_is_whole():
    assert pair(routez("b"), routez("a")).whole is True
    assert pair(routez("b", pinned=("APP", "SYS")), routez("a", pinned=("APP", "SYS"))).whole is True


@pytest.mark.parametrize("slots", [0, 1, 2])
def test_a_missing_slot_is_not(slots: int):
    assert pair(routez("b", slots), routez("a", slots)).whole is False


def test_more_than_must_be_is_whole():
    assert pair(routez("b", 4), routez("a", 4)).whole is True


def test_a_missing_pinned_account_is_not():
    assert pair(routez("b", pinned=()), routez("a", pinned=())).whole is False


def test_ends_that_show_different_connections_are_not():
    assert pair(routez("b", 3), routez("a", 4)).whole is False
    assert pair(routez("b"), routez("a", pinned=("APP", "SYS"))).whole is False


def test_no_connection_at_all_is_not_whoever_tells():
    assert pair(routez("b", 0, ()), routez("a", 0, ())).whole is False


def test_ends_that_refuse_each_other_are_not():
    refusing = pair(routez("b", 1, ()), routez("a", 1, ()), version="2.10.26", varz_of_one=varz(1))
    assert refusing.expected is not None
    assert refusing.expected.refused
    assert refusing.whole is False


def test_what_one_end_does_not_tell_is_not_known():
    assert pair(routez("b"), SILENT).whole is None
    assert pair(routez("b", 1, ()), routez("a", 1, ()), varz_of_one=SILENT).whole is None
