"""Hostile text through every place that shows it: it stays text, in all of Slack, the terminal, exports, reports, metrics and commands.

The whole corpus goes through every sink. Generated text goes through the same, a few of it each time and 100,000 with NATSMEDIC_EXHAUSTIVE=1
through the places where text becomes safe, every tenth of it through whole documents.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import pytest

from bot.actions._command_line import command
from bot.adapters.documents import as_html, as_markdown
from bot.adapters.slack.commands.reply import as_file, say
from bot.adapters.slack.modals import decision_form, details_view, hush_form, question_form, sentence_view, tuning_form
from bot.adapters.slack.render import render
from bot.adapters.slack.render_home import HomeFacts, home_view, refusal_view
from bot.adapters.slack.render_proposal import plan_text
from bot.adapters.slack.render_reminder import broken_glass, escalation, reminder
from bot.adapters.slack.talk import bytes_of
from bot.adapters.slack.text import fallback
from bot.adapters.slack.wanted import Storm
from bot.adapters.visible import visible
from bot.cli import draw
from bot.cli.report import as_json, as_prometheus, label, markdown
from bot.cli.report import as_markdown as report_markdown
from bot.flow.approval import Form
from bot.flow.incident_report import Account, compose
from bot.lab.slack.limits import check_message, check_view
from bot.model import (
    GENESIS,
    AuditEntry,
    AuditLine,
    Choice,
    Decided,
    Escalation,
    Freeze,
    FreezeId,
    IncidentId,
    Measure,
    Tunable,
)
from tests.exhaustive import EXHAUSTIVE
from tests.unit.adapters.slack.slack_records import NOW, RULES, case, diagnosis, execution, incident, proposal
from tests.unit.adapters.slack.test_render import assert_inert, objects
from tests.unit.adapters.slack.test_render_storm import line, member, shown
from tests.unit.adapters.test_documents import Read, assert_text_stays_text
from tests.unit.cli.test_report import finding, report, table
from tests.unit.flow.test_incident_report import INTACT
from tests.unit.injections import CORPUS, generated

HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
LEAVES: Final = (*CORPUS, *generated(100_000 if EXHAUSTIVE else 300))
STORED: Final = tuple(words.encode("utf-8", "replace").decode() for words in LEAVES)
"""As records hold it: half of a surrogate pair is replaced where it comes in (bot/adapters/webhooks/payload.py)."""
WHOLE: Final = STORED[: len(CORPUS) + (10_000 if EXHAUSTIVE else 20)]
SAMPLE: Final = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\\\|\\"|\\n)*",?)*\})? -?[0-9.]+')
PEOPLE: Final = {"U0ADA"}
"""The one user id of the records, from a click."""


def hidden(text: str, allowed: str = "\n") -> set[str]:
    return {f"U+{ord(char):04X}" for char in text if unicodedata.category(char) in HIDDEN and char not in allowed}


def row(words: str) -> AuditLine:
    entry = AuditEntry(
        seq=1,
        at=NOW,
        kind="alert.firing",
        actor=words,
        incident_id=None,
        subject=words,
        sentence=words,
        data={"words": words},
        previous=GENESIS,
        hash="0" * 64,
    )
    return entry.line


def knob(words: str) -> Tunable:
    return Tunable(name="pace", title=words, measure=Measure.NUMBER, unit=words, value="2", least="1", most="9")


def account(words: str) -> Account:
    (entry,) = case(words).proposals
    decided = Decided(proposal=entry.proposal, approvals=entry.approvals, execution=entry.execution)
    return Account(
        incident=incident(words),
        alerts=(),
        diagnoses=(diagnosis(words, 1),),
        decided=(decided,),
        rows=(row(words),),
        chain=INTACT,
    )


def test_the_corpus_is_large_and_has_no_string_twice() -> None:
    assert len(CORPUS) >= 300
    assert len(set(CORPUS)) == len(CORPUS)


# --- Slack ------------------------------------------------------------------------------------------------------------


def test_threads_with_any_text_are_inert() -> None:
    for words in WHOLE:
        made = case(words, 2)
        for wanted in render(made, RULES):
            check_message(list(wanted.blocks), [])
            assert_inert(wanted.blocks, wanted.text, PEOPLE)
            if wanted.file is not None:
                assert hidden(wanted.file.name + wanted.file.title + wanted.file.alt) == set()


def test_dialogs_and_homes_with_any_text_are_inert() -> None:
    for words in WHOLE:
        made = case(words, 2)
        (entry,) = made.proposals
        freeze = Freeze(id=FreezeId("frz_1"), cluster=words, reason=words, person=words, at=NOW)
        waiting = ((entry.proposal, words), (entry.proposal, ""))
        facts = HomeFacts(
            words, ((made.incident, words),), 1, waiting, (freeze,), ((execution(words), proposal(words)),)
        )
        views = (
            *(decision_form(Form(proposal=entry.proposal, typed_name=words), choice) for choice in Choice),
            details_view(entry, RULES),
            question_form({"channel": "C0OPS", "ts": "1.2", "thread": None}, words, (words, "prod")),
            sentence_view(words, words),
            hush_form(IncidentId(words)),
            tuning_form(entry.proposal.model_copy(update={"tunables": (knob(words),)})),
            home_view(facts),
            refusal_view(words),
        )
        for view in views:
            assert_inert(view["blocks"], "", PEOPLE)
            for name in ("title", "submit", "close"):
                if name in view:
                    assert view[name]["type"] == "plain_text"
                    assert hidden(view[name]["text"]) == set()
            if view["type"] == "modal":
                check_view(view)


def test_storms_of_any_text_are_inert() -> None:
    for words in WHOLE:
        wanted = shown(Storm((line(words, words),), (member(1, words, words),)))
        check_message(list(wanted.blocks), [])
        assert_inert(wanted.blocks, wanted.text, set())


def test_fallback_text_shows_no_hidden_character_and_no_live_bracket() -> None:
    for words in LEAVES:
        told = fallback(words)
        assert not set(told) & set("<>")
        assert hidden(told, "") == set()
        assert not re.search(r"&(?!amp;|lt;|gt;)", told), "an entity of the text is escaped again"


def test_the_plans_file_has_no_hidden_character() -> None:
    for words in WHOLE:
        assert hidden(plan_text(proposal(words)), "\n\t") == set(), repr(words)


def test_what_calls_people_mentions_the_group_of_the_settings_and_nobody_of_the_data() -> None:
    for words in WHOLE:
        (entry,) = case(words, 2).proposals
        alone = replace(entry, approvals=tuple(one.model_copy(update={"break_glass": True}) for one in entry.approvals))
        call = Escalation(group="owners", stands_for=words, at=NOW)
        for wanted in (
            reminder(entry, NOW, RULES),
            escalation(entry.proposal, call, RULES),
            broken_glass(alone, entry.approvals[0].person, RULES),
        ):
            mentioned = [one for one in objects(list(wanted.blocks)) if one.get("type") == "usergroup"]
            assert [one["usergroup_id"] for one in mentioned] == ["S0OWN"]
            for one in mentioned:
                one["type"] = "known"
            assert_inert(wanted.blocks, wanted.text, PEOPLE)


def test_answers_and_the_files_of_long_ones_are_inert() -> None:
    for words in WHOLE:
        reply = say(words)
        assert_inert(reply.blocks, reply.text, PEOPLE)
        content = bytes_of(as_file(words, (words, words)).whole).decode()
        assert (content.count("\n"), hidden(content)) == (2, set()), repr(words)


def test_an_approval_that_was_voided_is_inert() -> None:
    for words in WHOLE:
        made = case(words, 2)
        (entry,) = made.proposals
        void = tuple(one.model_copy(update={"void": words}) for one in entry.approvals)
        for wanted in render(replace(made, proposals=(replace(entry, approvals=void),)), RULES):
            assert_inert(wanted.blocks, wanted.text, PEOPLE)


# --- terminal, exports, metrics ---------------------------------------------------------------------------------------


def test_a_diagnosis_with_any_text_is_inert_in_each_format() -> None:
    for words in WHOLE:
        made = report(finding(words), text=words)
        assert json.loads(as_json(made, one_line=True))["cluster"] == words
        assert as_json(made).isascii()
        metrics = as_prometheus(made).split("\n")
        assert all(one.startswith(("# HELP ", "# TYPE ")) or SAMPLE.fullmatch(one) for one in metrics), repr(words)
        assert len(metrics) == 12
        assert hidden("".join(metrics)) == set()
        told = report_markdown(made)
        assert hidden(told) == set()
        assert not re.search(r"(?<!\\)\]\(|https?://|www\.|@", told), repr(words)
        assert hidden(table(made)) == set()


def test_labels_markdown_and_cells_of_any_text_are_inert() -> None:
    for words in LEAVES:
        assert re.fullmatch(r'([^"\\\n]|\\\\|\\"|\\n)*', label(words))
        assert not set(re.sub(r"\\.", "", markdown(words))) & set("`*_{}[]()<>#|~&!$@\n")
        assert hidden(draw.cell(words), "") == set()
        assert len(draw.cell(words)) <= draw.CELL


def read_csv(rows: Iterable[AuditLine]) -> list[list[str]]:
    out = io.StringIO(newline="")
    made = draw.CsvTable(out, AuditLine._fields)
    for one in rows:
        made.add(one)
    return list(csv.reader(io.StringIO(out.getvalue(), newline="")))


def test_no_cell_of_the_audit_export_calculates_or_breaks_its_row() -> None:
    rows = [row(words) for words in STORED]
    read = read_csv(rows)
    assert len(read) == len(rows) + 1
    for cells in read:
        assert len(cells) == len(AuditLine._fields)
        for cell in cells:
            assert hidden(cell, "") == set()
            assert unicodedata.normalize("NFKC", cell.lstrip()[:1]) not in draw.FORMULA, repr(cell)


def test_a_line_of_the_audit_export_is_the_same_value_without_a_hidden_character() -> None:
    for words in STORED:
        text = row(words).text()
        told = draw.json_line(text)
        assert json.loads(told) == json.loads(text)
        assert hidden(told, "") == set()


# --- incident report and commands -------------------------------------------------------------------------------------


def test_any_text_in_a_page_is_no_tag_and_no_attribute() -> None:
    for words in WHOLE:
        assert_text_stays_text(words)


def test_the_report_of_an_incident_with_any_text_has_the_tags_of_an_innocent_one() -> None:
    innocent = Read(as_html(compose(account("word"), NOW)))
    for words in WHOLE[:: 1 if EXHAUSTIVE else 4]:
        document = compose(account(words), NOW)
        page = Read(as_html(document))
        assert page.tags == innocent.tags, repr(words)
        assert {name for name, _ in page.attributes} == {name for name, _ in innocent.attributes}
        assert page.oddities == []
        assert hidden("".join(page.texts), "\n\t") == set()
        told = as_markdown(document)
        assert hidden(told, "\n\t") == set()
        outside = re.sub(r"(?ms)^(`{3,})$.*?^\1$", "", told)
        assert not re.search(r"(?<!\\)\]\(|https?://|www\.|@|(?<!\\)<", outside), repr(words)


def as_read(words: list[str]) -> tuple[list[str], list[str]]:
    """What `nats` takes for options and files, and what for words (choria-io/fisk parser.go)."""
    end = words.index("--") if "--" in words else len(words)
    special = [word for word in words[:end] if word.startswith(("-", "@"))]
    return special, [word for word in words[:end] if word not in special] + words[end + 1 :]


def test_a_command_in_guidance_is_read_by_a_shell_and_by_nats_as_the_words_it_was_made_of() -> None:
    for words in filter(None, LEAVES):
        made = command("nats", "stream", "info", of=[words, "x"], options=["--json"])
        assert as_read(shlex.split(made)) == (["--json"], ["nats", "stream", "info", words, "x"])
        options, shown_words = as_read(shlex.split(visible(made)))
        assert (options, shown_words[:3], shown_words[4:]) == (["--json"], ["nats", "stream", "info"], ["x"]), (
            "as it is shown, it is one word, too"
        )


@pytest.mark.parametrize("words", ["=1", "+1", "\uff1d1", "\u00a0=1", "\t=1"])
def test_the_check_of_cells_would_see_a_formula(words: str) -> None:
    (_, cells) = read_csv([row(words)])
    assert cells[AuditLine._fields.index("sentence")] != words
