"""Limits on Kubernetes: which may be changed by a reload in which version, what is written, when a server runs with it, and the way back."""

from typing import Any

import pytest

from bot.action import Receipt
from bot.actions.kubernetes_limit import FORMER, LimitEdit, LimitParams
from bot.actions.limit_change import compose_limit, limit_guidance
from bot.actions.nats_load_limit import LoadLimit, LoadLimitParams
from bot.errors import NotYet, Refused, ServerRefused
from bot.model import OperationId, Outcome, digest
from bot.model.kubernetes import ConfigFile, Kind
from bot.model.limits import TRAITS, Setting, Value
from bot.model.nats_conf import read_conf, redact_conf
from tests.unit.actions.kubernetes_scene import CANARY, HEADLESS_CONF, Scene, Server, cluster

OP = OperationId("op_1")
CONF = f'{HEADLESS_CONF}jetstream {{ store_dir: "/data" }}\nmqtt {{\n  port: 1883\n}}\n'


def scene(version: str = "2.11.11", conf: str = CONF) -> Scene:
    """Servers that show what they have loaded as that version does: some limits in VARZ, the digest from 2.11 on."""
    made = cluster(3, conf)

    def load(server: Server) -> None:
        loaded = read_conf(made.conf)
        server.varz = {"connections": 50, "max_connections": loaded.max_connections or 65_536}
        server.varz["mqtt"] = {"port": 1883}
        if loaded.mqtt is not None and isinstance(loaded.mqtt.ack_wait, float):
            server.varz["mqtt"]["ack_wait"] = round(loaded.mqtt.ack_wait * 1e9)
        server.digest = None if version.startswith("2.10.") else digest(redact_conf(made.conf))

    def file(found: ConfigFile) -> ConfigFile:
        assert found.text is not None
        return found.model_copy(update={"digests": {f"nats-{i}": (digest(found.text),) for i in range(3)}})

    made.on_load, made.config_file = load, file
    for server in made.servers.values():
        server.version = version
        load(server)
    return made


def refusal(made: Scene, setting: Setting, value: Value) -> str:
    with pytest.raises(Refused) as refused:
        compose_limit(*made.look(), setting, value)
    return str(refused.value)


def edit_of(made: Scene, setting: Setting, value: Value) -> LimitParams:
    kind, raw = compose_limit(*made.look(), setting, value).stages[0]
    assert kind == "kubernetes.limit"
    return LimitParams.model_validate(raw)


def load_of(made: Scene, setting: Setting, value: Value) -> LoadLimitParams:
    kind, raw = compose_limit(*made.look(), setting, value).stages[-1]
    assert kind == "nats.load_limit"
    return LoadLimitParams.model_validate(raw)


async def written(made: Scene, setting: Setting, value: Value) -> tuple[LimitEdit, LimitParams]:
    action, params = LimitEdit(made.sleep), edit_of(made, setting, value)
    await action.apply(made.readers, made.writers, params, OP)
    return action, params


# --- what is proposed -----------------------------------------------------------------------------------------------------------


def test_the_file_is_edited_first_then_every_server_loads_it() -> None:
    composed = compose_limit(*scene().look(), Setting.MAX_CONNECTIONS, 90_000)
    assert [kind for kind, _ in composed.stages] == ["kubernetes.limit", *["nats.load_limit"] * 3]
    edit = LimitParams.model_validate(composed.stages[0][1])
    assert (edit.former, edit.value, list(edit.servers)) == (None, 90_000, ["nats-0", "nats-1", "nats-2"])
    assert "which needs `nats.system_writer`" in composed.cautions[-1]


@pytest.mark.parametrize(
    ("setting", "value"),
    [(Setting.REQUEST_QUEUE_LIMIT, 20_000), (Setting.INFO_QUEUE_LIMIT, 20_000), (Setting.MQTT_JS_API_TIMEOUT, "10s")],
)
@pytest.mark.parametrize("version", ["2.14.0", "2.15.1"])
def test_what_no_version_reloads_is_refused_everywhere(setting: Setting, value: Value, version: str) -> None:
    assert "a reload does not change" in refusal(scene(version), setting, value)


@pytest.mark.parametrize(
    ("setting", "version", "said"),
    [
        (Setting.INFO_QUEUE_LIMIT, "2.13.9", "does not know jetstream.info_queue_limit"),
        (Setting.MQTT_JS_API_TIMEOUT, "2.11.2", "does not know mqtt.js_api_timeout"),
        (Setting.DEFAULT_MAX_CONSUMERS, "2.14.9", "does not know jetstream.limits.default_max_consumers"),
        (Setting.MAX_HA_ASSETS, "2.14.9", "a reload does not change jetstream.limits.max_ha_assets"),
        (Setting.MAX_CONNECTIONS, "unreleased", "Which version nats-0 runs is not known"),
    ],
)
def test_a_key_is_refused_where_one_version_does_not_take_it(setting: Setting, version: str, said: str) -> None:
    made = scene()
    made.servers["nats-0"].version = version
    assert said in refusal(made, setting, "10s" if TRAITS[setting].kind is str else 20_000)


@pytest.mark.parametrize(("version", "offered"), [("2.10.29", False), ("2.11.0", True)])
def test_what_varz_does_not_show_needs_the_digest_of_the_file(version: str, offered: bool) -> None:
    made = scene(version)
    if offered:
        assert len(compose_limit(*made.look(), Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD, "24h").stages) == 4
    else:
        said = refusal(made, Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD, "24h")
        assert "nats-2 runs 2.10.29, which does not tell whether it has loaded" in said
    assert compose_limit(*made.look(), Setting.MQTT_ACK_WAIT, "1m").stages


@pytest.mark.parametrize(("limit", "refused"), [(50, True), (51, False), (0, False), (-1, False)])
def test_a_limit_that_would_cut_connections_off_is_refused(limit: int, refused: bool) -> None:
    made = scene()
    if refused:
        assert "nats-0 has 50 connections: with 50 it takes no new one" in refusal(made, Setting.MAX_CONNECTIONS, limit)
        return
    assert compose_limit(*made.look(), Setting.MAX_CONNECTIONS, limit).stages


def test_without_the_block_there_is_nothing_to_limit() -> None:
    made = scene(conf=HEADLESS_CONF)
    assert "no block `mqtt` for mqtt.ack_wait to stand in" in refusal(made, Setting.MQTT_ACK_WAIT, "1m")


def test_a_value_that_stands_in_a_variable_is_set_elsewhere() -> None:
    made = scene(conf=f"MOST: 70000\nmax_connections: $MOST\n{CONF}")
    assert "written with the variable $MOST" in refusal(made, Setting.MAX_CONNECTIONS, 90_000)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": Kind.SECRET}, "lies in Secret conf, which natsmedic never writes"),
        ({"live": False}, "mounted by subPath"),
        ({"immutable": True}, "immutable"),
    ],
)
def test_a_file_that_can_not_be_edited_in_place_is_left_alone(change: dict[str, Any], said: str) -> None:
    made = scene()
    made.config_file = lambda file: file.model_copy(update=change)
    assert said in refusal(made, Setting.MAX_CONNECTIONS, 90_000)


def test_only_servers_that_do_not_run_with_it_load_it_and_then_there_is_nothing_to_do() -> None:
    made = scene()
    made.conf = f"{CONF}max_connections: 90000\n"
    made.on_load(made.servers["nats-1"])
    stages = compose_limit(*made.look(), Setting.MAX_CONNECTIONS, 90_000).stages
    assert [(kind, raw["server"]) for kind, raw in stages] == [
        ("nats.load_limit", "nats-0"),
        ("nats.load_limit", "nats-2"),
    ]
    for server in made.servers.values():
        made.on_load(server)
    assert "and every server runs with it" in refusal(made, Setting.MAX_CONNECTIONS, 90_000)


def test_guidance_says_what_brings_it_in_force() -> None:
    old, new = (scene(version).snapshot() for version in ("2.12.8", "2.15.1"))
    assert limit_guidance(new, Setting.DEFAULT_MAX_CONSUMERS, -1) == (
        "In nats.conf of every server: jetstream { limits { default_max_consumers: -1 } }",
        "In force it comes so: then let each server load it: nats server config reload SERVER_ID.",
    )
    assert "restart one server after another" in limit_guidance(old, Setting.MAX_HA_ASSETS, 2000)[1]
    assert "restart one server after another" in limit_guidance(new, Setting.REQUEST_QUEUE_LIMIT, 20_000)[1]


# --- the file -------------------------------------------------------------------------------------------------------------------


async def test_the_file_gets_the_limit_and_nothing_else_and_goes_back() -> None:
    made = scene()
    action, params = await written(made, Setting.MQTT_ACK_WAIT, "1m")
    assert made.conf == CONF.replace("mqtt {\n", 'mqtt {\n  ack_wait: "1m"\n')
    assert await action.receipt(made.readers, params, OP) is Receipt.APPLIED
    assert (await action.verify(made.readers, params, OP)).outcome is Outcome.VERIFIED
    for server in made.servers.values():
        made.on_load(server)
    assert "run with it" in await action.rollback(made.readers, made.writers, params, OP)
    assert made.conf == CONF
    assert sorted(set(made.reloaded)) == ["nats-0", "nats-1", "nats-2"]
    assert FORMER not in made.raw(Kind.CONFIG_MAP, "conf")["metadata"]["annotations"]


async def test_a_value_that_was_there_is_replaced_and_put_back_as_it_was_written() -> None:
    former = f"max_connections: 70k  # a lot\n{CONF}"
    made = scene(conf=former)
    action, params = await written(made, Setting.MAX_CONNECTIONS, 90_000)
    assert (params.former, made.conf) == (70_000, former.replace("70k", "90000"))
    made.stale_reads = 1000
    for server in made.servers.values():
        server.varz["max_connections"] = 90_000
    with pytest.raises(NotYet, match=r"has its former max_connections again, and nats-0.* did not load it yet"):
        await action.rollback(made.readers, made.writers, params, OP)
    assert made.conf == former


async def test_what_somebody_else_edited_since_is_not_overwritten() -> None:
    made = scene()
    params = edit_of(made, Setting.MAX_CONNECTIONS, 90_000)
    made.conf = f"{CONF}debug: true\n"
    check = await LimitEdit(made.sleep).check(made.readers, params)
    assert check.refusals == ("nats.conf in ConfigMap conf was edited since.",)
    with pytest.raises(Refused, match="edited since"):
        await LimitEdit(made.sleep).apply(made.readers, made.writers, params, OP)
    made = scene()
    action, params = await written(made, Setting.MAX_CONNECTIONS, 90_000)
    raw = made.raw(Kind.CONFIG_MAP, "conf")
    raw["data"]["nats.conf"] = raw["data"]["nats.conf"].replace("90000", "80000")
    with pytest.raises(Refused, match="max_connections was edited since natsmedic wrote it"):
        await action.rollback(made.readers, made.writers, params, OP)


async def test_the_preview_shows_the_line_and_no_secret() -> None:
    made = scene()
    preview = await LimitEdit(made.sleep).preview(made.readers, edit_of(made, Setting.MAX_CONNECTIONS, 90_000))
    assert "+max_connections: 90000" in preview.diff.splitlines()
    assert CANARY not in preview.model_dump_json()
    assert preview.summary == "nats.conf in ConfigMap conf sets max_connections to 90000 (now not set)"


# --- the servers ----------------------------------------------------------------------------------------------------------------


async def test_a_server_is_asked_until_it_shows_the_limit() -> None:
    made = scene()
    await written(made, Setting.MAX_CONNECTIONS, 90_000)
    action, params = LoadLimit(made.sleep), load_of(made, Setting.MAX_CONNECTIONS, 90_000)
    check = await action.check(made.readers, params)
    assert (check.refusals, check.before) == ((), {"max_connections": 65_536})
    assert await action.receipt(made.readers, params, OP) is Receipt.NOT_APPLIED
    made.stale_reads = 3
    await action.apply(made.readers, made.writers, params, OP)
    assert made.reloaded == ["nats-2"] * 4
    assert await action.receipt(made.readers, params, OP) is Receipt.APPLIED
    seen = await action.verify(made.readers, params, OP)
    assert (seen.outcome, seen.numbers) == (Outcome.VERIFIED, {"max_connections": 90_000})
    assert seen.sentence == "nats-2 runs with max_connections: 90000."


async def test_what_varz_does_not_show_is_proven_by_the_digest() -> None:
    made = scene()
    await written(made, Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD, "24h")
    action, params = LoadLimit(made.sleep), load_of(made, Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD, "24h")
    assert (await action.verify(made.readers, params, OP)).outcome is Outcome.FAILED
    await action.apply(made.readers, made.writers, params, OP)
    assert (await action.verify(made.readers, params, OP)).outcome is Outcome.VERIFIED
    made.servers["nats-2"].digest = None
    assert (await action.verify(made.readers, params, OP)).outcome is Outcome.CANNOT_TELL
    assert await action.receipt(made.readers, params, OP) is Receipt.UNREADABLE


async def test_a_server_that_refuses_the_file_keeps_what_it_has() -> None:
    made = scene()
    await written(made, Setting.MAX_CONNECTIONS, 90_000)
    made.stale_reads = 1
    made.reload_faults = [ServerRefused("load its configuration again", 500, "config reload not supported for Port")]
    action, params = LoadLimit(made.sleep), load_of(made, Setting.MAX_CONNECTIONS, 90_000)
    with pytest.raises(ServerRefused, match="config reload not supported"):
        await action.apply(made.readers, made.writers, params, OP)


async def test_a_file_that_does_not_say_it_any_more_is_not_loaded() -> None:
    made = scene()
    params = load_of(made, Setting.MAX_CONNECTIONS, 90_000)
    check = await LoadLimit(made.sleep).check(made.readers, params)
    assert check.refusals == ("nats.conf does not set max_connections to 90000.",)
