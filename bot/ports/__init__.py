"""Protocols for the outside. Adapters implement them; flow and actions know nothing else of the world."""

from bot.ports.chat import Chat, Directory, Draw, Message, Messages, WriteReport
from bot.ports.cluster import KubernetesReader, KubernetesWriter, ProbingReaders, Readers, Writers
from bot.ports.running import Clock, Engine, Phase, PhaseHandler, Steps
from bot.ports.storage import EVERY, CheckpointSink, R, Store, Stored, Transaction

__all__ = [
    "EVERY",
    "Chat",
    "CheckpointSink",
    "Clock",
    "Directory",
    "Draw",
    "Engine",
    "KubernetesReader",
    "KubernetesWriter",
    "Message",
    "Messages",
    "Phase",
    "PhaseHandler",
    "ProbingReaders",
    "R",
    "Readers",
    "Steps",
    "Store",
    "Stored",
    "Transaction",
    "WriteReport",
    "Writers",
]
