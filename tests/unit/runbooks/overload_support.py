"""How the tests of the overload runbook vary a recorded snapshot, and what they ask it."""

from collections.abc import Callable
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from bot.flow.ranking import rank
from bot.model import Finding, Focus, Severity, Snapshot, Verdict
from bot.runbook import Proposed
from runbooks.overload import RUNBOOK
from tests.unit.snapshots import Raw, answers, both, recorded

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN
REQUESTS = "JetStream API queue"
META = "[ACC:SYS] RAFT '_meta_' committedEntry"
SERVERS = ("n0", "n1", "n2")

Change = Callable[[Raw], None]


def examined(snapshot: Snapshot, **thresholds: float) -> list[Finding]:
    values = RUNBOOK.values(thresholds)
    return [f for check in RUNBOOK.checks for f in check.examine(snapshot, values, Focus())]


def found(check: str, snapshot: Snapshot, **thresholds: float) -> list[Finding]:
    """What one check says, the worst first."""
    mine = [f for f in examined(snapshot, **thresholds) if f.check == check]
    return sorted(mine, key=lambda f: -f.severity.rank)


def verdict(snapshot: Snapshot, **thresholds: float) -> Verdict:
    return rank(examined(snapshot, **thresholds))


def proposed(snapshot: Snapshot, **thresholds: float) -> list[Proposed]:
    values = RUNBOOK.values(thresholds)
    return list(RUNBOOK.propose(snapshot, examined(snapshot, **thresholds), values, Focus()))


def idle(*changes: Change) -> Snapshot:
    """Three servers of 2.15.1 with nothing on them, in three readings."""
    return recorded("overload_idle_2.15.1", both(*changes))


def busy(version: str, *changes: Change) -> Snapshot:
    """A listing loop that outruns the meta leader, and four MQTT devices on n0."""
    return recorded(f"overload_flood_{version}", both(*changes))


def leader(raw: Raw) -> str:
    """The meta leader of the recording."""
    return str(answers(raw, "VARZ")[0]["jetstream"]["meta"]["leader"])


def queue(name: str, *lengths: int, server: str | None = None, key: str = "pending") -> Change:
    """A change that gives a queue these lengths, one a reading; on the meta leader where no server is named."""

    def change(raw: Raw) -> None:
        for at, length in enumerate(lengths):
            for row in answers(raw, "IPQUEUESZ", server or leader(raw), at):
                row[name] = {"pending": 0} | {key: length}

    return change


def rounds(count: int) -> Change:
    """A change that leaves so many readings."""

    def change(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if s["round"] < count]

    return change


def unread(*endpoints: str, server: str | None = None, reason: str = "timed_out") -> Change:
    """A change after which these endpoints were not answered."""

    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["endpoint"] in endpoints and server in {None, sample["server"]}:
                sample |= {"data": None, "unknown": {"reason": reason, "detail": "a test"}}

    return change


def mqtt(ago: float = 3600.0, **counts: int) -> Change:
    """A change after which so many MQTT clients are on each server, connected `ago` seconds before CONNZ was read. A recorded one is the model."""
    return _connections({"type": "mqtt", "mqtt_client": "dev"}, ago, counts)


def nats(ago: float = 3600.0, **counts: int) -> Change:
    """The same for NATS clients."""
    return _connections({"type": "nats"}, ago, counts)


def _connections(fields: Raw, ago: float, counts: dict[str, int]) -> Change:
    def change(raw: Raw) -> None:
        for server in SERVERS:
            for connz in answers(raw, "CONNZ", server):
                model = answers(raw, "CONNZ")[0]["connections"][0] if answers(raw, "CONNZ")[0]["connections"] else {}
                kept = [row for row in connz["connections"] if row.get("type") != fields["type"]]
                start = (datetime.fromisoformat(connz["now"]) - timedelta(seconds=ago)).isoformat()
                new = [
                    deepcopy(model) | fields | {"cid": 10_000 + n, "start": start, "account": "APP", "in_msgs": 0}
                    for n in range(counts.get(server, 0))
                ]
                connz["connections"] = kept + new
                connz["num_connections"] = len(connz["connections"])

    return change


def mqtt_listeners(*servers: str) -> Change:
    """A change after which only these servers take MQTT clients."""

    def change(raw: Raw) -> None:
        for server in SERVERS:
            for varz in answers(raw, "VARZ", server):
                varz["mqtt"] = {"host": "127.0.0.1", "port": 1883} if server in servers else {}

    return change


def varz(server: str, at: int | None = None, **fields: Any) -> Change:
    """A change of a server's VARZ."""

    def change(raw: Raw) -> None:
        for answer in answers(raw, "VARZ", server, at):
            answer.update(fields)

    return change


def versions(number: str) -> Change:
    """A change after which all servers run this version."""

    def change(raw: Raw) -> None:
        for identity in raw["servers"]:
            identity["version"] = number

    return change
