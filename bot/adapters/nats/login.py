"""How one user logs in: made from the settings, or from a context of the `nats` command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot.adapters.nats.context import Context, read_context
from bot.settings import Credentials


@dataclass(frozen=True, slots=True)
class Login:
    """One user's way in. Its text never holds a secret."""

    inbox_prefix: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    user_jwt: str | None = field(default=None, repr=False)
    user_seed: str | None = field(default=None, repr=False)
    """Signs for `user_jwt`; None for a bearer token."""
    creds_file: Path | None = None
    nkey_seed_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    servers: tuple[str, ...] = field(default=(), repr=False)
    """Addresses a `nats` context names; used where the settings name none. May carry credentials."""

    def __str__(self) -> str:
        if self.user:
            return f"user {self.user}"
        if self.creds_file:
            return f"credentials file {self.creds_file.name}"
        if self.nkey_seed_file:
            return f"nkey file {self.nkey_seed_file.name}"
        if self.user_jwt:
            return "a user JWT"
        return "a token" if self.token else "a client certificate" if self.cert_file else "no credentials"


def login_of(credentials: Credentials, environ: Mapping[str, str]) -> Login:
    """Return the login that `credentials` describe. Raises `SettingsError` where their context can't be used."""
    tls = credentials.tls
    if credentials.context is not None:
        login = login_of_context(read_context(credentials.context, environ), credentials.inbox_prefix)
    else:
        login = Login(
            inbox_prefix=credentials.inbox,
            user=credentials.user,
            password=credentials.password.get_secret_value() if credentials.password else None,
            token=credentials.token.get_secret_value() if credentials.token else None,
            creds_file=credentials.creds_file,
            nkey_seed_file=credentials.nkey_seed_file,
        )
    if tls is None:
        return login
    return replace(
        login,
        ca_file=tls.ca_file or login.ca_file,
        cert_file=tls.cert_file or login.cert_file,
        key_file=tls.key_file or login.key_file,
    )


def login_of_context(context: Context, inbox_prefix: str | None = None) -> Login:
    """Return the login of a `nats` context; `inbox_prefix` overrides the context's own and the one derived from its user."""
    derived = Credentials.model_validate({"user": context.user or "natsmedic", "password": "unused"}).inbox
    return Login(
        inbox_prefix=inbox_prefix or context.inbox_prefix or derived,
        user=context.user or None,
        password=context.password or None,
        token=context.token or None,
        user_jwt=context.user_jwt or None,
        user_seed=context.user_seed or None,
        creds_file=context.creds,
        nkey_seed_file=context.nkey,
        ca_file=context.ca,
        cert_file=context.cert,
        key_file=context.key,
        servers=context.servers,
    )
