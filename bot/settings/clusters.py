"""Clusters: where their servers are, who the bot is there, and which alerts are about them."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from bot.settings.section import LocalPath, Secret, Section, Shape, mapping_of, problem
from bot.settings.watching import AdvisorySettings, ScheduleSettings

NATS_TIMEOUT: Final = 5.0
"""Seconds; the time-out of the `nats` command and of nats-server's own JetStream API callers."""

KUBERNETES_TIMEOUT: Final = 10.0
"""Seconds for one answer of the API server; it gives up on a list by itself after 60 (--request-timeout)."""

_CREDENTIAL_KINDS: Final = (
    "user and password, creds_file, nkey_seed_file, token, context, or tls.cert_file with tls.key_file"
)

Name = Annotated[str, Shape(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "a name of up to 63 letters, digits, `_`, `.` or `-`")]
SlackChannelId = Annotated[str, Shape(r"[CGD][A-Z0-9]+", "a Slack channel id such as C0123456789, not a name")]
InboxPrefix = Annotated[
    str, Shape(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", "a subject such as _INBOX_natsmedic without wildcards")
]
Namespace = Annotated[str, Shape(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a Kubernetes namespace (RFC 1123 label)")]
StatefulSetName = Annotated[
    str, Shape(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", "a StatefulSet's name (RFC 1123 subdomain)")
]


def _nats_url(value: str) -> str:
    if "@" in value:
        raise problem(
            "carries a user or a password", "an address alone", "put the credentials below `system` and `accounts`"
        )
    if not re.fullmatch(r"(nats|tls|ws|wss)://[^/\s]+(/[^\s]*)?", value):
        raise problem(
            f"is {value!r}", "an address like nats://host:4222", "write scheme (nats, tls, ws or wss), host and port"
        )
    return value


def _monitoring_url(value: str) -> str:
    if "@" in value or not re.fullmatch(r"https?://[^/\s]+(/[^\s]*)?", value):
        raise problem(
            "is not a plain HTTP address",
            "an address like http://host:8222",
            "write scheme, host and port, without user or password",
        )
    return value.rstrip("/")


NatsUrl = Annotated[str, AfterValidator(_nats_url)]
ApiServerUrl = Annotated[
    str, Shape(r"https://[^/\s@?#]+(/[^\s@?#]*)?", "an address like https://host:6443, without user or password")
]
LabelSelector = Annotated[
    str,
    Shape(
        r"[A-Za-z0-9_./-]+=[A-Za-z0-9_.-]*(,[A-Za-z0-9_./-]+=[A-Za-z0-9_.-]*)*",
        "labels such as app.kubernetes.io/name=nats, separated by commas",
    ),
]
MonitoringUrl = Annotated[str, AfterValidator(_monitoring_url)]


class TlsSettings(Section):
    """PEM files. Hostname verification cannot be switched off."""

    ca_file: LocalPath | None = None
    cert_file: LocalPath | None = None
    key_file: LocalPath | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise problem("has only one of cert_file and key_file", "both or neither", "add the missing one")
        return self


class Credentials(Section):
    """One NATS login: exactly one kind, with optional TLS."""

    user: str | None = Field(default=None, min_length=1)
    password: Secret | None = None
    creds_file: LocalPath | None = None
    nkey_seed_file: LocalPath | None = None
    token: Secret | None = None
    context: Name | None = Field(default=None, description="name of a context of the `nats` command")
    tls: TlsSettings | None = None
    inbox_prefix: InboxPrefix | None = Field(default=None, description="derived from the user where absent")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise problem("has only one of user and password", "both", "add the missing one")
        kinds = ("user", "creds_file", "nkey_seed_file", "token", "context")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        certificate = self.tls is not None and self.tls.cert_file is not None
        if len(given) > 1 or (not given and not certificate):
            seen = " and ".join(given) if given else "no login"
            raise problem(f"has {seen}", f"exactly one of {_CREDENTIAL_KINDS}", "keep the one this user logs in with")
        return self

    @property
    def inbox(self) -> str:
        """The private reply prefix (T26): as given, or `_INBOX_<user>`, or `_INBOX_natsmedic` where the login has no plain user name."""
        if self.inbox_prefix is not None:
            return self.inbox_prefix
        return f"_INBOX_{re.sub(r'[^A-Za-z0-9_-]', '_', self.user or 'natsmedic')}"


class AccountSettings(Section):
    """Diagnosis uses the reader; only actions use the writer."""

    reader: Credentials
    writer: Credentials | None = None


class NatsSettings(Section):
    servers: tuple[NatsUrl, ...] = ()
    """May be left out only where every login is a `nats` context, which names its own servers."""
    system: Credentials | None = None
    """A user of the system account; without one the `monitoring` addresses are read."""
    system_writer: Credentials | None = Field(
        default=None,
        description="a user of the system account that may ask for a reload, another meta leader, the removal of a gone server, or that clients go; only for mode: approve",
    )
    accounts: dict[Annotated[str, Field(min_length=1)], AccountSettings] = {}
    timeout_seconds: float = Field(default=NATS_TIMEOUT, gt=0, le=60)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        pairs = ((account.reader, account.writer) for account in self.accounts.values())
        logins = [
            login
            for login in (self.system, self.system_writer, *(login for pair in pairs for login in pair))
            if login is not None
        ]
        if not self.servers and (not logins or any(login.context is None for login in logins)):
            raise problem(
                "has no servers",
                "at least one address",
                "add `servers: [nats://host:4222]`, or use contexts for every login",
            )
        return self


class ApplierSettings(Section):
    """Who natsmedic is when it changes something in Kubernetes: another ServiceAccount than the reader's, at the same API server."""

    token_file: LocalPath | None = Field(default=None, description="its token, read again before each change")
    kubeconfig: LocalPath | None = None
    context: str | None = Field(default=None, description="context of that kubeconfig, or of the reader's")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        by_config = self.kubeconfig is not None or self.context is not None
        if by_config == (self.token_file is not None):
            seen = "has both a token_file and a kubeconfig or context" if by_config else "names nobody"
            raise problem(seen, "exactly one of token_file, and kubeconfig or context", "keep the one it logs in with")
        return self


class KubernetesSettings(Section):
    """Where the StatefulSet of the cluster is, and who the reader is there. Without a way in, the kubeconfig of the environment is used."""

    in_cluster: bool = Field(default=False, description="the ServiceAccount of the pod that natsmedic runs in")
    kubeconfig: LocalPath | None = None
    context: str | None = Field(default=None, description="context of the kubeconfig; its current one where absent")
    server: ApiServerUrl | None = Field(default=None, description="address of the API server, with token_file")
    token_file: LocalPath | None = Field(default=None, description="read again before each look, so it may be rotated")
    ca_file: LocalPath | None = Field(default=None, description="PEM file of the authority that signed the server")
    namespace: Namespace
    statefulset: StatefulSetName | None = None
    selector: LabelSelector | None = Field(default=None, description="labels of the StatefulSet, instead of its name")
    """Without name or selector, the StatefulSets of the namespace that run a nats image are taken."""
    read_config_secret: bool = Field(
        default=False, description="read the one Secret that holds nats.conf, where a chart keeps it there"
    )
    applier: ApplierSettings | None = Field(default=None, description="only for mode: approve")
    timeout_seconds: float = Field(default=KUBERNETES_TIMEOUT, gt=0, le=60)

    @property
    def as_applier(self) -> KubernetesSettings | None:
        """The same place as seen by the applier; None where there is none."""
        if self.applier is None:
            return None
        if self.applier.token_file is not None:
            return self.model_copy(update={"token_file": self.applier.token_file})
        login = {"in_cluster": False, "server": None, "token_file": None, "ca_file": None}
        kubeconfig = self.applier.kubeconfig or self.kubeconfig
        return self.model_copy(update=login | {"kubeconfig": kubeconfig, "context": self.applier.context})

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        ways = {
            "in_cluster": self.in_cluster,
            "a kubeconfig or context": self.kubeconfig is not None or self.context is not None,
            "a server": self.server is not None,
        }
        given = [way for way, used in ways.items() if used]
        if len(given) > 1:
            raise problem(f"has {' and '.join(given)}", "one of them", "keep the one the reader logs in with")
        if (self.server is None) != (self.token_file is None):
            raise problem("has only one of server and token_file", "both or neither", "add the missing one")
        if self.ca_file is not None and self.server is None:
            raise problem("has ca_file without server", "both", "add the server, or remove ca_file")
        if self.statefulset is not None and self.selector is not None:
            raise problem("has statefulset and selector", "one of them", "remove the one that is not needed")
        return self


class ClusterSettings(Section):
    name: Name
    channel: SlackChannelId = Field(description="Slack channel id, e.g. C0123456789")
    match: dict[str, str] = Field(
        default={}, description="alert labels that select this cluster; {cluster: <name>} where absent"
    )
    nats: NatsSettings
    monitoring: tuple[MonitoringUrl, ...] = ()
    kubernetes: KubernetesSettings | None = None
    advisories: AdvisorySettings = Field(default=AdvisorySettings(), json_schema_extra={"default": {}})
    schedule: ScheduleSettings | None = None

    @property
    def hears_advisories(self) -> bool:
        """Whether JetStream advisories of this cluster become alerts."""
        return self.advisories.enabled and self.nats.system is not None

    @model_validator(mode="after")
    def _can_hear(self) -> Self:
        if "advisories" in self.model_fields_set and self.advisories.enabled and self.nats.system is None:
            seen = "has advisories, but no user of the system account to hear them with"
            raise problem(seen, "nats.system beside them", "add nats.system, or write `advisories: {enabled: false}`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_match(cls, data: object) -> object:
        written = mapping_of(data)
        if written is not None and "match" not in written and isinstance(written.get("name"), str):
            return written | {"match": {"cluster": written["name"]}}
        return data
