"""Whether a server runs with a limit: by what VARZ shows of it, and where it shows nothing by the digest of the file that it has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bot.actions._servers import loaded_the_file, workload_of
from bot.errors import Refused
from bot.model import Endpoint, Measure, Snapshot, Tunable
from bot.model.groups import latest
from bot.model.limits import TRAITS, Setting, Value, as_shown, shown

BOUNDS: Final[Mapping[Setting, tuple[Measure, str, str]]] = {
    Setting.DEFAULT_MAX_CONSUMERS: (Measure.WHOLE, "-1", "100000"),
    Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD: (Measure.DURATION, "1m", "720h"),
}
"""Values that a person may ask for instead. -1 is no limit of consumers; the upper bounds stop slips of a digit or a
unit. A session is given at least a minute to come back.
"""


def limit_tunables(setting: Setting, value: Value) -> tuple[Tunable, ...]:
    """Return the value of a limit as one that a person may want otherwise; nothing for limits without `BOUNDS`."""
    if setting not in BOUNDS:
        return ()
    measure, least, most = BOUNDS[setting]
    return (
        Tunable(
            name="value", title=f"{setting} in nats.conf", measure=measure, value=str(value), least=least, most=most
        ),
    )


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
