"""Mistakes as sentences: `<dotted key>: <what was observed>; expected <what>; <the way out>`. None repeats a secret."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Final, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bot.settings.section import FILE_SUFFIX, Problem, Section, from_outside, marks, shown


def describe(error: ValidationError, root: type[Section]) -> list[str]:
    """Return one sentence per mistake that pydantic found."""
    return [
        f"{_dotted(found['loc'])}: {sentence}"
        for found in error.errors(include_url=False)
        for sentence in _sentences(found, root)
    ]


def _sentences(found: ErrorDetails, root: type[Section]) -> Iterator[str]:
    *parents, last = found["loc"] or ("",)
    section = _section(root, parents)
    if found["type"] == "settings":
        for each in cast("list[Problem]", found.get("ctx", {})["problems"]):
            yield "; ".join((each.observed, f"expected {each.expected}", each.way_out))
    elif found["type"] == "extra_forbidden":
        names = _known_keys(section)
        near = difflib.get_close_matches(str(last), names, n=1)
        way_out = f"did you mean `{near[0]}`?" if near else "remove it"
        yield f"is an unknown key; expected one of {', '.join(names)}; {way_out}"
    elif found["type"] == "missing":
        field = section.model_fields.get(str(last)) if section else None
        more = f" ({field.description})" if field is not None and field.description else ""
        yield f"is missing; expected a value{more}; add it"
    elif found["type"] == "too_short" and found["input"]:
        return  # pydantic counts the valid entries only; each wrong one is a mistake of its own
    else:
        value = _observed(found["input"], section, str(last))
        yield f"is {value}; expected {_expected(found)}; {_way_out(found)}"


def _known_keys(section: type[BaseModel] | None) -> list[str]:
    if section is None:
        return []
    files = [name + FILE_SUFFIX for name, field in section.model_fields.items() if from_outside(field)]
    return [*section.model_fields, *files]


def _section(root: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel] | None:
    """Return the section at a location; None inside free mappings and values."""
    annotation: object = root
    for part in path:
        model = _model(annotation)
        if model is not None and part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
    return _model(annotation)


def _model(annotation: object) -> type[BaseModel] | None:
    for candidate in (annotation, *marks(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if part == "[key]":
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the file"


def _observed(value: object, section: type[BaseModel] | None, name: str) -> str:
    field = section.model_fields.get(name) if section is not None else None
    if field is not None and from_outside(field):
        return "a value that is not shown"
    if isinstance(value, str):
        return shown(value)
    return kind_of(value)


def kind_of(value: object) -> str:
    """Return what a value is, in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if value is None:
        return "empty"
    if isinstance(value, str):
        return "a text"
    return (
        "a list"
        if isinstance(value, list | tuple)
        else "a mapping"
        if isinstance(value, dict)
        else f"a {type(value).__name__}"
    )


_EXPECTED: Final = {
    "string_type": "a text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "too_short": "at least one entry",
    "string_too_short": "a text that is not empty",
    "path_type": "a path",
}


def _expected(found: ErrorDetails) -> str:
    plain = re.sub(r"^(Input|Value|String|Key) should (be |match )?", "", found["msg"]).replace("'", "`")
    return _EXPECTED.get(found["type"], plain[:1].lower() + plain[1:])


def _way_out(found: ErrorDetails) -> str:
    if found["type"] == "string_type" and isinstance(found["input"], bool | int | float):
        return "put it in quotes"
    if found["type"] == "too_short":
        return "add one"
    return "correct the value; `natsmedic config schema` shows what is possible"
