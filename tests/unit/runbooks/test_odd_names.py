"""Things whose names look like options, in the commands that people are given: what is run is about the thing, and no option of the program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any, Final, cast

import pytest

from bot.model import Finding, Focus, Layer, Severity, Subject
from bot.runbook import Thresholds
from runbooks._audit_guidance import GUIDES, propose
from runbooks._audit_servers import CONNECTIONS
from runbooks._shared_guidance import cause_guidance

NAMES: Final = {"server": "-n1", "account": "-APP", "stream": "--force", "consumer": "@worker"}
COMMAND: Final = re.compile(r"nats (?:stream|consumer|server) [^;()]*")


class Nowhere:
    """A snapshot of which these runbooks read the cluster's name only."""

    cluster = "prod"
    servers = ()


def finding(check: str) -> Finding:
    subject = Subject(cluster="prod", **NAMES)
    return Finding(check=check, layer=Layer.STREAMS, subject=subject, severity=Severity.CRITICAL, sentence="It is so.")


def read(line: str) -> Iterator[tuple[list[str], list[str]]]:
    """Of each command in a line that names something: its options, and its names (choria-io/fisk parser.go)."""
    for found in COMMAND.findall(line):
        words = shlex.split(found)
        if not set(NAMES.values()) & {part for word in words for part in (word, word.partition("=")[2])}:
            continue
        end = words.index("--") if "--" in words else len(words)
        options = [word for word in words[:end] if word.startswith(("-", "@"))]
        yield options, words[end + 1 :]


@pytest.mark.parametrize("code", sorted(GUIDES.keys() - {CONNECTIONS.code}))
def test_a_guide_of_the_audit_names_odd_things_behind_all_options(code: str) -> None:
    (offered,) = propose(cast("Any", Nowhere()), [finding(code)], cast("Thresholds", {}), Focus())
    for line in offered.draft.guidance:
        for options, _ in read(line):
            assert not set(options) & set(NAMES.values()), line


def test_the_reader_of_this_test_sees_an_option() -> None:
    assert list(read("See it: nats stream info --force")) == [(["--force"], [])]
    assert list(read("See it: nats stream info -- --force")) == [([], ["--force"])]


def test_a_quorum_that_is_lost_is_looked_at_by_name() -> None:
    draft = cause_guidance(cast("Any", Nowhere()), finding("STREAM_QUORUM"))
    assert draft is not None
    assert "nats stream info -- --force (" in draft.guidance[0]
