"""A document as one page of HTML that needs nothing else: no script, no font, no picture from elsewhere, and a policy that forbids them.

The page is built as a tree and written out by the standard library, which escapes every text and attribute; nothing here joins strings to markup.
"""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from bot.adapters.visible import visible
from bot.model.document import Block, Bullets, Document, Grid, Paragraph, Verbatim

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2327; --soft: #5b656d; --line: #d9dee2; --paper: #ffffff; --shade: #f4f6f8;
  --good: #1a7f37; --warning: #9a6700; --bad: #c9252d; --unclear: #7a3db8; --plain: #5b656d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ec; --soft: #9aa6af; --line: #3a434b; --paper: #15191d; --shade: #1f252b;
  --good: #4ac26b; --warning: #d4a72c; --bad: #ff7b72; --unclear: #c297ff; --plain: #9aa6af; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
h1, h2, h3, p, li, td { overflow-wrap: anywhere; }
p, ul { margin: .4rem 0; }
p[data-tone]:not([data-tone=plain]) { border-left: 4px solid var(--tone); background: var(--shade); padding: .5rem .8rem; border-radius: 0 4px 4px 0; }
[data-tone=good] { --tone: var(--good); } [data-tone=warning] { --tone: var(--warning); }
[data-tone=bad] { --tone: var(--bad); } [data-tone=unclear] { --tone: var(--unclear); }
table { border-collapse: collapse; width: 100%; font-size: .875rem; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
thead:not(:has(th:not(:empty))) { display: none; }
td { font-variant-numeric: tabular-nums; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 4px; padding: .7rem .9rem; font: 13px/1.45 ui-monospace, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 40rem) { main { padding: 1rem .9rem 3rem; } table, tbody, tr, td { display: block; } thead { display: none; }
  tr { padding: .4rem 0; border-bottom: 1px solid var(--line); } td { padding: .1rem 0; border: 0; }
  td[data-column]::before { content: attr(data-column) ": "; color: var(--soft); } }
@media print { body { font-size: 11px; } main { max-width: none; padding: 0; } h2, h3 { break-after: avoid; } tr, pre { break-inside: avoid; } thead { display: table-header-group; } }
"""


def as_html(document: Document) -> str:
    """Return the page."""
    page = Element("html", lang="en")
    head = SubElement(page, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": POLICY})
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", document.title)
    SubElement(head, "style").text = STYLE
    main = SubElement(SubElement(page, "body"), "main")
    _add(main, "h1", document.title)
    _block(main, document.lead)
    for part in document.parts:
        _add(main, "h3" if part.below else "h2", part.heading)
        for block in part.blocks:
            _block(main, block)
    return "<!doctype html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def _block(parent: Element, block: Block) -> None:
    match block:
        case Paragraph():
            _add(parent, "p", block.text).set("data-tone", block.tone)
        case Bullets():
            list_ = SubElement(parent, "ul")
            for item in block.items:
                _add(list_, "li", item)
        case Verbatim():
            SubElement(parent, "pre").text = visible(block.text, lines=True)
        case Grid():
            table = SubElement(parent, "table")
            head = SubElement(SubElement(table, "thead"), "tr")
            for column in block.columns:
                _add(head, "th", column)
            body = SubElement(table, "tbody")
            for row in block.rows:
                _row(body, block.columns, row)


def _row(body: Element, columns: tuple[str, ...], texts: tuple[str, ...]) -> None:
    """A phone shows a row as lines, each with the name of its column."""
    row = SubElement(body, "tr")
    for column, text in zip(columns, texts, strict=True):
        cell = _add(row, "td", text)
        if column:
            cell.set("data-column", visible(column))


def _add(parent: Element, tag: str, text: str) -> Element:
    added = SubElement(parent, tag)
    added.text = visible(text)
    return added
