"""A proposal: what would be done, what it hurts, the way back, who decides until when; and afterwards who decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.adapters.slack.blocks import (
    VIEW_BLOCKS,
    VIEW_TEXT_BUDGET,
    Block,
    actions,
    bold,
    bullets,
    button,
    fit,
    header,
    moment,
    ours,
    paragraph,
    preformatted,
    rich,
    small,
    text,
    user,
)
from bot.adapters.slack.render_board import STATE_WORDS, progress
from bot.adapters.slack.text import date, fallback
from bot.adapters.slack.wanted import APPROVE, DENY, DETAILS, TUNE, File, ProposalCase, WantedMessage
from bot.adapters.visible import visible
from bot.model import Approval, Choice, JsonObject, Proposal, ProposalState, RiskClass, Rung, Stage, canonical_json
from bot.policy import groups_for, standing
from bot.settings import PolicySettings

DIGEST_SHOWN: Final = 12
"""Hex digits of a proposal's digest that people compare by eye (reference/safety.md 5.3)."""
_RISK: Final = {
    RiskClass.READ: "⚪ reads only",
    RiskClass.LOW: "🟢 low risk",
    RiskClass.MEDIUM: "🟠 medium risk",
    RiskClass.DESTRUCTIVE: "🔴 destructive",
}
_BY_HAND: Final = "🙋 by hand"
_STAGES_SHOWN: Final = 10
_ITEMS_SHOWN: Final = 8
_ITEM_LIMIT: Final = 400
_DIFF_LIMIT: Final = 2_800


def proposal(entry: ProposalCase, rules: PolicySettings) -> tuple[WantedMessage, bool]:
    """Return the message, and whether the plan was too long for it (then it is attached as a file as well)."""
    offered = entry.proposal
    title = f"{'🛠️' if offered.approvable else '📋'} {offered.title}"
    plan = plan_blocks(offered)
    shown, cut = fit(plan, budget=10_000, most=40)
    blocks: list[Block] = [header(title), *_decision(entry), *shown, *_who(entry, rules)]
    if cut:
        blocks.append(
            small("This is not the whole plan: the file below has all of it, and its digest covers all of it.")
        )
    blocks.append(small(f"{offered.id} · digest {offered.digest[:DIGEST_SHOWN]}"))
    if offered.state is ProposalState.PENDING and offered.approvable:
        blocks.append(_buttons(offered))
    kept, cut_again = fit(blocks)
    words = fallback(f"{title}, {progress(entry, rules)}")
    return WantedMessage(key=f"proposal:{offered.id}", blocks=kept, text=words), cut or cut_again or _left_out(offered)


def plan_blocks(offered: Proposal, stages: int = _STAGES_SHOWN, diff_limit: int = _DIFF_LIMIT) -> list[Block]:
    """What would be done and what it means; the same in the message, the form and the details."""
    risk = _RISK[offered.risk] if offered.approvable or offered.stages else _BY_HAND
    blocks = [
        rich(paragraph(bold(risk), text(f" · {offered.subject} · cluster {offered.cluster}", 400))),
        rich(paragraph(text(offered.why, 1_500))),
    ]
    if offered.rung is not None:
        blocks.append(rich(*_rung(offered.rung)))
    if offered.cautions:
        blocks.append(rich(paragraph(bold("⚠️ Know before you decide")), bullets(_items(offered.cautions))))
    for number, stage in enumerate(offered.stages[:stages], start=1):
        blocks.append(_stage(number, len(offered.stages), stage, diff_limit))
    if len(offered.stages) > stages:
        blocks.append(small(f"and {len(offered.stages) - stages} more stages"))
    if offered.guidance:
        blocks.append(rich(paragraph(bold("natsmedic does not do this itself. A person may run:"))))
        blocks.append(rich(preformatted("\n".join(offered.guidance), diff_limit)))
    return blocks


def details_blocks(entry: ProposalCase, rules: PolicySettings) -> tuple[Block, ...]:
    """The whole plan for a modal: stages, diff, the world it was made for, the full digest."""
    offered = entry.proposal
    world = "\n".join(f"{name} = {value}" for name, value in sorted(offered.world.items())) or "(nothing)"
    blocks: list[Block] = [
        rich(paragraph(bold(offered.title))),
        small(f"{offered.id} · {STATE_WORDS[offered.state]} · digest {offered.digest}"),
        *plan_blocks(offered, stages=60, diff_limit=12_000),
        rich(
            paragraph(bold("The world it was made for; any change of it voids the approvals")),
            preformatted(world, 12_000),
        ),
        *_who(entry, rules),
        *_decision(entry),
    ]
    return fit(blocks, VIEW_TEXT_BUDGET, VIEW_BLOCKS)[0]


def plan_file(offered: Proposal) -> WantedMessage:
    """The full plan as a text file of the thread."""
    name = f"plan-{offered.id}.txt"
    words = f"The full plan of {offered.id}, digest {offered.digest}."
    return WantedMessage(
        key=f"plan:{offered.id}", text=fallback(words), file=File(name=name, title=name, text=plan_text(offered))
    )


def patch_files(offered: Proposal) -> list[WantedMessage]:
    """The files that its guidance speaks of."""
    return [
        WantedMessage(
            key=f"patch:{offered.id}:{number}",
            text=fallback(f"{patch.name} of {offered.id}: {offered.title}"),
            file=File(name=f"{offered.id}-{patch.name}", title=patch.name, text=patch.text),
        )
        for number, patch in enumerate(offered.patches)
    ]


def plan_text(offered: Proposal) -> str:
    """Everything the digest covers, and what people read with it. Only a diff has line breaks of its own, and nothing a hidden character."""
    lines = [offered.title, "", offered.why, "", f"cluster {offered.cluster}, {offered.subject}, {offered.risk}"]
    for number, stage in enumerate(offered.stages, start=1):
        preview = stage.preview
        lines += ["", f"Stage {number} of {len(offered.stages)}: {preview.summary}", f"kind: {stage.kind}"]
        lines += [f"params: {canonical_json(stage.params)}", f"blast radius: {preview.blast_radius}"]
        lines += [f"effect: {effect}" for effect in preview.effects]
        lines += [f"way back: {preview.way_back}", *preview.diff.split("\n")]
    if offered.rung is not None:
        lines += ["", f"may not be enough: {offered.rung.not_enough}", f"go on to the next when: {offered.rung.go_on}"]
    lines += ["", *offered.guidance, "", *[f"caution: {caution}" for caution in offered.cautions], "", "world:"]
    lines += [f"  {name} = {value}" for name, value in sorted(offered.world.items())]
    lines += ["", f"expires {offered.expires_at.isoformat()}", f"digest {offered.digest}", ""]
    return "\n".join(visible(line) for line in lines)


def _rung(rung: Rung) -> list[JsonObject]:
    parts = [paragraph(bold("May not be enough: "), text(rung.not_enough, _ITEM_LIMIT))]
    if rung.go_on:
        parts.append(paragraph(bold("Go on to the next when: "), text(rung.go_on, _ITEM_LIMIT)))
    return parts


def _stage(number: int, total: int, stage: Stage, diff_limit: int) -> Block:
    preview = stage.preview
    numbered = [bold(f"Stage {number} of {total}: ")] if total > 1 else []
    parts = [paragraph(*numbered, bold(preview.summary, 500))]
    if preview.effects:
        parts.append(bullets(_items(preview.effects)))
    parts.append(paragraph(bold("Blast radius: "), text(preview.blast_radius, _ITEM_LIMIT)))
    parts.append(paragraph(bold("Way back: "), text(preview.way_back, _ITEM_LIMIT)))
    if preview.diff:
        parts.append(preformatted(preview.diff, diff_limit))
    return rich(*parts)


def _items(items: Sequence[str]) -> list[list[Block]]:
    shown = [[text(item, _ITEM_LIMIT)] for item in items[:_ITEMS_SHOWN]]
    left = len(items) - _ITEMS_SHOWN
    return [*shown, [text(f"and {left} more")]] if left > 0 else shown


def _left_out(offered: Proposal) -> bool:
    """True where the message lists fewer things than the plan has, or shows one of them shorter."""
    lists = [offered.cautions, *(stage.preview.effects for stage in offered.stages)]
    items = [item for one in lists for item in one]
    items += [part for stage in offered.stages for part in (stage.preview.blast_radius, stage.preview.way_back)]
    diffs = ["\n".join(offered.guidance), *(stage.preview.diff for stage in offered.stages)]
    return (
        len(offered.stages) > _STAGES_SHOWN
        or any(len(one) > _ITEMS_SHOWN for one in lists)
        or any(len(item) > _ITEM_LIMIT for item in items)
        or any(len(diff) > _DIFF_LIMIT for diff in diffs)
    )


def _who(entry: ProposalCase, rules: PolicySettings) -> list[Block]:
    offered = entry.proposal
    if not offered.approvable or offered.state is not ProposalState.PENDING:
        return []
    groups = groups_for(offered, rules)
    if not groups:
        return [small(f"Nobody may approve this: policy.approvers.{offered.risk} names nobody.")]
    given = standing(offered, entry.approvals, rules)
    people = "1 person" if len(groups) == 1 else f"{len(groups)} different people, one each"
    missing = f"; still missing: {', '.join(given.missing)}" if given.given and given.missing else ""
    return [
        # A phone shows the end of a long message first: what it is and how dangerous stands beside the buttons once more.
        rich(paragraph(bold(f"{_RISK[offered.risk]}: {offered.title}", 300))),
        small(f"Needs {people} of {', '.join(groups)}: {given.given} of {given.needed} approvals{missing}.", 600),
        *_called(offered),
        ours(f"Expires {date(offered.expires_at, '{time}')}{entry.left}. One deny ends it."),
    ]


def _called(offered: Proposal) -> list[Block]:
    told = [f"{one.group} in place of {one.stands_for}" for one in offered.escalations]
    return [small(f"Called because nobody had decided: {', '.join(told)}.", 600)] if told else []


def _decision(entry: ProposalCase) -> list[Block]:
    """Where it stands, who decided, when and why."""
    offered = entry.proposal
    blocks: list[Block] = []
    if offered.state is not ProposalState.PENDING and offered.approvable:
        reason = f": {offered.state_reason}" if offered.state_reason else ""
        blocks.append(rich(paragraph(bold(STATE_WORDS[offered.state].capitalize()), text(reason or ".", 600))))
    if entry.approvals:
        blocks.append(rich(bullets([_approval(one, offered) for one in entry.approvals[:_ITEMS_SHOWN]])))
    return blocks


def _approval(approval: Approval, offered: Proposal) -> list[Block]:
    sign, word = ("✅", "approved") if approval.choice is Choice.APPROVE else ("🚫", "denied")
    if approval.break_glass:
        sign, word = "🔨", "approved alone (broke the glass)"
    why = approval.void or ("" if approval.proposal_digest == offered.digest else "given for another version")
    void = f" (void: {why})" if why else ""
    groups = f" for {', '.join(approval.groups)}" if approval.groups else ""
    by_hand = approval.user.in_terminal
    who = text(f"{approval.person} (terminal)") if by_hand else user(approval.user.user_id)
    said = [text(f": {approval.reason}", 500)] if approval.reason else []
    return [
        text(f"{sign} "),
        who,
        text(f" {word}{groups}{void}, ", 300),
        moment(approval.at),
        *said,
    ]


def _buttons(offered: Proposal) -> Block:
    other = [button(TUNE, "Other values…", offered.button)] if offered.tunables else []
    return actions(
        "decide",
        button(APPROVE, "Approve", offered.button, "primary"),
        button(DENY, "Deny", offered.button, "danger"),
        *other,
        button(DETAILS, "Details", offered.button),
    )
