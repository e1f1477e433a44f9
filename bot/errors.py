"""Every error natsmedic raises on purpose, as one tree; whether a retry helps is in the type.

NatsmedicError
├── BadInput                 the caller's words are wrong: settings, webhook body, command. A retry never helps.
│   └── SettingsError        a configuration value; names the key, the problem and the way out
├── Unreadable               a fact could not be read: it is unknown, never healthy. A later retry may help.
│   ├── ReadDenied           the credential may not read it. A retry never helps.
│   │   └── VerbDenied       Kubernetes: a role lacks a verb; carries verb, resource and namespace
│   ├── ReadTimedOut         nobody answered in time
│   ├── NotInVersion         the server does not know this question
│   └── Unreachable          no connection to the cluster
├── WriteError               a change was asked for
│   ├── NotApplied           definitely not applied: a definite answer says so
│   │   ├── WriteDenied      the credential may not do it
│   │   ├── ApiRefused       the JetStream API answered with an error; carries err_code
│   │   ├── ServerRefused    a server answered a system request with an error
│   │   ├── NoResponders     nobody serves the subject
│   │   ├── NotSent          the request never left: no connection. A later retry may help.
│   │   ├── ObjectRefused    the Kubernetes API answered with an error; carries status and reason
│   │   └── ObjectMoved      Kubernetes: somebody wrote the object first (409), or asks for patience (429). Read it again, then retry.
│   └── OutcomeUnknown       sent, no answer: applied or not is unknown; read the receipt, never resend blindly
├── Refused                  natsmedic itself says no: policy, drift, lock, precondition; carries the reasons
│   ├── NotYet               for the moment: asking again later helps
│   └── Stands               undoing it would take away what is whole in itself
└── StoreError               the database could not do it
    ├── StoreBusy            locked or overloaded: a retry helps
    │   └── StoreDown        the disk is full, read-only or failing: a retry helps once somebody has seen to it
    ├── StoreLost            the connection broke, perhaps in a COMMIT: a retry that reads first helps
    ├── StoreConflict        a row that must be unique is there already, or one it refers to is not
    └── AuditBroken          the audit chain does not verify: nothing may be applied
"""

from __future__ import annotations


class NatsmedicError(Exception):
    """The root; `str(error)` is one sentence for a person: what was observed, what was expected, the way out."""

    retry_helps = False


class BadInput(NatsmedicError):
    """The input names a thing that is not there or has a value that cannot be."""


class SettingsError(BadInput):
    """A configuration value is wrong; the sentence names the key, the problem and the way out."""


class Unreadable(NatsmedicError):
    """A fact could not be read; whoever asked must treat it as unknown."""

    retry_helps = True


class ReadDenied(Unreadable):
    """The server refused the question for lack of permission (nats-server reports it on the error callback only)."""

    retry_helps = False


class VerbDenied(ReadDenied):
    """Kubernetes refused a question: no role of the reader allows `verb` on `resource` there."""

    def __init__(self, verb: str, resource: str, group: str, namespace: str | None) -> None:
        place = f"in namespace {namespace}" if namespace else "in the whole cluster"
        full = f"{resource}.{group}" if group else resource
        super().__init__(f"The reader may not {verb} {full} {place}: no role grants it `{verb}` on `{full}`.")
        self.verb = verb
        self.resource = resource
        self.group = group
        self.namespace = namespace


class ReadTimedOut(Unreadable):
    """Nobody answered before the deadline."""


class NotInVersion(Unreadable):
    """This server version does not have the endpoint (it answers an empty message with header `Status: 503`)."""

    retry_helps = False


class Unreachable(Unreadable):
    """No connection to any server of the cluster."""


class WriteError(NatsmedicError):
    """A change to the world did not end in a clear success."""


class NotApplied(WriteError):
    """The change is definitely not applied."""


class LeaseOver(NotApplied):
    """This process has not reached the database for so long that another replica may go on with its work: nothing was sent."""

    retry_helps = True


class WriteDenied(NotApplied):
    """The writing credential lacks the permission; nothing was applied."""


class ApiRefused(NotApplied):
    """The JetStream API answered the request with an error, so it was not applied.

    `code` is the HTTP-like code, `err_code` JetStream's own (reference/nats.md 3.4).
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"JetStream refused the request: {description} (code {code}, err_code {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class ServerRefused(NotApplied):
    """A server answered a request of the system account with an error, e.g. that a reload is not supported for a changed option."""

    def __init__(self, what: str, code: int, description: str) -> None:
        super().__init__(f"The server refused to {what}: {description} (code {code}).")
        self.code = code
        self.description = description


class NoResponders(NotApplied):
    """Nobody serves the subject, so nothing received the request."""

    retry_helps = True


class NotSent(NotApplied):
    """No connection was made, so nothing can have received the request."""

    retry_helps = True


class ObjectRefused(NotApplied):
    """The Kubernetes API answered a write with an error, so it was not applied. `reason` is its `metav1.StatusReason`, e.g. `Invalid`."""

    def __init__(self, what: str, status: int, reason: str, said: str) -> None:
        super().__init__(f"The API server refused to {what}: {said} ({status} {reason}).")
        self.status = status
        self.reason = reason


class ObjectMoved(ObjectRefused):
    """Somebody wrote the object between reading and writing it (409), or the server asks for patience (429); nothing was applied."""

    retry_helps = True


class OutcomeUnknown(WriteError):
    """The request was sent and no answer came: only the receipt tells whether it was applied."""


class Refused(NatsmedicError):
    """natsmedic refuses; `reasons` are whole sentences that name what was observed."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


class NotYet(Refused):
    """natsmedic refuses for the moment: what it waits for may come."""

    retry_helps = True


class Stands(Refused):
    """natsmedic does not undo what was reached: it is whole in itself, whatever became of what came after it."""


class StoreError(NatsmedicError):
    """The database did not do what it was asked."""


class StoreBusy(StoreError):
    """The database is locked or overloaded; nothing was written."""

    retry_helps = True


class StoreDown(StoreBusy):
    """The disk under the database is full, read-only or failing. Unless it failed at the very end of a transaction, nothing was written."""


class StoreLost(StoreError):
    """The connection to the database broke. Where that was in a COMMIT, the transaction may or may not stand: whoever goes on reads first, as all phases do."""

    retry_helps = True


class ReplicaExpelled(StoreError):
    """The other replicas took this process for dead, and go on with its work: it can write nothing any more and must end."""


class StoreConflict(StoreError):
    """The database refused a record that contradicts another one (uniqueness, reference); nothing was written."""


class AuditBroken(StoreError):
    """The audit chain does not verify, so nothing may be applied."""
