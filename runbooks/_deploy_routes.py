"""Whether nats.conf names every pod in its routes, and whether these names can be found. Pure functions of snapshot and thresholds.

One name for all pods is resolved anew for each connection, to one address by chance: pairs of servers, or single accounts between them, then miss each other
(incident family C, reference/nats.md 1.C). What the mesh is really like is the route-mesh runbook's to say.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Final

from bot.model import Finding, Focus, JsonObject, Layer, Severity, Snapshot, Unknown
from bot.model.kubernetes import Service
from bot.model.nats_conf import ClusterConf, Route, Variable
from bot.runbook import Thresholds
from runbooks._audit_views import few
from runbooks._deploy_views import Look, Topic

SERVICE = Topic("DEPLOY_SERVICE", Layer.ROUTES)
ROUTES = Topic("DEPLOY_ROUTES", Layer.ROUTES)

ONE_NAME_ISSUE: Final = "nats-server #6051; bitnami/charts #30124, fixed in chart 8.5.4"


@dataclass(slots=True)
class Named:
    """What the routes of nats.conf name."""

    pods: set[str] = field(default_factory=set[str])
    services: list[str] = field(default_factory=list[str])
    addresses: list[str] = field(default_factory=list[str])
    """IP addresses, which a pod keeps until its next start."""
    wrong: list[str] = field(default_factory=list[str])
    """Names that no pod has."""


def headless_service_is_right(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """`serviceName` names a headless Service that selects the pods and gives them names before they are ready."""

    def judge(look: Look) -> None:
        workload = look.workload
        service = workload.headless
        if workload.replicas < 2:
            return
        if isinstance(service, Unknown):
            look.complain(service.detail)
            return
        if service is None:
            name = workload.service_name
            what = f"its serviceName {name!r} names no Service" if name else "it has no serviceName"
            _broken(look, what, look.seen(workload, "spec.serviceName", name, "the name of a headless Service"))
            return
        _judge_service(look, service)

    return SERVICE.judge(snapshot, judge, "Every pod has a name of its own, before it is ready too.")


def routes_name_every_pod(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """`cluster.routes` has one entry for each pod, by its name."""

    def judge(look: Look) -> None:
        workload = look.workload
        conf = look.conf() if workload.replicas > 1 else None
        if conf is None:
            return
        for path in conf.missing_includes:
            look.complain(f"{path}, which nats.conf includes")
        if conf.cluster is None:
            if not conf.missing_includes:
                evidence = look.in_conf("cluster", None, "a block with routes to every pod")
                look.tell(
                    Severity.CRITICAL,
                    f"nats.conf has no cluster block: the {workload.replicas} servers of {look.name} do not know each other.",
                    evidence,
                )
            return
        routes = conf.cluster.routes
        if isinstance(routes, Variable):
            look.complain(f"cluster.routes of nats.conf, which stands in {routes}")
            return
        _judge_routes(look, conf.cluster, routes or ())

    return ROUTES.judge(snapshot, judge, "nats.conf has one route for each pod.")


# The service.


def _judge_service(look: Look, service: Service) -> None:
    if not service.headless:
        evidence = look.seen(service, "spec.clusterIP", service.spec.get("clusterIP"), "None")
        _broken(look, f"Service {service.name}, its serviceName, is not headless", evidence)
        return
    if not service.selects(look.workload.pod_labels):
        evidence = look.seen(service, "spec.selector", service.spec.get("selector"), dict(look.workload.pod_labels))
        _broken(look, f"Service {service.name}, its serviceName, does not select its pods", evidence)
        return
    if not service.publishes_not_ready:
        look.warn(
            f"Service {service.name} gives a pod its name only when it is ready (publishNotReadyAddresses is not true): servers that start, or fall behind, "
            "can't be found by the others, and lose the routes that would let them catch up.",
            look.seen(
                service, "spec.publishNotReadyAddresses", service.spec.get("publishNotReadyAddresses"), expected=True
            ),
        )


def _broken(look: Look, what: str, evidence: JsonObject) -> None:
    """The pods have no names. That breaks the mesh where routes are by name, and otherwise nothing now."""
    conf = look.workload.conf
    routes = None if isinstance(conf, Unknown) or conf.cluster is None else conf.cluster.routes
    by_name = isinstance(routes, tuple) and bool(_named(look, routes).pods)
    severity = Severity.CRITICAL if by_name else Severity.WARNING
    tail = "the routes of nats.conf use them" if by_name else "routes can't name one pod"
    sentence = f"The pods of StatefulSet {look.name} have no names of their own, since {what}: {tail}."
    look.tell(severity, sentence, evidence, cause=by_name)


# The routes.


def _judge_routes(look: Look, cluster: ClusterConf, routes: tuple[Route, ...]) -> None:
    named = _named(look, routes)
    written = [route.address for route in routes]
    members = list(look.members)
    evidence = look.in_conf("cluster.routes", written, [f"{name}.{look.workload.service_name}" for name in members])
    evidence |= {"members": evidence["expected"]}
    missing = [name for name in members if name not in named.pods]
    if not routes:
        look.tell(Severity.CRITICAL, "cluster.routes of nats.conf is empty: no server looks for another.", evidence)
        return
    if named.services and missing:
        look.tell(
            Severity.WARNING,
            f"cluster.routes of nats.conf names all pods by {_one_name(named.services)}: each connection goes to a pod by chance, what is missing depends on "
            f"gossip that is tried once, and messages of single accounts get lost. {len(members)} pods need {len(members)} entries.",
            evidence | {"missing": missing},
            cause=True,
            issue=ONE_NAME_ISSUE,
        )
    elif missing and not named.addresses:
        look.warn(
            f"cluster.routes of nats.conf does not name {few(missing)}: it has entries for {len(members) - len(missing)} of {len(members)} pods.",
            evidence | {"missing": missing},
        )
    if named.addresses:
        look.warn(
            f"cluster.routes of nats.conf names pods by address ({few(named.addresses)}), which changes with every new pod.",
            evidence,
        )
    if named.wrong:
        look.warn(
            f"cluster.routes of nats.conf has entries that name no pod of {look.name}: {few(named.wrong)}. Servers dial them for ever.",
            evidence | {"wrong": named.wrong},
        )
    _judge_ports(look, cluster, routes)


def _one_name(services: list[str]) -> str:
    distinct = list(dict.fromkeys(services))
    return f"one name ({distinct[0]})" if len(distinct) == 1 else f"the names of services ({few(distinct)})"


def _judge_ports(look: Look, cluster: ClusterConf, routes: tuple[Route, ...]) -> None:
    own = cluster.port
    if not isinstance(own, int):
        return
    other = [route.address for route in routes if route.port is not None and route.port != own]
    if other:
        look.warn(
            f"cluster.routes of nats.conf has entries with another port than the {own} that servers listen on: {few(other)}.",
            look.in_conf("cluster.routes", other, own),
        )


def _named(look: Look, routes: tuple[Route, ...]) -> Named:
    found = Named()
    services = look.workload.services
    known = {look.workload.service_name} | {s.name for s in (() if isinstance(services, Unknown) else services)}
    for route in routes:
        first, _, rest = route.host.rstrip(".").partition(".")
        if _is_address(route.host):
            found.addresses.append(route.address)
        elif first in look.members and _below(look, rest):
            found.pods.add(first)
        elif first in known - {""} and _in_namespace(look, rest):
            found.services.append(route.host)
        else:
            found.wrong.append(route.address)
    return found


def _below(look: Look, rest: str) -> bool:
    """Whether a pod's name goes on as that of its service: `SERVICE[.NAMESPACE[.svc[.DOMAIN]]]` (Kubernetes: DNS for Services and Pods)."""
    service, _, more = rest.partition(".")
    return service == look.workload.service_name and _in_namespace(look, more)


def _in_namespace(look: Look, rest: str) -> bool:
    namespace, _, more = rest.partition(".")
    return not rest or (namespace == look.facts.namespace and (not more or more.split(".")[0] == "svc"))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
