"""The route mesh is incomplete: some servers do not hear each other, wholly or for some accounts (reference/nats.md 1.C; nats-server #6051).

Health checks say *ok* in nearly all broken meshes, and counts alone accuse sound ones (`pool_size: -1` on one server, mixed versions), so each pair of
servers is judged by its own expected connections. The repair is the explicit list of all servers and a reload, without a restart. On Kubernetes
natsmedic edits the ConfigMap; elsewhere the configuration file is nobody's but its owner's, and the repair is guidance.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from bot.model import Endpoint, Finding, Focus, Layer, Rung, Severity, Snapshot, Subject, Unknown
from bot.model.mesh import Mesh, read_mesh, shared_name, split_address
from bot.runbook import Check, Draft, Proposed, Runbook, Threshold, Thresholds, Unit
from runbooks._consumer_views import listed
from runbooks._deploy_checks import ROUTES, SERVICE
from runbooks._deploy_guidance import guidance
from runbooks._deploy_offers import drafts, routes_way
from runbooks._mesh_charts import mesh_charts
from runbooks._mesh_checks import (
    PENDING,
    RTT,
    YOUNG,
    lists_are_whole,
    members_tell,
    no_islands,
    one_cluster_name,
    pairs_are_linked,
    routes_are_fast,
    slots_are_filled,
    unique_server_names,
    views_agree,
)
from runbooks._mesh_delivery import messages_arrive

INCOMPLETE = frozenset({"MESH_ISLANDS", "MESH_PAIRS", "MESH_SLOTS", "MESH_LISTS"})
"""Checks whose findings the explicit list repairs."""

_PLAIN = re.compile(r"[A-Za-z0-9_.:\[\]-]+")

ROUTE_PORT = 6222
"""Port that both charts use (reference/nats.md 4.1)."""


OFFICIAL_CHART = (
    "Official Helm chart: it writes this list itself, so look for `config.cluster.merge` or `patch` that replaces routes, "
    "and for a `replicas` that differs from the StatefulSet's; the reloader sends SIGHUP within 1 to 2 minutes of the upgrade."
)
"""Reference/nats.md 1.C, 4.1 and 4.2."""

BITNAMI_CHART = (
    "Bitnami chart: before chart 8.5.4 routes are one Service name: upgrade the chart. Its configuration is mounted by subPath "
    "and never changes in a running pod, so the pods must be rolled, one at a time."
)
"""Reference/nats.md 1.C and 4.4."""

PROOF = (
    "Then diagnose again, with --probe-delivery: all pairs must be complete and all messages arrive. The log says *Reloaded: cluster routes*; *config reload not supported* "
    "means that the old configuration is still in force."
)

_OLD_LINKS = "With the right name it joins only those servers whose address it knows."

SIZES_AFTER_ISLANDS = (
    "Afterwards `meta_cluster` of JSZ must show the same leader and cluster_size on every server; where a size stays smaller, "
    "restart that server, one at a time."
)


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:  # noqa: ARG001
    """Return guidance: what shuts a server out first, then the explicit route list. Nothing for a mesh that is only young, or sound."""
    mesh = read_mesh(snapshot)
    bad = [
        f
        for f in findings
        if f.severity is Severity.CRITICAL or (f.check == "MESH_LISTS" and f.severity is Severity.WARNING)
    ]
    proposed = [_rename(f) for f in bad if f.check in {"MESH_CLUSTER_NAME", "MESH_SERVER_NAMES"}]
    sizes = {m.name: m.pool_size for m in mesh.members.values() if m.pool_size is not None}
    refused = [p for p in mesh.pairs if p.missing and p.expected and p.expected.refused]
    if refused and any(f.check == "MESH_PAIRS" for f in bad):
        proposed.append(_pool_sizes(snapshot, sizes))
    listing = [f for f in bad if f.check in INCOMPLETE]
    if listing and not (refused and all(f.check == "MESH_PAIRS" for f in listing) and len(refused) == len(listing)):
        proposed += _explicit_list(snapshot, mesh, listing)
    # The explicit list is told once: what the mesh shows of it is more than what the file does.
    return proposed + guidance(snapshot, [f for f in findings if f.check != ROUTES.code or not listing])


def route_list(mesh: Mesh) -> dict[str, str]:
    """Return the route address of every server, as far as it can be told; a placeholder in angle brackets where it can't.

    A single host name in all lists is a headless service or one pod of it: then servers are named as its pods are. Otherwise the server's own listen
    address, where it is a definite one.
    """
    if shared := shared_name(mesh):
        host, port = split_address(shared)
        first, _, rest = host.partition(".")
        domain = rest if first in mesh.members and rest else host
        found = {name: f"{name}.{domain}:{port or ROUTE_PORT}" for name in mesh.members}
    else:
        configured = sorted({url for m in mesh.members.values() for url in m.routes or ()})
        found = {m.name: m.address or _listed_for(m.name, configured) for m in mesh.members.values()}
    return {
        name: _plain(address) or f"<address of {_plain(name) or 'another server'}>:{ROUTE_PORT}"
        for name, address in found.items()
    }


def _explicit_list(snapshot: Snapshot, mesh: Mesh, findings: Sequence[Finding]) -> list[Proposed]:
    routes = ", ".join(f'"nats-route://{address}"' for address in route_list(mesh).values())
    answering = [m for m in mesh.members.values() if m.id]
    reload = [f"nats server config reload {shlex.quote(m.id)}" for m in answering]
    cautions = [
        "For about a second servers log *Duplicate Route*; that is harmless. No client is disconnected.",
        "Correcting `cluster_advertise` alone does not repair a mesh: routes learned by gossip are dialled once.",
    ]
    if any(f.check == "MESH_ISLANDS" for f in findings):
        cautions += [
            "Both islands have made changes of their own: compare `nats stream ls` on each first, for a stream that exists on both conflicts once they join.",
            SIZES_AFTER_ISLANDS,
        ]
    guide = Draft(
        title="List every server in cluster.routes and reload",
        why=findings[0].sentence,
        guidance=(
            f"In nats.conf of every server set  cluster {{ routes: [{routes}] }}  and keep the other keys of the block.",
            "Where routes need a password, write each as nats-route://user:password@host:port.",
            "Check the file on each server: nats-server -t -c nats.conf",
            f"Reload {listed(m.name for m in answering)} one after another with a user of the system account, 2 seconds apart; nothing is restarted:",
            *reload,
            "Without a system user, or where a server can't be reached over the mesh: nats-server --signal reload=<pid>  (or kill -HUP <pid>).",
            OFFICIAL_CHART,
            BITNAMI_CHART,
            PROOF,
        ),
        rung=Rung(
            not_enough="Where a firewall, a password or a certificate refuses a route, naming the server does not open it.",
            go_on="every server has loaded the list, and a minute later a pair still lacks connections.",
        ),
        cautions=tuple(cautions),
    )
    workload = snapshot.kubernetes.workload if snapshot.kubernetes is not None else None
    if isinstance(workload, Unknown):
        told = f"natsmedic does not offer it now: {workload.detail}."
        made = (guide.model_copy(update={"guidance": (*guide.guidance, told)}),)
    elif workload is None:
        made = (guide,)
    else:
        made = drafts(workload, [routes_way(snapshot, workload, guide.cautions)], guide)
    return [Proposed(Subject(cluster=snapshot.cluster), draft) for draft in made]


def _rename(finding: Finding) -> Proposed:
    name = finding.subject.server or ""
    if finding.check == "MESH_CLUSTER_NAME":
        expected = finding.evidence.get("expected")
        draft = Draft(
            title=f"Give server {name} the cluster's name",
            why=finding.sentence,
            guidance=(
                f"In nats.conf of {name} set cluster.name to {expected!r}.",
                f"Restart {name}, and only {name}; it then joins by itself.",
            ),
            cautions=(
                "If it really belongs to another cluster, remove this cluster's addresses from its routes instead.",
                f"Streams that were made on {name} alone do not come along: back them up first.",
            ),
        )
    else:
        draft = Draft(
            title=f"Make the server name {name} unique",
            why=finding.sentence,
            guidance=(
                f"Find both servers: nats server list   # ids {listed(map(str, finding.evidence.get('ids', ())))}",
                "Give the one that came last a server_name of its own (on Kubernetes: the pod's name) and restart it.",
            ),
            cautions=("JetStream knows peers by name: do not rename the server that holds the data.",),
        )
    rung = Rung(not_enough=_OLD_LINKS, go_on="it is the only one of its name, and still has no route.", problem="names")
    return Proposed(finding.subject, draft.model_copy(update={"rung": rung}))


def _pool_sizes(snapshot: Snapshot, sizes: dict[str, int]) -> Proposed:
    said = ", ".join(f"{name} {size}" for name, size in sorted(sizes.items()))
    draft = Draft(
        title="Give all servers the same cluster.pool_size",
        why=f"Servers before 2.11.2 refuse a route whose other end has another pool_size; here: {said}.",
        guidance=(
            "Set cluster.pool_size to one value on all servers (3 is the default; remove the key where it was set by accident).",
            "Reload those that changed: nats server config reload <id>, or nats-server --signal reload=<pid>. Routes are dialled again.",
        ),
        rung=Rung(
            not_enough="Servers that do not know each other's address do not dial, whatever the size.",
            go_on="all servers have loaded one size, and a pair still lacks connections.",
        ),
    )
    return Proposed(Subject(cluster=snapshot.cluster), draft)


def _listed_for(name: str, configured: Sequence[str]) -> str | None:
    """The configured address whose first label is the server's name."""
    return next((url for url in configured if split_address(url)[0].partition(".")[0] == name), None)


def _plain(word: str | None) -> str:
    """The word where it is safe to copy into a configuration file, empty otherwise: it comes from the cluster."""
    return word if word and _PLAIN.fullmatch(word) else ""


_ROUTES = frozenset({Endpoint.VARZ, Endpoint.ROUTEZ})
_ACCOUNTS = frozenset({Endpoint.ACCOUNTZ, Endpoint.JSZ})

RUNBOOK = Runbook(
    code="ROUTE_MESH",
    title="Servers of the cluster do not hear each other",
    alerts=frozenset(
        {"NatsRouteMeshIncomplete", "NatsRoutesUneven", "NatsRouteMissing", "NatsMessagesLostBetweenServers"}
    ),
    thresholds=(
        Threshold(
            YOUNG,
            60.0,
            Unit.SECONDS,
            "How long after a server's start its mesh may still be incomplete without being called broken.",
        ),
        Threshold(
            RTT,
            0.1,
            Unit.SECONDS,
            "From which round-trip time on a route is called slow; within a region it is below 5 ms.",
        ),
        Threshold(
            PENDING,
            0.1,
            Unit.RATIO,
            "From which share of max_pending waiting to be sent a route is called slow; at 1 it is closed.",
        ),
    ),
    checks=(
        Check(
            "MESH_MEMBERS", Layer.REACHABILITY, "Every server tells what it sees of the mesh.", _ROUTES, members_tell
        ),
        Check(
            "MESH_CLUSTER_NAME",
            Layer.ROUTES,
            "All servers that dial each other name the same cluster.",
            _ROUTES,
            one_cluster_name,
        ),
        Check("MESH_SERVER_NAMES", Layer.ROUTES, "No two servers have the same name.", _ROUTES, unique_server_names),
        Check("MESH_ISLANDS", Layer.ROUTES, "All servers form one mesh.", _ROUTES | {Endpoint.JSZ}, no_islands),
        Check("MESH_LISTS", Layer.ROUTES, "The configured routes name every server.", _ROUTES, lists_are_whole),
        Check("MESH_PAIRS", Layer.ROUTES, "Every pair of servers has a route.", _ROUTES, pairs_are_linked),
        Check(
            "MESH_SLOTS",
            Layer.ROUTES,
            "Every pair has a connection for each slot of the pool and each pinned account.",
            _ROUTES | _ACCOUNTS,
            slots_are_filled,
        ),
        Check(
            "MESH_DELIVERY",
            Layer.ROUTES,
            "What is published on one server arrives on every other, for every account that is probed (--probe-delivery).",
            frozenset(),
            messages_arrive,
        ),
        Check("MESH_VIEWS", Layer.ROUTES, "Both ends of every pair show the same connections.", _ROUTES, views_agree),
        Check(
            "MESH_SPEED", Layer.ROUTES, "Routes send what they have, with a short round trip.", _ROUTES, routes_are_fast
        ),
        SERVICE,
        ROUTES,
    ),
    propose=propose,
    charts=mesh_charts,
    sources=(
        "nats-server #6051 and bitnami/charts #30124: one name for all routes, messages lost per account",
        "nats-server #8454: a pool slot stays empty after a reconnect; fixed in 2.15.0",
        "nats-server server/route.go, server/accounts.go: pool slots, pinned accounts, and fnv32a(account) % pool_size",
    ),
)
