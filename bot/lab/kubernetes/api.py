"""The HTTP side of the stand-in: from a request to the registry and back."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
import yaml
from aiohttp import web

from bot.lab.kubernetes.answers import Watch, drop, page, shown
from bot.lab.kubernetes.eviction import evict
from bot.lab.kubernetes.faults import WRITES, Fault, FaultKind, Faults
from bot.lab.kubernetes.kinds import (
    DEFINITION,
    KINDS,
    POD,
    REVIEWS,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    VERSION,
    Kind,
    discovery,
    kind_at,
)
from bot.lab.kubernetes.objects import Raw, Value, is_object, name_of, namespace_of, part, stamp
from bot.lab.kubernetes.patches import PatchType
from bot.lab.kubernetes.rbac import Access, Attempt, User
from bot.lab.kubernetes.refusals import (
    Cause,
    Refused,
    bad_request,
    forbidden,
    invalid_options,
    modified,
    no_strategic_patch,
    no_such_path,
    not_allowed,
    subject,
)
from bot.lab.kubernetes.registry import Deletion, Registry, Write
from bot.lab.kubernetes.scale import scale_of, write_scale
from bot.lab.kubernetes.selectors import Selected, selected

PROXY_TIMEOUT: Final = 10.0
"""Seconds that a pod has to answer through the proxy."""
ONE_NAME: Final = 5
"""Parts of `/apis/GROUP/VERSION/PLURAL/NAME` without a namespace, for the least."""


@dataclass(frozen=True, slots=True)
class ArrivedWrite:
    """A request that could change something, as it arrived. `status` is what was answered; 0 where the connection was cut."""

    method: str
    path: str
    user: str
    manager: str
    dry_run: bool
    status: int
    body: Value


class Pods(Protocol):
    """What the kubelet knows of pods."""

    def log(self, pod: Raw, container: str, *, previous: bool) -> str | None:
        """What a container wrote; None where it has not run (before)."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """What an address means."""

    kind: Kind
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


def target_of(path: str) -> Target | None:
    """Reads `/apis/GROUP/VERSION[/namespaces/NS]/PLURAL[/NAME[/SUBRESOURCE[/REST]]]`; None for any other address."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, *way = "", *parts[1:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, *way = parts[1:]
    else:
        return None
    namespace = ""
    if way[0] == "namespaces" and len(way) > 2 and way[2] != "status":
        namespace, way = way[1], way[2:]
    name, subresource = [*way[1:3], "", ""][:2]
    kind = kind_at(group, version, way[0]) or Kind("", way[0], group, ())
    return Target(kind, version, namespace, name, subresource, "/".join(way[3:]))


class Api:
    """Answers requests. `writes` lists those that could change something, in order of arrival."""

    def __init__(self, registry: Registry, access: Access, faults: Faults, pods: Pods) -> None:
        self._registry = registry
        self._store = registry.store
        self._access = access
        self._faults = faults
        self._pods = pods
        self.writes: list[ArrivedWrite] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request, with the faults that hit it."""
        if self._faults.down:
            return drop(request)
        body = await request.read()
        fault = self._faults.take(request.method, request.path)
        user = "?"
        cut_at_once = fault is not None and fault.kind is FaultKind.CUT
        try:
            user = self._access.who(request.headers.get("Authorization", "")).name
            answer = web.Response() if cut_at_once else await self._answer(request, body, fault)
        except Refused as refused:
            answer = _status_answer(refused)
        cut = cut_at_once or (fault is not None and fault.kind is FaultKind.COMMIT_THEN_CUT)
        self._record(request, body, user, 0 if cut else answer.status)
        if fault is not None and fault.kind is FaultKind.SLOW:
            await asyncio.sleep(fault.seconds)
        return drop(request) if cut else answer

    async def _answer(self, request: web.Request, body: bytes, fault: Fault | None) -> web.StreamResponse:
        user = self._access.who(request.headers.get("Authorization", ""))
        target = target_of(request.path)
        verb = _verb(request, target)
        if (refusal := _struck(fault, user, target, verb) if fault else None) is not None:
            raise refusal
        if target is None:
            return self._path(request, user)
        if request.path.startswith(f"/apis/{REVIEWS}/"):
            return self._review(user, _json(body))
        attempt = Attempt(
            verb, target.kind.group, target.kind.plural, target.namespace, target.name, target.subresource
        )
        self._access.insist(user, attempt, client=_manager(request))
        if not target.kind.kind or not self._serves(target.kind):
            return web.Response(status=404, text="404 page not found\n")
        if target.subresource and target.subresource not in target.kind.subresources:
            raise no_such_path()
        if target.subresource in ("log", "proxy"):
            return await self._pod(target, request.query)
        if verb == "watch":
            chosen = _chosen(request, target)
            watch = Watch(
                self._store, target.kind, target.version, target.namespace, chosen, away=lambda: self._faults.down
            )
            return await watch.stream(request)
        made, status = self._object(request, target, verb, body)
        return web.json_response(made, status=status)

    def _serves(self, kind: Kind) -> bool:
        return not kind.custom or self._store.get(DEFINITION, "", kind.resource) is not None

    def _object(self, request: web.Request, target: Target, verb: str, body: bytes) -> tuple[Raw, int]:
        """What the verbs that answer with one object, list or Status do."""
        kind, namespace, name = target.kind, target.namespace, target.name
        match verb:
            case "list":
                chosen = _chosen(request, target)
                return page(self._store, kind, target.version, namespace, chosen, dict(request.query)), 200
            case "get":
                raw = self._registry.get(kind, namespace, name)
                return scale_of(raw) if target.subresource == "scale" else shown(kind, target.version, raw), 200
            case "create":
                return self._create(request, target, body), 201
            case "update" | "patch":
                return self._change(request, target, body)
            case "delete":
                return self._delete(target, _deletion(request, body)), 200
            case "deletecollection":
                return self._delete_all(request, target, _deletion(request, body)), 200
            case _:
                raise not_allowed()

    def _create(self, request: web.Request, target: Target, body: bytes) -> Raw:
        write, raw = _write(request, "CreateOptions"), _json(body, target.kind)
        if target.subresource == "eviction":
            return evict(self._registry, target.namespace, target.name, raw, dry_run=write.dry_run)
        if target.subresource == "token":
            return self._token(target, raw)
        if target.name:
            raise not_allowed()
        made = self._registry.create(target.kind, target.namespace, raw, write)
        return shown(target.kind, target.version, made)

    def _change(self, request: web.Request, target: Target, body: bytes) -> tuple[Raw, int]:
        kind, namespace, name, part = target.kind, target.namespace, target.name, target.subresource
        if not name:
            raise not_allowed()
        how = _patch_type(request) if request.method == "PATCH" else None
        if how is PatchType.STRATEGIC and kind.custom:
            raise no_strategic_patch()
        write = _write(request, "PatchOptions" if how else "UpdateOptions")
        change = _patch(body, how) if how else _json(body, kind)
        if part == "scale":
            return write_scale(self._registry, namespace, name, change, write, how), 200
        if how is None:
            return shown(kind, target.version, self._registry.update(kind, namespace, name, change, write, part)), 200
        new = self._store.get(kind, namespace, name) is None
        made = self._registry.patch(kind, namespace, name, how, change, write, part)
        return shown(kind, target.version, made), 201 if new else 200

    def _delete(self, target: Target, how: Deletion) -> Raw:
        kind = target.kind
        uid = self._registry.get(kind, target.namespace, target.name)["metadata"]["uid"]
        left = self._registry.delete(kind, target.namespace, target.name, how)
        if left is not None:
            return shown(kind, target.version, left)
        details = subject(kind, target.name) | {"uid": uid}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _delete_all(self, request: web.Request, target: Target, how: Deletion) -> Raw:
        chosen = _chosen(request, target)
        found = page(self._store, target.kind, target.version, target.namespace, chosen, dict(request.query))
        for raw in found["items"]:
            self._registry.delete(target.kind, namespace_of(raw), name_of(raw), how)
        return found

    # What is no object.

    def _path(self, request: web.Request, user: User) -> web.Response:
        self._access.insist_on_path(user, request.method.lower(), request.path)
        path = request.path.rstrip("/")
        if path == "/version":
            return web.json_response(VERSION)
        if path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        found = discovery(path, [kind for kind in KINDS if self._serves(kind)])
        return web.Response(status=404, text="404 page not found\n") if found is None else web.json_response(found)

    def _review(self, user: User, body: Raw) -> web.Response:
        """SelfSubjectAccessReview: anybody may ask what they may."""
        asked: Raw = part(body, "spec", "resourceAttributes")
        keys = ("verb", "group", "resource", "namespace", "name", "subresource")
        reason = self._access.allows(user, Attempt(**{key: asked.get(key, "") for key in keys}))
        status: Raw = {"allowed": reason is not None} | ({"reason": reason} if reason else {})
        raw = {"kind": "SelfSubjectAccessReview", "apiVersion": REVIEWS, "metadata": {"creationTimestamp": None}}
        return web.json_response(raw | {"spec": body.get("spec"), "status": status}, status=201)

    def _token(self, target: Target, body: Raw) -> Raw:
        """TokenRequest. The token never expires, whatever was asked for."""
        self._registry.get(SERVICE_ACCOUNT, target.namespace, target.name)
        token = self._access.issue_for_account(target.namespace, target.name)
        status = {"token": token, "expirationTimestamp": stamp(self._store.clock())}
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "spec": body.get("spec"),
            "status": status,
        }

    async def _pod(self, target: Target, query: Mapping[str, str]) -> web.Response:
        if target.subresource == "log":
            return self._log(self._registry.get(POD, target.namespace, target.name), query)
        name, _, port = target.name.partition(":")
        pod = self._registry.get(POD, target.namespace, name)
        address = part(pod, "status").get("podIP")
        timeout = aiohttp.ClientTimeout(total=PROXY_TIMEOUT)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as client:
                url = f"http://{address}:{port or 80}/{target.rest}"
                async with client.get(url, params=query) as answer:
                    content = await answer.read()
                    return web.Response(status=answer.status, body=content, content_type=answer.content_type)
        except (aiohttp.ClientError, TimeoutError) as error:
            words = f"error trying to reach service: {error}"
            raise Refused(503, "ServiceUnavailable", words) from error

    def _log(self, pod: Raw, query: Mapping[str, str]) -> web.Response:
        containers = [container["name"] for container in pod["spec"]["containers"]]
        name = query.get("container") or containers[0]
        if name not in containers:
            raise bad_request(f"container {name} is not valid for pod {name_of(pod)}")
        previous = query.get("previous") == "true"
        text = self._pods.log(pod, name, previous=previous)
        if text is None:
            what = f'previous terminated container "{name}"' if previous else f'container "{name}"'
            raise bad_request(f'{what} in pod "{name_of(pod)}" not found')
        lines = text.splitlines(keepends=True)
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :] if int(query["tailLines"]) else []
        return web.Response(text="".join(lines))

    def _record(self, request: web.Request, body: bytes, user: str, status: int) -> None:
        if request.method not in WRITES or request.path.startswith(f"/apis/{REVIEWS}/"):
            return
        try:
            content = _parsed(body)
        except yaml.YAMLError:
            content = body.decode(errors="replace")
        dry_run = request.query.get("dryRun") == "All"
        if is_object(content):
            dry_run = dry_run or content.get("dryRun") == ["All"]
        self.writes.append(
            ArrivedWrite(request.method, request.path, user, _manager(request), dry_run, status, content)
        )


def _status_answer(refused: Refused) -> web.Response:
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else None
    return web.json_response(refused.status(), status=refused.code, headers=headers)


def _struck(fault: Fault, user: User, target: Target | None, verb: str) -> Refused | None:
    """The answer instead of the real one, in the words that fit the request; None where a fault refuses nothing."""
    if target is not None and fault.kind is FaultKind.CONFLICT:
        return modified(target.kind, target.name)
    if target is not None and fault.kind is FaultKind.FORBIDDEN:
        return forbidden(user.name, verb, target.kind, target.name, target.namespace, target.subresource)
    return fault.refusal()


def _verb(request: web.Request, target: Target | None) -> str:
    """The verb by which RBAC knows a request (apiserver `RequestInfo`)."""
    if request.method in ("GET", "HEAD"):
        if target is None or target.name:
            return "get"
        return "watch" if request.query.get("watch") in ("1", "true") else "list"
    if request.method == "DELETE":
        return "delete" if target is None or target.name else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(request.method, "")


def _chosen(request: web.Request, target: Target) -> Selected:
    return selected(target.kind, request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))


def _parsed(body: bytes) -> Value:
    """JSON or YAML. Raises `yaml.YAMLError` where it is neither."""
    try:
        return json.loads(body)
    except ValueError:
        return yaml.safe_load(body)


def _json(body: bytes, kind: Kind = STATEFUL_SET) -> Raw:
    try:
        found: Value = _parsed(body) if body else {}
    except yaml.YAMLError as error:
        words = f"couldn't get version/kind; json parse error: {str(error).splitlines()[0]}"
        raise bad_request(f"the object provided is unrecognized (must be of type {kind.kind}): {words}") from error
    if not is_object(found):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind.kind})")
    return found


def _patch(body: bytes, how: PatchType) -> Value:
    try:
        return _parsed(body) if how is PatchType.APPLY else json.loads(body)
    except yaml.YAMLError as error:
        raise bad_request(f"error decoding YAML: {error}") from error
    except ValueError as error:
        if how is PatchType.JSON:
            raise bad_request(f"error decoding patch: {error}") from error
        raise Refused(500, "", "Invalid JSON Patch") from error


def _patch_type(request: web.Request) -> PatchType:
    try:
        return PatchType(request.content_type)
    except ValueError as error:
        raise Refused(415, "UnsupportedMediaType", "415: Unsupported Media Type", {}) from error


def _manager(request: web.Request) -> str:
    """The client's name stands in for a field manager (apiserver `managerOrUserAgent`)."""
    return request.query.get("fieldManager") or request.headers.get("User-Agent", "unknown").partition("/")[0]


def _write(request: web.Request, options: str) -> Write:
    how = request.query.get("dryRun", "")
    if how not in ("", "All"):
        shown_value = f'[]string{{"{how}"}}'
        message = f'Unsupported value: {shown_value}: supported values: "All"'
        raise invalid_options(options, Cause("FieldValueNotSupported", message, "dryRun"))
    manager = _manager(request)
    if request.content_type == PatchType.APPLY:
        manager = request.query.get("fieldManager", "")
    return Write(manager, how == "All", request.query.get("force") == "true")


def _deletion(request: web.Request, body: bytes) -> Deletion:
    options, query = _json(body), request.query
    grace: int | None = options.get("gracePeriodSeconds")
    if grace is None and "gracePeriodSeconds" in query:
        grace = int(query["gracePeriodSeconds"])
    policy = options.get("propagationPolicy") or query.get("propagationPolicy") or ""
    dry_run = options.get("dryRun") == ["All"] or query.get("dryRun") == "All"
    return Deletion(part(options, "preconditions"), grace, policy, dry_run)
