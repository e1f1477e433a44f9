"""Slack's HTTP side: `/api/<method>`, response_urls and uploads; tokens, scopes, rate limits and faults."""

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aiohttp import web

from bot.lab.slack import faults
from bot.lab.slack.faults import Fault, FaultKind, Faults
from bot.lab.slack.methods_views import ALL_METHODS
from bot.lab.slack.records import APP_ID, BOT_USER_ID, Call, SlackRefusal, random_id
from bot.lab.slack.workspace import Workspace
from bot.model.base import Json, JsonObject

OPEN_CONNECTION = "apps.connections.open"
JSON_ARGUMENTS = frozenset({"blocks", "attachments", "metadata", "view", "files"})
SECONDS_PER_MINUTE = 60.0
ALL_SCOPES: Final = (
    *("app_mentions:read", "channels:history", "channels:join", "channels:read", "chat:write", "commands"),
    *("files:write", "groups:history", "groups:read", "im:history", "im:write", "reactions:write"),
    *("usergroups:read", "users:read"),
)
"""Every scope that a method here needs, and those of the commands and mentions that the stand-in sends."""


async def arguments(request: web.Request) -> JsonObject:
    """The arguments of a call from query, form or JSON body; JSON inside form fields is decoded.

    Raises:
        SlackRefusal: `invalid_json`.
    """
    args: JsonObject = dict(request.query)
    if request.content_type == "application/json":
        try:
            body: Json = json.loads(await request.text() or "{}")
        except json.JSONDecodeError as mistake:
            raise SlackRefusal("invalid_json") from mistake
        if not isinstance(body, dict):
            raise SlackRefusal("json_not_object")
        args |= body
    elif request.can_read_body:
        args |= {name: str(value) for name, value in (await request.post()).items()}
    for name in JSON_ARGUMENTS & set(args):
        if isinstance(args[name], str):
            try:
                args[name] = json.loads(args[name]) if args[name] else None
            except json.JSONDecodeError as mistake:
                kind = {"blocks": "invalid_blocks_format", "metadata": "invalid_metadata_format"}
                raise SlackRefusal(kind.get(name, "invalid_arguments")) from mistake
    return args


def drop(request: web.Request) -> web.Response:
    """Closes the connection so that the caller gets no answer at all."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)  # never leaves: the connection is gone


def failed(refusal: SlackRefusal) -> JsonObject:
    """Slack's answer to a refused call."""
    answer: JsonObject = {"ok": False, "error": refusal.error, **refusal.extra}
    if refusal.messages:
        answer["response_metadata"] = {"messages": list(refusal.messages)}
    return answer


class WebApi:
    """Answers the app's HTTP calls."""

    def __init__(
        self, workspace: Workspace, faults_: Faults, bot_token: str, app_token: str, scopes: Sequence[str]
    ) -> None:
        self.workspace = workspace
        self.faults = faults_
        self.bot_token = bot_token
        self.app_token = app_token
        self.scopes = tuple(scopes)
        self.tickets: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """The paths served here."""
        return [
            web.post("/api/{method}", self.call),
            web.get("/api/{method}", self.call),
            web.post("/response/{id}", self.respond),
            web.post("/upload/v1/{id}", self.upload),
        ]

    async def call(self, request: web.Request) -> web.Response:
        """One Web API call."""
        method = request.match_info["method"]
        if self.faults.outage:
            self._log(method, {}, "outage")
            return drop(request)
        try:
            args = await arguments(request)
        except SlackRefusal as refusal:
            self._log(method, {}, refusal.error)
            return web.json_response(failed(refusal))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or str(args.get("token", ""))
        args.pop("token", None)
        fault = self.faults.take(method)
        if fault is not None and (answer := self._stopped(request, method, args, fault)) is not None:
            return answer
        wait_s = self._wait_s(method, args, token)
        if wait_s > 0:
            self._log(method, args, "ratelimited")
            return self._too_many(wait_s)
        try:
            answer = {"ok": True, **self._run(method, args, token)}
            outcome = "ok"
        except SlackRefusal as refusal:
            answer, outcome = failed(refusal), refusal.error
        except (ValueError, TypeError, KeyError, AttributeError) as mistake:
            reasons = (f"[ERROR] {type(mistake).__name__}: {mistake}",)
            answer, outcome = failed(SlackRefusal("invalid_arguments", reasons)), "invalid_arguments"
        if fault is not None and fault.kind is FaultKind.SLOW:
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind is FaultKind.DROP_AFTER_COMMIT:
            self._log(method, args, f"{fault.kind}:{outcome}")
            return drop(request)
        self._log(method, args, outcome)
        return web.json_response(answer, headers={"X-OAuth-Scopes": ",".join(self._granted())})

    def _log(self, method: str, args: JsonObject, outcome: str) -> None:
        self.workspace.calls.append(Call(method=method, args=args, at=self.workspace.clock(), outcome=outcome))
        self.workspace.changed()

    def _stopped(self, request: web.Request, method: str, args: JsonObject, fault: Fault) -> web.Response | None:
        """The answer of a fault that keeps the call from running; None for the others."""
        if fault.kind in (FaultKind.SLOW, FaultKind.DROP_AFTER_COMMIT):
            return None
        self._log(method, args, fault.kind)
        match fault.kind:
            case FaultKind.RATE_LIMITED:
                return self._too_many(fault.seconds)
            case FaultKind.SERVER_ERROR:
                return web.Response(status=fault.status, text="upstream connect error")
            case FaultKind.REFUSED:
                return web.json_response(failed(SlackRefusal(fault.error)))
            case _:
                return drop(request)

    @staticmethod
    def _too_many(wait_s: float) -> web.Response:
        headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
        return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)

    def _wait_s(self, method: str, args: JsonObject, token: str) -> float:
        known = ALL_METHODS.get(method)
        if known is None or token != self.bot_token:
            return 0.0
        per_minute = float(known.tier)
        keys = [(method, per_minute / SECONDS_PER_MINUTE, per_minute * faults.TIER_BURST_SHARE)]
        if known.posts:
            keys.append((f"post:{args.get('channel')}", faults.MESSAGES_PER_SECOND, faults.MESSAGE_BURST))
        return self.faults.wait_for(keys)

    def _run(self, method: str, args: JsonObject, token: str) -> JsonObject:
        if not token:
            raise SlackRefusal("not_authed")
        if token not in (self.bot_token, self.app_token):
            raise SlackRefusal("invalid_auth")
        if method == OPEN_CONNECTION:
            if token != self.app_token:
                raise SlackRefusal("not_allowed_token_type")
            return {"url": self._socket_url()}
        known = ALL_METHODS.get(method)
        if known is None:
            raise SlackRefusal("unknown_method")
        if token != self.bot_token:
            raise SlackRefusal("not_allowed_token_type")
        if known.scope is not None and known.scope not in (granted := self._granted()):
            raise SlackRefusal("missing_scope", needed=known.scope, provided=",".join(granted))
        return known.run(self.workspace, args)

    def _granted(self) -> list[str]:
        return [scope for scope in self.scopes if scope not in self.faults.missing_scopes]

    def _socket_url(self) -> str:
        ticket = random_id("")
        self.tickets.add(ticket)
        base = self.workspace.public_url.replace("http://", "ws://")
        return f"{base}/link/?ticket={ticket}&app_id={APP_ID}"

    async def upload(self, request: web.Request) -> web.Response:
        """Takes the bytes of a file whose upload URL was asked for."""
        if self.faults.outage:
            return drop(request)
        file = self.workspace.files.get(request.match_info["id"])
        if file is None or file.content is not None:
            return web.Response(status=404, text="not found")
        if request.content_type.startswith("multipart/"):
            field = next(iter((await request.post()).values()))
            content = field.file.read() if isinstance(field, web.FileField) else str(field).encode()
        else:
            content = await request.read()
        if len(content) != file.length:
            return web.Response(status=400, text="length does not match")
        self.workspace.files[file.id] = replace(file, content=content)
        return web.Response(text=f"OK - {len(content)}")

    async def respond(self, request: web.Request) -> web.Response:
        """One use of a response_url: a new message, or a change to the one the gesture was made on."""
        if self.faults.outage:
            return drop(request)
        w = self.workspace
        try:
            issued = w.use_response_url(request.match_info["id"])
            body = await arguments(request)
            if body.get("delete_original") or body.get("replace_original"):
                self._change_original(issued.channel, issued.ts or "", body)
            else:
                w.post(
                    issued.channel,
                    BOT_USER_ID,
                    body.get("text") or "",
                    body.get("blocks") or (),
                    body.get("attachments") or (),
                    thread_ts=body.get("thread_ts"),
                    visible_to=None if body.get("response_type") == "in_channel" else issued.user,
                )
        except SlackRefusal as refusal:
            self._log("response_url", {}, refusal.error)
            status = 404 if refusal.error in ("expired_url", "used_url") else 400
            return web.json_response(failed(refusal), status=status)
        self._log("response_url", body, "ok")
        return web.json_response({"ok": True})

    def _change_original(self, channel: str, ts: str, body: JsonObject) -> None:
        w = self.workspace
        private = next((m for m in w.ephemerals if m.channel == channel and m.ts == ts), None)
        if private is None:
            if body.get("delete_original"):
                w.put(replace(w.message(channel, ts), deleted=True))
            else:
                w.update(channel, ts, text=body.get("text"), blocks=body.get("blocks", []))
            return
        w.ephemerals = [m for m in w.ephemerals if m is not private]
        if not body.get("delete_original"):
            new = w.post(
                channel, BOT_USER_ID, body.get("text") or "", body.get("blocks") or (), visible_to=private.visible_to
            )
            w.ephemerals[-1] = replace(new, ts=private.ts, thread_ts=private.thread_ts, edited_at=w.clock())
        w.changed()
