"""HTTP in: webhooks of alert senders, health, and Slack's HTTP mode beside them."""

from bot.adapters.webhooks.alertmanager import parse_alertmanager, parse_grafana
from bot.adapters.webhooks.app import Health, webhook_app
from bot.adapters.webhooks.generic import generic_parser
from bot.adapters.webhooks.pagerduty import parse_pagerduty
from bot.adapters.webhooks.parsers import parser_of
from bot.adapters.webhooks.server import serve_http, serving

__all__ = [
    "Health",
    "generic_parser",
    "parse_alertmanager",
    "parse_grafana",
    "parse_pagerduty",
    "parser_of",
    "serve_http",
    "serving",
    "webhook_app",
]
