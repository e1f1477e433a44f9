"""What every section of the file shares: frozen records, secrets from elsewhere, shaped texts, problems in three parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NamedTuple, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from bot.model import Json, JsonObject

LONGEST_SECRET_FILE: Final = 64 * 1024
"""Bytes; a larger file is not a token but a mistake."""
FILE_SUFFIX: Final = "_file"
SHOWN: Final = 60
"""Characters of a wrong value that a mistake repeats."""


class Problem(NamedTuple):
    """One mistake of a value, without its key."""

    observed: str
    expected: str
    way_out: str


def problem(observed: str, expected: str, way_out: str) -> PydanticCustomError:
    """Return the error a validator raises: a sentence in three parts."""
    return problems([Problem(observed, expected, way_out)])


def problems(found: Sequence[Problem]) -> PydanticCustomError:
    """Return the error for several mistakes of one section."""
    return PydanticCustomError("settings", "settings", {"problems": list(found)})


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the file lies and what the environment holds; the validation context. Without one, nothing outside is looked at."""

    folder: Path
    environ: Mapping[str, str]

    def locate(self, text: str) -> Path:
        """Return a path of the file: `~` is the environment's HOME, relative means below the file's folder."""
        if text == "~" or text.startswith("~/"):
            text = self.environ.get("HOME", "~") + text[1:]
        return self.folder / text


@dataclass(frozen=True, slots=True)
class Shape:
    """A text that matches `pattern` as a whole; `meaning` is what a mistake says was expected."""

    pattern: str
    meaning: str

    def check(self, value: str) -> str:
        """Return `value`, or raise a problem that names the meaning, not the pattern."""
        if not re.fullmatch(self.pattern, value):
            raise problem(f"is {shown(value)}", self.meaning, "correct it")
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}


class _FromOutside:
    """Marks a type whose value may come from a file or the environment."""


def _resolve(value: object, info: ValidationInfo) -> object:
    """Return the text of a secret written inline, as `{env: NAME}` or as `{file: PATH}` (which `X_file` becomes)."""
    if isinstance(value, SecretStr):
        return value
    if isinstance(value, str):
        found, origin = value, "is"
    else:
        found, origin = _fetch(value, info.context)
    if not found.strip():
        raise problem(f"{origin} empty", "a secret", "write one")
    if any(ord(character) < ord(" ") for character in found):
        raise problem(
            f"{origin} of several lines or with control characters", "one line", "check what was written there"
        )
    return found


def _fetch(value: object, situation: object) -> tuple[str, str]:
    """Return the secret and how to speak of it."""
    places = "a text, {env: NAME} or {file: PATH}"
    written = mapping_of(value)
    if written is None or len(written) != 1 or not isinstance(situation, Situation):
        raise problem("has another form", places, "write the secret in quotes, or where it can be read")
    where, name = next(iter(written.items()))
    if not isinstance(name, str) or where not in {"env", "file"}:
        raise problem("has another form", places, "write the secret in quotes, or where it can be read")
    if where == "env":
        if name not in situation.environ:
            raise problem(
                f"names the environment variable {name}, which is not set",
                "one that is",
                f"set {name}, or name another",
            )
        return situation.environ[name], f"comes from the environment variable {name} and is"
    path = situation.locate(name)
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_SECRET_FILE + 1)
        text = raw.decode()
    except OSError as error:
        raise problem(
            f"names the file {path}, which cannot be read ({error.strerror})", "a readable file", "correct the path"
        ) from None
    except UnicodeDecodeError:
        raise problem(
            f"names the file {path}, which is not text", "a file with the secret alone", "correct the path"
        ) from None
    if len(raw) > LONGEST_SECRET_FILE:
        raise problem(
            f"names the file {path}, which is larger than 64 KiB", "a file with the secret alone", "correct the path"
        )
    return text.rstrip("\r\n"), f"comes from the file {path} and is"


def _local_path(value: object, info: ValidationInfo) -> object:
    """Return the path below the config file's folder; a file that is not there is a mistake."""
    if not isinstance(value, str) or not isinstance(info.context, Situation):
        return value
    path = info.context.locate(value)
    if not path.is_file():
        raise problem(
            f"names {path}, which is no file",
            "a file that exists",
            "correct the path; it is relative to the config file's folder",
        )
    return path


_WRITTEN: Final = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "properties": {"env": {"type": "string"}},
            "required": ["env"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"file": {"type": "string"}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ]
}
Secret = Annotated[SecretStr, _FromOutside(), BeforeValidator(_resolve), WithJsonSchema(_WRITTEN)]
SecretText = Annotated[str, _FromOutside(), BeforeValidator(_resolve), WithJsonSchema(_WRITTEN)]
"""A text that may carry a secret and that a library needs as plain text."""
LocalPath = Annotated[Path, BeforeValidator(_local_path)]


def _add_file_keys(schema: JsonObject, section: type[BaseModel]) -> None:
    """Show `X_file` beside every secret `X`; one of the two satisfies a required secret."""
    required = set(schema.get("required", ()))
    one_of_each: list[Json] = []
    for name, field in section.model_fields.items():
        if from_outside(field):
            schema["properties"][name + FILE_SUFFIX] = {"type": "string", "description": f"file with the {name}"}
            if name in required:
                required.discard(name)
                one_of_each.append({"oneOf": [{"required": [name]}, {"required": [name + FILE_SUFFIX]}]})
    schema["required"] = sorted(required)
    if one_of_each:
        schema["allOf"] = one_of_each


class Section(BaseModel):
    """One mapping of the file: frozen, unknown keys refused, `X_file` accepted for every secret `X`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        json_schema_extra=_add_file_keys,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_files(cls, data: object) -> object:
        given = mapping_of(data)
        if given is None:
            return data
        written = dict(given)
        for name, field in cls.model_fields.items():
            key = name + FILE_SUFFIX
            if from_outside(field) and key in written:
                path = written.pop(key)
                written[name] = {"twice": name} if name in written else {"file": path}
        return written


def from_outside(field: FieldInfo) -> bool:
    """Say whether a field is a secret, which may come from a file or the environment."""
    return any(isinstance(mark, _FromOutside) for mark in (*field.metadata, *marks(field.annotation)))


def mapping_of(data: object) -> dict[object, object] | None:
    """Return what YAML or a caller gave to a validator that runs before validation, as a mapping; None where it is none."""
    # isinstance cannot know the types of keys and values, and nothing has looked at them yet.
    return cast("dict[object, object]", data) if isinstance(data, dict) else None


def marks(annotation: object) -> Iterator[object]:
    """Yield every part of a type, however deep."""
    for part in get_args(annotation):
        yield part
        yield from marks(part)


def shown(value: str) -> str:
    """Return a wrong text as a mistake may repeat it: quoted, short, without user and password of an address."""
    safe = re.sub(r"//[^/\s]*@", "//…@", value)
    return repr(safe if len(safe) <= SHOWN else safe[:SHOWN] + "…")
