"""Advisories of real servers become alerts; what is forged, cut off or misplaced becomes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.adapters.nats.advisory import (
    ACCOUNT_KINDS,
    MOST_BYTES,
    PREFIX,
    SYSTEM_KINDS,
    TYPE_PREFIX,
    Kind,
    subjects_of,
    translate,
)
from bot.errors import BadInput
from bot.flow.diagnosis import focus_of
from bot.flow.incoming import IncomingAlert
from bot.lab.config import READER_SUBSCRIBE, SYSREADER_SUBSCRIBE
from bot.model import AlertState, Focus

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
PERMISSIONS = Path(__file__).parents[4] / "deploy" / "nats-permissions.conf"
NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)

CONSUMER = {"cluster": "prod", "account": "APP", "stream": "ORDERS", "consumer": "worker"}
STREAM = {"cluster": "prod", "account": "APP", "stream": "ORDERS"}


def recorded(version: str) -> dict[tuple[str, str], bytes]:
    """Return account and subject to payload."""
    rows = json.loads((FIXTURES / f"advisories_{version}.json").read_text(encoding="utf-8"))
    return {(row["account"], row["subject"].removeprefix(PREFIX)): row["payload"].encode() for row in rows}


def system(payload: bytes | dict[str, Any], cluster: str = "prod") -> IncomingAlert:
    return read(payload, SYSTEM_KINDS, None, cluster)


def account(payload: bytes | dict[str, Any], name: str = "APP") -> IncomingAlert:
    return read(payload, ACCOUNT_KINDS, name, "prod")


def read(payload: bytes | dict[str, Any], kinds: tuple[Kind, ...], name: str | None, cluster: str) -> IncomingAlert:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    alert, raw = translate(data, kinds, cluster=cluster, account=name, now=NOW)
    assert raw == json.loads(data)
    return alert


SEEN = [
    ("STREAM.QUORUM_LOST.ORDERS", "NatsStreamQuorumLost", STREAM),
    ("CONSUMER.QUORUM_LOST.ORDERS.worker", "NatsConsumerQuorumLost", CONSUMER),
    ("STREAM.LEADER_ELECTED.ORDERS", "NatsLeaderElectionStorm", STREAM),
    ("CONSUMER.LEADER_ELECTED.ORDERS.worker", "NatsLeaderElectionStorm", CONSUMER),
    ("DOMAIN.LEADER_ELECTED", "NatsMetaLeaderElectionStorm", {"cluster": "prod"}),
    ("SERVER.REMOVED", "NatsServerRemoved", {"cluster": "prod", "server_name": "n1"}),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("subject", "name", "labels"), SEEN)
def test_what_the_system_account_hears_becomes_an_alert_about_the_right_thing(
    version: str, subject: str, name: str, labels: dict[str, str]
) -> None:
    alert = system(recorded(version)["SYS", subject])
    assert (alert.name, alert.labels, alert.state) == (name, labels, AlertState.FIRING)
    assert (alert.starts_at, alert.ends_at) == (NOW, None), "our clock, not the sender's"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_limit_names_the_server_that_dropped(version: str) -> None:
    alert = system(recorded(version)["SYS", "API.LIMIT_REACHED"])
    assert alert.name == "NatsJetStreamApiLimitReached"
    assert alert.labels.keys() == {"cluster", "server_name"}
    assert alert.labels["server_name"] in {"n0", "n1", "n2"}


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_a_full_disk_names_the_server_and_the_stream(version: str) -> None:
    alert = system(recorded(version)["SYS", "SERVER.OUT_OF_STORAGE"])
    assert alert.name == "NatsJetStreamOutOfStorage"
    assert focus_of(alert.labels) == Focus(server="n0", stream="FULL")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_that_was_delivered_too_often_is_about_the_account_where_it_was_heard(version: str) -> None:
    payload = recorded(version)["APP", "CONSUMER.MAX_DELIVERIES.ORDERS.worker"]
    alert = account(payload)
    assert (alert.name, alert.labels) == ("NatsConsumerMaxDeliveries", CONSUMER)
    assert focus_of(alert.labels) == Focus(account="APP", stream="ORDERS", consumer="worker")
    assert ("SYS", "CONSUMER.MAX_DELIVERIES.ORDERS.worker") not in recorded(version), (
        "so it needs a reader in the account"
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_an_accounts_copy_lacks_the_account_and_is_not_taken(version: str) -> None:
    copies = [
        p for (name, subject), p in recorded(version).items() if name == "APP" and "MAX_DELIVERIES" not in subject
    ]
    assert len(copies) == 4
    for copy in copies:
        assert "account" not in json.loads(copy)
        with pytest.raises(BadInput, match="does not belong"):
            account(copy)
        with pytest.raises(BadInput, match="no usable `account`"):
            system(copy)


def quorum_lost(**changes: Any) -> dict[str, Any]:
    return {"type": f"{TYPE_PREFIX}stream_quorum_lost", "account": "APP", "stream": "ORDERS"} | changes


def test_repeats_have_one_fingerprint_and_other_things_have_others() -> None:
    same = {system(quorum_lost(id=n, replicas=[{"name": n}], timestamp=n)).fingerprint for n in ("a", "b")}
    other = {
        system(quorum_lost(stream="BILLS")).fingerprint,
        system(quorum_lost(account="APP2")).fingerprint,
        system(quorum_lost(domain="edge")).fingerprint,
        system(quorum_lost(), cluster="stage").fingerprint,
        system(quorum_lost(type=f"{TYPE_PREFIX}stream_leader_elected")).fingerprint,
        system(quorum_lost(type=f"{TYPE_PREFIX}consumer_quorum_lost", consumer="c")).fingerprint,
    }
    assert len(same) == 1
    assert len(other) == 6
    assert not same & other


def test_one_burst_that_several_servers_drop_is_one_alert() -> None:
    limit = {"type": f"{TYPE_PREFIX}api_limit_reached", "dropped": 20}
    assert len({system(limit | {"server": name}).fingerprint for name in ("n0", "n1", "n2")}) == 1


def test_each_server_with_a_full_disk_is_an_alert_of_its_own() -> None:
    full = {"type": f"{TYPE_PREFIX}server_out_of_space"}
    assert len({system(full | {"server": name, "stream": name}).fingerprint for name in ("n0", "n1")}) == 2
    assert system(full | {"server": "n0", "stream": ""}).labels == {"cluster": "prod", "server_name": "n0"}


def test_the_account_of_an_accounts_advisory_cannot_be_forged() -> None:
    forged = {
        "type": f"{TYPE_PREFIX}max_deliver",
        "account": "BANK",
        "stream": "S",
        "consumer": "c",
        "cluster": "other",
    }
    assert account(forged).labels == {"cluster": "prod", "account": "APP", "stream": "S", "consumer": "c"}


def test_braces_in_a_name_are_no_template() -> None:
    alert = system(quorum_lost(stream="{account.__class__}"))
    assert alert.annotations["summary"] == "Stream APP > {account.__class__} has lost its quorum and stands still."


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        json.dumps(quorum_lost(type="io.nats.jetstream.advisory.v1.nak")).encode(),
        json.dumps(quorum_lost(type=None)).encode(),
        json.dumps(quorum_lost(type=["x"])).encode(),
        json.dumps(quorum_lost(stream="")).encode(),
        json.dumps(quorum_lost(stream=7)).encode(),
        json.dumps(quorum_lost(stream="S\0")).encode(),
        json.dumps(quorum_lost(stream="S" * 256)).encode(),
        json.dumps(quorum_lost(account=None)).encode(),
        json.dumps(quorum_lost(domain={"a": 1})).encode(),
    ],
)
def test_what_is_no_advisory_is_refused_in_a_sentence_that_does_not_repeat_it(payload: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        system(payload)
    assert "SSS" not in str(caught.value)


def test_a_name_of_255_characters_and_a_payload_at_the_limit_are_taken() -> None:
    assert system(quorum_lost(stream="S" * 255)).labels["stream"] == "S" * 255
    padding = MOST_BYTES - len(json.dumps(quorum_lost(x="")).encode())
    system(json.dumps(quorum_lost(x="x" * padding)).encode())
    with pytest.raises(BadInput, match="65537 bytes"):
        system(json.dumps(quorum_lost(x="x" * (padding + 1))).encode())


WORDS = st.text(alphabet="aB*>. {}'\"\0é😀\u202e", max_size=300)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["type", "account", "stream", "consumer", "server", "domain", "x"]),
        st.sampled_from([TYPE_PREFIX + kind.type for kind in SYSTEM_KINDS])
        | WORDS
        | st.none()
        | st.integers(-(2**53), 2**53)
        | st.lists(WORDS),
    )
)
def test_no_object_breaks_the_translator(raw: dict[str, Any]) -> None:
    try:
        alert = system(raw)
    except BadInput:
        return
    assert all(alert.labels.values())


def test_the_lab_and_the_shipped_permissions_allow_exactly_these_subjects() -> None:
    assert subjects_of(ACCOUNT_KINDS) == READER_SUBSCRIBE
    assert set(subjects_of(SYSTEM_KINDS)) == set(SYSREADER_SUBSCRIBE)
    shipped = {
        word
        for line in PERMISSIONS.read_text(encoding="utf-8").splitlines()
        for word in line.split('"')
        if PREFIX in word
    }
    assert shipped == {*READER_SUBSCRIBE, *SYSREADER_SUBSCRIBE}
