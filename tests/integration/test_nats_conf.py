"""What a real nats-server loads, natsmedic reads as the same: by the digest over everything, and by the values that VARZ and ROUTEZ show."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bot.lab.binaries import SUPPORTED_VERSIONS, nats_server_binary
from bot.lab.config import HOST, free_ports
from bot.lab.http import http_client
from bot.model.nats_conf import ConfError, read_conf, redact_conf

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
WITH_DIGEST = [version for version in SUPPORTED_VERSIONS if not version.startswith("2.10.")]
EXAMPLES = 60
"""A server needs 25 ms to look at one."""


@pytest.fixture(scope="module", params=SUPPORTED_VERSIONS)
def server(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, asyncio.run(nats_server_binary(request.param))


def loads(binary: Path, file: Path, **environment: str) -> str | None:
    """What `nats-server -t` says of a file; None where it refuses it."""
    command = [binary, "-t", "-c", file]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20, env=environment)
    return said.stderr if said.returncode == 0 else None


SEPARATOR = st.sampled_from([" ", ": ", " = ", ":", "=", " :\t"])
END = st.sampled_from(["\n", " # why\n", " // why\n", "\n\n", ";\n", ",\n", "\r\n"])
WORD = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_-]{0,8}", fullmatch=True).filter(
    lambda word: word.lower() not in {"true", "false", "on", "off", "yes", "no"}
)


def quoted(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([text, f'"{text}"', f"'{text}'", '"' + "".join(f"\\x{b:02x}" for b in text.encode()) + '"'])


NAME = WORD.flatmap(quoted)
SIZE = st.builds(
    lambda number, unit: f"{number}{unit}",
    st.integers(1, 9),
    st.sampled_from(["k", "K", "kb", "Ki", "KiB", "m", "MB", "Mi", "g", "GB", "Gib"]),
)
DURATION = st.sampled_from(["30s", '"2m"', "'1m30s'", "45s", "1h"])
HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,6}(\.[a-z0-9]{1,5}){0,2}", fullmatch=True)
ROUTE = st.builds(
    lambda user, host, port: f"nats://{user}{host}:{port}",
    st.sampled_from(["", "", "u:p@", "bot:p%40ss@"]),
    HOSTS,
    st.integers(1024, 65535),
)
ITEM_END = st.sampled_from([", ", ",\n  ", "\n  ", " # pod\n  "])


@st.composite
def routes(draw: st.DrawFn) -> str:
    text = "[ "
    for route in draw(st.lists(ROUTE, min_size=1, max_size=4)):
        text += draw(quoted(route)) + draw(ITEM_END)
    return text.rstrip(", \n") + "\n]"


@st.composite
def block(draw: st.DrawFn, lines: list[tuple[str, st.SearchStrategy[str]]]) -> str:
    text = "{\n"
    for name, value in draw(st.permutations(lines)):
        if draw(st.booleans()):
            written = draw(st.sampled_from([name, name.upper(), f'"{name}"']))
            text += f"  {written}{draw(SEPARATOR)}{draw(value)}{draw(END)}"
    return text + draw(st.sampled_from(["}", "  }"]))


@st.composite
def configurations(draw: st.DrawFn) -> str:
    port = st.integers(1024, 65535).map(str)
    cluster = block(
        [
            ("name", NAME),
            ("port", port),
            ("routes", routes()),
            ("no_advertise", st.sampled_from(["true", "off", "YES"])),
            ("pool_size", st.integers(1, 9).map(str)),
            ("authorization", st.just("{ user: u, password: 'p' }")),
        ]
    )
    jetstream = block(
        [
            ("max_mem", SIZE),
            ("max_file_store", SIZE),
            ("store_dir", st.sampled_from(["/tmp/x", '"/data"', "'/js'"])),
            ("domain", NAME),
            ("limits", block([("max_ha_assets", st.integers(1, 2000).map(str)), ("duplicate_window", DURATION)])),
        ]
    )
    accounts = st.lists(WORD, min_size=1, max_size=3, unique=True).map(
        lambda names: "{ " + ", ".join(f'{n}: {{ users: [ {{user: "u{n}", password: $PW}} ] }}' for n in names) + " }"
    )
    top = [
        ("port", port),
        ("server_name", st.sampled_from(["$POD_NAME", "a-name"])),
        ("http", st.sampled_from(["8222", '"127.0.0.1:8222"', "0.0.0.0:8222"])),
        ("lame_duck_duration", DURATION),
        ("lame_duck_grace_period", DURATION),
        ("max_payload", st.sampled_from(["1MB", "2Mi", "1048576"])),
        ("cluster", cluster),
        ("jetstream", jetstream),
        ("accounts", accounts),
    ]
    text = draw(st.sampled_from(["", "# head\n", "PW: secret\n", "\n\n"]))
    for name, value in draw(st.permutations(top)):
        if draw(st.booleans()):
            text += f"{name}{draw(SEPARATOR)}{draw(value)}{draw(END)}"
    return text


ENVIRONMENT = {"POD_NAME": "nats-0", "PW": "hidden"}


@given(text=configurations())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_server_loads_reads_the_same(server: tuple[str, Path], tmp_path: Path, text: str):
    version, binary = server
    file = tmp_path / "nats.conf"
    file.write_bytes(text.encode())
    said = loads(binary, file, **ENVIRONMENT)
    assume(said is not None)
    assert said is not None
    conf = read_conf(text, ENVIRONMENT)
    if version in WITH_DIGEST:
        found = DIGEST.search(said)
        assert found is not None
        assert found.group() in conf.digests
    clean = read_conf(redact_conf(text), ENVIRONMENT)
    for view in ("server_name", "client_port", "http_port", "jetstream", "accounts", "lame_duck_duration", "problems"):
        assert getattr(clean, view) == getattr(conf, view), view


PIECES = st.lists(
    st.sampled_from(
        [*"{}[]()=:,;#/'\"\\\n\n  $", "a", "cluster", "1k", "10Gi", "include x", "true", "nats://h:1", "\\x41"]
    )
).map("".join)


@given(text=PIECES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_refused_here_the_server_refuses_too(server: tuple[str, Path], tmp_path: Path, text: str):
    _, binary = server
    try:
        read_conf(text)
    except ConfError:
        file = tmp_path / "nats.conf"
        file.write_bytes(text.encode())
        assert loads(binary, file) is None


async def test_varz_shows_what_was_read(tmp_path: Path):
    client, monitor, route, peer = free_ports(4)
    text = f"""
        server_name: $POD_NAME
        listen: {HOST}:{client}, http: "{HOST}:{monitor}"
        include accounts.conf
        lame_duck_duration: 45s, lame_duck_grace_period: 5s, max_connections: 1234
        SIZE = 3Gi
        jetstream {{ store_dir: "{tmp_path}/js", max_mem: "64M", max_file: $SIZE, limits {{ max_ha_assets: 77 }} }}
        cluster {{ name: proof, listen: {HOST}:{route}, pool_size: 4, routes = [
            nats://u:p@{HOST}:{peer} # nobody is there
            "nats://{HOST}:{route}" ] }}
        mqtt {{ port: -1, max_ack_pending: 9, ack_wait: 1m }}
    """
    included = "accounts { APP { jetstream: enabled, users: [{user: a, password: b}] }, SYS {} }\nsystem_account: SYS\n"
    (tmp_path / "nats.conf").write_text(text)
    (tmp_path / "accounts.conf").write_text(included)
    binary = await nats_server_binary("2.11.11")
    process = await asyncio.create_subprocess_exec(
        binary, "-c", tmp_path / "nats.conf", env={"POD_NAME": "pod-0"}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        varz = await answer(f"http://{HOST}:{monitor}/varz")
    finally:
        process.kill()
        await process.wait()
    conf = read_conf(text, {"POD_NAME": "pod-0"}, {"accounts.conf": included}.get)
    assert conf.cluster is not None
    assert conf.jetstream is not None
    assert conf.mqtt is not None
    assert isinstance(conf.cluster.routes, tuple)
    assert varz["config_digest"] in conf.digests
    assert varz["server_name"] == conf.server_name
    assert (varz["port"], varz["http_port"]) == (conf.client_port, conf.http_port)
    assert varz["max_connections"] == conf.max_connections
    assert varz["cluster"]["urls"] == [r.address for r in conf.cluster.routes]
    assert (varz["cluster"]["name"], varz["cluster"]["pool_size"]) == (conf.cluster.name, conf.cluster.pool_size)
    limits = varz["jetstream"]["config"]
    assert (limits["max_memory"], limits["max_storage"]) == (conf.jetstream.max_memory, conf.jetstream.max_file)
    assert varz["jetstream"]["limits"]["max_ha_assets"] == conf.jetstream.limits.max_ha_assets
    assert varz["mqtt"]["max_ack_pending"] == conf.mqtt.max_ack_pending
    # To the server, too, `1m` without quotes is a million, and a bare number is seconds.
    assert (varz["mqtt"]["ack_wait"], conf.mqtt.ack_wait) == (10**6 * 10**9, 10.0**6)
    assert varz["system_account"] == conf.system_account


async def answer(url: str) -> dict[str, Any]:
    async with http_client() as http:
        for _ in range(200):
            try:
                return (await http.get(url)).json()
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise TimeoutError(url)
