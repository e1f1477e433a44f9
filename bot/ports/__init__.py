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
from bot.ports.running import Beat, Clock, Engine, Phase, PhaseHandler, Roster, Steps
from bot.ports.storage import EVERY, CheckpointSink, R, Store, Stored, Transaction

__all__ = [
    "EVERY",
    "UNMETERED",
    "Beat",
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
    "Roster",
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
