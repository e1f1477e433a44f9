"""Verify an audit export of natsmedic without natsmedic: python -I -S verify_audit.py EXPORT.jsonl [SEQ:HASH | CHECKPOINTS.jsonl]

Exit code 0: every row verifies; 1: the first bad row is named; 2: it could not be looked at. Needs the standard library only.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

FIELDS = {"seq", "at", "kind", "actor", "incident_id", "subject", "sentence", "data", "previous", "hash"}


def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object whose keys stand once: a key that stands twice means different things to different readers."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def checkpoint(text: str) -> tuple[int, str]:
    """Return row number and hash of SEQ:HASH, or of the last whole line of a file of checkpoints."""
    seq, colon, digest = text.partition(":")
    if colon and seq.isdigit() and len(digest) == 64:
        return int(seq), digest
    last = json.loads(Path(text).read_text(encoding="utf-8").rpartition("\n")[0].rpartition("\n")[2])
    return int(last["seq"]), str(last["hash"])


def problem(lines: Iterable[str], kept: tuple[int, str] | None) -> tuple[str | None, int]:
    """Return what is wrong with the chain, and how many rows verify before that; None and all of them where it is whole."""
    rows, head = 0, "0" * 64
    for line in filter(str.strip, lines):
        try:
            row = json.loads(line, object_pairs_hook=once)
            claimed = row.pop("hash")
            body = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
            whole = {*row, "hash"} == FIELDS and hashlib.sha256(body.encode()).hexdigest() == claimed
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "is no audit entry", rows
        if not whole or row["seq"] != rows + 1 or row["previous"] != head:
            return "is altered, missing or out of place", rows
        rows, head = rows + 1, claimed
        if kept and rows == kept[0] and head != kept[1]:
            return "is not the row of the checkpoint", rows - 1
    return ("is missing: the checkpoint was taken later", rows) if kept and kept[0] > rows else (None, rows)


if __name__ == "__main__":
    try:
        kept = checkpoint(sys.argv[2]) if len(sys.argv) > 2 else None
        with Path(sys.argv[1]).open(encoding="utf-8") as export:
            wrong, rows = problem(export, kept)
    except (OSError, ValueError, TypeError, LookupError) as error:
        sys.exit(print(f"cannot look: {error}", file=sys.stderr) or 2)
    matching = " and match the checkpoint" if kept else ""
    print(f"row {rows + 1} {wrong}" if wrong else f"all {rows} rows verify{matching}")
    sys.exit(1 if wrong else 0)
