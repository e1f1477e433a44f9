"""Snapshots as ZIP archives in the format of `nats audit gather` (reference/audit-archive.md)."""

from bot.adapters.archive.content import content_digest
from bot.adapters.archive.reader import read_archive
from bot.adapters.archive.redaction import redact, redact_text
from bot.adapters.archive.writer import write_archive

__all__ = ["content_digest", "read_archive", "redact", "redact_text", "write_archive"]
