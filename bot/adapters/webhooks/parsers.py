"""The parser of each source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bot.adapters.webhooks.alertmanager import parse_alertmanager, parse_grafana
from bot.adapters.webhooks.generic import generic_parser
from bot.adapters.webhooks.pagerduty import parse_pagerduty
from bot.flow.incoming import Parser
from bot.settings import SourceKind, SourceSettings

_FIXED: Final[Mapping[SourceKind, Parser]] = {
    SourceKind.ALERTMANAGER: parse_alertmanager,
    SourceKind.GRAFANA: parse_grafana,
    SourceKind.PAGERDUTY: parse_pagerduty,
}


def parser_of(source: SourceSettings) -> Parser:
    """Return the parser of a source's bodies."""
    return generic_parser(source.mapping) if source.mapping is not None else _FIXED[source.kind]
