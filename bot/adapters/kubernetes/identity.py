"""Who the reader is at the API server: its own pod's ServiceAccount, a context of a kubeconfig, or a token in a file.

A client is opened for each look, so that rotated tokens and certificates are always the present ones, and plugins of a kubeconfig run once per look.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import (
    ConfigException,
    load_incluster_config,  # pyright: ignore[reportUnknownVariableType] - it has no types
    load_kube_config,  # pyright: ignore[reportUnknownVariableType]
)

from bot.errors import Unreachable
from bot.settings.clusters import KubernetesSettings

LOGIN_TIMEOUT: Final = 15.0
"""Seconds that the plugin of a kubeconfig has to bring a token; the ones of the clouds take 1 to 3."""

USER_AGENT: Final = "natsmedic"


@asynccontextmanager
async def open_client(settings: KubernetesSettings, *, once: bool = False) -> AsyncGenerator[ApiClient]:
    """Open a client that verifies the server's certificate. With `once` it sends a single request and never repeats it. Raises `Unreachable` where
    nobody can log in.
    """
    configuration = await _configuration(settings)
    if once:
        configuration.client_session_kwargs = {"middlewares": (_only_once(),)}
    try:
        client = ApiClient(configuration)
    except (OSError, ValueError) as error:
        raise Unreachable(f"The certificates of the Kubernetes reader can't be used: {error}.") from error
    client.user_agent = USER_AGENT
    try:
        yield client
    finally:
        await client.close()


def _only_once() -> aiohttp.ClientMiddlewareType:
    """Stop aiohttp from sending a DELETE again when its connection breaks (aiohttp client.py, `retry_persistent_connection`): the first may have arrived."""
    sent = False

    async def send(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        nonlocal sent
        if sent:
            raise aiohttp.ClientConnectionError("the connection broke after the request was sent")
        sent = True
        return await handler(request)

    return send


async def _configuration(settings: KubernetesSettings) -> Configuration:
    configuration = Configuration()
    configuration.retries = None  # aiohttp_retry stays out: a read that fails is an unknown fact
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT):
            await _log_in(settings, configuration)
    except TimeoutError as error:
        raise Unreachable(f"Logging in to Kubernetes took longer than {LOGIN_TIMEOUT:.0f} s.") from error
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise Unreachable(f"The Kubernetes reader can't log in: {error or type(error).__name__}.") from error
    _insist_on_tls(configuration)
    return configuration


async def _log_in(settings: KubernetesSettings, configuration: Configuration) -> None:
    if settings.in_cluster:
        load_incluster_config(configuration)
    elif settings.server is not None:
        configuration.host = settings.server.rstrip("/")
        configuration.ssl_ca_cert = str(settings.ca_file) if settings.ca_file else None
    else:
        file = str(settings.kubeconfig) if settings.kubeconfig else None
        await load_kube_config(file, settings.context, configuration, persist_config=False)
    if settings.token_file is not None:
        # Whoever the way in belongs to: only the token's owner asks.
        token = (await asyncio.to_thread(settings.token_file.read_text, "utf-8")).strip()
        configuration.api_key = {"BearerToken": f"Bearer {token}"}
        configuration.refresh_api_key_hook = None
        configuration.cert_file = configuration.key_file = None


def _insist_on_tls(configuration: Configuration) -> None:
    if not configuration.verify_ssl:
        raise Unreachable(
            "The kubeconfig says insecure-skip-tls-verify: natsmedic would give its token to anyone. Give it the certificate-authority."
        )
    address = urlsplit(configuration.host)
    if not address.hostname:
        raise Unreachable("The kubeconfig's cluster names no server.")
    if address.scheme != "https" and not _is_loopback(address.hostname):
        raise Unreachable(
            f"The Kubernetes API at {address.hostname} is not asked over {address.scheme}: natsmedic gives its token to nobody without TLS."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
