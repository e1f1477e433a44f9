"""The checks of the Kubernetes side as records, with their thresholds: the deployment runbook has all of them, and others share those of their own matter."""

from __future__ import annotations

from typing import Final

from bot.model import Endpoint
from bot.runbook import Threshold, Unit
from runbooks import _deploy_config as config
from runbooks import _deploy_lifecycle as lifecycle
from runbooks import _deploy_pods as pods
from runbooks import _deploy_probes as probes
from runbooks import _deploy_resources as resources
from runbooks import _deploy_routes as routes
from runbooks import _deploy_size as size
from runbooks import _deploy_spread as spread
from runbooks import _deploy_storage as storage

_NOTHING: Final = frozenset[Endpoint]()
"""Kubernetes alone tells; what a server adds is said where it is there."""
_VARZ, _JSZ = frozenset({Endpoint.VARZ}), frozenset({Endpoint.JSZ})
_HEALTH: Final = frozenset({Endpoint.HEALTHZ, Endpoint.RAFTZ, Endpoint.VARZ})

PODS = pods.PODS.of_kubernetes("Every pod runs and is ready, and none was killed lately.", _NOTHING, pods.pods_run)
NODES = pods.NODES.of_kubernetes("The nodes of all pods are well.", _NOTHING, pods.nodes_are_well)
KILLS = probes.KILLS.of_kubernetes(
    "No liveness or startup probe kills a server that only catches up.", _HEALTH, probes.probes_kill_nobody
)
ROLLOUT = pods.ROLLOUT.of_kubernetes("All pods are made of the present template.", _NOTHING, pods.rollout_ends)
SERVICE = routes.SERVICE.of_kubernetes(
    "Every pod has a name of its own before it is ready.", _NOTHING, routes.headless_service_is_right
)
ROUTES = routes.ROUTES.of_kubernetes("nats.conf has one route for each pod.", _NOTHING, routes.routes_name_every_pod)
CONFIG = config.CONFIG.of_kubernetes(
    "Every server runs with the nats.conf that Kubernetes holds.", _VARZ, config.configuration_is_loaded
)
STORAGE = storage.STORAGE.of_kubernetes(
    "JetStream stores on disks that outlive the pod, and not on a network file system.", _JSZ, storage.store_is_durable
)
VOLUMES = storage.VOLUMES.of_kubernetes(
    "The volumes are bound and hold what JetStream may write.", _JSZ, storage.volumes_suffice
)
PLACEMENT = spread.PLACEMENT.of_kubernetes(
    "Without any one node or zone every Raft group keeps its quorum.", _JSZ, spread.no_place_holds_a_majority
)
SIZE = size.SIZE.of_kubernetes("The number of servers is odd.", _NOTHING, size.number_is_odd)
SPREAD = spread.SPREAD.of_kubernetes("The pods must run on different nodes.", _NOTHING, spread.pods_are_kept_apart)
BUDGET = spread.BUDGET.of_kubernetes("One pod at a time may be evicted.", _NOTHING, spread.budget_protects_quorum)
PROBES = probes.PROBES.of_kubernetes(
    "No probe asks more than its kind must, or gives too little time.", _HEALTH, probes.probes_fit
)
ORDER = probes.ORDER.of_kubernetes("Pods start without waiting for each other.", _VARZ, probes.pods_start_together)
RESOURCES = resources.RESOURCES.of_kubernetes(
    "The NATS container has certain and sufficient CPU and memory.", _NOTHING, resources.resources_are_certain
)
MEMORY = resources.MEMORY.of_kubernetes(
    "Go knows the container's memory limit, and streams in memory fit below it.",
    _VARZ | _JSZ,
    resources.memory_fits,
)
SHUTDOWN = lifecycle.SHUTDOWN.of_kubernetes(
    "A deleted pod's server leaves in lame duck mode, with time for it.", _NOTHING, lifecycle.servers_leave_in_peace
)
RELOAD = config.RELOAD.of_kubernetes("A changed nats.conf reaches the servers.", _NOTHING, config.changes_arrive)
IMAGE = lifecycle.IMAGE.of_kubernetes(
    "The image names its version, and the servers run it.", _VARZ, lifecycle.image_is_pinned
)

RECENT: Final = Threshold(
    pods.RECENT,
    86_400.0,
    Unit.SECONDS,
    "For how long the end of a container counts: what is older has been lived with.",
)
_PROBE_TIMES: Final = (
    Threshold(
        probes.RECOVERY,
        300.0,
        Unit.SECONDS,
        "How long a server must be given to recover before a probe kills it; the official chart gives 910 s.",
    ),
    Threshold(
        probes.PATIENCE,
        30.0,
        Unit.SECONDS,
        "How long a liveness probe must fail before it kills; Kubernetes' default is 30 s, the official chart's 90 s.",
    ),
)
PROBE_THRESHOLDS: Final = (RECENT, *_PROBE_TIMES)
RESOURCE_THRESHOLDS: Final = (
    Threshold(
        resources.CPU,
        500,
        Unit.COUNT,
        "Thousandths of a core below which a CPU limit is too small; the Bitnami preset nano has 150.",
    ),
    Threshold(
        resources.LEAST_MEMORY,
        512,
        Unit.COUNT,
        "MiB below which a memory limit is too small; the Bitnami preset nano has 192, the official chart's README asks for 8192.",
    ),
    Threshold(resources.LOW, 0.5, Unit.RATIO, "Share of the memory limit below which GOMEMLIMIT is too low."),
    Threshold(
        resources.HIGH,
        0.9,
        Unit.RATIO,
        "Share of the memory limit above which GOMEMLIMIT is too high; the official chart's README says 80 %.",
    ),
)
STARTING: Final = Threshold(
    pods.STARTING,
    300.0,
    Unit.SECONDS,
    "How long the containers of a pod may take to come up, and a rollout to wait for it.",
)
THRESHOLDS: Final = (
    RECENT,
    STARTING,
    *_PROBE_TIMES,
    Threshold(
        config.ARRIVAL,
        180.0,
        Unit.SECONDS,
        "How long a changed ConfigMap may be on its way; the kubelet takes up to 2 minutes.",
    ),
    *RESOURCE_THRESHOLDS,
    Threshold(
        lifecycle.MARGIN,
        20.0,
        Unit.SECONDS,
        "How much longer than lame duck mode the grace period must be; the official chart has 60 s for 30 s.",
    ),
)

ALL: Final = (
    *(PODS, NODES, KILLS, ROLLOUT, SERVICE, ROUTES, CONFIG, STORAGE, VOLUMES),
    *(PLACEMENT, SIZE, SPREAD, BUDGET, PROBES, ORDER, RESOURCES, MEMORY, SHUTDOWN, RELOAD, IMAGE),
)
