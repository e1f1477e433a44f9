"""Who asks, and what they may: tokens, and the Roles and bindings that lie in the store."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bot.lab.kubernetes.kinds import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING, Kind
from bot.lab.kubernetes.objects import Raw, name_of, namespace_of, parts
from bot.lab.kubernetes.refusals import forbidden, path_forbidden, unauthorized
from bot.lab.kubernetes.store import Store

MASTERS: Final = "system:masters"
_ACCOUNT: Final = "system:serviceaccount:"
_PUBLIC: Final = frozenset({"/healthz", "/livez", "/readyz", "/version"})
"""What `system:public-info-viewer` gives to everybody."""
_DISCOVERY: Final = ("/api", "/apis", "/openapi", *_PUBLIC)
"""What `system:discovery` gives to everybody who is known."""


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ("system:authenticated",)

    @property
    def known(self) -> bool:
        return "system:authenticated" in self.groups


ADMINISTRATOR: Final = User("admin", (MASTERS, "system:authenticated"))
ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What somebody wants to do to a resource."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def full(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Access:
    """Knows tokens and decides by RBAC. `open_door` takes requests without a token for the administrator's."""

    def __init__(self, store: Store, administrator_token: str, *, open_door: bool = False) -> None:
        self._store = store
        self._tokens = {administrator_token: ADMINISTRATOR}
        self._nobody = ADMINISTRATOR if open_door else ANONYMOUS
        self.asked: set[tuple[str, Attempt]] = set()
        """Which client asked to do what, whether it might or not."""

    def issue(self, user: User, token: str = "") -> str:
        """Gives a user a token."""
        made = token or secrets.token_urlsafe(24)
        self._tokens[made] = user
        return made

    def revoke(self, token: str) -> None:
        """The token is unknown from now on."""
        self._tokens.pop(token, None)

    def issue_for_account(self, namespace: str, name: str) -> str:
        groups = (f"{_ACCOUNT[:-1]}s", f"{_ACCOUNT[:-1]}s:{namespace}", "system:authenticated")
        return self.issue(User(f"{_ACCOUNT}{namespace}:{name}", groups))

    def who(self, authorization: str) -> User:
        """The user of a request's header. Raises `Refused` (401) for an unknown token."""
        if not authorization:
            return self._nobody
        scheme, _, token = authorization.partition(" ")
        user = self._tokens.get(token.strip())
        if scheme.lower() != "bearer" or user is None:
            raise unauthorized()
        return user

    def insist(self, user: User, attempt: Attempt, client: str) -> None:
        """Raises `Refused` (403)."""
        self.asked.add((client, attempt))
        if self.allows(user, attempt) is None:
            kind = Kind("", attempt.resource, attempt.group)
            raise forbidden(user.name, attempt.verb, kind, attempt.name, attempt.namespace, attempt.subresource)

    def insist_on_path(self, user: User, verb: str, path: str) -> None:
        """The same for an address that is no resource."""
        known = user.known and path.startswith(_DISCOVERY)
        if MASTERS not in user.groups and path not in _PUBLIC and not known:
            raise path_forbidden(user.name, verb, path)

    def allows(self, user: User, attempt: Attempt) -> str | None:
        """The reason why somebody may do something, which is empty for administrators; None where they may not."""
        if MASTERS in user.groups:
            return ""
        for binding, namespace in self._bindings(attempt.namespace):
            subject = next((s for s in parts(binding, "subjects") if _is(user, s, namespace)), None)
            role = self._role(binding) if subject else None
            if subject and role and any(_covers(rule, attempt) for rule in parts(role, "rules")):
                return _reason(binding, subject)
        return None

    def _bindings(self, namespace: str) -> Iterator[tuple[Raw, str]]:
        for binding in self._store.list(CLUSTER_ROLE_BINDING):
            yield binding, ""
        if namespace:
            for binding in self._store.list(ROLE_BINDING, namespace):
                yield binding, namespace

    def _role(self, binding: Raw) -> Raw | None:
        reference: Raw = binding["roleRef"]
        if reference["kind"] == "ClusterRole":
            return self._store.get(CLUSTER_ROLE, "", reference["name"])
        return self._store.get(ROLE, namespace_of(binding), reference["name"])


def _is(user: User, subject: Raw, namespace: str) -> bool:
    match subject.get("kind"):
        case "ServiceAccount":
            return user.name == f"{_ACCOUNT}{subject.get('namespace') or namespace}:{subject['name']}"
        case "Group":
            return subject["name"] in user.groups
        case _:
            return user.name == subject["name"]


def _covers(rule: Raw, attempt: Attempt) -> bool:
    def has(field: str, *values: str) -> bool:
        return not {"*", *values}.isdisjoint(parts(rule, field))

    names = parts(rule, "resourceNames")
    return (
        has("verbs", attempt.verb)
        and has("apiGroups", attempt.group)
        and has("resources", attempt.full, *([f"*/{attempt.subresource}"] if attempt.subresource else []))
        and (not names or attempt.name in names)
    )


def _reason(binding: Raw, subject: Raw) -> str:
    """The words of plugin/pkg/auth/authorizer/rbac."""
    place = f"/{namespace_of(binding)}" if namespace_of(binding) else ""
    role: Raw = binding["roleRef"]
    of = f"/{subject['namespace']}" if subject.get("namespace") else ""
    who = f'{subject["kind"]} "{subject["name"]}{of}"'
    return f'RBAC: allowed by {binding["kind"]} "{name_of(binding)}{place}" of {role["kind"]} "{role["name"]}" to {who}'
