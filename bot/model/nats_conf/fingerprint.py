"""The digest that nats-server reports of its configuration (`config_digest` of VARZ since 2.11; `conf/parse.go`, configDigest).

It is the SHA-256 of the configuration as Go's `encoding/json` writes it: keys sorted, `<`, `>`, `&` and two line separators escaped, a new line at the end.
2.11 leaves keys out that a `$VARIABLE` refers to (cleanupUsedEnvVars), newer servers do not. Equal digests prove that the server has loaded this very
configuration, with these included files and variables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from bot.model.nats_conf.tree import Block, Scalar, Tree, Value, Variable

_ESCAPED: Final = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029\ufffd"})
"""U+FFFD stands for bytes that are no UTF-8 (`"\\xff"`), and these Go escapes."""
_SMALLEST_PLAIN: Final = 1e-6
_LARGEST_PLAIN: Final = 1e21
"""Go writes floats between these without exponent (encoding/json, floatEncoder)."""


def fingerprints(tree: Tree) -> tuple[str, ...]:
    """Return the `sha256:<64 hex digits>` that servers of different versions report; none where a part of the configuration is not known."""
    if tree.missing or tree.unresolved:
        return ()
    return tuple(dict.fromkeys(_digest(root) for root in (tree.root, _without_used(tree.root, tree.definitions))))


def _digest(root: Block) -> str:
    return f"sha256:{hashlib.sha256(f'{_json(root)}{chr(10)}'.encode()).hexdigest()}"


def _without_used(block: Block, used: Container[tuple[str, int]]) -> Block:
    return {
        key: replace(node, value=_without_used(node.value, used)) if isinstance(node.value, Mapping) else node
        for key, node in block.items()
        if (node.file, node.start) not in used
    }


def _json(value: Value) -> str:
    if isinstance(value, Mapping):
        members = (f"{_text(key)}:{_json(value[key].value)}" for key in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, tuple):
        return "[" + ",".join(_json(node.value) for node in value) + "]"
    return _scalar(value)


def _scalar(value: Scalar | Variable) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    return _text(value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_ESCAPED)


def _float(value: float) -> str:
    if value and not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        return repr(value).replace("e-0", "e-")
    plain = format(Decimal(repr(value)), "f")
    return plain.removesuffix(".0")
