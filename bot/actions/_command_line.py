"""Command lines for people about things of a cluster: whatever a thing is called, a shell reads one word and the program a name. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Final

SIGNS: Final = ("-", "@")
"""First characters of a name that `nats` would take for an option, or for a file of further arguments, both legal in names of streams and consumers
(choria-io/fisk parser.go; server/stream.go). Behind `--` it takes every word as it stands, and so do kubectl, cp and tar with options.
"""
END: Final = "--"


def command(*words: str, of: Iterable[str | None] = (), options: Iterable[str] = ()) -> str:
    """Return a command line of our own `words`, the names `of` things, and `options`; empty names are left out.

    A name in the value of an option stands there as `--option=name`.
    """
    names = [name for name in of if name]
    end = end_of_options(*names)
    return shlex.join([*words, *options, END, *names] if end else [*words, *names, *options])


def end_of_options(*names: str | None) -> str:
    """Return what stands before these names and behind all options: `-- ` where one of them would be read as something else, empty otherwise."""
    return f"{END} " if any(name and name.startswith(SIGNS) for name in names) else ""
