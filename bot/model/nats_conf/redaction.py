"""Takes the secrets out of a configuration and keeps it a configuration: it parses as before, with other values.

What is not known to be harmless goes: texts and numbers under any key that is not listed here, everything about users, and comments, which often hold a former
password. Keys stay, and so do account names, which are keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from bot.model.nats_conf.tree import Assignment, Tree, grow

REDACTED: Final = "[redacted]"

_SECRET_BLOCKS: Final = frozenset(
    {
        *("authorization", "authentication", "auth_callout", "users", "user", "nkeys", "nkey", "proxies"),
        *("operator", "operators", "resolver_preload", "trusted", "trusted_keys", "default_sentinel"),
    }
)
"""Whatever stands inside these is about who may log in."""

_OPTIONS: Final = """
listen client_advertise port server_name host net debug trace trace_verbose logtime http https http_port monitor_port https_port http_base_path
store_dir storedir logfile log_file logfile_size_limit log_size_limit pidfile pid_file max_control_line max_payload max_pending max_connections
max_conn max_subscriptions max_subs ping_interval ping_max write_deadline lame_duck_duration lame_duck_grace_period system_account system
no_system_account server_tags default_js_domain max_traced_msg_len jetstream accounts

name routes cluster_advertise advertise no_advertise connect_retries connect_backoff pool_size compression mode
url urls account gateways remotes reject_unknown reject_unknown_cluster

strict store sync sync_interval max_memory_store max_mem_store max_mem max_memory max_file_store max_file max_store max_bytes_required max_streams
max_consumers domain enable enabled cipher extension_hint unique_tag max_outstanding_catchup max_buffered_size max_buffered_msgs
request_queue_limit info_queue_limit meta_compact meta_compact_size max_concurrent_io max_ack_pending max_ha_assets max_request_batch
default_max_consumers duplicate_window

ack_wait ackwait js_api_timeout api_timeout max_inflight js_domain stream_replicas consumer_replicas consumer_memory_storage
consumer_inactive_threshold consumer_auto_cleanup reject_qos2_publish downgrade_qos2_subscribe no_tls handshake_timeout

cert_file key_file ca_file verify verify_and_map handshake_first allow_non_tls
"""
"""Top level; cluster, gateway and leafnodes; jetstream and its limits; mqtt and websocket; tls, where paths stand and no contents."""

_HARMLESS: Final = frozenset(_OPTIONS.split())
"""Options of server/opts.go (nats-server 2.15.1) whose values say how a server runs and open nothing."""

_USERINFO: Final = re.compile(r"://.*@", re.DOTALL)
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def redact_conf(text: str) -> str:
    """Return the configuration without secrets. Raises `ConfError` where it can't be parsed: then nothing of it may be shown."""
    tree = grow(text, {})
    pieces: list[str] = []
    at = 0
    for start, end, replacement in sorted(_replacements(tree)):
        pieces += [text[at:start], replacement]
        at = end
    return "".join((*pieces, text[at:]))


def _replacements(tree: Tree) -> Iterator[tuple[int, int, str]]:
    for comment in tree.comments:
        yield comment.start, comment.end, "#"
    for assignment in tree.assignments:
        node = assignment.node
        clean = _clean(assignment, tree)
        if clean is not None and clean != node.value:
            yield node.start, node.end, f'"{clean.translate(_ESCAPES)}"'


def _clean(assignment: Assignment, tree: Tree) -> str | None:
    """Return what to write instead of the value; None where it may stay."""
    value = assignment.node.value
    if isinstance(value, bool):
        return None
    if not _harmless(assignment, tree):
        return REDACTED
    return _USERINFO.sub(f"://{REDACTED}@", value) if isinstance(value, str) else None


def _harmless(assignment: Assignment, tree: Tree) -> bool:
    """A value may stay by its own key, or because each variable that refers to it stands at such a key."""
    uses = tree.definitions.get((assignment.node.file, assignment.node.start), set())
    return bool(uses or _listed(assignment.keys)) and all(_listed(keys) for keys in uses)


def _listed(keys: tuple[str, ...]) -> bool:
    lowered = [key.lower() for key in keys]
    return not _SECRET_BLOCKS.intersection(lowered) and bool(lowered) and lowered[-1] in _HARMLESS
