"""nats.conf with an explicit list of routes: exactly one place changes, and no secret is told."""

import pytest

from bot.actions._conf_text import fingerprint, parsed, redacted
from bot.actions._routes import addresses_of, restored, wanted_addresses, with_addresses
from bot.errors import Refused
from bot.model import Unknown
from bot.model.kubernetes import Workload
from bot.model.nats_conf import read_conf
from tests.unit.actions.kubernetes_scene import CANARY, facts, stateful_set

LIST = ("nats-0.nats-headless:6222", "nats-1.nats-headless:6222")
OFFICIAL = """{
  "cluster": {
    "name": "nats",
    "port": 6222,
    "routes": [
      "nats://nats-headless:6222"
    ]
  },
  "server_name": $SERVER_NAME
}
"""
"""As the official chart writes it: JSON with variables."""


def workload() -> Workload:
    found = facts(stateful_set=[stateful_set()]).workload
    assert not isinstance(found, Unknown)
    return found


def wanted(conf: str, replicas: int = 2) -> tuple[str, ...]:
    return wanted_addresses(parsed(conf), workload(), replicas)


def refused(conf: str) -> str:
    with pytest.raises(Refused) as error:
        with_addresses(conf, LIST)
    return str(error.value)


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ("[ nats://nats-headless:6222 ]", "nats-1.nats-headless:6222"),
        ("[ nats://nats:6222 ]", "nats-1.nats-headless:6222"),
        ("[ nats://nats-headless.queues:6222 ]", "nats-1.nats-headless.queues:6222"),
        ("[ nats://nats-headless.queues.svc:6222 ]", "nats-1.nats-headless.queues.svc:6222"),
        (
            "[ nats://nats-0.nats-headless.queues.svc.cluster.local:6222 ]",
            "nats-1.nats-headless.queues.svc.cluster.local:6222",
        ),
        ("[ nats://queues.example.com:6222 ]", "nats-1.nats-headless:6222"),
        ("[ nats://other.queues.example.com:6222 ]", "nats-1.nats-headless:6222"),
        ("[]", "nats-1.nats-headless:6222"),
    ],
)
def test_an_address_is_as_long_as_the_present_ones(routes: str, expected: str):
    assert wanted(f"cluster {{ name: c, port: 6222, routes: {routes} }}")[1] == expected


def test_the_port_is_the_one_that_servers_listen_on():
    assert wanted("cluster { port: 6333, routes: [ nats://a:6222 ] }")[0] == "nats-0.nats-headless:6333"
    assert wanted("cluster { listen: 0.0.0.0:6334, routes: [ nats://a:6222 ] }")[0] == "nats-0.nats-headless:6334"
    assert wanted("cluster { port: $PORT, routes: [ nats://a:6335 ] }")[0] == "nats-0.nats-headless:6335"


def test_an_included_file_that_is_not_known_may_say_anything():
    with pytest.raises(Refused, match=r"included extra.conf says is not known"):
        wanted("include extra.conf\ncluster { port: 6222, routes: [ nats://h:6222 ] }")


def test_routes_in_an_included_file_are_not_edited():
    conf = read_conf("cluster { port: 6222, include r.conf }", {}, lambda _: "routes: [ nats://h:6222 ]")
    with pytest.raises(Refused, match=r"written in the included file r.conf"):
        wanted_addresses(conf, workload(), 2)


def test_an_included_file_beside_the_routes_is_left_alone():
    before = "cluster { port: 6222, routes: [ nats://h:6222 ], authorization { include auth.conf } }"
    after, former = with_addresses(before, LIST)
    assert restored(after, LIST, former) == before


def test_there_is_one_address_for_each_pod():
    assert len(wanted("cluster { port: 6222, routes: [ nats://a:6222 ] }", 5)) == 5


def test_everything_but_the_routes_stays_byte_for_byte():
    before = f"# {CANARY}\r\ncluster {{\n\troutes = [ nats://a:{CANARY}@x:6222 ] # none\n\tport: 6222 }}\nother: 'ü'"
    after, former = with_addresses(before, LIST)
    assert former == f"[ nats://a:{CANARY}@x:6222 ]"
    head, tail = before.split(former)
    assert after.startswith(head)
    assert after.endswith(tail)
    assert after[len(head) : -len(tail)].splitlines() == [
        "[",
        f'\t  "nats://a:{CANARY}@nats-0.nats-headless:6222",',
        f'\t  "nats://a:{CANARY}@nats-1.nats-headless:6222"',
        "\t]",
    ]


def test_the_official_charts_json_stays_json():
    after, _ = with_addresses(OFFICIAL, LIST)
    listed = ",\n".join(f'      "nats://{address}"' for address in LIST)
    assert after == OFFICIAL.replace('      "nats://nats-headless:6222"', listed)


@pytest.mark.parametrize(
    "login", [r'"nats://a:x\"y@h:6222"', r'"nats://a:x\\y@h:6222"', "nats://a:p%40q@h:6222", "nats://tok@h:6222"]
)
def test_a_login_is_copied_as_it_is_meant(login: str):
    before = f"cluster {{ port: 6222, routes: [ {login} ] }}"
    after, _ = with_addresses(before, LIST)
    logins = [route.credentials for route in (parsed(after).cluster.routes or ())]  # type: ignore[union-attr]
    assert logins == [route.credentials for route in (parsed(before).cluster.routes or ())] * 2  # type: ignore[union-attr]


def test_the_scheme_is_kept():
    after, _ = with_addresses("cluster { port: 6222, routes: [ tls://h:6222 ] }", LIST)
    assert '"tls://nats-0.nats-headless:6222"' in after


def test_what_was_written_before_comes_back_and_later_edits_elsewhere_stay():
    before = "cluster { port: 6222, routes: [ nats://a:b@h:6222 ] }\ndebug: false\n"
    after, former = with_addresses(before, LIST)
    assert restored(after, LIST, former) == before
    assert restored(after.replace("false", "true"), LIST, former) == before.replace("false", "true")


def test_routes_that_somebody_edited_since_are_not_overwritten():
    after, former = with_addresses("cluster { port: 6222, routes: [ nats://h:6222 ] }", LIST)
    with pytest.raises(Refused, match="were edited since"):
        restored(after.replace("nats-1", "nats-7"), LIST, former)


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ("port: 4222", "no block `cluster`"),
        ("cluster { port: 6222 }", "no `routes` in its block"),
        ("cluster { port: 6222, routes: $ROUTES }", r"written with a variable \$ROUTES"),
        ("cluster { port: 6222, routes: [ $ONE ] }", "written with a variable"),
        ("mine: [ nats://h:6222 ]\ncluster { port: 6222, routes: $mine }", r"written with a variable \$mine"),
        ("cluster { port: 6222, routes: [ not-a-url ] }", "has a mistake"),
        ("cluster { port: many, routes: [ nats://h:6222 ] }", "has a mistake"),
        ("cluster { port: 6222, routes: [ nats://a:b@h:6222, nats://c:d@g:6222 ] }", "log in as different users"),
        ("cluster {", "can't load the file"),
    ],
)
def test_what_cannot_be_edited_is_refused_with_its_reason(conf: str, reason: str):
    with pytest.raises(Refused, match=reason):
        with_addresses(conf, LIST)


def test_no_refusal_tells_a_secret():
    broken = f"cluster {{ routes: [ nats://a:{CANARY}@h:6222, nats://b:{CANARY}2@h:6222 ] }}"
    assert CANARY not in refused(broken)
    assert CANARY not in refused(broken[:-1])


def test_the_digest_tells_edits_apart_and_is_of_no_secret():
    text = f"cluster {{ port: 6222, routes: [ nats://a:{CANARY}@h:6222 ] }}"
    assert fingerprint(text) != fingerprint(text.replace("@h", "@g"))
    assert fingerprint(text) == fingerprint(text.replace(CANARY, "another"))
    assert CANARY not in redacted(text)
    assert addresses_of(parsed(redacted(text))) == ("h:6222",)
