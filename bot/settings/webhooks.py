"""Webhook sources, each with its own secret, and what each kind of sender can prove of itself."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from bot.errors import SettingsError
from bot.settings.section import Secret, Section, Shape, problem

MIB: Final = 1024 * 1024
MAX_BODY_BYTES: Final = 5 * MIB
"""An Alertmanager group of a few thousand alerts; larger bodies are refused with 413 (design/safety.md, Taking in)."""
MAX_QUEUE: Final = 10_000
"""The storm of reference/safety.md B4: 10,000 distinct alerts may wait before the bot sheds load with 503."""
ALERTS_PER_SECOND: Final = 250.0
ALERTS_BURST: Final = 10_000
"""Half as much again as the storm of reference/safety.md B4 (10,000 alerts in 60 s), which may also come all at once."""
GRAFANA_SIGNATURE: Final = "X-Grafana-Alerting-Signature"
"""The default of Grafana's form for a webhook contact point (grafana.com/docs, webhook notifier, HMAC signature)."""
PAGERDUTY_SIGNATURE: Final = "X-PagerDuty-Signature"
"""Fixed by PagerDuty (developer.pagerduty.com, webhook signatures)."""

RouteName = Annotated[
    str, Shape(r"[a-z0-9][a-z0-9-]{0,62}", "a name of up to 63 small letters, digits or `-`, as in a path")
]


def _real_port(value: str) -> str:
    if int(value.rpartition(":")[2]) > 65_535:
        raise problem(f"is {value!r}", "host:port with a port up to 65535", "correct the port")
    return value


ListenAddress = Annotated[
    str,
    Shape(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}", "host:port, such as 127.0.0.1:8080"),
    AfterValidator(_real_port),
]
UserName = Annotated[str, Shape(r"[^:]+", "a user name without colon (RFC 7617)")]
HeaderName = Annotated[str, Shape(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", "the name of an HTTP header, such as X-Timestamp")]
DottedPath = Annotated[
    str, Shape(r"[^.\s]+(\.[^.\s]+)*", "keys or list positions joined by dots, such as data.checks.0.id")
]
Words = Annotated[tuple[str, ...], Field(min_length=1)]


class SourceKind(StrEnum):
    ALERTMANAGER = "alertmanager"
    """Proves itself with bearer or basic; its webhooks carry no signature."""
    GRAFANA = "grafana"
    """Signs `timestamp:body` with hmac_secret."""
    PAGERDUTY = "pagerduty"
    """Signs the body with hmac_secret; replays are found by the event's id."""
    GENERIC = "generic"
    """Any JSON or CloudEvents sender; bearer, basic, or a signature like Grafana's."""


class MappingSettings(Section):
    """Where a generic payload keeps what an alert needs: dotted paths, no expressions."""

    name: DottedPath
    fingerprint: DottedPath
    """What stays the same from firing to resolved."""
    state: DottedPath
    started_at: DottedPath
    """An RFC 3339 time with zone, or Unix seconds."""
    firing: Words = ("firing",)
    """The values at `state` that mean firing; numbers and true/false are compared as text."""
    resolved: Words = ("resolved",)
    labels: dict[str, DottedPath] = {}
    """Label to path. A label whose path finds nothing is left out: an alert that is refused would be lost."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if both := sorted(set(self.firing) & set(self.resolved)):
            raise problem(f"has {both[0]!r} below firing and resolved", "each value once", "remove it from one of them")
        return self


class SourceSettings(Section):
    """A webhook source and its own secret: a bearer token, a user name and password, or the key of a signature."""

    kind: SourceKind = SourceKind.ALERTMANAGER
    bearer: Secret | None = None
    username: UserName | None = None
    password: Secret | None = None
    hmac_secret: Secret | None = None
    """The key with which the sender signs (HMAC-SHA256)."""
    previous: Secret | None = None
    """The source's former token, password or key: accepted beside the new one while a rotation lasts. Remove it afterwards."""
    signature_header: HeaderName | None = None
    timestamp_header: HeaderName | None = None
    """The header with the signed Unix seconds; a signature without it could be replayed for ever."""
    mapping: MappingSettings | None = None
    """For kind generic: where the payload keeps what an alert needs."""
    alerts_per_second: float = Field(default=ALERTS_PER_SECOND, gt=0, le=100_000)
    """Alerts that it may bring in the long run; what is more is answered 503 with Retry-After, and no other source suffers."""
    alerts_burst: int = Field(default=ALERTS_BURST, ge=1)
    """Alerts that it may bring at once after a rest."""

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise problem("has only one of username and password", "both", "add the missing one")
        accepted = _ACCEPTED[self.kind]
        way_out = "add " + ", or ".join(_WAYS[name] for name in accepted)
        given = [name for name in _WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            raise problem("has two secrets" if given else "has no secret", "one secret per source", way_out)
        if given[0] not in accepted:
            raise problem(f"has {_WAYS[given[0]]}", f"what a sender of kind {self.kind} can prove", way_out)
        if self.previous == self.secret:
            raise problem("has the same secret as its previous one", "a new secret", "change one, or remove previous")
        return self

    @model_validator(mode="after")
    def _signature(self) -> Self:
        signs = self.hmac_secret is not None and self.kind is not SourceKind.PAGERDUTY
        for name in ("signature_header", "timestamp_header"):
            if getattr(self, name) is not None and not signs:
                seen = f"has {name}, which kind {self.kind} does not use here"
                raise problem(seen, "it only beside the hmac_secret of kind grafana or generic", f"remove {name}")
        if signs and self.timestamp_header is None:
            seen = "has hmac_secret without timestamp_header, so that a captured request could be replayed for ever"
            raise problem(seen, "a signed time", "name a timestamp header in the sender and here")
        if signs and self.signature_name is None:
            raise problem("has hmac_secret without signature_header", "its name", "add signature_header")
        if signs and str(self.signature_name).lower() == str(self.timestamp_header).lower():
            raise problem("has one header for signature and time", "two headers", "rename one of them")
        return self

    @model_validator(mode="after")
    def _mapped(self) -> Self:
        if (self.kind is SourceKind.GENERIC) != (self.mapping is not None):
            seen = "has a mapping" if self.mapping else "has no mapping"
            way_out = f"{'remove' if self.mapping else 'add'} mapping, or correct kind"
            raise problem(seen, "one for kind generic, none for the others", way_out)
        return self

    @property
    def secret(self) -> SecretStr:
        """The bearer token, the password or the key of the signature."""
        found = self.bearer or self.password or self.hmac_secret
        if found is None:
            raise SettingsError("A webhook source has no secret, which validation refuses.")
        return found

    @property
    def secrets(self) -> Iterator[SecretStr]:
        """Yield every secret that is valid now: the current one, and the previous one while a rotation lasts."""
        yield self.secret
        if self.previous is not None:
            yield self.previous

    @property
    def signature_name(self) -> str | None:
        """The header of the signature; None where this source does not sign."""
        if self.hmac_secret is None:
            return None
        fixed = {SourceKind.GRAFANA: GRAFANA_SIGNATURE, SourceKind.PAGERDUTY: PAGERDUTY_SIGNATURE}
        return self.signature_header or fixed.get(self.kind)


_WAYS: Final = {
    "bearer": "bearer or bearer_file",
    "password": "username with password",
    "hmac_secret": "hmac_secret or hmac_secret_file",
}
_ACCEPTED: Final = {
    SourceKind.ALERTMANAGER: ("bearer", "password"),
    SourceKind.GRAFANA: ("hmac_secret",),
    SourceKind.PAGERDUTY: ("hmac_secret",),
    SourceKind.GENERIC: ("bearer", "password", "hmac_secret"),
}


class WebhookSettings(Section):
    listen: ListenAddress = "127.0.0.1:8080"
    sources: dict[RouteName, SourceSettings] = {}
    """Name to source; its route is `POST /webhooks/<name>`."""
    max_body_bytes: int = Field(default=MAX_BODY_BYTES, ge=1024, le=64 * MIB)
    max_queue: int = Field(default=MAX_QUEUE, ge=1)

    @model_validator(mode="after")
    def _secrets_differ(self) -> Self:
        owner: dict[str, str] = {}
        for name, source in self.sources.items():
            for secret in source.secrets:
                other = owner.setdefault(secret.get_secret_value(), name)
                if other != name:
                    seen = f"has the same secret in sources.{other} and sources.{name}"
                    raise problem(seen, "one secret per source", "give each source its own")
        return self
