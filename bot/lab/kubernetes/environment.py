"""A container's environment and arguments, as the kubelet makes them (pkg/kubelet/kubelet_pods.go)."""

import re
from collections.abc import Mapping
from typing import Final

from bot.lab.kubernetes.kinds import CONFIG_MAP, SECRET
from bot.lab.kubernetes.objects import Raw, namespace_of, part, parts, quantity
from bot.lab.kubernetes.store import Store
from bot.lab.kubernetes.volumes import content_of

_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)")
_KEYED: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class NoSuchValue(Exception):
    """A variable cannot be made: the container cannot start (CreateContainerConfigError)."""


def environment(store: Store, pod: Raw, container: Raw, address: str) -> dict[str, str]:
    """Raises `NoSuchValue`."""
    made: dict[str, str] = {"HOSTNAME": str(pod["spec"].get("hostname") or pod["metadata"]["name"])}
    for source in parts(container, "envFrom"):
        for field, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
            if (reference := source.get(field)) and (raw := store.get(kind, namespace_of(pod), reference["name"])):
                prefix = source.get("prefix", "")
                made |= {prefix + key: value.decode() for key, value in content_of(kind, raw).items()}
    for variable in parts(container, "env"):
        value = _value(store, pod, container, variable, address)
        if value is not None:
            made[variable["name"]] = expanded(value, made)
    return made


def expanded(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value where it is known."""
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else values.get(m[1], m[0]), text)


def _value(store: Store, pod: Raw, container: Raw, variable: Raw, address: str) -> str | None:
    source: Raw | None = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if field := source.get("fieldRef"):
        return _field(pod, field["fieldPath"], address)
    if resource := source.get("resourceFieldRef"):
        return _resource(container, resource)
    for name, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
        if reference := source.get(name):
            raw = store.get(kind, namespace_of(pod), reference["name"])
            value = content_of(kind, raw).get(reference["key"]) if raw else None
            if value is None and not reference.get("optional"):
                raise NoSuchValue(
                    f'{kind.kind.lower()} "{reference["name"]}" not found or without key {reference["key"]}'
                )
            return value.decode() if value is not None else None
    return None


def _field(pod: Raw, path: str, address: str) -> str:
    if found := _KEYED.fullmatch(path):
        return str(part(pod, "metadata", found[1]).get(found[2], ""))
    values = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": namespace_of(pod),
        "metadata.uid": pod["metadata"]["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.podIP": address,
        "status.hostIP": str(part(pod, "status").get("hostIP", "")),
    }
    if path not in values:
        raise NoSuchValue(f"unsupported fieldPath: {path}")
    return str(values[path])


def _resource(container: Raw, reference: Raw) -> str:
    kind, _, name = reference["resource"].partition(".")
    value = part(container, "resources").get(kind, {}).get(name, "0")
    return str(-(-int(quantity(value)) // max(int(quantity(reference.get("divisor") or "1")), 1)))
