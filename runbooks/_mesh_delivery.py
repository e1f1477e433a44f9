"""What a delivery probe proves: messages that were published on one server and never reached another. Pure.

ROUTEZ shows connections and not what they carry, nor which slot of the pool a connection fills (reference/nats.md 1.C). A probe shows the loss itself, for
the accounts that it logged in to and for no others; accounts on the same slot of a pool share its connection, and so its loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bot.model import Finding, Focus, JsonObject, Layer, PairDelivery, Severity, Snapshot, Subject
from bot.model.mesh import Mesh, Pair, read_mesh, wait
from bot.model.mesh_pool import accounts_by_slot, known_accounts, slot_of
from bot.runbook import Thresholds
from runbooks._consumer_views import listed
from runbooks._mesh_checks import YOUNG

CHECK = "MESH_DELIVERY"

MOST_NAMED = 10
"""Ways, pairs, accounts and reasons that a sentence names; the evidence has all."""

EXPLAINED = {
    "MESH_PAIRS": "{} have no route between them (MESH_PAIRS)",
    "MESH_SLOTS": "{} lack the connection that carries it (MESH_SLOTS)",
    "": "ROUTEZ shows nothing missing between {}",
}
"""By the check that shows why messages are lost, what it shows; the last one is for a loss that no check shows."""


def messages_arrive(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No finding where no probe was asked for: a mesh that was not probed has neither passed nor failed."""
    mesh = read_mesh(snapshot)
    accounts: dict[str, list[PairDelivery]] = {}
    for delivery in snapshot.deliveries:
        accounts.setdefault(delivery.account, []).append(delivery)
    found: list[Finding] = []
    for account, ways in sorted(accounts.items()):
        probed = [d for d in ways if d.unknown is None]
        if any(d.lost for d in probed):
            found.append(_lost(snapshot, mesh, account, probed, thresholds))
        if len(probed) < len(ways):
            found.append(_not_probed(snapshot, account, ways))
    sound = accounts.keys() - {f.subject.account for f in found}
    if sound:
        found.append(_sound(snapshot, {account: accounts[account] for account in sorted(sound)}))
    return found


def _lost(
    snapshot: Snapshot, mesh: Mesh, account: str, probed: Sequence[PairDelivery], thresholds: Thresholds
) -> Finding:
    """An account that loses messages. A young server may only be late, and a way that lost a part has changed at this moment."""
    lost = [d for d in probed if d.lost]
    joined = {frozenset(pair.names): pair for pair in mesh.pairs}
    pairs = {d: joined.get(frozenset({d.sender, d.receiver})) for d in lost if d.cut}
    young = [pair.younger_than(thresholds[YOUNG]) if pair else None for pair in pairs.values()]
    by_reason = _by_reason(account, pairs.values())
    companions = _companions(snapshot, account, by_reason.get("MESH_SLOTS", ()))
    text = (
        f"Account {account} loses messages on {len(lost)} of {len(probed)} ways between servers: "
        f"{_some(f'{d.sender} to {d.receiver} {d.lost / d.sent:.0%}' for d in lost)} "
        f"({sum(d.lost for d in lost)} of {sum(d.sent for d in lost)} messages in {max(d.seconds for d in lost):.1f} s)"
    )
    for reason, these in by_reason.items():
        text += f"; {EXPLAINED[reason].format(_some(' with '.join(p.names) for p in these))}"
    if companions:
        text += f"; {_accounts(companions)} would go over the same connection and lose theirs too"
    if not pairs:
        text += "; a part arrived, so the mesh changed at this moment: probe again"
    elif None not in young:
        text += wait(young[0])
    evidence: JsonObject = {
        "lost": [d.model_dump(mode="json", exclude={"account", "unknown"}) for d in lost],
        "ways probed": len(probed),
        "explained by": {reason or "nothing": [list(p.names) for p in these] for reason, these in by_reason.items()},
        "accounts on the same connection": companions,
    }
    return _finding(snapshot, account, Severity.CRITICAL if None in young else Severity.WARNING, text, evidence)


def _by_reason(account: str, pairs: Iterable[Pair | None]) -> Mapping[str, Sequence[Pair]]:
    """The pairs that lost everything, each once, by the check that shows why; those whose connections can't be judged are left out."""
    found: dict[str, list[Pair]] = {}
    for pair in {p.names: p for p in pairs if p is not None}.values():
        if pair.missing:
            found.setdefault("MESH_PAIRS", []).append(pair)
        elif pair.linked and pair.expected is not None:
            pinned = account in pair.expected.pinned
            gone = account in pair.unpinned if pinned else pair.slots < pair.expected.slots
            found.setdefault("MESH_SLOTS" if gone else "", []).append(pair)
    return found


def _companions(snapshot: Snapshot, account: str, short: Iterable[Pair]) -> list[str]:
    """Accounts that were not probed and use the missing connection of the one that was, on all these pairs: they are on its slot of the pool."""
    probed = {d.account for d in snapshot.deliveries}
    shared: set[str] | None = None
    for pair in short:
        wanted = pair.expected
        if wanted is None or account in wanted.pinned or account not in known_accounts(snapshot):
            return []
        slot = set(accounts_by_slot(snapshot, wanted.slots, wanted.pinned)[slot_of(account, wanted.slots)])
        shared = slot if shared is None else shared & slot
    return sorted((shared or set()) - probed)


def _not_probed(snapshot: Snapshot, account: str, ways: Sequence[PairDelivery]) -> Finding:
    unknown = [d for d in ways if d.unknown is not None]
    reasons = sorted({d.unknown.detail for d in unknown if d.unknown is not None})
    text = (
        f"Whether account {account} loses messages is not known on {len(unknown)} of {len(ways)} ways between servers: "
    )
    text += "; ".join(reasons[:MOST_NAMED])
    evidence: JsonObject = {"ways": [[d.sender, d.receiver] for d in unknown], "reasons": reasons}
    return _finding(snapshot, account, Severity.UNKNOWN, text, evidence)


def _sound(snapshot: Snapshot, accounts: Mapping[str, Sequence[PairDelivery]]) -> Finding:
    ways = {(d.sender, d.receiver) for found in accounts.values() for d in found}
    servers = {sender for sender, _ in ways}
    messages = sum(d.received for found in accounts.values() for d in found)
    text = (
        f"All {messages} messages of {_accounts(accounts)} arrived on {len(ways)} ways between {len(servers)} servers"
    )
    known, probed = known_accounts(snapshot), {d.account for d in snapshot.deliveries}
    # An account that goes by another name in the settings than on the servers would be counted as not probed.
    others = sorted(known - probed) if probed <= known else []
    text += f"; {_accounts(others)} had no login to probe with" if others else ""
    evidence: JsonObject = {"accounts": {a: len(found) for a, found in accounts.items()}, "not probed": others}
    return _finding(snapshot, None, Severity.OK, text, evidence)


def _accounts(accounts: Iterable[str]) -> str:
    found = list(accounts)
    return f"account{'s' * (len(found) > 1)} {_some(found)}"


def _some(words: Iterable[str]) -> str:
    found = sorted(words)
    more = len(found) - MOST_NAMED
    return f"{', '.join(found[:MOST_NAMED])} and {more} more" if more > 0 else listed(found)


def _finding(snapshot: Snapshot, account: str | None, level: Severity, text: str, evidence: JsonObject) -> Finding:
    return Finding(
        check=CHECK,
        layer=Layer.ROUTES,
        subject=Subject(cluster=snapshot.cluster, account=account),
        severity=level,
        sentence=f"{text}.",
        evidence=evidence,
    )
