"""The dialogs: the form of a decision, the details of a proposal, and the short views around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from bot.adapters.slack.blocks import (
    VIEW_BLOCKS,
    VIEW_TEXT_BUDGET,
    Block,
    bold,
    fit,
    ours,
    paragraph,
    plain,
    rich,
    small,
    text,
)
from bot.adapters.slack.render_proposal import DIGEST_SHOWN, details_blocks, plan_blocks
from bot.adapters.slack.text import date
from bot.adapters.slack.wanted import ProposalCase
from bot.flow.approval import Form
from bot.flow.cases import SILENCES
from bot.model import Choice, IncidentId, Json, JsonObject, Proposal
from bot.settings import PolicySettings

CALLBACK: Final = "decide"
QUESTION: Final = "diagnose_alert"
"""callback_id of the message shortcut and of the form behind it."""
HUSH: Final = "hush"
"""callback_id of the form of a silence."""
TUNED: Final = "tuned"
"""callback_id of the form of other values; its fields are called as the tunables are."""
CLUSTER: Final = "cluster"
REASON: Final = "reason"
TYPED_NAME: Final = "typed_name"
CODE: Final = "code"
LASTS: Final = "lasts"
BREAK_GLASS: Final = "break_glass"
"""block_id and action_id of the fields, and the keys of an answer's errors."""
SELECT_OPTIONS: Final = 100
"""Slack's limit of a select (reference/chatops.md 5)."""
REASON_LIMIT: Final = 1_000
NAME_LIMIT: Final = 500
CODE_LIMIT: Final = 10
VALUE_LIMIT: Final = 40
"""Characters of a value that is set; longer ones are none (bot/model/tunable.py)."""
ERROR_LIMIT: Final = 300
SILENCE_WORDS: Final = {"1h": "1 hour", "4h": "4 hours", "1d": "1 day"}
TITLES: Final = {Choice.APPROVE: "Approve", Choice.DENY: "Deny"}


def decision_form(form: Form, choice: Choice) -> JsonObject:
    """The form of a decision. Its private metadata carries the button's opaque id and the choice, nothing else."""
    proposal = form.proposal
    word = TITLES[choice]
    blocks: list[Block] = [
        rich(paragraph({**text(proposal.title, 300), "style": {"bold": True}})),
        *(plan_blocks(proposal, stages=5, diff_limit=1_500) if choice is Choice.APPROVE else []),
        small(f"digest {proposal.digest[:DIGEST_SHOWN]}"),
        ours(f"Expires {date(proposal.expires_at, '{time}')}."),
    ]
    shown = list(fit(blocks, VIEW_TEXT_BUDGET, VIEW_BLOCKS - 10)[0])
    if form.typed_name is not None:
        label = "Type the name of the object this changes"
        shown.append(_field(TYPED_NAME, label, NAME_LIMIT, hint=f"Exactly: {form.typed_name}"))
    if form.ask_code:
        label = "Code of your authenticator"
        shown.append(_field(CODE, label, CODE_LIMIT, hint="Six digits. It is looked at once and kept nowhere."))
    if form.may_break:
        shown.append(_glass())
    if form.ask_reason:
        shown.append(_field(REASON, "Reason, kept in the audit log", REASON_LIMIT, multiline=True))
    return {
        "type": "modal",
        "callback_id": CALLBACK,
        "private_metadata": json.dumps({"button": proposal.button, "choice": choice.value}),
        "title": plain(f"{word} this change?"[:24]),
        "submit": plain(word),
        "close": plain("Back"),
        "blocks": shown,
    }


def question_form(place: JsonObject, title: str, clusters: Sequence[str]) -> JsonObject:
    """The form behind the shortcut: which cluster, with the message's words as plain text. `place` says where the message stands."""
    options = [{"text": plain(name, 75), "value": name} for name in clusters[:SELECT_OPTIONS]]
    element: JsonObject = {"type": "static_select", "action_id": CLUSTER, "options": options}
    if len(options) == 1:
        element["initial_option"] = options[0]
    return {
        "type": "modal",
        "callback_id": QUESTION,
        "private_metadata": json.dumps(place | {"title": title}, ensure_ascii=False),
        "title": plain("Diagnose this alert?"),
        "submit": plain("Diagnose"),
        "close": plain("Back"),
        "blocks": [
            rich(paragraph(text(title, 300))),
            small("natsmedic takes these words for a hint only: it reads the cluster itself."),
            {"type": "input", "block_id": CLUSTER, "label": plain("Cluster"), "element": element},
        ],
    }


def hush_form(incident: IncidentId) -> JsonObject:
    """The form of a silence: for how long, and why."""
    options = [{"text": plain(SILENCE_WORDS[one], 75), "value": one} for one in SILENCES]
    element: JsonObject = {"type": "static_select", "action_id": LASTS, "options": options}
    return {
        "type": "modal",
        "callback_id": HUSH,
        "private_metadata": json.dumps({"incident": incident}),
        "title": plain("Silence this alert?"),
        "submit": plain("Silence"),
        "close": plain("Back"),
        "blocks": [
            small("Its alerts are stored and counted as ever; this thread gets no new message and mentions nobody."),
            {"type": "input", "block_id": LASTS, "label": plain("For how long"), "element": element},
            _field(REASON, "Reason, shown here and kept in the audit log", REASON_LIMIT, multiline=True),
        ],
    }


def tuning_form(offered: Proposal) -> JsonObject:
    """The form of other values: one field each, with the present value and the bounds."""
    return {
        "type": "modal",
        "callback_id": TUNED,
        "private_metadata": json.dumps({"button": offered.button}),
        "title": plain("Other values?"),
        "submit": plain("Propose"),
        "close": plain("Back"),
        "blocks": [
            rich(paragraph(bold(offered.title, 300))),
            small("This makes a new proposal in place of this one. You ask for it, so somebody else approves it."),
            *(
                _field(one.name, one.title, VALUE_LIMIT, hint=f"{one.bounds}.", initial=one.value)
                for one in offered.tunables
            ),
        ],
    }


def details_view(entry: ProposalCase, rules: PolicySettings) -> JsonObject:
    """The whole plan."""
    return {
        "type": "modal",
        "title": plain("Details"),
        "close": plain("Close"),
        "blocks": list(details_blocks(entry, rules)),
    }


def sentence_view(title: str, sentence: str) -> JsonObject:
    """A view that says one thing: loading, recording, a refusal, a result."""
    return {
        "type": "modal",
        "title": plain(title, 24),
        "close": plain("Close"),
        "blocks": [rich(paragraph(text(sentence)))],
    }


def read_metadata(raw: Json) -> tuple[str, Choice] | None:
    """Return button and choice of a submitted form; None where it is none of ours."""
    try:
        found: Json = json.loads(raw)
        button, choice = found["button"], Choice(found["choice"])
    except (KeyError, TypeError, ValueError):
        return None
    return (button, choice) if isinstance(button, str) else None


def read_field(values: Json, name: str) -> str:
    """Return what was typed into a field, empty where nothing was."""
    try:
        found: Json = values[name][name]["value"]
    except (KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def read_choice(values: Json, name: str) -> str:
    """Return the value of the option that was chosen, empty where none was."""
    try:
        found: Json = values[name][name]["selected_option"]["value"]
    except (KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def read_tick(values: Json, name: str) -> bool:
    """Return whether the one box of a field is ticked; anything of another shape is no tick."""
    try:
        found: Json = values[name][name]["selected_options"]
        return [one["value"] for one in found] == [name]
    except (KeyError, TypeError):
        return False


def _glass() -> Block:
    """The box of whoever may approve alone."""
    words = plain("Break the glass: I approve alone, because nobody else can be reached")
    option: JsonObject = {"text": words, "value": BREAK_GLASS}
    element: JsonObject = {"type": "checkboxes", "action_id": BREAK_GLASS, "options": [option]}
    return {
        "type": "input",
        "block_id": BREAK_GLASS,
        "label": plain("Without a second person"),
        "element": element,
        "optional": True,
        "hint": plain("It is announced to those who are passed over, and a row of its own in the audit log."),
    }


def _field(
    name: str, label: str, most: int, *, multiline: bool = False, hint: str | None = None, initial: str = ""
) -> Block:
    element: JsonObject = {"type": "plain_text_input", "action_id": name, "max_length": most, "multiline": multiline}
    element |= {"initial_value": initial} if initial else {}
    block: Block = {"type": "input", "block_id": name, "label": plain(label), "element": element}
    return block | ({"hint": plain(hint, 1_500)} if hint else {})
