"""Whether a server runs with a limit: by what VARZ shows of it, and where it shows nothing by the digest of the file that it has loaded."""

from __future__ import annotations

from bot.actions._servers import loaded_the_file, workload_of
from bot.errors import Refused
from bot.model import Endpoint, Snapshot
from bot.model.groups import latest
from bot.model.limits import TRAITS, Setting, Value, as_shown, shown


def runs_with_limit(
    workload_name: str, uid: str, setting: Setting, value: Value | None, pod: str, snapshot: Snapshot, server: str
) -> bool | None:
    """Tell whether a server runs with this value, None for none; None where it does not say: not at all, or before 2.11, which reports no digest."""
    if latest(snapshot, server, Endpoint.VARZ) is None:
        return None
    if TRAITS[setting].varz:
        wanted = TRAITS[setting].default if value is None else as_shown(setting, value)
        return shown(snapshot, server, setting) == wanted
    try:
        return loaded_the_file(snapshot, workload_of(snapshot, workload_name, uid), pod, server)
    except Refused:
        return None
