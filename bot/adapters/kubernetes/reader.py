"""Gathers the Kubernetes side of a NATS cluster in one parallel pass: what needs no name is asked at once, the rest as soon as its name is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from bot.adapters.kubernetes.api import PAGE, RESOURCES, Api, Question, Resource, unknown_of
from bot.adapters.kubernetes.config_files import ConfigReader
from bot.adapters.kubernetes.identity import open_client
from bot.adapters.kubernetes.redaction import clean
from bot.adapters.kubernetes.related import Related, runs_nats, selector_text
from bot.errors import BadInput, NotInVersion, Unreadable
from bot.model import JsonObject, Unknown, UnknownReason, part, parts
from bot.model.kubernetes import Claim, ConfigFile, Kind, KubernetesFacts, Listing, Pod
from bot.ports import Clock
from bot.settings.clusters import KubernetesSettings

IN_NAMESPACE: Final = (
    *(Kind.REVISION, Kind.SERVICE, Kind.ENDPOINTS, Kind.ENDPOINT_SLICE, Kind.CLAIM, Kind.BUDGET, Kind.EVENT),
    *(Kind.STREAM, Kind.CONSUMER),
)
"""What is listed without knowing a name. NACK's resources of all namespaces are, too."""

Items = tuple[JsonObject, ...]


class KubernetesApiReader:
    """Implements `bot.ports.KubernetesReader`."""

    def __init__(self, settings: KubernetesSettings, clock: Clock, page: int = PAGE) -> None:
        self._settings = settings
        self._clock = clock
        self._page = page

    async def gather(self) -> KubernetesFacts:
        """Read everything once. Never raises for the world: what can't be read is unknown."""
        taken_at, namespace = self._clock.now(), self._settings.namespace
        try:
            async with open_client(self._settings) as client:
                api = Api(client, self._settings.timeout_seconds, self._page)
                listings, files, version = await Look(api, self._settings, taken_at).run()
        except Unreadable as error:
            return KubernetesFacts(namespace, taken_at, tuple(_unread(kind, unknown_of(error)) for kind in Kind))
        return KubernetesFacts(namespace, taken_at, listings, files, version)

    async def object(self, kind: Kind, name: str) -> JsonObject | None:
        """Return one object raw and whole; None is a definite *not found*. Raises `Unreadable`; `BadInput` for a Secret, which nobody needs to see."""
        if kind is Kind.SECRET:
            raise BadInput("natsmedic reads no Secret for an action.")
        async with open_client(self._settings) as client:
            return await Look(Api(client, self._settings.timeout_seconds), self._settings, self._clock.now()).one(
                kind, name
            )


class Look:
    """One pass. Raw objects live here, with their secrets, and nowhere else."""

    def __init__(self, api: Api, settings: KubernetesSettings, taken_at: datetime) -> None:
        self._api = api
        self._settings = settings
        self._taken_at = taken_at
        self._served: asyncio.Task[frozenset[str] | None] | None = None
        self._fetched: dict[tuple[Kind, str], JsonObject | Unreadable | None] = {}

    async def run(self) -> tuple[tuple[Listing, ...], tuple[ConfigFile, ...], str]:
        async with asyncio.TaskGroup() as group:
            self._served = group.create_task(self._groups())
            version = group.create_task(self._version())
            named = group.create_task(self._workloads())
            lists = {kind: group.create_task(self._list(kind)) for kind in IN_NAMESPACE}
            pods = group.create_task(self._pods(named))
            claims = group.create_task(self._claims(named, pods, lists[Kind.CLAIM]))
            files = group.create_task(self._files(named, pods))
            nodes = group.create_task(self._named(Kind.NODE, pods, lambda raw: Pod(raw).node_name))
            volumes = group.create_task(self._named(Kind.VOLUME, claims, lambda raw: Claim(raw).volume_name))
            classes = group.create_task(self._named(Kind.STORAGE_CLASS, claims, lambda raw: Claim(raw).storage_class))
        found = [task.result() for task in (named, pods, *lists.values(), nodes, volumes, classes)]
        found += [self._fetched_listing(kind) for kind in (Kind.CONFIG_MAP, Kind.SECRET)]
        return self._at_the_door(found), files.result(), version.result()

    async def one(self, kind: Kind, name: str) -> JsonObject | None:
        """Return one object, with its secrets; None is a definite *not found*. Raises `Unreadable`."""
        self._served = asyncio.create_task(self._groups())
        try:
            resource = RESOURCES[kind]
            namespace = self._settings.namespace if resource.namespaced else None
            return await self._api.get(Question("get", resource, await self._newest(resource), namespace, name))
        finally:
            self._served.cancel()

    # What the server has.

    async def _groups(self) -> frozenset[str] | None:
        """Return every `group/version` that is served; None where it does not say."""
        try:
            answer = await self._api.plain("/apis")
        except Unreadable:
            return None
        return frozenset(str(v.get("groupVersion")) for g in parts(answer, "groups") for v in parts(g, "versions"))

    async def _version(self) -> str:
        try:
            return str((await self._api.plain("/version")).get("gitVersion") or "")
        except Unreadable:
            return ""

    async def _newest(self, resource: Resource) -> str:
        """Return the version to ask. Raises `NotInVersion` where the server has none of them."""
        if not resource.group or (len(resource.versions) == 1 and not resource.custom):
            return resource.versions[0]
        served = await self._served if self._served else None
        found = next((v for v in resource.versions if served is None or f"{resource.group}/{v}" in served), None)
        if found is None:
            wanted = " and ".join(f"{resource.group}/{v}" for v in resource.versions)
            raise NotInVersion(f"The API server does not have {wanted}, so {resource.kind} are unknown.")
        return found

    # Questions.

    async def _answer(self, kind: Kind, verb: str, ask: Callable[[Question], Awaitable[Items]]) -> Listing:
        resource = RESOURCES[kind]
        namespace = self._settings.namespace if resource.namespaced else None
        question = Question(verb, resource, "", namespace)
        try:
            question = Question(verb, resource, await self._newest(resource), namespace)
            items = await ask(question)
        except Unreadable as error:
            if isinstance(error, NotInVersion) and resource.custom:
                return Listing(kind=kind, verb=verb, api="", namespace=namespace, items=())
            api = question.api if question.version else ""
            return Listing(kind=kind, verb=verb, api=api, namespace=namespace, unknown=unknown_of(error))
        return Listing(kind=kind, verb=verb, api=question.api, namespace=namespace, items=items)

    async def _list(self, kind: Kind) -> Listing:
        return await self._answer(kind, "list", self._api.list)

    async def _workloads(self) -> Listing:
        name, selector = self._settings.statefulset, self._settings.selector
        if name is not None:
            return await self._answer(Kind.STATEFUL_SET, "get", lambda question: self._get_all(question, [name]))

        async def ask(question: Question) -> Items:
            found = await self._api.list(question, selector or "")
            return found if selector else tuple(filter(runs_nats, found))

        return await self._answer(Kind.STATEFUL_SET, "list", ask)

    async def _pods(self, named: asyncio.Task[Listing]) -> Listing:
        workloads = await named
        if workloads.items is None:
            return _unread(Kind.POD, workloads.unknown)
        selectors = {selector_text(part(part(raw, "spec"), "selector")) for raw in workloads.items}

        async def ask(question: Question) -> Items:
            found = await asyncio.gather(*(self._api.list(question, selector) for selector in sorted(selectors)))
            by_name = {str(part(raw, "metadata").get("name")): raw for items in found for raw in items}
            return tuple(by_name[name] for name in sorted(by_name))

        return await self._answer(Kind.POD, "list", ask)

    async def _named(self, kind: Kind, source: asyncio.Task[Listing], name: Callable[[JsonObject], str]) -> Listing:
        """Get the objects that others name."""
        listing = await source
        if listing.items is None:
            return _unread(kind, listing.unknown)
        names = sorted({found for raw in listing.items if (found := name(raw))})
        return await self._answer(kind, "get", lambda question: self._get_all(question, names))

    async def _claims(
        self, named: asyncio.Task[Listing], pods: asyncio.Task[Listing], claims: asyncio.Task[Listing]
    ) -> Listing:
        """Return the claims of the workloads alone: those of others name volumes that are nobody's business here."""
        listing, around = await claims, (await named, await pods)
        if listing.items is None:
            return listing
        related = Related(KubernetesFacts(self._settings.namespace, self._taken_at, around))
        return _with(listing, related.of(Kind.CLAIM, listing.items))

    async def _get_all(self, question: Question, names: Iterable[str]) -> Items:
        asked = (self._api.get(replace(question, name=name)) for name in names)
        return tuple(raw for raw in await asyncio.gather(*asked) if raw is not None)

    # nats.conf.

    async def _files(self, named: asyncio.Task[Listing], pods: asyncio.Task[Listing]) -> tuple[ConfigFile, ...]:
        around = KubernetesFacts(self._settings.namespace, self._taken_at, (await named, await pods))
        reader = ConfigReader(self._fetch, secrets=self._settings.read_config_secret)
        files: list[ConfigFile] = []
        for workload in () if isinstance(around.workloads, Unknown) else around.workloads:
            running = workload.pods
            known = () if isinstance(running, Unknown) else running
            files += await reader.read(workload.pod_spec, workload.nats, known)
        return tuple(files)

    async def _fetch(self, kind: Kind, name: str) -> JsonObject | None:
        """Get a ConfigMap or Secret, once however often it is asked for. Raises `Unreadable`."""
        if (kind, name) not in self._fetched:
            question = Question("get", RESOURCES[kind], RESOURCES[kind].versions[0], self._settings.namespace, name)
            try:
                self._fetched[kind, name] = await self._api.get(question)
            except Unreadable as error:
                self._fetched[kind, name] = error
        found = self._fetched[kind, name]
        if isinstance(found, Unreadable):
            raise found
        return found

    def _fetched_listing(self, kind: Kind) -> Listing:
        found = [answer for (of_kind, _), answer in self._fetched.items() if of_kind is kind]
        error = next((answer for answer in found if isinstance(answer, Unreadable)), None)
        listing = Listing(kind=kind, verb="get", api="v1", namespace=self._settings.namespace)
        known = tuple(answer for answer in found if isinstance(answer, dict))
        return _with(listing, unknown_of(error) if error else known)

    def _at_the_door(self, listings: list[Listing]) -> tuple[Listing, ...]:
        """Leave out what has nothing to do with NATS, and every secret."""
        related = Related(KubernetesFacts(self._settings.namespace, self._taken_at, tuple(listings)))
        return tuple(_clean(listing, related) for listing in listings)


def _clean(listing: Listing, related: Related) -> Listing:
    if listing.items is None:
        return listing
    try:
        kept = related.of(listing.kind, listing.items)
        return _with(listing, kept if isinstance(kept, Unknown) else tuple(clean(listing.kind, raw) for raw in kept))
    except RecursionError:
        detail = f"One of the {listing.kind} is nested too deeply to be looked at."
        return _with(listing, Unknown(reason=UnknownReason.UNREADABLE, detail=detail))


def _with(listing: Listing, found: Items | Unknown) -> Listing:
    items, unknown = (None, found) if isinstance(found, Unknown) else (found, None)
    return listing.model_copy(update={"items": items, "unknown": unknown})


def _unread(kind: Kind, unknown: Unknown | None) -> Listing:
    """Return the listing of what could not even be asked for."""
    return Listing(kind=kind, verb="", api="", unknown=unknown)
