"""Reads the YAML file as written: duplicates found, environment overrides put in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import yaml

from bot.errors import SettingsError
from bot.model import Json, JsonObject
from bot.settings.mistakes import kind_of

ENV_PREFIX: Final = "NATSMEDIC_"
ENV_SEPARATOR: Final = "__"
"""Kubernetes invents variables such as NATSMEDIC_SERVICE_HOST for a Service called natsmedic; none has two underscores in a row."""


def read_tree(path: Path, environ: Mapping[str, str], known: Sequence[str]) -> tuple[JsonObject, list[str]]:
    """Return the file as written with the environment's overrides, and the mistakes found so far.

    Raises SettingsError where there is nothing to go on with: no file, not YAML, not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}). Name the file with --config FILE or NATSMEDIC_CONFIG."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text. Save it as UTF-8.") from None
    try:
        node = _composed(text)
        mistakes = list(_duplicates(node, "")) if node is not None else []
        tree: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = (error.problem if isinstance(error, yaml.MarkedYAMLError) else None) or type(error).__name__
        raise SettingsError(f"{path}{place}: not valid YAML ({reason}).") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} holds {kind_of(tree)}; expected a mapping of settings, such as `clusters:`.")
    written = cast("JsonObject", tree)
    for name in sorted(environ):
        mistakes += _override(written, name, environ[name], known)
    return written, mistakes


def _composed(text: str) -> yaml.Node | None:
    """Return the nodes of the one document, with their lines: `yaml.compose`, whose result has no type, without its `dispose`.

    `dispose` unties the references of a pure Python loader to itself, which the garbage collector does as well.
    """
    return yaml.SafeLoader(text).get_single_node()


def _duplicates(node: yaml.Node, key: str) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(cast("list[yaml.Node]", node.value)):
            yield from _duplicates(item, f"{key}[{index}]")
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for name_node, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        name = str(name_node.value) if isinstance(name_node, yaml.ScalarNode) else "?"
        dotted = f"{key}.{name}" if key else name
        line = name_node.start_mark.line + 1
        if name in lines:
            yield f"{dotted}: is written twice, in lines {lines[name]} and {line}; expected each key once; remove one"
        lines[name] = line
        yield from _duplicates(value, dotted)


def _override(tree: JsonObject, name: str, value: str, known: Sequence[str]) -> Iterator[str]:
    """Put one environment variable into the tree; yield a mistake where it names nothing."""
    path = name.removeprefix(ENV_PREFIX).lower().split(ENV_SEPARATOR)
    if not name.startswith(ENV_PREFIX) or (len(path) == 1 and path[0] not in known):
        return
    here: Json = tree
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(here, list) and part.isdecimal() and int(part) < len(cast("list[Json]", here)):
            index: Json = int(part)
        elif isinstance(here, dict):
            index = part
        else:
            yield f"{name}: leads to no value ({part!r} is not there); expected the path of a setting; correct or unset the variable"
            return
        if last:
            here[index] = value
        elif isinstance(here, dict):
            here = cast("JsonObject", here).setdefault(index, {})
        else:
            here = cast("list[Json]", here)[index]
