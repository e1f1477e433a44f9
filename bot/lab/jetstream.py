"""Raw JSON requests to JetStream, and each server's own view of a consumer.

The lab has its own few lines for this, beside the bot's adapter: what judges the bot must not be the bot.
"""

import json
from dataclasses import dataclass
from typing import Final, Protocol, cast

from nats.aio.client import Client
from pydantic import BaseModel

from bot.lab.config import APP, Login
from bot.lab.http import http_client
from bot.lab.process import LabError
from bot.model import JsonObject

REQUEST_TIMEOUT: Final = 8.0
"""Seconds for one API request; replica changes answer in milliseconds (drills.md 3.5), several clusters on two busy cores do not."""


class Servers(Protocol):
    """A cluster that a drill works on: `LabCluster`, or the pods of a stand-in Kubernetes."""

    @property
    def names(self) -> tuple[str, ...]:
        """All servers, also those that are down."""
        ...

    @property
    def answering(self) -> tuple[str, ...]:
        """Servers that live and are not frozen."""
        ...

    def monitor_url(self, name: str) -> str: ...

    def tag(self, name: str) -> str:
        """The server's own tag, by which a stream is placed on it."""
        ...

    def max_ha_assets(self, name: str) -> int:
        """The server's limit on Raft groups, 0 where it has none."""
        ...

    async def connect(self, login: Login = APP, name: str | None = None) -> Client:
        """A client of `login`, to that server only or to whichever answers. The caller closes it."""
        ...

    async def wait_ready(self) -> str:
        """Return the meta leader once all agree on it. Raises `LabError`."""
        ...


class ApiRefused(LabError):
    """JetStream answered a request with an error."""

    def __init__(self, subject: str, code: int, description: str) -> None:
        super().__init__(f"{subject}: {description} ({code})")
        self.code = code


class _Error(BaseModel):
    err_code: int = 0
    description: str = ""


class _Answer(BaseModel):
    error: _Error | None = None


async def request(client: Client, subject: str, body: JsonObject | None = None) -> JsonObject:
    """Asks `$JS.API.<subject>` and returns the answer as it came. Raises `ApiRefused`, `nats.errors.TimeoutError`."""
    payload = json.dumps(body).encode() if body is not None else b""
    message = await client.request(f"$JS.API.{subject}", payload, timeout=REQUEST_TIMEOUT)
    if error := _Answer.model_validate_json(message.data).error:
        raise ApiRefused(subject, error.err_code, error.description)
    return cast("JsonObject", json.loads(message.data))


def section(answer: JsonObject, *path: str) -> JsonObject:
    """The object below `path`, empty where it is missing."""
    for key in path:
        below = answer.get(key)
        answer = cast("JsonObject", below) if isinstance(below, dict) else {}
    return answer


class Position(BaseModel):
    consumer_seq: int = 0
    stream_seq: int = 0


class _Peer(BaseModel):
    name: str
    current: bool = False
    offline: bool = False
    lag: int = 0


class _Cluster(BaseModel):
    leader: str = ""
    replicas: list[_Peer] = []


class ConsumerView(BaseModel):
    """A consumer as one server reports it in its own `/jsz`; servers of one group can disagree (drills.md 3.3)."""

    name: str
    ack_floor: Position = Position()
    delivered: Position = Position()
    num_ack_pending: int = 0
    num_pending: int = 0
    num_waiting: int = 0
    cluster: _Cluster = _Cluster()

    @property
    def leader(self) -> str:
        return self.cluster.leader


class _State(BaseModel):
    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0


class StreamView(BaseModel):
    """A stream as one server reports it in its own `/jsz`."""

    name: str
    state: _State = _State()
    cluster: _Cluster = _Cluster()
    consumer_detail: list[ConsumerView] = []
    stream_raft_group: str = ""
    """Empty for a copy outside of any Raft group (drills.md 3.2)."""


class _Account(BaseModel):
    name: str
    stream_detail: list[StreamView] = []


class _Jsz(BaseModel):
    account_details: list[_Account] = []


@dataclass(frozen=True, slots=True)
class HealthError:
    """One line of `/healthz?details=true`."""

    type: str
    stream: str
    consumer: str
    error: str


class _HealthzError(BaseModel):
    type: str = ""
    stream: str = ""
    consumer: str = ""
    error: str = ""


class _Healthz(BaseModel):
    status: str = ""
    errors: list[_HealthzError] = []


async def stream_views(cluster: Servers, stream: str) -> dict[str, StreamView]:
    """Every living server's own view of a stream of account APP; a server that has no copy is missing."""
    found: dict[str, StreamView] = {}
    async with http_client(REQUEST_TIMEOUT) as http:
        for server in cluster.answering:
            answer = await http.get(f"{cluster.monitor_url(server)}/jsz?acc=APP&streams=1&consumers=1&raft=1")
            for account in _Jsz.model_validate_json(answer.content).account_details:
                for view in account.stream_detail:
                    if view.name == stream:
                        found[server] = view
    return found


async def consumer_views(cluster: Servers, stream: str, consumer: str) -> dict[str, ConsumerView]:
    """Every living server's own view of a consumer of account APP."""
    views = await stream_views(cluster, stream)
    return {server: c for server, view in views.items() for c in view.consumer_detail if c.name == consumer}


async def health_errors(cluster: Servers, server: str) -> list[HealthError]:
    """All that `/healthz?details=true` of a server complains of; the plain query names only the first (drills.md
    3.7).
    """
    async with http_client(REQUEST_TIMEOUT) as http:
        answer = await http.get(f"{cluster.monitor_url(server)}/healthz?details=true")
    return [
        HealthError(e.type, e.stream, e.consumer, e.error) for e in _Healthz.model_validate_json(answer.content).errors
    ]
