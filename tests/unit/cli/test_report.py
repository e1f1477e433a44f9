"""Reports as text: hostile names stay inert in every form, and the JSON is what its schema says."""

import io
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import bot.cli
from bot.cli.report import EXIT_CODES, MOST_ROWS, as_json, as_markdown, as_prometheus, label, markdown, print_table
from bot.flow.examination import Offer, PlannedAction, Report, UnknownFact
from bot.flow.ranking import rank
from bot.model import Finding, Layer, RiskClass, Severity, Subject

HOSTILE = 'x\x1b]0;owned\x07\u202egnp\n# big "q" \\ | [a](http://e.vil) <b> `c` @here ![i](u) www.e.vil [red]r[/red] {l="1"} 1\n'
SCHEMA = json.loads((Path(bot.cli.__file__).parent / "diagnose.schema.json").read_text(encoding="utf-8"))
MOMENT = datetime(2026, 11, 21, 10, 0, tzinfo=timezone(timedelta(hours=2)))


def finding(text: str = HOSTILE, severity: Severity = Severity.CRITICAL, check: str = "STREAM_LEADER") -> Finding:
    subject = Subject(cluster="lab", account=text, stream=text)
    return Finding(
        check=check,
        layer=Layer.STREAMS,
        subject=subject,
        severity=severity,
        sentence=text,
        evidence={text: text},
        counterpart="JETSTREAM_002",
    )


def report(*findings: Finding, text: str = HOSTILE) -> Report:
    return Report(
        cluster=text,
        gathered_at=MOMENT,
        verdict=rank(findings),
        findings=findings,
        proposals=(
            Offer(
                title=text,
                why=text,
                risk=RiskClass.LOW,
                actions=(PlannedAction(kind="consumer.step_down", params={"stream": text}),),
                guidance=(text,),
            ),
        ),
        unknown=(
            UnknownFact(fact="RAFTZ", server=text, reason=text),
            UnknownFact(fact="cluster", server=None, reason=text),
        ),
    )


def table(shown: Report, *, terminal: bool = False) -> str:
    out = io.StringIO()
    print_table(shown, Console(file=out, width=200, force_terminal=terminal, markup=False, highlight=False))
    return out.getvalue()


def test_the_json_is_valid_by_its_schema_and_keeps_names_whole() -> None:
    text = as_json(report(finding(), finding(severity=Severity.OK)))
    read = json.loads(text)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(read)
    assert text.isascii()
    assert "\x1b" not in text
    assert read["verdict"] == {
        "severity": "critical",
        "code": "STREAM_LEADER",
        "subject": f"{HOSTILE} > {HOSTILE}",
        "text": HOSTILE,
    }
    assert read["gathered_at"] == "2026-11-21T08:00:00Z"
    assert read["findings"][0]["layer"] == "streams"
    assert read["findings"][0]["counterpart"] == "JETSTREAM_002"
    assert read["proposals"][0]["actions"] == [{"kind": "consumer.step_down", "params": {"stream": HOSTILE}}]
    assert read["unknown"][1]["server"] is None


def test_a_healthy_cluster_has_a_verdict_without_a_code() -> None:
    read = json.loads(as_json(report(finding("fine", Severity.OK), text="lab"), one_line=True))
    jsonschema.validate(read, SCHEMA)
    assert (read["verdict"]["severity"], read["verdict"]["code"], read["verdict"]["subject"]) == ("ok", None, "lab")


@pytest.mark.parametrize("broken", ["verdict", "findings", "unknown", "cluster"])
def test_the_schema_refuses_a_document_that_lacks_a_part_or_has_another(broken: str) -> None:
    read = json.loads(as_json(report(finding())))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({key: value for key, value in read.items() if key != broken}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read | {"more": 1}, SCHEMA)


def test_prometheus_lines_parse_whatever_a_cluster_is_called() -> None:
    text = as_prometheus(report(finding(), finding(), finding(severity=Severity.UNKNOWN)))
    sample = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\\\|\\"|\\n)*",?)*\})? -?[0-9.]+')
    lines = text.split("\n")
    assert all(line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line) for line in lines)
    assert not set(text) & set("\x1b\x07\u202e")
    assert re.search(r'^natsmedic_verdict\{.*,code="STREAM_LEADER",subject=".*"\} 2$', text, re.MULTILINE)
    assert re.search(r'^natsmedic_findings\{.*,code="STREAM_LEADER",severity="critical"\} 2$', text, re.MULTILINE)
    assert re.search(r'^natsmedic_findings\{.*,code="STREAM_LEADER",severity="unknown"\} 1$', text, re.MULTILINE)
    assert re.search(r"^natsmedic_unknown_facts\{.*\} 2$", text, re.MULTILINE)


@given(st.text())
def test_a_label_is_one_quoted_line(text: str) -> None:
    assert re.fullmatch(r'([^"\\\n]|\\\\|\\"|\\n)*', label(text))


@given(st.text())
def test_text_in_markdown_has_no_bare_markup(text: str) -> None:
    shown = markdown(text)
    assert "\n" not in shown
    assert "@" not in shown
    bare = re.sub(r"\\.", "", shown)
    assert not set(bare) & set("`*_{}[]()<>#|~&!$")
    assert "://" not in bare


def test_markdown_is_inert_for_hostile_names() -> None:
    text = as_markdown(report(finding()))
    assert not set(text) & set("\x1b\x07\u202e@")
    assert "](" not in text
    assert "http://" not in text
    assert "www." not in text
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6, 6, 6]
    assert all(line == "" or line[0] in "#|-xCF" for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("1. one", "1\\. one"), ("- dash", "\\- dash"), ("+ plus", "\\+ plus"), ("a-b", "a-b"), ("2.11", "2\\.11")],
)
def test_text_starts_no_list_in_markdown(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_the_table_colours_only_a_terminal_and_never_by_data() -> None:
    plain, coloured = table(report(finding())), table(report(finding()), terminal=True)
    assert not set(plain) & set("\x1b\x07\u202e")
    assert "[red]r[/red]" in plain.replace("\n", "")
    assert "\x1b[" in coloured
    assert "\x1b]0;" not in coloured
    assert "\x07" not in coloured
    assert plain.startswith("CRITICAL x\\x1b]0;owned")


def test_a_person_sees_the_first_findings_and_how_many_more_there_are() -> None:
    many = report(*(finding(f"finding {n:04}") for n in range(MOST_ROWS + 7)), text="lab")
    for text in (table(many), as_markdown(many)):
        assert f"finding {MOST_ROWS - 1:04}" in text
        assert f"finding {MOST_ROWS:04}" not in text
        assert "… and 7 more; --format json has all." in text
    assert len(json.loads(as_json(many))["findings"]) == MOST_ROWS + 7


def test_every_severity_has_the_exit_code_that_is_documented() -> None:
    assert {s.value: code for s, code in EXIT_CODES.items()} == {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}
    assert datetime.fromisoformat(json.loads(as_json(report(finding())))["gathered_at"]) == MOMENT.astimezone(UTC)
