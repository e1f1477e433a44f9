"""HTTP in: webhooks of alert senders, health, and Slack's HTTP mode beside them."""

from bot.adapters.webhooks.alertmanager import parse_alertmanager
from bot.adapters.webhooks.app import PARSERS, Health, webhook_app
from bot.adapters.webhooks.server import serve_http, serving

__all__ = ["PARSERS", "Health", "parse_alertmanager", "serve_http", "serving", "webhook_app"]
