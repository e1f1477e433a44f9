"""Reads nats.conf: what it says, where its routes are written, what of it is secret. Pure."""

from bot.model.nats_conf.conf import (
    ClusterConf,
    JetStreamConf,
    JetStreamLimits,
    MqttConf,
    NatsConf,
    Place,
    Route,
    read_conf,
)
from bot.model.nats_conf.redaction import REDACTED, redact_conf
from bot.model.nats_conf.section import Setting
from bot.model.nats_conf.tokens import ConfError
from bot.model.nats_conf.tree import Include, Variable

__all__ = [
    "REDACTED",
    "ClusterConf",
    "ConfError",
    "Include",
    "JetStreamConf",
    "JetStreamLimits",
    "MqttConf",
    "NatsConf",
    "Place",
    "Route",
    "Setting",
    "Variable",
    "read_conf",
    "redact_conf",
]
