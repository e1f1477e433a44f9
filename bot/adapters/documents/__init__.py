"""Draws a `Document` as Markdown and as a page of HTML. Text from outside becomes neither markup, nor a link, nor a mention."""

from bot.adapters.documents.html import as_html
from bot.adapters.documents.markdown import as_markdown, plain

__all__ = ["as_html", "as_markdown", "plain"]
