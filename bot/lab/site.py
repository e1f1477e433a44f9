"""Servers of this machine and natsmedic's own diagnosis of them: what the scripts without Kubernetes play in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from bot.bootstrap import open_readers, registry
from bot.flow.examination import Judgement, look
from bot.lab.config import READER, SYSREADER, Login
from bot.lab.drills import Drill
from bot.lab.script import Look, Seen, Tell
from bot.lab.servers import LabCluster
from bot.model import Focus, JsonObject, Severity
from bot.ports import ProbingReaders
from bot.registry import Registry
from bot.settings import ClusterSettings

T = TypeVar("T")

LAB: Final = {"settle": 1.0, "young": 0.0}
"""Thresholds for servers that are seconds old, and broken for good all the same."""
TIMEOUT: Final = 4.0
"""Seconds that a server has to answer; a frozen one takes all of it."""


@dataclass
class Site:
    """One cluster, and what the script has done to it so far."""

    cluster: LabCluster
    readers: ProbingReaders
    found: Registry
    stack: AsyncExitStack
    drill: Drill | None = None
    """What the last drill has made."""
    victim: str = ""
    """The server that the last fault was about."""
    _seen: dict[tuple[str, Focus], Judgement] = field(default_factory=dict[tuple[str, Focus], Judgement])

    def forget(self) -> None:
        self._seen.clear()

    async def judged(self, runbook: str, focus: Focus) -> Judgement:
        """Return what that runbook says now; one look serves all that is expected at a time."""
        if (runbook, focus) not in self._seen:
            chosen = next(one for one in self.found.runbooks if one.code == runbook)
            names = {threshold.name for threshold in chosen.thresholds}
            overrides = {runbook: {name: value for name, value in LAB.items() if name in names}}
            _, (self._seen[runbook, focus],) = await look(self.readers, (chosen,), overrides, focus)
        return self._seen[runbook, focus]

    async def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Begin damage that lasts until `leave`, or until the script ends."""
        return await self.stack.enter_async_context(context)

    async def leave(self) -> None:
        """End it."""
        await self.stack.aclose()


def stage(
    version: str,
    *,
    size: int = 3,
    limits: dict[str, int] | None = None,
    mqtt: bool = False,
    over_http: bool = False,
) -> Callable[[Path, Tell], AbstractAsyncContextManager[Site]]:
    """A stage of that many servers. `over_http` reads every server's monitoring port: over the system account one sees what one has a route to."""

    @asynccontextmanager
    async def staged(directory: Path, say: Tell) -> AsyncGenerator[Site]:
        async with LabCluster(directory / "nats", version, size=size, max_ha_assets=limits, mqtt=mqtt) as cluster:
            say(f"  {size} nats-servers {version}: {', '.join(cluster.urls)}")
            async with open_readers(settings_of(cluster, over_http=over_http)) as readers, AsyncExitStack() as stack:
                yield Site(cluster, readers, registry(), stack)

    return staged


def settings_of(cluster: LabCluster, *, over_http: bool = False) -> ClusterSettings:
    """The cluster as natsmedic's settings describe it."""
    nats: JsonObject = {
        "servers": cluster.urls,
        "system": None if over_http else _credentials(SYSREADER),
        "accounts": {"APP": {"reader": _credentials(READER)}},
        "timeout_seconds": TIMEOUT,
    }
    monitoring = [cluster.monitor_url(name) for name in cluster.names] if over_http else []
    raw = {"name": cluster.name, "channel": "C0DRILL0000", "nats": nats, "monitoring": monitoring}
    return ClusterSettings.model_validate(raw)


def _credentials(login: Login) -> JsonObject:
    return {"user": login.user, "password": login.password, "inbox_prefix": login.inbox_prefix}


# What can be expected.


def finds(
    runbook: str,
    check: str,
    severity: Severity = Severity.CRITICAL,
    *,
    on_victim: bool = False,
    focus: Focus | None = None,
) -> Look[Site]:
    """The check is that bad, where `on_victim` says so on the server that the last fault was about."""

    async def seen(site: Site) -> Seen:
        judged = await site.judged(runbook, focus or Focus())
        told = [f for f in judged.findings if f.check == check]
        hit = [f for f in told if f.severity is severity and (not on_victim or f.subject.server == site.victim)]
        shown = (hit or told)[:1]
        return Seen(bool(hit), f"{check} {shown[0].severity.value}: {shown[0].sentence}" if shown else f"no {check}")

    return seen


def root(runbook: str, check: str, *, focus: Focus | None = None) -> Look[Site]:
    """The verdict names this check as what everything else follows from."""

    async def seen(site: Site) -> Seen:
        verdict = (await site.judged(runbook, focus or Focus())).verdict
        named = verdict.root.check if verdict.root else "nothing"
        return Seen(named == check, f"root {named}: {verdict.sentence}")

    return seen


def never_worse_than(runbook: str, severity: Severity, *, focus: Focus | None = None) -> Look[Site]:
    """No finding is worse than this; one that is unknown is worse than a warning."""

    async def seen(site: Site) -> Seen:
        findings = (await site.judged(runbook, focus or Focus())).findings
        worst = max(findings, key=lambda f: f.severity.rank)
        worse = worst.severity.rank > severity.rank
        said = (
            f"{worst.check} {worst.severity.value}: {worst.sentence}"
            if worse
            else f"the worst is {worst.severity.value}"
        )
        return Seen(not worse, said)

    return seen


def offers(runbook: str, title: str, *, focus: Focus | None = None) -> Look[Site]:
    """A proposal with a title that begins so is offered."""

    async def seen(site: Site) -> Seen:
        titles = [p.draft.title for p in (await site.judged(runbook, focus or Focus())).proposed]
        return Seen(any(one.startswith(title) for one in titles), f"offered: {'; '.join(titles) or 'nothing'}")

    return seen
