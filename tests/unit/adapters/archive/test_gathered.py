"""Archives of the real `nats audit gather` (recorded by `python -m tests.record peer`) become snapshots, whole, thinned out or spoiled."""

import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.adapters.archive import read_archive, write_archive
from bot.errors import BadInput
from bot.model import ConsumerKey, Endpoint, Snapshot, StreamKey, UnknownReason
from bot.model.groups import meta_standing, raft_node

RECORDED = (Path(__file__).parent / "fixtures" / "audit_2.11.11.zip").read_bytes()
SERVERS = ("n0", "n1", "n2")
MANIFEST = "capture/misc/manifest.json"
METADATA = "capture/misc/audit_gather_metadata.json"
WORKER = ConsumerKey("APP", "ORDERS", "worker")
NOT_IN_FORMAT = {Endpoint.STATSZ, Endpoint.IPQUEUESZ}
NOT_RECORDED = {Endpoint.SUBSZ}
"""Left out of the recording, as it names inboxes by the hundred."""
"""IPQUEUESZ: the peer asks for queues that are not empty, and in an idle lab none is."""

Files = dict[str, Any]


def files_of(archive: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: json.loads(opened.read(name)) for name in opened.namelist()}


def archived(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, value in files.items():
            out.writestr(name, json.dumps(value))
    return buffer.getvalue()


def changed(change: Callable[[Files], object]) -> Snapshot:
    """The recorded archive after a change to its files."""
    files = files_of(RECORDED)
    change(files)
    return read_archive(archived(files))


def without(*fragments: str) -> Callable[[Files], None]:
    """Take files whose path has one of the fragments out of the archive and its manifest."""

    def change(files: Files) -> None:
        for path in [path for path in files if any(fragment in path for fragment in fragments)]:
            del files[path]
            files[MANIFEST].pop(path, None)

    return change


def unknown(snapshot: Snapshot, server: str, endpoint: Endpoint) -> tuple[UnknownReason, str]:
    sample = snapshot.sample(server, endpoint)
    assert sample is not None
    assert sample.unknown is not None
    return sample.unknown.reason, sample.unknown.detail


def path_of(server: str, artifact: str, page: int = 1) -> str:
    return f"capture/clusters/lab/{server}/{artifact}/{page:04}.json"


def add_page(files: Files, server: str, artifact: str, answer: Any) -> None:
    first, second = path_of(server, artifact), path_of(server, artifact, 2)
    files[second] = answer
    files[MANIFEST][second] = files[MANIFEST][first]


def retag(files: Files, path: str, name: str, value: str) -> None:
    next(tag for tag in files[MANIFEST][path] if tag["Name"] == name)["Value"] = value


def test_the_peers_archive_gives_every_fact_that_it_holds() -> None:
    snapshot = read_archive(RECORDED)
    assert snapshot.via == "archive"
    assert snapshot.cluster == "lab"
    assert snapshot.expected == frozenset(SERVERS)
    assert {(s.name, s.version, s.cluster) for s in snapshot.servers} == {(n, "2.11.11", "lab") for n in SERVERS}
    assert snapshot.unknown == ()
    for server in SERVERS:
        for endpoint in Endpoint:
            assert (snapshot.data(server, endpoint) is None) == (endpoint in NOT_IN_FORMAT | NOT_RECORDED), endpoint
    views = snapshot.consumers()[WORKER]
    assert set(views) == set(SERVERS)
    assert set(snapshot.streams()) == {StreamKey("APP", "ORDERS"), StreamKey("APP", "SINGLE")}
    assert all(raft_node(snapshot, server, "APP", view.raft_group) for server, view in views.items())
    assert raft_node(snapshot, "n0", "APP", "S-R3F-nobody") is False
    assert raft_node(snapshot, "n0", "SYS", "_meta_")
    assert meta_standing(snapshot).leader in SERVERS
    assert (snapshot.data("n0", Endpoint.ACCOUNTZ) or {})["system_account"] == "SYS"


def test_times_are_those_of_the_answers_and_the_capture() -> None:
    snapshot = read_archive(RECORDED)
    assert snapshot.taken_at == datetime.fromisoformat(files_of(RECORDED)[METADATA]["capture_timestamp"])
    raw = files_of(RECORDED)[path_of("n0", "variables")]["server"]["time"]
    sample = snapshot.sample("n0", Endpoint.VARZ)
    assert sample is not None
    assert sample.taken_at == datetime.fromisoformat(raw)
    assert sample.taken_at.tzinfo is UTC


def test_reading_again_gives_the_same_snapshot() -> None:
    assert read_archive(RECORDED) == read_archive(RECORDED)
    assert read_archive(RECORDED).id != changed(without("n0/routes")).id


def test_what_was_rebuilt_is_written_and_read_back_as_it_is() -> None:
    rebuilt = read_archive(RECORDED)
    assert read_archive(write_archive(rebuilt)) == rebuilt
    names = files_of(write_archive(rebuilt)).keys()
    for artifact in ("connections", "accounts", "gateways", "leafs", "jetstream_info", "variables", "health", "routes"):
        assert path_of("n1", artifact) in names


@pytest.mark.parametrize(
    ("fragment", "endpoint"),
    [
        ("n1/variables", Endpoint.VARZ),
        ("n1/jetstream_info", Endpoint.JSZ),
        ("n1/connections", Endpoint.CONNZ),
        ("n1/gateways", Endpoint.GATEWAYZ),
        ("lab__n1/account_raftz", Endpoint.RAFTZ),
    ],
)
def test_a_file_that_is_not_there_is_an_unknown_fact(fragment: str, endpoint: Endpoint) -> None:
    snapshot = changed(without(fragment))
    reason, detail = unknown(snapshot, "n1", endpoint)
    assert reason is UnknownReason.UNREADABLE
    assert "n1" in detail
    assert snapshot.data("n0", endpoint) is not None


def test_a_server_that_only_the_others_name_is_expected_and_unreachable() -> None:
    snapshot = changed(without("/n2/", "__n2/"))
    assert snapshot.expected == frozenset(SERVERS)
    assert {s.name for s in snapshot.servers} == {"n0", "n1"}
    assert {unknown(snapshot, "n2", endpoint)[0] for endpoint in Endpoint} == {UnknownReason.UNREACHABLE}


def test_an_error_that_a_server_answered_is_the_reason() -> None:
    path = path_of("n0", "health")
    snapshot = changed(lambda f: f.update({path: {"server": f[path]["server"], "error": {"description": "not now"}}}))
    assert "not now" in unknown(snapshot, "n0", Endpoint.HEALTHZ)[1]
    snapshot = changed(lambda f: f.update({path: {"server": f[path]["server"]}}))
    assert "no data" in unknown(snapshot, "n0", Endpoint.HEALTHZ)[1]


def test_a_server_without_jetstream_is_told_from_a_missing_file() -> None:
    def no_jetstream(files: Files) -> None:
        without("n1/jetstream_info")(files)
        for value in files.values():
            if value.get("server", {}).get("name") == "n1":
                value["server"]["jetstream"] = False

    reason, detail = unknown(changed(no_jetstream), "n1", Endpoint.JSZ)
    assert reason is UnknownReason.NOT_CONFIGURED
    assert "without JetStream" in detail


def test_streams_come_from_their_own_files_where_the_gathering_had_no_details() -> None:
    def no_details(files: Files) -> None:
        for server in SERVERS:
            del files[path_of(server, "jetstream_info")]["data"]["account_details"]

    whole, plain = read_archive(RECORDED), changed(no_details)
    assert plain.consumers().keys() == whole.consumers().keys()
    assert {k: set(v) for k, v in plain.streams().items()} == {k: set(v) for k, v in whole.streams().items()}

    def nowhere(files: Files) -> None:
        no_details(files)
        without("/stream_info/")(files)

    assert "neither" in unknown(changed(nowhere), "n0", Endpoint.JSZ)[1]


def test_pages_are_joined_and_a_full_last_page_is_told() -> None:
    def second(files: Files) -> None:
        files[path_of("n0", "connections")]["data"]["connections"] = [{"cid": n} for n in range(1, 1025)]
        page = {"server": files[path_of("n0", "connections")]["server"], "data": {"connections": [{"cid": 1025}]}}
        add_page(files, "n0", "connections", page)

    connz = changed(second).data("n0", Endpoint.CONNZ)
    assert connz is not None
    assert len(connz["connections"]) == connz["num_connections"] == 1025

    def cut(files: Files) -> None:
        files[path_of("n0", "connections")]["data"]["connections"] = [{"cid": n} for n in range(1, 1025)]

    assert [u.detail for u in changed(cut).unknown] == ["n0 has more connections in CONNZ than the 1024 that were read"]


def test_an_account_without_its_raft_groups_is_absent_and_told() -> None:
    snapshot = changed(without("accounts/APP/servers/lab__n0/account_raftz"))
    assert raft_node(snapshot, "n0", "APP", "S-R3F-any") is None
    assert raft_node(snapshot, "n0", "SYS", "_meta_")
    assert [u.detail for u in snapshot.unknown] == ["the archive has no Raft groups of n0 for the accounts APP"]


def test_queues_that_were_not_empty_are_facts_and_the_others_stay_unknown() -> None:
    path = "capture/accounts/APP/servers/lab__n0/account_ipqueues/0001.json"
    queue = {"[ACC:APP] stream 'ORDERS' msgs": {"pending": 7, "in_progress": 1}}
    snapshot = changed(lambda f: f[path].update(data=queue))
    assert snapshot.data("n0", Endpoint.IPQUEUESZ) == queue
    assert ["queue that is missing" in u.detail for u in snapshot.unknown] == [True]
    assert unknown(snapshot, "n1", Endpoint.IPQUEUESZ)[0] is UnknownReason.UNREADABLE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("clusters/"), "holds no server's answer"),
        (lambda f: f.pop(path_of("n0", "routes")), "lacks 1 of the files"),
        (lambda f: f.pop(MANIFEST), "has no capture/misc/manifest.json"),
        (lambda f: f[path_of("n0", "routes")]["server"].update(name="n1"), "is an answer of 'n1'"),
        (lambda f: f.update({path_of("n0", "routes"): [1]}), "is not a JSON object"),
        (lambda f: f.update({"capture/../../etc/passwd": {}}), "only plain paths"),
        (lambda f: f.update({"foreign/report.json": {}}), "only plain paths"),
        (lambda f: retag(f, path_of("n0", "routes"), "cluster", "other"), "with one name"),
    ],
)
def test_a_manipulated_or_foreign_archive_is_refused_with_its_reason(
    change: Callable[[Files], object], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        changed(change)


def test_a_truncated_archive_of_the_peer_is_refused() -> None:
    for length in (0, 3, 1000, len(RECORDED) // 2, len(RECORDED) - 10):
        with pytest.raises(BadInput):
            read_archive(RECORDED[:length])


def test_a_bomb_among_the_peers_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.adapters.archive.reader.MAX_TOTAL_BYTES", 50_000)
    with pytest.raises(BadInput, match="larger than what is read"):
        read_archive(RECORDED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON value, as its container and key."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [spot for key, item in inside for spot in ((value, key), *spots(item))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_a_file_says_it_becomes_a_snapshot_or_a_clear_refusal(data: st.DataObject) -> None:
    files = files_of(RECORDED)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(files)))
        places = spots(files[path])
        if places:
            container, key = places[data.draw(st.integers(0, len(places) - 1))]
            container[key] = data.draw(JSON)
    try:
        snapshot = read_archive(archived(files))
    except BadInput:
        return
    assert snapshot.via == "archive"
    assert read_archive(write_archive(snapshot)).expected == snapshot.expected
