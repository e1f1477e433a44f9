"""NATS: reads and changes one cluster over nats-py as transport, in raw JSON. Reading and writing use different users and connections."""

from bot.adapters.nats.advisories import AdvisoryListener, advisory_listeners
from bot.adapters.nats.connect import connect_cluster, connect_target
from bot.adapters.nats.readers import NatsReaders
from bot.adapters.nats.writers import NatsWriters

__all__ = [
    "AdvisoryListener",
    "NatsReaders",
    "NatsWriters",
    "advisory_listeners",
    "connect_cluster",
    "connect_target",
]
