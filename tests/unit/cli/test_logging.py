"""What the bot logs: one JSON object per line with the ids of the work it is about, in the libraries' lines as well."""

from __future__ import annotations

import asyncio
import json
import logging
import unicodedata
from collections.abc import Generator
from typing import Final

import pytest
import structlog

from bot.bootstrap.wiring import LateHandlers
from bot.cli.serve import set_up_logging
from bot.flow import narration
from bot.model import JsonObject
from bot.ports import Phase, Steps
from bot.settings import LogFormat, LogLevel, LogSettings
from tests.integration import store_records as records
from tests.integration.execution_house import Quiet
from tests.unit.injections import CORPUS

HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Written:
    """What stands on stderr since it was read last."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self) -> str:
        return self._capsys.readouterr().err

    def lines(self) -> list[JsonObject]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Generator[Written]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Written(capsys)
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def test_a_line_is_one_object_with_a_sentence_and_fields(written: Written) -> None:
    set_up_logging(LogSettings())
    structlog.get_logger().warning("a line\nof two", number=7, name="\x1b[31m")
    text = written.text()
    line = json.loads(text)
    assert (line["event"], line["number"], line["name"], line["level"]) == ("a line\nof two", 7, "\x1b[31m", "warning")
    assert "\x1b" not in text
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("phase", "key", "field"),
    [
        (Phase.DIAGNOSIS, "inc_1/after exec_1", ("incident", "inc_1")),
        (Phase.EXECUTION, "exec_1", ("execution", "exec_1")),
    ],
)
async def test_every_line_of_a_phase_has_the_id_it_is_run_for(
    written: Written, phase: Phase, key: str, field: tuple[str, str]
) -> None:
    set_up_logging(LogSettings())
    handlers = LateHandlers()

    async def work(_key: str, _steps: Steps) -> None:
        structlog.get_logger().info("ours")
        await asyncio.create_task(asyncio.to_thread(logging.getLogger("dbos").error, "theirs"))

    handlers.known[phase] = work
    await handlers[phase](key, Quiet())
    structlog.get_logger().info("after it")
    name, value = field
    assert [(line["event"], line.get(name)) for line in written.lines()] == [
        ("ours", value),
        ("theirs", value),
        ("after it", None),
    ]


def test_a_repairs_lines_have_its_incident_proposal_and_execution(written: Written) -> None:
    set_up_logging(LogSettings())
    with narration.of_execution(records.execution()):
        structlog.get_logger().info("sent")
    with narration.of_proposal(records.proposal()):
        structlog.get_logger().info("clicked")
    sent, clicked = written.lines()
    assert (sent["incident"], sent["proposal"], sent["execution"]) == ("inc_1", "prop_1", "exec_1")
    assert (clicked["incident"], clicked["proposal"]) == ("inc_1", "prop_1")
    assert "execution" not in clicked


@pytest.mark.parametrize(
    ("level", "heard"), [(LogLevel.DEBUG, 4), (LogLevel.INFO, 3), (LogLevel.WARNING, 2), (LogLevel.ERROR, 1)]
)
def test_below_its_level_nothing_is_written(written: Written, level: LogLevel, heard: int) -> None:
    set_up_logging(LogSettings(level=level))
    log = structlog.get_logger()
    for say in (log.debug, log.info, log.warning, log.error):
        say("a line")
    assert len(written.lines()) == heard


def test_text_is_for_people_and_shows_what_a_terminal_would_obey(written: Written) -> None:
    set_up_logging(LogSettings(format=LogFormat.TEXT))
    structlog.get_logger().info("a line", name="\x1b[31mred")
    text = written.text()
    assert "a line" in text
    assert "\\x1b[31mred" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("form", LogFormat)
def test_no_text_of_others_does_anything_in_a_log_in_an_error_of_theirs_neither(
    written: Written, form: LogFormat
) -> None:
    set_up_logging(LogSettings(format=form))
    for words in CORPUS:
        try:
            raise ValueError(words)
        except ValueError:
            structlog.get_logger().exception("it failed", name=words, several=[words], by_name={words: words})
            logging.getLogger("theirs").exception("theirs %s", words)
        text = written.text()
        assert "it failed" in text
        assert {char for char in text if unicodedata.category(char) in HIDDEN and char not in "\n\t"} == set(), words
