"""What every edit of nats.conf in its ConfigMap shares: the file must be the very one that was looked at, only the one place changes, and what stood there
is kept in an annotation of the same ConfigMap, which held it anyway, so that no secret enters a proposal.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from bot.action import Check
from bot.actions._conf_text import fingerprint, redacted, text_of
from bot.actions._objects import change_object, read_object, rehearsed
from bot.errors import Refused
from bot.model import JsonObject, OperationId, Record, part
from bot.model.kubernetes import ConfigFile, Kind, Workload, patch, receipt_of
from bot.ports import Readers, Writers

TextEdit = Callable[[str], tuple[str, str]]
"""From the file to the edited one, and what to keep of the former one. Raises `Refused`, without a word of the text."""


class ConfigTarget(Record):
    """Which file, as it was seen. No login stands in it."""

    workload: str
    workload_uid: str
    config_map: str
    config_map_uid: str
    key: str
    file: str
    """Digest of the file without its secrets."""


def target_of(workload: Workload, file: ConfigFile, text: str) -> ConfigTarget:
    """Return the file of a workload as a change of it names it."""
    return ConfigTarget(
        workload=workload.name,
        workload_uid=workload.uid,
        config_map=file.name,
        config_map_uid=file.uid,
        key=file.key,
        file=fingerprint(text),
    )


async def check_edit(
    readers: Readers, target: ConfigTarget, edit: TextEdit, before: dict[str, str | int | None]
) -> Check:
    """The file must be the approved one, and the StatefulSet must be."""
    try:
        raw = await read_object(readers, Kind.CONFIG_MAP, target.config_map, target.config_map_uid)
        owner = await read_object(readers, Kind.STATEFUL_SET, target.workload, target.workload_uid)
        text = text_of(raw, target.key)
        seen = fingerprint(text)
    except Refused as refused:
        return Check(world={}, refusals=refused.reasons)
    reasons = [f"ConfigMap {target.config_map} is immutable."] if raw.get("immutable") is True else []
    try:
        _edited(target, raw, edit)
    except Refused as refused:
        reasons += refused.reasons
    spec = part(owner, "spec")
    return Check(
        world={
            "configmap.uid": target.config_map_uid,
            f"configmap.{target.key}": seen,
            "statefulset.uid": target.workload_uid,
            "statefulset.replicas": spec.get("replicas", 1),
            "statefulset.serviceName": str(spec.get("serviceName") or ""),
        },
        refusals=tuple(reasons),
        before_image={"data": {target.key: redacted(text)}},
        before=before,
    )


async def preview_edit(
    readers: Readers, target: ConfigTarget, edit: TextEdit, note: str
) -> tuple[str, tuple[str, ...]]:
    """Return the difference of the file, without secrets, and what to say about it."""
    try:
        raw = await read_object(readers, Kind.CONFIG_MAP, target.config_map, target.config_map_uid)
        after = edited(target, raw, edit, note)
        _, notes = await rehearsed(readers, patch(Kind.CONFIG_MAP, raw, after))
    except Refused as refused:
        return "", tuple(f"Not possible now: {reason}" for reason in refused.reasons)
    before, shown = (redacted(text_of(side, target.key)).splitlines() for side in (raw, after))
    return "\n".join(difflib.unified_diff(before, shown, target.key, target.key, lineterm="")), notes


async def apply_edit(
    readers: Readers, writers: Writers, target: ConfigTarget, edit: TextEdit, note: str, operation: OperationId
) -> None:
    """Edit the live file at the one place, with the receipt in the same write."""

    def change(raw: JsonObject) -> JsonObject:
        return edited(target, raw, edit, note)

    await change_object(readers, writers, Kind.CONFIG_MAP, target.config_map, target.config_map_uid, change, operation)


async def undo_edit(
    readers: Readers,
    writers: Writers,
    target: ConfigTarget,
    restore: Callable[[str, str], str],
    note: str,
    operation: OperationId,
) -> None:
    """Write back what stood there: `restore` makes it of the file as it is now and of what was kept. Safe to call again."""

    def back(raw: JsonObject) -> JsonObject:
        meta = part(raw, "metadata")
        notes = part(meta, "annotations")
        if receipt_of(raw) != operation or not isinstance(former := notes.get(note), str):
            raise Refused(
                f"ConfigMap {target.config_map} was changed by natsmedic again since, so its {target.key} stays as it is."
            )
        text = restore(text_of(raw, target.key), former)
        kept = {key: value for key, value in notes.items() if key != note}
        return raw | {"data": part(raw, "data") | {target.key: text}, "metadata": meta | {"annotations": kept}}

    undone = OperationId(f"{operation}.undone")
    await change_object(readers, writers, Kind.CONFIG_MAP, target.config_map, target.config_map_uid, back, undone)


def edited(target: ConfigTarget, raw: JsonObject, edit: TextEdit, note: str) -> JsonObject:
    """Return the ConfigMap with the edited file, and what stood there below the annotation. Raises `Refused`."""
    text, former = _edited(target, raw, edit)
    meta = part(raw, "metadata")
    noted = part(meta, "annotations") | {note: former}
    return raw | {"data": part(raw, "data") | {target.key: text}, "metadata": meta | {"annotations": noted}}


def _edited(target: ConfigTarget, raw: JsonObject, edit: TextEdit) -> tuple[str, str]:
    text = text_of(raw, target.key)
    if fingerprint(text) != target.file:
        raise Refused(f"{target.key} in ConfigMap {target.config_map} was edited since.")
    return edit(text)
