"""The Web API methods about views and files."""

import re
from dataclasses import replace

from bot.lab.slack import faults
from bot.lab.slack.methods import METHODS, Method, need, optional
from bot.lab.slack.records import BOT_USER_ID, SlackRefusal, StoredFile, View, ViewState, random_id, view_json
from bot.lab.slack.workspace import Workspace
from bot.model.base import JsonObject

FILE_BYTES_MAX = 64 * 1024 * 1024  # the stand-in keeps files in memory; Slack's own limit is 1 GB
FILE_ALT_TEXT_MAX = (
    1000  # docs.slack.dev/reference/methods/files.getUploadURLExternal, as `missing_argument` for a length of 0
)

CONVERSATIONS = re.compile(r"[CGDZ][A-Z0-9]+(,[CGDZ][A-Z0-9]+)*")  # no person's id: slackapi/bolt-js issue 2115


def _opened(w: Workspace, args: JsonObject, *, push: bool) -> JsonObject:
    body: JsonObject = need(args, "view")
    if body.get("type") == "home":
        raise SlackRefusal("invalid_arguments", ("[ERROR] must be one of: modal [json-pointer:/view/type]",))
    trigger = w.exchange(need(args, "trigger_id"))
    return {"view": view_json(w.show_view(trigger.user, body, push=push))}


def open_view(w: Workspace, args: JsonObject) -> JsonObject:
    return _opened(w, args, push=False)


def push_view(w: Workspace, args: JsonObject) -> JsonObject:
    return _opened(w, args, push=True)


def update_view(w: Workspace, args: JsonObject) -> JsonObject:
    external = optional(args, "external_id")
    view_id = optional(args, "view_id")
    found = next(
        (v for v in w.open_views() if v.id == view_id or (external and v.body.get("external_id") == external)), None
    )
    if found is None or found.state is not ViewState.OPEN:
        raise SlackRefusal("not_found")
    if optional(args, "hash") and args["hash"] != found.hash:
        raise SlackRefusal("hash_conflict")
    return {"view": view_json(w.change_view(found, need(args, "view")))}


def publish_view(w: Workspace, args: JsonObject) -> JsonObject:
    user = w.user(need(args, "user_id"))
    body: JsonObject = need(args, "view")
    if body.get("type") != "home":
        raise SlackRefusal("invalid_arguments", ("[ERROR] must be one of: home [json-pointer:/view/type]",))
    old = w.homes.get(user.id)
    if old is not None and optional(args, "hash") and args["hash"] != old.hash:
        raise SlackRefusal("hash_conflict")
    blank = View(id=random_id("V"), user=user.id, hash="", body=body, root_id="", state=ViewState.CLOSED)
    shown = w.change_view(old or replace(blank, root_id=blank.id), body)
    w.homes[user.id] = shown
    w.changed()
    return {"view": view_json(shown)}


def upload_url(w: Workspace, args: JsonObject) -> JsonObject:
    length, alt_text = int(need(args, "length")), str(args.get("alt_txt") or "")
    if length <= 0:
        raise SlackRefusal("missing_argument")
    if length > FILE_BYTES_MAX:
        raise SlackRefusal("file_upload_size_restricted")
    if len(alt_text) > FILE_ALT_TEXT_MAX:
        raise SlackRefusal("alt_txt_too_large")
    file = StoredFile(
        id=random_id("F"),
        name=re.sub(r"[\x00-\x1f/\\]", "_", str(need(args, "filename"))),
        title="",
        length=length,
        alt_text=alt_text,
    )
    w.files[file.id] = file
    return {"upload_url": f"{w.public_url}/upload/v1/{file.id}", "file_id": file.id}


def complete_upload(w: Workspace, args: JsonObject) -> JsonObject:
    wanted: list[JsonObject] = need(args, "files")
    done: list[StoredFile] = []
    for entry in wanted:
        file = w.files.get(entry["id"])
        if file is None or file.content is None:
            raise SlackRefusal("file_not_found")
        done.append(replace(file, title=entry.get("title") or file.name, shared=True))
    for file in done:
        w.files[file.id] = file
    names = optional(args, "channel_id") or optional(args, "channels")
    if names and not CONVERSATIONS.fullmatch(str(names)):
        raise SlackRefusal(
            "invalid_arguments", ("[ERROR] input must match regex pattern: ^[CGDZ] [json-pointer:/channel_id]",)
        )
    for channel_id in str(names).split(",") if names else ():
        channel = w.channel(channel_id, to_write=True)
        w.post(
            channel.id,
            BOT_USER_ID,
            args.get("initial_comment") or "",
            thread_ts=optional(args, "thread_ts"),
            files=tuple(file.id for file in done),
        )
    return {"files": [w.file_json(file) for file in done]}


ALL_METHODS: dict[str, Method] = {
    **METHODS,
    "views.open": Method(open_view, tier=faults.TIER_4),
    "views.push": Method(push_view, tier=faults.TIER_4),
    "views.update": Method(update_view, tier=faults.TIER_4),
    "views.publish": Method(publish_view, tier=faults.TIER_4),
    "files.getUploadURLExternal": Method(upload_url, "files:write", tier=faults.TIER_4),
    "files.completeUploadExternal": Method(complete_upload, "files:write", tier=faults.TIER_4),
}
