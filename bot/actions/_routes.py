"""The explicit list of routes: which addresses it has, and nats.conf with it and nothing else changed. Pure.

One address for all pods is dialled to a random one of them, connection by connection, so pairs of servers lack connections for ever; one address per
pod is dialled until it answers (reference/nats.md 1.C, mechanism).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.actions._conf_text import ESCAPES, indent_at, parsed
from bot.errors import Refused
from bot.model.kubernetes import Workload
from bot.model.nats_conf import ClusterConf, NatsConf, Place, Route, Variable

ROUTE_PORT: Final = 6222
"""Port that both charts use (reference/nats.md 4.1), where the configuration does not say it."""


def addresses_of(conf: NatsConf) -> tuple[str, ...] | None:
    """Return `host:port` of every configured route, each once and without a login; None where they are not known."""
    routes = conf.cluster.routes if conf.cluster else ()
    if isinstance(routes, Variable):
        return None
    return tuple(dict.fromkeys(route.address for route in routes or ()))


def wanted_addresses(conf: NatsConf, workload: Workload, replicas: int) -> tuple[str, ...]:
    """Return one address for each of `replicas` pods: by its name in the headless service, as long as the present ones are. Raises `Refused`."""
    cluster, _, routes = _editable(conf)
    reasons: list[str] = []
    if conf.missing_includes:
        reasons.append(f"What the included {', '.join(conf.missing_includes)} says is not known.")
    if not workload.service_name:
        reasons.append(f"StatefulSet {workload.name} has no serviceName, so its pods have no names in DNS.")
    if reasons:
        raise Refused(*reasons)
    tail = _tail([route.host for route in routes], workload.namespace)
    port = cluster.port if isinstance(cluster.port, int) else next((r.port for r in routes if r.port), ROUTE_PORT)
    return tuple(f"{workload.name}-{i}.{workload.service_name}{tail}:{port}" for i in range(replicas))


def with_addresses(text: str, addresses: Sequence[str]) -> tuple[str, str]:
    """Return the file with exactly these routes, and what stood at their place. Scheme and login are those of the routes that are there.

    Included files are not looked at: `wanted_addresses` has seen that they say nothing about routes. Raises `Refused`, without a word of the text.
    """
    _, place, routes = _editable(parsed(text))
    logins = {route.credentials for route in routes}
    if len(logins) > 1:
        raise Refused(
            "The routes log in as different users, so natsmedic can't tell which one belongs to which server."
        )
    login = next(iter(logins), None)
    scheme = routes[0].scheme if routes else "nats"
    entries = [f"{scheme}://{f'{login}@' if login else ''}{address}" for address in addresses]
    former = text[place.start : place.end]
    return _replaced(text, place, _array(entries, indent_at(text, place.start)), addresses), former


def restored(text: str, addresses: Sequence[str], former: str) -> str:
    """Return the file with its former routes, where it has `addresses` now; the rest stays as it is. Raises `Refused`."""
    conf = parsed(text)
    _, place, _ = _editable(conf)
    if addresses_of(conf) != tuple(addresses):
        raise Refused("The routes were edited since natsmedic wrote them, so they stay as they are.")
    return _replaced(text, place, former, None)


def _editable(conf: NatsConf) -> tuple[ClusterConf, Place, Sequence[Route]]:
    """Return the block, the place and the routes that can be edited there. Raises `Refused` with every reason."""
    cluster = conf.cluster
    if cluster is None:
        raise Refused(
            "nats.conf has no block `cluster`: its servers are single ones, and making them a cluster deletes their streams (nats-server #5467)."
        )
    place, routes = cluster.routes_place, cluster.routes
    reasons = [f"The configuration has a mistake that a server would refuse to load: {one}." for one in conf.problems]
    if place is None:
        reasons.append("nats.conf has no `routes` in its block `cluster`: where they come from is not known.")
    elif place.file:
        reasons.append(
            f"cluster.routes is written in the included file {place.file}; natsmedic edits only the file that nats-server is started with."
        )
    elif not place.editable or isinstance(routes, Variable):
        named = f" ${place.reference}" if place.reference else ""
        reasons.append(f"cluster.routes is written with a variable{named}: its value is set elsewhere.")
    if reasons or place is None or isinstance(routes, Variable):
        raise Refused(*reasons)
    return cluster, place, routes or ()


def _tail(hosts: Sequence[str], namespace: str) -> str:
    """Return what follows the service's name in the present addresses: nothing, or `.NAMESPACE` and what comes behind it."""
    for host in hosts:
        labels = host.split(".")
        if namespace in labels[1:]:
            rest = labels[labels.index(namespace, 1) :]
            if rest[1:2] in ([], ["svc"]):
                return "." + ".".join(rest)
    return ""


def _array(entries: Sequence[str], indent: str) -> str:
    inner = f"{indent}  "
    lines = ",\n".join(f'{inner}"{entry.translate(ESCAPES)}"' for entry in entries)
    return f"[\n{lines}\n{indent}]"


def _replaced(text: str, place: Place, value: str, addresses: Sequence[str] | None) -> str:
    made = f"{text[: place.start]}{value}{text[place.end :]}"
    conf = parsed(made)
    if addresses is not None and addresses_of(conf) != tuple(addresses):
        raise Refused("The edited file would not say what was approved, so it is not written.")
    return made
