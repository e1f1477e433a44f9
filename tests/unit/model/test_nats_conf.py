"""nats.conf is read as nats-server reads it (conf/lex.go and conf/parse.go of 2.15.1), and its places and problems are told."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.nats_conf import ConfError, Route, Variable, read_conf
from bot.model.nats_conf.section import seconds_of
from bot.model.nats_conf.tree import DEEPEST, grow

TAB = chr(9)


def plain(text: str, **environment: str) -> Any:
    """The values alone, without places."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(node.value) for key, node in value.items()}
        return [bare(node.value) for node in value] if isinstance(value, tuple) else value

    return bare(grow(text, environment).root)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1", {"a": 1}),
        ("a: 1", {"a": 1}),
        ("a 1", {"a": 1}),
        ("a\n\n = 1", {"a": 1}),
        ('"a b": 1', {"a b": 1}),
        ("a: 1; b: 2, c: 3", {"a": 1, "b": 2, "c": 3}),
        ("# x\na: 1 // y\n", {"a": 1}),
        ("a: 1\na: 2", {"a": 2}),
        ('{"a": {"b": [1 , "x"]}}', {"a": {"b": [1, "x"]}}),
        ("a { b: 1 } ", {"a": {"b": 1}}),
        ("a { b: 1 }\n}", {"a": {"b": 1}}),
        ("a: [\n x # one\n y, z ]", {"a": ["x", "y", "z"]}),
        ("a: [nats://u:p@h:1, nats://h:2]", {"a": ["nats://u:p@h:1", "nats://h:2"]}),
        ("a: yes; b: OFF", {"a": True, "b": False}),
        ("a: 'yes'", {"a": "yes"}),
        (r'a: "x\t\"\\\x41\xc3\xa9"', {"a": f'x{TAB}"\\Aé'}),
        ("a: x\\ny", {"a": "x\ny"}),
        ("a: 10s; b: 5ms; c: 1h", {"a": "10s", "b": "5ms", "c": "1h"}),
        ("a: 2m", {"a": 2_000_000}),
        ("a: 1k, b: 1kb, c: 1Ki, d: 1KIB", {"a": 1000, "b": 1024, "c": 1024, "d": 1024}),
        ("a: 3m, b: 3mb, c: 3Gi, d: 3GB", {"a": 3_000_000, "b": 3 * 2**20, "c": 3 * 2**30, "d": 3 * 2**30}),
        ("a: 1t, b: 1Ti, c: 1p, d: 1PiB", {"a": 10**12, "b": 2**40, "c": 10**15, "d": 2**50}),
        ("a: 1e, b: 1Ei", {"a": 10**18, "b": 2**60}),
        ("a: 1.5; b: -3; c: -2.5", {"a": 1.5, "b": -3, "c": -2.5}),
        ("a: 127.0.0.1:4222", {"a": "127.0.0.1:4222"}),
        ("a: 2016-05-04T18:53:41Z", {"a": datetime(2016, 5, 4, 18, 53, 41, tzinfo=UTC)}),
        ("a: (\nx {\n)\n", {"a": "\nx {\n"}),
        ("a: $2a$11$abc", {"a": "$2a$11$abc"}),
        ("x = 5\na { b: $x }", {"x": 5, "a": {"b": 5}}),
        ("x = 5\na { x: 6, b { c: $x } }", {"x": 5, "a": {"x": 6, "b": {"c": 6}}}),
        ("a: [1k ]", {"a": [1000]}),
    ],
)
def test_it_reads_what_the_server_reads(text: str, expected: dict[str, Any]):
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1]\n", None),
        ("a: 1kq", {"a": "1kq"}),
        ("a: 1kbb\n", {}),
        ("a: x'y", None),
        ("a: x'", {"a": "x"}),
        ("a: [1k]", {"a": ["1k"]}),
        ("a: [ x / y ]", {"a": ["x", "y"]}),
        ("a { b }", {"b": {}}),
        ("a: (\nx\n)", {"a": "\nx\n)"}),
        ("a: 9223372036854775807k", {"a": -1000}),
    ],
)
def test_its_oddities_are_the_servers(text: str, expected: dict[str, Any] | None):
    if expected is None:
        with pytest.raises(ConfError):
            plain(text)
    else:
        assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: \n", 2),
        ("a {\n b: 1\n", 3),
        ("a: [x\n", 2),
        ('a: "x', 1),
        ("\n\n= 1", 3),
        ("a: 1 b: 2", 1),
        ("a: -x", 1),
        ("a: 1.x", 1),
        ("a: 2016-13-04T18:53:41Z", 1),
        ("a: 99999999999999999999", 1),
        (r'a: "\q"', 1),
        ("a: (\nx)\n", 1),
        ("key_without_value", 1),
        ("a: \0", 1),
        ("include [x]", 1),
        ("a " * (DEEPEST + 1) + "", 1),
        ("a " + "[" * (DEEPEST + 1), 1),
    ],
)
def test_what_the_server_refuses_is_refused_with_its_line(text: str, line: int):
    with pytest.raises(ConfError) as refused:
        plain(text)
    assert refused.value.line == line


def test_an_error_never_repeats_the_text():
    with pytest.raises(ConfError) as refused:
        read_conf('authorization { password: "s3cr3t\n')
    assert "s3cr3t" not in str(refused.value)


@given(st.text() | st.text(alphabet="ab1k{}[]()=:,;#/'\"\\x $\n\t\r.-"))
def test_junk_is_read_or_refused_and_never_crashes_the_reader(text: str):
    try:
        conf = read_conf(text)
    except ConfError:
        return
    assert all(digest.startswith("sha256:") for digest in conf.digests)


def test_a_variable_is_read_from_the_environment_as_configuration():
    assert plain("a: $SIZE\nb: $NAME", SIZE="10Gi", NAME='"x y"') == {"a": 10 * 2**30, "b": "x y"}


def test_a_variable_that_nobody_defines_is_reported_and_stands_in_the_view():
    conf = read_conf("server_name: $POD_NAME\nport: $PORT")
    assert (conf.server_name, conf.client_port) == (Variable("POD_NAME"), Variable("PORT"))
    assert conf.unresolved == ("POD_NAME", "PORT")
    assert conf.digests == ()


def test_an_environment_variable_that_refers_to_itself_is_refused():
    with pytest.raises(ConfError, match="refers to itself"):
        read_conf("a: $A", {"A": "$B", "B": "$A"})


def test_an_included_file_is_read_relative_to_the_one_that_includes_it():
    files = {"sub/auth.conf": "accounts { A {} }\ninclude more.conf", "sub/more.conf": "max_connections: 5"}
    conf = read_conf("port: 4222\ninclude './sub/auth.conf'\n", include=files.get)
    assert (conf.accounts, conf.max_connections, conf.missing_includes) == (("A",), 5, ())


def test_an_included_file_that_is_not_there_is_reported():
    conf = read_conf("port: 4222\ninclude auth.conf\n")
    assert (conf.missing_includes, conf.digests) == (("auth.conf",), ())


def test_a_file_that_includes_itself_is_refused():
    with pytest.raises(ConfError, match="includes itself"):
        read_conf("include a.conf", include={"a.conf": "include a.conf"}.get)


CLUSTER = """
cluster {
  name: prod, listen: 0.0.0.0:6222
  routes = [
    nats-route://bot:p%40ss@nats-0.nats-headless:6222   # pod 0
    "tls://nats-1.nats-headless"
    "nats://[::1]:6222" ]
  no_advertise: true, pool_size: 5, accounts: [A, "B"]
}
"""


def test_credentials_are_taken_out_of_routes():
    conf = read_conf(CLUSTER)
    assert conf.cluster is not None
    assert conf.cluster.routes == (
        Route("nats-0.nats-headless", 6222, "nats-route", "bot:p%40ss"),
        Route("nats-1.nats-headless", None, "tls"),
        Route("::1", 6222),
    )
    assert isinstance(conf.cluster.routes, tuple)
    assert [route.address for route in conf.cluster.routes] == [
        "nats-0.nats-headless:6222",
        "nats-1.nats-headless",
        "[::1]:6222",
    ]
    assert "p%40ss" not in repr(conf)


def test_the_place_of_the_routes_can_be_cut_out_and_replaced():
    conf = read_conf(CLUSTER)
    assert conf.cluster is not None
    place = conf.cluster.routes_place
    assert place is not None
    assert place.editable
    assert CLUSTER[place.start : place.end].startswith("[")
    edited = CLUSTER[: place.start] + "[nats://only:6222]" + CLUSTER[place.end :]
    changed = read_conf(edited).cluster
    assert changed is not None
    assert changed.routes == (Route("only", 6222),)
    assert (changed.name, changed.accounts, changed.pool_size) == ("prod", ("A", "B"), 5)


@pytest.mark.parametrize("text", ["R = [nats://a:1]\ncluster { routes: $R }", "include c.conf"])
def test_routes_that_are_written_elsewhere_are_not_editable_in_place(text: str):
    conf = read_conf(text, include={"c.conf": "cluster { routes: [nats://a:1] }"}.get)
    assert conf.cluster is not None
    assert conf.cluster.routes == (Route("a", 1),)
    assert conf.cluster.routes_place is not None
    assert not conf.cluster.routes_place.editable


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("jetstream { max_mem: 1Gi, max_file_store: 10G }", (2**30, 10**10)),
        ('JetStream { MAX_MEMORY_STORE: "1G", Max_File: "10T" }', (2**30, 10 * 2**40)),
        ("jetstream { max_mem_store: 0, max_file: -1 }", (0, -1)),
        ("jetstream: enabled", (None, None)),
    ],
)
def test_jetstream_limits_are_read_in_every_spelling(text: str, sizes: tuple[int | None, int | None]):
    jetstream = read_conf(text).jetstream
    assert jetstream is not None
    assert jetstream.enabled is True
    assert (jetstream.max_memory, jetstream.max_file) == sizes


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        ("jetstream: disabled", False),
        ("jetstream: false", False),
        ("jetstream { enabled: false }", False),
        ("jetstream {}", True),
        ("jetstream: $JS", Variable("JS")),
    ],
)
def test_jetstream_may_be_switched_off(text: str, enabled: object):
    jetstream = read_conf(text).jetstream
    assert jetstream is not None
    assert jetstream.enabled == enabled


def test_a_configuration_without_jetstream_or_cluster_has_none():
    conf = read_conf("port: 4222")
    assert (conf.jetstream, conf.cluster, conf.mqtt) == (None, None, None)


def test_the_rest_of_the_settings_is_read():
    conf = read_conf("""
        http: "0.0.0.0:8222", lame_duck_duration: 30s, lame_duck_grace_period: "10s", max_conn: 1000, system_account: SYS
        store_dir: /data
        jetstream { domain: hub, sync: always, unique_tag: az, request_queue_limit: 100, key: x, limits { max_ha_assets: 500, duplicate_window: 2m30s } }
        mqtt { port: 1883, ack_wait: 1m30s, max_ack_pending: 100, stream_replicas: 3, consumer_memory_storage: true, consumer_inactive_threshold: 5 }
    """)
    assert (conf.http_port, conf.lame_duck_duration, conf.lame_duck_grace_period) == (8222, 30.0, 10.0)
    assert (conf.max_connections, conf.system_account) == (1000, "SYS")
    jetstream, mqtt = conf.jetstream, conf.mqtt
    assert jetstream is not None
    assert mqtt is not None
    assert (jetstream.store_dir, jetstream.domain, jetstream.sync_interval) == ("/data", "hub", 0.0)
    assert (jetstream.unique_tag, jetstream.request_queue_limit, jetstream.encrypted) == ("az", 100, True)
    assert (jetstream.limits.max_ha_assets, jetstream.limits.duplicate_window) == (500, 150.0)
    assert (mqtt.port, mqtt.ack_wait, mqtt.max_ack_pending, mqtt.stream_replicas) == (1883, 90.0, 100, 3)
    assert (mqtt.consumer_memory_storage, mqtt.consumer_inactive_threshold) == (True, 5.0)
    assert conf.problems == ()


def test_a_setting_of_the_wrong_kind_is_a_problem_without_its_value():
    conf = read_conf("port: s3cr3t\ncluster { routes: [x], pool_size: many }\njetstream { max_file: 10X }")
    assert conf.client_port is None
    assert set(conf.problems) == {
        "port is not an integer",
        "cluster.pool_size is not an integer",
        "cluster.routes is not a list of addresses",
        "jetstream.max_file_store is not a size such as 10Gi",
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h1m1s", 3661.0), ("1.5s", 1.5), ("-2m", -120.0), ("100ms", 0.1), ("0", 0.0), ("1", None), ("1d", None)],
)
def test_durations_are_gos(text: str, seconds: float | None):
    assert seconds_of(text) == seconds


def test_the_digest_is_the_one_that_the_server_prints():
    text = (
        'port: 4222\nserver_name: "a<b>&c"\ncluster { name: x, routes: [ ] }\nauthorization { timeout: 1.0, user: a }\n'
    )
    # What `nats-server -t` of 2.11.2, 2.11.11, 2.12.8 and 2.15.1 says of this text.
    assert read_conf(text).digests == ("sha256:71b93c10afd6fb467324895763a0aa912f07738388e56f07e86b1f484868134d",)


def test_there_is_a_second_digest_where_a_variable_is_used():
    # 2.15.1 says the first of this text, 2.11.11 the second.
    assert read_conf("NAME: x\nserver_name: $NAME\n").digests == (
        "sha256:b2cc9cd54f54a2b8a1231bba13c3c4ad3a5e421d454843c524e0883e99698880",
        "sha256:1f9cba7347f3988e04c5ac81b44ce5178851ccd14628cae21ce49efb05f78cb9",
    )
