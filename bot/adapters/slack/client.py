"""The clients of slack_sdk as the adapter wants them: no hidden retries, a time-out, no bodies in logs, and no proxy for a stand-in on this machine."""

from __future__ import annotations

import ipaddress
import logging
from typing import Final
from urllib.parse import urlsplit

from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from bot.adapters.slack.web import Hook, Hooks

CALL_TIMEOUT: Final = 10
"""Seconds a call may take."""
HOOKS_HOST: Final = "hooks.slack.com"
"""Where every response_url lies (docs.slack.dev/interactivity/handling-user-interaction)."""


def make_client(token: str, api_url: str) -> AsyncWebClient:
    """Return a client without hidden retries, with a time-out, that logs no bodies and uses no proxy for a loopback address."""
    quiet = logging.getLogger("natsmedic.slack.sdk")
    quiet.setLevel(logging.ERROR)
    client = AsyncWebClient(token=token, base_url=api_url, timeout=CALL_TIMEOUT, retry_handlers=[], logger=quiet)
    if is_loopback(api_url):
        client.proxy = None
    return client


def make_hooks(api_url: str) -> Hooks:
    """Return what opens a `response_url`: on Slack's own host for them, or, where Slack is a stand-in, on the host of the stand-in."""
    quiet = logging.getLogger("natsmedic.slack.sdk")
    own = urlsplit(api_url)
    stand_in = is_loopback(api_url)

    def open_hook(address: str) -> Hook | None:
        there = urlsplit(address)
        ours = (there.scheme, there.netloc) == ((own.scheme, own.netloc) if stand_in else ("https", HOOKS_HOST))
        if not ours:
            return None
        hook = AsyncWebhookClient(address, timeout=CALL_TIMEOUT, logger=quiet, retry_handlers=[])
        if stand_in:
            hook.proxy = None
        return hook

    return open_hook


def is_loopback(url: str) -> bool:
    """True for an address on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
