"""What a person may approve, cluster by cluster: the policy's own answer to a change that is only supposed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from bot.model import (
    DiagnosisId,
    Freeze,
    IncidentId,
    Person,
    Preview,
    Proposal,
    ProposalId,
    ProposalState,
    Record,
    RiskClass,
    Stage,
    Subject,
)
from bot.policy import explain, groups_for, may_run
from bot.settings import OwnerSettings, PolicySettings
from bot.settings.policy import DECIDED_RISKS

SUPPOSED: Final = "supposed"
"""What every text of a change that nobody has proposed says."""


class Right(Record):
    """Whether a person may approve a change of this risk class now, and why or why not."""

    risk: RiskClass
    allowed: bool
    sentence: str


class Rights(Record):
    """What holds on all these clusters alike."""

    clusters: tuple[str, ...]
    rights: tuple[Right, ...]
    notes: tuple[str, ...]
    """Whose data needs whom, and freezes."""

    @property
    def allowed(self) -> tuple[RiskClass, ...]:
        """The risk classes of which the person may approve a change now."""
        return tuple(right.risk for right in self.rights if right.allowed)

    @property
    def summary(self) -> str:
        """One sentence without reasons."""
        return f"On {', '.join(self.clusters)} you may approve: {', '.join(self.allowed) or 'nothing'}."


def rights(
    person: Person, rules: PolicySettings, clusters: Iterable[str], freezes: Sequence[Freeze], now: datetime
) -> tuple[Rights, ...]:
    """Return what the person may approve on each cluster, those together on which all of it is the same. Pure."""
    alike: dict[tuple[tuple[Right, ...], tuple[str, ...]], list[str]] = {}
    for cluster in clusters:
        found = tuple(_right(person, rules, cluster, risk, now) for risk in DECIDED_RISKS)
        here = rules.for_cluster(cluster)
        notes = (*_owners(person, here), *_called(person, here), *_frozen(cluster, freezes, now))
        alike.setdefault((found, notes), []).append(cluster)
    return tuple(Rights(clusters=tuple(names), rights=key[0], notes=key[1]) for key, names in alike.items())


def standing_of(person: Person, rules: PolicySettings, now: datetime) -> str:
    """Return who the person is to the policy: the groups, and by whose turn."""
    identity = may_run(person, rules)
    if not identity.allowed:
        return identity.sentence
    groups = [f"{name}{_turn(person, rules, name, now)}" for name in sorted(person.groups)]
    waits = [
        name
        for name, group in sorted(rules.groups.items())
        if group.on_call is not None and person.key in group.on_call.persons and name not in person.groups
    ]
    off = f" Your turn in {', '.join(waits)} is not now." if waits else ""
    return f"In {', '.join(groups)}.{off}" if groups else f"In no policy group.{off}"


def _right(person: Person, rules: PolicySettings, cluster: str, risk: RiskClass, now: datetime) -> Right:
    change = _supposed(cluster, risk, now)
    answer = explain(change, (), person, rules, now).decision
    if not answer.allowed:
        return Right(risk=risk, allowed=False, sentence=answer.sentence)
    needed = groups_for(change, rules)
    others = f"one approval each of {', '.join(needed)}, by different people" if len(needed) > 1 else ""
    yes = f"yes, as one of {', '.join(sorted(person.groups & set(needed)))}"
    return Right(risk=risk, allowed=True, sentence=f"{yes}; it takes {others}." if others else f"{yes}.")


def _supposed(cluster: str, risk: RiskClass, now: datetime) -> Proposal:
    """A change of this risk class that waits for its first approval and that nobody asked for."""
    preview = Preview(summary=SUPPOSED, blast_radius=SUPPOSED, way_back=SUPPOSED)
    return Proposal(
        id=ProposalId(SUPPOSED),
        incident_id=IncidentId(SUPPOSED),
        diagnosis_id=DiagnosisId(SUPPOSED),
        cluster=cluster,
        subject=Subject(cluster=cluster),
        title=SUPPOSED,
        why=SUPPOSED,
        risk=risk,
        stages=(Stage(kind=SUPPOSED, params={}, risk=risk, preview=preview),),
        world={},
        state=ProposalState.PENDING,
        button=SUPPOSED,
        created_at=now,
        expires_at=now + timedelta(hours=1),
    )


def _owners(person: Person, here: PolicySettings) -> Iterator[str]:
    for owner in here.data_owners:
        mine = " You are one of them." if owner.group in person.groups else ""
        yield f"A medium change of {_data(owner)} takes an approval of {owner.group} as well.{mine}"


def _called(person: Person, here: PolicySettings) -> Iterator[str]:
    """The groups that the person is in and that may be called when nobody decides."""
    for risk in DECIDED_RISKS:
        for group in here.escalation.get(risk, ()):
            if group in person.groups:
                yield f"When nobody decides on a {risk} change in time, {group} is called and may approve in place of one group."


def _data(owner: OwnerSettings) -> str:
    streams = f"streams {', '.join(owner.streams)}" if owner.streams else "every stream"
    return f"{streams} of account {owner.account}" if owner.account is not None else streams


def _frozen(cluster: str, freezes: Sequence[Freeze], now: datetime) -> Iterator[str]:
    for freeze in freezes:
        if freeze.active(now) and freeze.cluster in {None, cluster}:
            yield f"{freeze.id}: {freeze}. Until then nobody can approve it."


def _turn(person: Person, rules: PolicySettings, name: str, now: datetime) -> str:
    """` (on call)` for a group that the person is in by its rota."""
    group = rules.groups.get(name)
    turn = group.on_call.on_call(now) if group is not None and group.on_call is not None else None
    return " (on call)" if turn == person.key and group is not None and turn not in group.persons else ""
