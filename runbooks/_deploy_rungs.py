"""Why each repair of the Kubernetes side may not be enough, and when to go on to the next of the same problem. Pure.

Each guide is for a problem of its own. On its ladder stand the change in the owner's source, the direct change, and what people do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bot.model import Rung
from runbooks import _deploy_repairs as repairs
from runbooks import _deploy_settings as settings
from runbooks._deploy_target import Guide

_SAID: Final[Mapping[Guide, tuple[str, str]]] = {
    repairs.kills: (
        "The change restarts every server once, and one that can't catch up still does not.",
        "no pod is killed any more, and a server is still not current.",
    ),
    repairs.pods: (
        "A pod that is started again ends again as long as its reason lasts.",
        "its reason is taken away, and it does not run.",
    ),
    repairs.nodes: (
        "A pod whose volume is on a node that is gone has nowhere to go.",
        "the node does not come back.",
    ),
    repairs.config: (
        "A reload refuses the whole file for one setting that takes a restart.",
        "a server was asked twice, and still runs with the former file.",
    ),
    repairs.routes: (
        "Where a firewall, a password or a certificate refuses a route, naming the server does not open it.",
        "every server has loaded the list, and a minute later a pair still lacks connections.",
    ),
    repairs.service: (
        "Names that resolve help only those servers that dial them.",
        "every name resolves, and routes are still missing.",
    ),
    settings.budget: (
        "It holds evictions up; a node that dies asks nobody.",
        "pods are evicted two at a time all the same.",
    ),
    repairs.rollout: (
        "A template that can't run comes back with the next release of its owner.",
        "all pods run one template, and one is still not ready.",
    ),
    settings.probes: (
        "A probe only tells: what it tells of stays as it is.",
        "the probes pass, and servers are still not current.",
    ),
    settings.resources: (
        "What uses them up goes on, and the change restarts every server once.",
        "use is well below the limits, and servers are still slow or killed.",
    ),
    settings.spread: (
        "A pod moves only when it starts anew, and its volume may hold it where it is.",
        "every pod was started anew, and two share a node.",
    ),
    settings.size: (
        "New servers take nothing over by themselves: streams keep their members.",
        "more servers are not wanted.",
    ),
    settings.shutdown: (
        "It decides how the next stop goes, not one that is under way.",
        "a server stops, and its clients still lose their connections at once.",
    ),
    settings.reload: (
        "A file that is mounted by subPath never changes in a running pod.",
        "the file has changed, and the servers do not load it.",
    ),
    settings.image: (
        "The change restarts every server once, and mends nothing that is broken now.",
        "all pods run the image, and versions still differ.",
    ),
    settings.order: (
        "It speeds up the next start; it mends no pod that hangs now.",
        "pods start together, and the cluster still does not form.",
    ),
    repairs.volumes: (
        "A larger volume fills again where streams have no limits.",
        "the volumes have grown, and what is used grows on.",
    ),
    repairs.storage: (
        "A stream with one replica has nobody to be copied from.",
        "",
    ),
}

RUNGS: Final[Mapping[Guide, Rung]] = {
    guide: Rung(not_enough=not_enough, go_on=go_on, problem=f"deployment {guide.__name__}")
    for guide, (not_enough, go_on) in _SAID.items()
}
"""By the guide that they are of."""
