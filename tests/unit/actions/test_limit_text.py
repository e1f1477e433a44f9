"""One limit in the text of nats.conf: wherever it stands it is set, and put back byte for byte."""

import pytest

from bot.actions._conf_text import parsed
from bot.actions._limit_text import put_back, same, value_in, with_value
from bot.errors import Refused
from bot.model.limits import Setting, Value, as_shown

PLAIN = "server_name: n\njetstream { store_dir: /d }\nmqtt {\n  port: 1883\n}"


@pytest.mark.parametrize(
    ("text", "setting", "value", "line"),
    [
        (PLAIN, Setting.MAX_CONNECTIONS, 100, "\nmax_connections: 100\n"),
        ("max_connections = 5\n" + PLAIN, Setting.MAX_CONNECTIONS, 100, "max_connections = 100\n"),
        ("max_conn 5; debug: true\n" + PLAIN, Setting.MAX_CONNECTIONS, -1, "max_conn -1; debug: true\n"),
        (PLAIN, Setting.MQTT_ACK_WAIT, "30s", 'mqtt {\n  ack_wait: "30s"\n  port'),
        (PLAIN, Setting.MQTT_CONSUMER_MEMORY_STORAGE, True, "mqtt {\n  consumer_memory_storage: true\n"),
        (PLAIN.replace("port:", "AckWait: 7\n port:"), Setting.MQTT_ACK_WAIT, "30s", 'AckWait: "30s"\n'),
        (PLAIN, Setting.DEFAULT_MAX_CONSUMERS, -1, "jetstream {\n  limits { default_max_consumers: -1 }\n store_dir"),
        (
            PLAIN.replace("/d }", "/d, limits { max_ha_assets: 9 } }"),
            Setting.DEFAULT_MAX_CONSUMERS,
            7,
            "limits {\n  default_max_consumers: 7\n max_ha_assets: 9 }",
        ),
        (
            PLAIN.replace("/d }", "/d, limits { max_ha_assets: 9 } }"),
            Setting.MAX_HA_ASSETS,
            7,
            "limits { max_ha_assets: 7 }",
        ),
    ],
)
def test_a_limit_is_set_where_it_belongs_and_put_back(text: str, setting: Setting, value: Value, line: str) -> None:
    edited, former = with_value(text, setting, value)
    assert line in edited
    assert value_in(parsed(edited).root, setting) == value
    assert put_back(edited, setting, value, former) == text
    assert put_back(f"# later\n{edited}", setting, value, former) == f"# later\n{text}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server_name: n\n", "no block `jetstream` for"),
        ("jetstream: enabled\n", "no block `jetstream` for"),
        ("jetstream { limits: 5 }\n", "no block `jetstream.limits` for"),
        ("jetstream { limits { max_ha_assets: many } }\n", "a value that a server would refuse"),
        ("jetstream { limits { max_ha_assets: $MANY } }\n", "written with the variable \\$MANY"),
        ("jetstream {\n", "can't load the file as it is"),
    ],
)
def test_what_can_not_be_edited_is_refused_without_a_word_of_the_text(text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        with_value(text, Setting.MAX_HA_ASSETS, 7)


def test_a_file_in_braces_takes_a_line_after_them_as_nats_server_does() -> None:
    edited, former = with_value('{ "server_name": "n" }', Setting.MAX_CONNECTIONS, 7)
    assert edited == '{ "server_name": "n" }\nmax_connections: 7\n'  # 2.11.11 runs with 7
    assert put_back(edited, Setting.MAX_CONNECTIONS, 7, former) == '{ "server_name": "n" }'


def test_what_was_edited_since_stays() -> None:
    edited, former = with_value(PLAIN, Setting.MQTT_ACK_WAIT, "30s")
    with pytest.raises(Refused, match="was edited since natsmedic wrote it"):
        put_back(edited.replace("30s", "31s"), Setting.MQTT_ACK_WAIT, "30s", former)
    with pytest.raises(Refused, match="was edited since"):
        put_back(edited.replace('ack_wait: "30s"', 'ack_wait:"30s"'), Setting.MQTT_ACK_WAIT, "30s", former)


def test_durations_are_compared_by_what_they_mean() -> None:
    assert same(Setting.MQTT_ACK_WAIT, "1m", "60s")
    assert not same(Setting.MQTT_ACK_WAIT, "1m", "61s")
    assert as_shown(Setting.MQTT_ACK_WAIT, "1m") == 60 * 10**9
    assert as_shown(Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD, "24h") is None
