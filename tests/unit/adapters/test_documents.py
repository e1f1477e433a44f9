"""Documents as Markdown and HTML: the same words in both, and text from outside stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.adapters.documents import as_html, as_markdown
from bot.adapters.documents.html import POLICY, STYLE
from bot.adapters.visible import visible
from bot.model.document import Bullets, Document, Grid, Paragraph, Part, Tone, Verbatim

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">x</a>',
    "</pre></title><iframe src=//evil.example>",
    "]]><!-- <svg/onload=alert(1)> -->",
    "&lt;b&gt; &amp; &#x3c;script&#x3e;",
    "[click](https://evil.example) ![](https://evil.example/x.png)",
    "https://evil.example www.evil.example a@evil.example",
    "<!channel> <@U123> @here @octocat #1",
    "| a | b |\n|---|---|\n# heading",
    "```\nout of the fence\n```",
    "\u202egnp.exe \x1b[31m \x00 \ud800 \u200b",
    "1. one\n- two\n+ three",
    "$\\mathrm{x}$ ~~gone~~ **bold** _soft_ `code`",
)
TAGS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "ul", "li", "pre", "table"}
CELLS = {"thead", "tbody", "tr", "th", "td"}


def everywhere(text: str) -> Document:
    """A document with this text in each place that takes one."""
    blocks = (
        Paragraph(text=text, tone=Tone.BAD),
        Bullets(items=(text,)),
        Grid(columns=(text, text), rows=((text, text),)),
        Verbatim(text=text),
    )
    parts = (Part(heading=text, blocks=blocks), Part(heading=text, blocks=(), below=1))
    return Document(title=text, lead=Paragraph(text=text), parts=parts)


class Read(HTMLParser):
    """The page as a browser's tokeniser takes it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.oddities: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.oddities.append(data)

    def unknown_decl(self, data: str) -> None:
        self.oddities.append(data)


INNOCENT = Read(as_html(everywhere("word")))


def assert_text_stays_text(text: str) -> None:
    page = as_html(everywhere(text))
    read = Read(page)
    assert read.tags == INNOCENT.tags
    columns = [("data-column", visible(text))] * (2 if text else 0)
    assert read.attributes == [each for each in INNOCENT.attributes if each[0] != "data-column"] + columns
    assert read.oddities == []
    assert page.count(STYLE) == 1
    page.encode()


def test_a_page_has_only_tags_that_carry_text_and_forbids_everything_else() -> None:
    assert set(INNOCENT.tags) == TAGS | CELLS
    assert ("content", POLICY) in INNOCENT.attributes
    assert INNOCENT.texts.count("word") == 12
    assert not {name for name, _ in INNOCENT.attributes} & {"href", "src", "onclick", "style"}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_becomes_no_tag_and_no_attribute(text: str) -> None:
    assert_text_stays_text(text)
    assert visible(text) in Read(as_html(everywhere(text))).texts


@given(st.text())
def test_no_text_at_all_changes_the_structure_of_a_page(text: str) -> None:
    assert_text_stays_text(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_markdown_is_on_its_own_line_and_without_live_markup(text: str) -> None:
    lines = as_markdown(everywhere(text)).splitlines()
    outside = lines[: lines.index(fence_of(text))]
    assert [line for line in outside if line == ""] == [""] * 6
    for line in outside:
        bare = line.replace("\\\\", "").replace("\\<", "").replace("\\[", "").replace("\\`", "").replace("\\:", "")
        assert not set(bare) & set("<[`@")
        assert "://" not in bare
        assert "www." not in bare


def fence_of(text: str) -> str:
    return "````" if "```" in text else "```"


@pytest.mark.parametrize(
    ("text", "fence"), [("diff", "```"), ("a `b` c", "```"), ("```", "````"), ("x ````` y", "``````")]
)
def test_a_fence_is_longer_than_any_run_of_backticks_within(text: str, fence: str) -> None:
    document = Document(title="t", lead=Paragraph(text="l"), parts=(Part(heading="h", blocks=(Verbatim(text=text),)),))
    assert as_markdown(document).endswith(f"\n{fence}\n{text}\n{fence}\n")


def test_line_breaks_count_only_in_verbatim_text() -> None:
    markdown = as_markdown(everywhere("one\ntwo"))
    assert markdown.count("one\ntwo") == 1
    assert markdown.count("one\\\\ntwo") == 10


@pytest.mark.parametrize(
    ("tone", "mark"), [(Tone.GOOD, "🟢 "), (Tone.BAD, "🔴 "), (Tone.UNCLEAR, "🟣 "), (Tone.PLAIN, "")]
)
def test_a_tone_is_a_mark_in_markdown_and_an_attribute_in_html(tone: Tone, mark: str) -> None:
    document = Document(title="t", lead=Paragraph(text="All is said.", tone=tone), parts=())
    assert as_markdown(document) == f"# t\n\n{mark}All is said.\n"
    assert ("data-tone", tone.value) in Read(as_html(document)).attributes
