"""Protocols for the outside. Adapters implement them; flow and actions know nothing else of the world."""

from bot.ports.chat import Chat, Directory, Draw, Message, Messages, WriteReport
from bot.ports.cluster import KubernetesReader, KubernetesWriter, ProbingReaders, Readers, Writers
from bot.ports.metering import (
    UNMETERED,
    Call,
    Change,
    Commit,
    End,
    Meter,
    System,
    Tallies,
    Tally,
    Waiting,
    began,
    end_of,
)
from bot.ports.running import Clock, Engine, Phase, PhaseHandler, Steps
from bot.ports.storage import EVERY, Ageing, CheckpointSink, R, Store, Stored, Transaction

__all__ = [
    "EVERY",
    "UNMETERED",
    "Ageing",
    "Call",
    "Change",
    "Chat",
    "CheckpointSink",
    "Clock",
    "Commit",
    "Directory",
    "Draw",
    "End",
    "Engine",
    "KubernetesReader",
    "KubernetesWriter",
    "Message",
    "Messages",
    "Meter",
    "Phase",
    "PhaseHandler",
    "ProbingReaders",
    "R",
    "Readers",
    "Steps",
    "Store",
    "Stored",
    "System",
    "Tallies",
    "Tally",
    "Transaction",
    "Waiting",
    "WriteReport",
    "Writers",
    "began",
    "end_of",
]
