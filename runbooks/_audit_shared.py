"""Checks of the audit that other runbooks need as well, to rank what they find: a silent server and a missing meta leader explain much. Pure.

One record, so one check: a report that runs several runbooks tells it once.
"""

from __future__ import annotations

from bot.model import Endpoint
from runbooks import _audit_cluster as cluster
from runbooks import _audit_servers as servers

_VARZ, _JSZ = frozenset({Endpoint.VARZ}), frozenset({Endpoint.JSZ})

SERVERS_ANSWER = servers.ANSWERS.check("Every server answers.", _VARZ, servers.servers_answer)
META_MEMBERS_ONLINE = cluster.META_OFFLINE.check(
    "No member of the meta group is offline.", _JSZ, cluster.meta_members_online
)
ONE_META_LEADER = cluster.META_LEADER.check(
    "All servers name one meta leader.", _JSZ | _VARZ, cluster.one_meta_leader, _JSZ
)
