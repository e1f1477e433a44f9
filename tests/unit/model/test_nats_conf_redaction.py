"""No secret of a nats.conf survives its redaction, and what is left is the same configuration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.nats_conf import ConfError, read_conf, redact_conf

CANARY = "c4n4ry"

SECRETS = [
    "authorization { user: %s, password: %s }",
    "authorization { token: %s }",
    "authorization: { users = [ {user: a, password: '%s', permissions: { publish: x }} ] }",
    "accounts { A { users: [ { nkey: %s } ], exports: [ { service: %s } ] } }",
    "cluster { authorization { user: route, password: %s } }",
    "cluster { routes: [ nats://%s:%s@nats-0:6222 ] }",
    "cluster { routes: [ 'nats://%s@nats-0:6222', nats://nats-1:6222 ] }",
    "cluster { routes: [ 'nats://a:%s/@#?@nats-0:6222' ] }",
    'leafnodes { remotes [ { url: "tls://u:%s@hub" , credentials: /x/%s } ] }',
    "gateway { authorization { password: %s }, gateways: [ { name: x, urls: [nats://%s@y] } ] }",
    "jetstream { key: %s, prev_key: %s }",
    "websocket { token: %s, jwt_cookie: %s }",
    "mqtt { authentication { password: %s } }",
    "resolver: URL(http://u:%s@jwt)",
    "resolver_preload { ACC: %s }",
    "operator: %s",
    "nats_is_great: %s",
    "# password: %s",
    "port: 4222 // %s",
    "cluster { # %s\n name: x }",
    "cluster { name: x\n # %s\n }",
    "P = %s\nauthorization { password: $P }",
    "P = %s\njetstream { domain: $P }\nauthorization { password: $P }",
    "P = %s\nQ = $P\nauthorization { password: $Q }",
    "authorization { password: $%s }",
    "authorization { password: $2b$11$%s }",
    "authorization { password: %s\n password: x }",
    "authorization { password: (\n%s\n)\n }",
    r'authorization { password: "\x41%s\"" }',
    "port: 1\ninclude_token: %s",
    "authorization { password: %skbb\n }",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_secret_stays(text: str):
    clean = redact_conf(text.replace("%s", CANARY))
    assert CANARY not in clean
    read_conf(clean)


@pytest.mark.parametrize("text", SECRETS)
def test_a_number_may_be_a_secret_too(text: str):
    written = text.replace("%s", "47114711")
    try:
        read_conf(written)
    except ConfError:
        pytest.skip("a number can't stand there")
    assert "47114711" not in redact_conf(written)


@pytest.mark.parametrize("text", SECRETS)
def test_redacting_twice_changes_nothing(text: str):
    once = redact_conf(text.replace("%s", CANARY))
    assert redact_conf(once) == once


def test_what_is_harmless_reads_the_same_afterwards():
    text = """
    MAX = 10Gi # not used at a secret's place
    server_name: $POD_NAME, http: 8222
    cluster { name: prod, port: 6222, routes: [ nats://u:p@a:6222, nats://b:6222 ], authorization { user: u, password: p } }
    jetstream { store_dir: /data, max_file: $MAX, max_mem: 1Gi, limits { max_ha_assets: 7 } }
    accounts { A { jetstream: { max_mem: 5, max_file: 6 }, users: [ {user: a, password: b} ] }, SYS {} }
    system_account: SYS, lame_duck_duration: 30s
    mqtt { port: 1883, max_ack_pending: 5 }
    """
    before, after = read_conf(text), read_conf(redact_conf(text))
    assert before.cluster is not None
    assert after.cluster is not None
    assert [r.address for r in after.cluster.routes or ()] == [r.address for r in before.cluster.routes or ()]  # pyright: ignore[reportGeneralTypeIssues]
    for view in ("server_name", "http_port", "jetstream", "accounts", "system_account", "lame_duck_duration", "mqtt"):
        assert getattr(after, view) == getattr(before, view), view
    assert after.problems == before.problems == ()


def test_what_can_not_be_parsed_is_not_shown():
    with pytest.raises(ConfError):
        redact_conf("authorization { password: x")


NAMES = st.sampled_from(["authorization", "users", "password", "token", "port", "name", "cluster", "x"])
VALUES = st.recursive(
    st.sampled_from([CANARY, f'"{CANARY}"', f"nats://u:{CANARY}@h:1", f"${CANARY}", "1", "true", "10Gi"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[ " + ", ".join(items) + " ]")
        | st.dictionaries(NAMES, inner, max_size=3).map(
            lambda d: "{ " + ", ".join(f"{k}: {v}" for k, v in d.items()) + " }"
        )
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_under_a_secret_block_nothing_but_switches_and_references_stays(settings: list[tuple[str, str]]):
    text = "authorization {\n" + "\n".join(f"{key}: {value}" for key, value in settings) + "\n}\n"
    assert CANARY not in redact_conf(text)
