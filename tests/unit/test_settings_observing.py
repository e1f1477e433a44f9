"""What the settings say of metrics, logs and traces."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

import bot
from bot import registry
from bot.bootstrap.measuring import measured
from bot.errors import SettingsError
from bot.ports import UNMETERED
from bot.settings import LogFormat, LogLevel, Settings, load

EXAMPLE = Path(bot.__file__).parents[1] / "deploy" / "natsmedic.example.yaml"
CLUSTER = {
    "name": "prod",
    "channel": "C0123456789",
    "nats": {"servers": ["nats://h:4222"], "system": {"user": "u", "password": "p"}},
}


def settings(folder: Path, **sections: object) -> Settings:
    file = folder / "natsmedic.yaml"
    file.write_text(yaml.safe_dump({"clusters": [CLUSTER], **sections}))
    return load(file, {"METRICS_TOKEN": "tok"})


def test_the_commented_sections_of_the_example_are_settings(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    start, end = lines.index(next(one for one in lines if one.startswith("# metrics:"))), lines.index("webhooks:")
    sections = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines[start:end]))
    read = settings(tmp_path, **sections)
    assert read.metrics is not None
    assert read.metrics.bearer is not None
    assert read.metrics.bearer.get_secret_value() == "tok"
    assert (read.log.format, read.log.level) == (LogFormat.JSON, LogLevel.INFO)
    assert read.traces is not None
    assert read.traces.endpoint == "http://localhost:4318"


def test_metrics_without_a_word_are_for_this_machine_alone(tmp_path: Path) -> None:
    read = settings(tmp_path, metrics={})
    assert read.metrics is not None
    assert read.metrics.listen == "127.0.0.1:9464"
    assert read.metrics.bearer is None


@pytest.mark.parametrize(
    ("section", "wrong", "said"),
    [
        ("metrics", {"listen": "127.0.0.1:65536"}, "metrics.listen"),
        ("webhooks", {"listen": "127.0.0.1:65536"}, "webhooks.listen"),
        ("traces", {"endpoint": "http://user:secret-word@h:4318"}, "traces.endpoint"),
        ("traces", {"endpoint": "grpc://h:4317"}, "traces.endpoint"),
        ("traces", {}, "traces.endpoint"),
        ("log", {"level": "loud"}, "log.level"),
        ("log", {"format": "xml"}, "log.format"),
    ],
)
def test_a_mistake_names_its_key_and_no_secret(tmp_path: Path, section: str, wrong: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(tmp_path, **{section: wrong})
    assert said in str(refused.value)
    assert "secret-word" not in str(refused.value)


def test_a_port_up_to_65535_is_accepted(tmp_path: Path) -> None:
    assert settings(tmp_path, webhooks={"listen": "127.0.0.1:65535"}).webhooks.listen == "127.0.0.1:65535"


async def test_without_the_section_nothing_is_measured(tmp_path: Path) -> None:
    async with measured(settings(tmp_path), registry.load()) as measuring:
        assert measuring.meter is UNMETERED
        assert measuring.parts == {}


async def test_traces_without_their_extra_are_a_mistake_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bot.adapters.traces", None)
    with pytest.raises(SettingsError, match=r"natsmedic\[otel\]"):
        async with measured(settings(tmp_path, traces={"endpoint": "http://h:4318"}), registry.load()):
            pass
