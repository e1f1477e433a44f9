"""What natsmedic is told: one YAML file plus environment, read once into frozen records.

This package is the only reader of files and environment for configuration. `load` either returns settings that are right as a whole or
raises one `SettingsError` that lists every mistake: key, what was observed, what was expected, the way out.

A secret `X` is written inline, as `X_file: PATH` or as `X: {env: NAME}`. Every single value can be overridden by an environment variable:
`NATSMEDIC_DATABASE__URL` is `database.url`, `NATSMEDIC_CLUSTERS__0__CHANNEL` is `clusters[0].channel`.
"""

from __future__ import annotations

from bot.settings.audit import AuditSettings, CheckpointSettings, StreamSinkSettings
from bot.settings.clusters import (
    AccountSettings,
    ClusterSettings,
    Credentials,
    KubernetesSettings,
    NatsSettings,
    TlsSettings,
)
from bot.settings.limits import LimitSettings
from bot.settings.observing import LogFormat, LogLevel, LogSettings, MetricsSettings, TraceSettings
from bot.settings.people import SlackSettings, Transport
from bot.settings.policy import (
    ClusterPolicy,
    GroupSettings,
    OwnerSettings,
    PolicySettings,
)
from bot.settings.retention import RetentionSettings
from bot.settings.root import DatabaseSettings, Mode, Settings, json_schema, load
from bot.settings.shutdown import ShutdownSettings
from bot.settings.threads import ThreadSettings
from bot.settings.watching import AdvisorySettings, OpenAt, ScheduleSettings
from bot.settings.webhooks import MappingSettings, SourceKind, SourceSettings, WebhookSettings
from bot.settings.windows import Day, RotaSettings, WindowSettings

__all__ = [
    "AccountSettings",
    "AdvisorySettings",
    "AuditSettings",
    "CheckpointSettings",
    "ClusterPolicy",
    "ClusterSettings",
    "Credentials",
    "DatabaseSettings",
    "Day",
    "GroupSettings",
    "KubernetesSettings",
    "LimitSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "MappingSettings",
    "MetricsSettings",
    "Mode",
    "NatsSettings",
    "OpenAt",
    "OwnerSettings",
    "PolicySettings",
    "RetentionSettings",
    "RotaSettings",
    "ScheduleSettings",
    "Settings",
    "ShutdownSettings",
    "SlackSettings",
    "SourceKind",
    "SourceSettings",
    "StreamSinkSettings",
    "ThreadSettings",
    "TlsSettings",
    "TraceSettings",
    "Transport",
    "WebhookSettings",
    "WindowSettings",
    "json_schema",
    "load",
]
