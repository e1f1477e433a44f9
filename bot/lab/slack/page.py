"""The web page and the HTTP interface through which people and scripts act: `/`, `/lab/...`, `/files/...`.

`POST /lab/<gesture>` takes the arguments of the method of the same name of `Person` as a JSON object and answers
`{"ok", "failure", "errors", "response", "delivery_ids"}`; an impossible gesture is HTTP 409 with `{"error"}`.
`GET /lab/state?user=U1` is everything that person sees; `GET /lab/stream` tells of changes as Server-Sent Events.
"""

import json
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from bot.lab.slack.delivery import Deliveries
from bot.lab.slack.faults import Fault, FaultKind, Faults
from bot.lab.slack.person import Person
from bot.lab.slack.records import (
    BOT_USER_ID,
    TEAM_DOMAIN,
    TEAM_ID,
    Channel,
    ImpossibleGesture,
    Message,
    Outcome,
    SlackRefusal,
    View,
    is_object,
    view_json,
)
from bot.lab.slack.render import Renderer
from bot.lab.slack.web_api import drop
from bot.lab.slack.workspace import Workspace
from bot.model.base import Json, JsonObject

STATIC = Path(__file__).parent / "static"
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
STREAM_IDLE_S = 15.0  # a comment at least this often keeps the stream alive and finds closed ones
INLINE_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
TEXT_SUFFIXES = frozenset({".txt", ".json", ".yaml", ".yml", ".md", ".log", ".diff", ".patch", ".csv"})
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILE_CSP = "default-src 'none'; sandbox"


@web.middleware
async def guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses requests another website makes a browser send (wrong Host or Origin), and sets the safety headers."""
    host = urlsplit(f"//{request.host}").hostname
    origin = request.headers.get("Origin")
    if host not in LOOPBACK_NAMES or (origin is not None and urlsplit(origin).netloc != request.host):
        return web.Response(status=403, text="only for this machine")
    return await handler(request)


async def safety_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Sets a strict content security policy on everything a browser may show."""
    response.headers.setdefault("Content-Security-Policy", CSP)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")


def _is_direct(workspace: Workspace, channel: Channel) -> bool:
    """Whether it is one person's conversation with the bot: by its own id, or by the person's."""
    return channel.id in workspace.users or channel.id.startswith("D")


class Page:
    """Serves the page and the control interface."""

    def __init__(self, workspace: Workspace, person: Person, deliveries: Deliveries, faults: Faults) -> None:
        self.workspace = workspace
        self.person = person
        self.deliveries = deliveries
        self.faults = faults
        self.renderer = Renderer(workspace)
        self.streams: set[web.StreamResponse] = set()
        self.gestures: dict[str, Callable[..., Awaitable[Outcome]]] = {
            "click": person.click,
            "click_in_view": person.click_in_view,
            "submit": person.submit,
            "close_view": person.close_view,
            "slash": person.slash,
            "message_shortcut": person.message_shortcut,
            "global_shortcut": person.global_shortcut,
            "replay": person.replay,
        }

    def routes(self) -> list[web.RouteDef]:
        """The paths served here."""
        return [
            web.get("/", self.index),
            web.get("/static/{name}", self.static),
            web.get("/archives/{channel}/{message}", self.index),
            web.get("/files/{id}", self.file),
            web.get("/lab/state", self.state),
            web.get("/lab/stream", self.stream),
            web.get("/lab/text", self.text),
            web.get("/lab/calls", self.calls),
            web.get("/lab/deliveries", self.delivered),
            web.post("/lab/say", self.say),
            web.post("/lab/open_home", self.open_home),
            web.post("/lab/dismiss", self.dismiss),
            web.post("/lab/faults", self.set_faults),
            web.post("/lab/{gesture}", self.gesture),
        ]

    async def index(self, _request: web.Request) -> web.StreamResponse:
        """The page itself; permalinks lead to it too."""
        return web.FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": CSP})

    async def static(self, request: web.Request) -> web.StreamResponse:
        """One file of the page."""
        found = {path.name: path for path in STATIC.iterdir()}.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.FileResponse(found)

    async def file(self, request: web.Request) -> web.Response:
        """An uploaded file; nothing in it can run."""
        file = self.workspace.files.get(request.match_info["id"])
        if file is None or file.content is None:
            raise web.HTTPNotFound
        guessed = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        headers = {"Content-Security-Policy": FILE_CSP}
        if guessed in INLINE_IMAGES:
            return web.Response(body=file.content, content_type=guessed, headers=headers)
        if Path(file.name).suffix.lower() in TEXT_SUFFIXES:
            return web.Response(body=file.content, content_type="text/plain", charset="utf-8", headers=headers)
        headers["Content-Disposition"] = f'attachment; filename="{file.id}{Path(file.name).suffix}"'
        return web.Response(body=file.content, content_type="application/octet-stream", headers=headers)

    # --- looking -----------------------------------------------------------------------------------------------

    def _message(self, message: Message) -> JsonObject:
        shown = self.workspace.message_json(message)
        shown["visible_to"] = message.visible_to
        shown["by_bot"] = message.by_bot
        return shown

    def _view(self, view: View | None) -> JsonObject | None:
        return view_json(view) if view is not None else None

    async def state(self, request: web.Request) -> web.Response:
        """Everything one person sees."""
        w = self.workspace
        me = request.query.get("user", "")
        private = [m for m in w.ephemerals if m.visible_to == me]
        shown: JsonObject = {
            "version": w.version,
            "team": {"id": TEAM_ID, "name": TEAM_DOMAIN},
            "bot": BOT_USER_ID,
            "connected": bool(self.deliveries.sockets) or self.deliveries.request_url is not None,
            "outage": self.faults.outage,
            "users": {
                u.id: {"name": u.name, "display": u.display, "is_bot": u.is_bot, "deleted": u.deleted,
                       "guest": u.is_restricted or u.is_ultra_restricted, "foreign": u.team_id != TEAM_ID}
                for u in w.users.values()
            },
            "usergroups": {g.id: g.handle for g in w.usergroups.values()},
            "channels": [
                {"id": c.id, "name": c.name, "topic": c.topic, "private": c.is_private, "archived": c.is_archived,
                 "direct": _is_direct(w, c)}
                for c in w.channels.values()
                if not _is_direct(w, c) or c.id in {me, f"D{me[1:]}"}
            ],
            "messages": {
                c: [self._message(m) for m in sorted(
                    [m for m in found.values() if not m.deleted] + [m for m in private if m.channel == c],
                    key=lambda m: m.ts,
                )]
                for c, found in w.messages.items()
            },
            "view": self._view(self.person.open_view(me)),
            "home": self._view(w.homes.get(me)),
        }  # fmt: skip
        return web.json_response(shown)

    async def text(self, request: web.Request) -> web.Response:
        """A channel as plain text: `?channel=C1&user=U1`."""
        text = self.renderer.channel(request.query.get("channel", ""), for_user=request.query.get("user"))
        return web.Response(text=text)

    async def calls(self, _request: web.Request) -> web.Response:
        """The log of Web API calls."""
        return web.json_response([asdict(call) for call in self.workspace.calls])

    async def delivered(self, _request: web.Request) -> web.Response:
        """The log of payloads sent to the app."""
        return web.json_response([asdict(one) for one in self.deliveries.log.values()])

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Tells of every change as it comes: `data: <version>`."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        self.streams.add(response)
        seen = -1
        try:
            while response in self.streams:
                version = await self.workspace.wait_for_change(seen, STREAM_IDLE_S)
                line = f"data: {version}\n\n" if version != seen else ": still here\n\n"
                seen = version
                await response.write(line.encode())
        except ConnectionError:
            return response
        finally:
            self.streams.discard(response)
        return response

    def end_streams(self) -> None:
        """Lets every stream end at once."""
        self.streams.clear()
        self.workspace.changed()

    # --- acting ------------------------------------------------------------------------------------------------

    async def gesture(self, request: web.Request) -> web.Response:
        """One gesture of a person."""
        run = self.gestures.get(request.match_info["gesture"])
        if run is None:
            raise web.HTTPNotFound
        if self.faults.outage:
            return drop(request)
        try:
            outcome = await run(**await self._body(request))
        except (ImpossibleGesture, SlackRefusal, TypeError) as mistake:
            return web.json_response({"error": str(mistake)}, status=409)
        return web.json_response({"ok": outcome.ok, **asdict(outcome)})

    @staticmethod
    async def _body(request: web.Request) -> JsonObject:
        try:
            body: Json = json.loads(await request.text() or "{}")
        except json.JSONDecodeError as mistake:
            raise web.HTTPBadRequest(text="not JSON") from mistake
        if not is_object(body):
            raise web.HTTPBadRequest(text="not a JSON object")
        return body

    async def say(self, request: web.Request) -> web.Response:
        """A person writes a message: `{user, channel, text, thread_ts?}`."""
        body = await self._body(request)
        try:
            message = self.person.say(body["user"], body["channel"], body["text"], body.get("thread_ts"))
        except (KeyError, SlackRefusal) as mistake:
            return web.json_response({"error": str(mistake)}, status=409)
        return web.json_response({"ok": True, "ts": message.ts})

    async def open_home(self, request: web.Request) -> web.Response:
        """A person opens the App Home: `{user}`."""
        self.person.open_home(str((await self._body(request)).get("user", "")))
        return web.json_response({"ok": True})

    async def dismiss(self, request: web.Request) -> web.Response:
        """A person dismisses an ephemeral message: `{user, ts}`."""
        body = await self._body(request)
        w = self.workspace
        w.ephemerals = [m for m in w.ephemerals if (m.visible_to, m.ts) != (body.get("user"), body.get("ts"))]
        w.changed()
        return web.json_response({"ok": True})

    async def set_faults(self, request: web.Request) -> web.Response:
        """Sets faults: `{method, kind, count, seconds, status, error}` and/or `{clear, close_sockets, outage_s,
        duplicate_gestures, missing_scopes, rate_limits}`.
        """
        body = await self._body(request)
        if body.get("clear"):
            self.faults.clear()
        if "kind" in body:
            known = {k: body[k] for k in ("count", "seconds", "status", "error") if k in body}
            try:
                self.faults.add(Fault(method=body.get("method", "*"), kind=FaultKind(body["kind"]), **known))
            except ValueError as mistake:
                raise web.HTTPBadRequest(text=str(mistake)) from mistake
        self.faults.duplicate_gestures = int(body.get("duplicate_gestures", self.faults.duplicate_gestures))
        self.faults.missing_scopes = set(body.get("missing_scopes", self.faults.missing_scopes))
        self.faults.limited = bool(body.get("rate_limits", self.faults.limited))
        if body.get("outage_s"):
            self.faults.outage_until = self.workspace.clock() + float(body["outage_s"])
            await self.deliveries.close_sockets("link_disabled")
        if body.get("close_sockets"):
            await self.deliveries.close_sockets()
        self.workspace.changed()
        return web.json_response({"ok": True})
