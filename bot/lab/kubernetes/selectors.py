"""Label and field selectors of a list or a watch."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from bot.lab.kubernetes.kinds import Kind
from bot.lab.kubernetes.objects import Raw, labels_of, part
from bot.lab.kubernetes.refusals import bad_request

Selected = Callable[[Raw], bool]

_SET: Final = re.compile(r"\s*([^\s,!=()]+)\s+(in|notin)\s*\(([^()]*)\)\s*")
_EQUALITY: Final = re.compile(r"\s*([^\s,!=()]+)\s*(==|=|!=)\s*([^\s,!=()]*)\s*")
_EXISTS: Final = re.compile(r"\s*(!?)\s*([^\s,!=()]+)\s*")

_EVERY_KIND: Final = {"metadata.name": "", "metadata.namespace": ""}
_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Pod": {"spec.nodeName": "", "spec.restartPolicy": "Always", "status.phase": "", "status.podIP": ""},
    "Event": {
        f"involvedObject.{f}": "" for f in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    }
    | {"reason": "", "type": "", "source": "", "reportingComponent": ""},
    "Secret": {"type": ""},
    "Namespace": {"status.phase": ""},
    "Node": {"spec.unschedulable": "false"},
}  # fmt: skip
"""Fields that can be selected by, with what an absent one counts as (pkg/apis/core/v1/conversion.go)."""


def selected(kind: Kind, labels: str, fields: str) -> Selected:
    """Returns what tells whether an object is meant. Raises `Refused`."""
    by_label, by_field = _by_label(labels), _by_field(kind, fields)
    return lambda raw: by_label(raw) and by_field(raw)


def _by_label(text: str) -> Selected:
    terms: list[Callable[[Mapping[str, str]], bool]] = []
    rest = text.strip()
    while rest:
        term, rest = _term(rest)
        terms.append(term)
        if rest and not rest.startswith(","):
            raise bad_request(f"unable to parse requirement: found '{rest[:10]}', expected: ',' or 'end of string'")
        rest = rest.removeprefix(",")
    return lambda raw: all(term(labels_of(raw)) for term in terms)


def _term(text: str) -> tuple[Callable[[Mapping[str, str]], bool], str]:
    if found := _SET.match(text):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        inside = operator == "in"
        return lambda labels: (labels.get(key) in values) is inside, text[found.end() :]
    if found := _EQUALITY.match(text):
        key, operator, value = found.groups()
        equal = operator != "!="
        return lambda labels: (labels.get(key) == value) is equal, text[found.end() :]
    found = _EXISTS.match(text)
    if found is None or text[found.end() :].startswith("("):
        raise bad_request("unable to parse requirement: found '', expected: ',', ')' or identifier")
    without, key = found.groups()
    if re.search(r"\s(in|notin)\b", text[found.start(2) :]):
        raise bad_request("unable to parse requirement: found '', expected: ',', ')' or identifier")
    return lambda labels: (key in labels) is not bool(without), text[found.end() :]


def _by_field(kind: Kind, text: str) -> Selected:
    known = _EVERY_KIND | _FIELDS.get(kind.kind, {})
    terms: list[tuple[str, bool, str]] = []
    for term in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if found is None:
            raise bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
        field, operator, value = found.groups()
        if field not in known:
            listed = ", ".join(f'"{name}"' for name in _EVERY_KIND)
            raise bad_request(f'"{field}" is not a known field selector: only {listed}')
        terms.append((field, operator != "!=", value))
    return lambda raw: all((_field(raw, field, known[field]) == value) is equal for field, equal, value in terms)


def _field(raw: Raw, path: str, absent: str) -> str:
    way = ["source", "component"] if path == "source" else path.split(".")
    value = part(raw, *way[:-1]).get(way[-1])
    if isinstance(value, bool):
        return str(value).lower()
    return absent if value is None else str(value)
