"""The parts of the delivery probe that need no server: whose account, which addresses, and which streams are in the way."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.adapters.nats.delivery import MOST_SERVERS, DeliveryProbe, captured_by, system_account
from bot.adapters.nats.direct import told_by_varz
from bot.adapters.nats.login import Login
from bot.errors import BadInput
from bot.model import Endpoint, Json, JsonObject, Sample, Snapshot, SnapshotId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECT = "_INBOX_reader.natsmedic.probe.0123.0"
NOBODY = Login(inbox_prefix="_INBOX_reader", user="reader")


def seen(*varz: JsonObject, jsz: JsonObject | None = None, api: dict[str, JsonObject] | None = None) -> Snapshot:
    samples = [Sample.of(f"n{n}", Endpoint.VARZ, NOW, data) for n, data in enumerate(varz)]
    samples += [Sample.of("n0", Endpoint.JSZ, NOW, jsz)] if jsz else []
    return Snapshot(SnapshotId("snap_1"), "lab", NOW, "system account", (), tuple(samples), api=api or {})


def storing(*subjects: str, account: str = "APP") -> Snapshot:
    stream = {"name": "S", "created": "", "config": {"name": "S", "subjects": list(subjects)}, "state": {}}
    return seen(jsz={"account_details": [{"name": account, "stream_detail": [stream]}]})


def silent(sentence: str) -> None:
    raise AssertionError(f"nothing may be sent: {sentence}")


@pytest.mark.parametrize(
    "pattern",
    [
        ">",
        "*.natsmedic.>",
        "_INBOX_reader.>",
        "_INBOX_reader.natsmedic.probe.*.*",
        "_INBOX_reader.natsmedic.probe.0123.>",
        SUBJECT,
    ],
)
def test_a_stream_that_takes_in_the_probes_subject_is_in_the_way(pattern: str) -> None:
    assert captured_by(storing("orders.*", pattern), "APP", SUBJECT) == "S"
    assert captured_by(storing(pattern, account="OTHER"), "APP", SUBJECT) is None
    listed = {"APP:$JS.API.STREAM.LIST": {"streams": [{"config": {"name": "L", "subjects": [pattern]}}]}}
    assert captured_by(seen(api=listed), "APP", SUBJECT) == "L"


@pytest.mark.parametrize(
    "pattern", ["orders.>", "*", "*.*.*.*", "_INBOX_reader.natsmedic.probe.0123.0.>", "_INBOX.>", "_inbox_reader.>", ""]
)
def test_a_stream_on_other_subjects_is_not(pattern: str) -> None:
    assert captured_by(storing(pattern), "APP", SUBJECT) is None


def test_addresses_are_each_servers_own_and_then_those_it_advertises() -> None:
    snapshot = seen(
        {"host": "10.0.0.1", "port": 4222, "connect_urls": ["a:4222", "b:4222"]},
        {"host": "0.0.0.0", "port": 4222, "connect_urls": ["b:4222"]},
        {"host": "fd00::2", "port": 4223},
        {"host": "::", "port": 4222, "connect_urls": None},
        {"host": 7, "port": "x", "connect_urls": [7, "c:1"]},
    )
    assert told_by_varz(snapshot) == ["10.0.0.1:4222", "[fd00::2]:4223", "a:4222", "b:4222", "b:4222", "c:1"]


ANYTHING: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["host", "port", "connect_urls", "system_account"]), ANYTHING))
def test_no_answer_of_a_server_breaks_the_search_for_addresses(varz: JsonObject) -> None:
    assert all(isinstance(address, str) for address in told_by_varz(seen(varz)))
    assert system_account(seen(varz))


def test_the_system_account_has_the_name_that_the_servers_give_it() -> None:
    assert system_account(seen({}, {"system_account": "SYS"})) == "SYS"
    assert system_account(seen()) == "the system account"


async def test_without_a_login_nothing_is_probed() -> None:
    with pytest.raises(BadInput, match="no NATS login"):
        await DeliveryProbe({}, None, (), 1.0).run(seen(), silent)


@pytest.mark.parametrize(("servers", "refused"), [(MOST_SERVERS, False), (MOST_SERVERS + 1, True)])
async def test_a_cluster_that_is_too_large_is_not_probed_and_says_so(servers: int, refused: bool) -> None:
    snapshot = replace(seen(), expected=frozenset(f"n{n}" for n in range(servers)))
    # There is no address, so nothing can connect.
    found = await DeliveryProbe({"APP": NOBODY}, None, (), 1.0).run(snapshot, silent)
    assert [u.detail for u in found.unknown] == (
        [f"delivery was not probed: there are {servers} servers, a probe goes up to {MOST_SERVERS}"] if refused else []
    )
    assert len(found.deliveries) == (0 if refused else servers * (servers - 1))
    assert all(d.unknown for d in found.deliveries)


async def test_accounts_beyond_the_limit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.adapters.nats.delivery.MOST_ACCOUNTS", 2)
    snapshot = replace(seen(), expected=frozenset({"n0", "n1"}))
    found = await DeliveryProbe({"B": NOBODY, "C": NOBODY}, NOBODY, (), 1.0).run(snapshot, silent)
    assert {d.account for d in found.deliveries} == {"the system account", "B"}
    assert [u.detail for u in found.unknown] == ["delivery was not probed in 1 accounts, the first is C"]
