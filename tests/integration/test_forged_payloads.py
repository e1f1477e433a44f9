"""One recorded gesture of each kind with one field changed at a time, in signed requests: a change decides nothing, or has no meaning and is named here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from bot.adapters.slack.modals import CALLBACK, QUESTION
from bot.lab.slack import BOT_USER_ID
from bot.model import JsonObject, ProposalId
from tests.exhaustive import EXHAUSTIVE
from tests.integration.forged import Mutant, Place, Target, mutants, target
from tests.integration.slack_adapter_support import (
    ADA,
    APPROVAL,
    BOT,
    GONE,
    GRACE,
    GUEST,
    OPS,
    STRANGER,
    now,
    offer,
    proposal,
)

pytestmark = pytest.mark.timeout(120)

ENVELOPE: Final = frozenset({"api_app_id", "token", "team", "enterprise", "is_enterprise_install"})
"""Which app and workspace the request is for: the signature says that, and the person's own workspace stands in `user`."""
ADDRESS: Final = frozenset({"response_url", "response_urls"})
"""Where Slack takes an answer of the gesture's own: an address that is none of Slack's, or takes none, is not needed."""
NAMES: Final = frozenset({("user", "name"), ("user", "username")})
"""What people are called is shown by nobody and asked by nobody."""
NO_HOME: Final = frozenset({"user.team_id removed", "user.team_id emptied", "team_id emptied"})
"""The workspace is then what Slack's own users.info says (Enterprise Grid leaves it out)."""
NEEDED: Final = frozenset({"view.type removed", "channel_id removed"})
"""Shape without meaning: its value is never read, but Slack always sends it."""
UNPARSED: Final = frozenset({"enterprise changed", "response_urls flattened"})
"""Bolt can't read `true` for an organisation, and text for a list: 400, before anybody is known."""


def means_nothing(mutant: Mutant, branches: frozenset[str], places: frozenset[Place] = frozenset()) -> bool:
    """Whether what was changed lies in one of these branches or places of the payload."""
    name = mutant.place[0] in branches | ENVELOPE | ADDRESS
    below = any(mutant.place[: len(place)] == place for place in places | NAMES)
    return (name or below or str(mutant) in NO_HOME) and str(mutant) not in UNPARSED | NEEDED


def sampled(harmless: Iterable[Mutant]) -> list[Mutant]:
    """One of eight of those that change nothing: they are many, and alike."""
    return list(harmless)[:: 1 if EXHAUSTIVE else 8]


def tellable(mutant: Mutant) -> bool:
    """Whether the payload still says who is to be told."""
    return mutant.place[0] != "user" or str(mutant) in {"user.id changed", "user.team_id changed"}


# --- a click ----------------------------------------------------------------------------------------------------------

CLICK: Final = frozenset({"message", "channel", "state"})
"""The message's copy, and what Slack says of the channel again: `container` says where the button stands, and the store whose it is."""
CLICK_PLACES: Final = frozenset(
    {
        ("container", "type"),
        ("container", "is_ephemeral"),
        ("container", "thread_ts"),
        *(("actions", 0, name) for name in ("action_ts", "block_id", "style", "text", "type")),
    }
)
"""Looks of the button, and the thread, which only says where a refusal is whispered."""


async def clicked(to: Target, payload: JsonObject, user: str = ADA) -> bool:
    """Send a click; whether the form of a decision has opened."""
    await to.interact(payload)
    view = to.running.slack.open_view(user)
    to.running.slack.workspace.close_views(user)
    return view is not None and view.body.get("callback_id") == CALLBACK


async def recorded_click(to: Target) -> JsonObject:
    await offer(to.running)
    await to.running.slack.person.click(ADA, OPS, to.running.message("proposal").ts, "approve")
    return to.recorded()


async def test_a_click_with_one_field_changed_opens_no_form_and_is_audited_and_said(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        click = await recorded_click(to)
        assert await clicked(to, to.fresh(click, ADA)), "the recorded click itself opens the form"
        before = await to.state()
        every = [(one, means_nothing(one, CLICK, CLICK_PLACES)) for one in mutants(click)]
        telling = [one for one, harmless in every if not harmless]
        for mutant in telling + sampled(one for one, harmless in every if harmless):
            known = mutant.place == ("trigger_id",)
            rows, words = await to.refusals(), to.words()
            opened = await clicked(to, mutant.payload if known else to.fresh(mutant.payload, ADA))
            assert opened == means_nothing(mutant, CLICK, CLICK_PLACES), mutant
            assert await to.state() == before, mutant
            refused = not opened and str(mutant) not in UNPARSED
            assert await to.refusals() - rows == refused, mutant
            assert to.words() - words == (refused and tellable(mutant)), mutant
        assert len(telling) >= 35
        assert len(every) >= 200


@pytest.mark.parametrize(
    "overrides",
    [
        {"user": {"id": "U0ADA", "team_id": "T0FAR"}},
        *(
            {"user": {"id": user, "team_id": "T0LAB"}}
            for user in (STRANGER, GUEST, BOT, GONE, BOT_USER_ID, "USLACKBOT")
        ),
    ],
)
async def test_nobody_but_an_approver_gets_a_form_by_the_recorded_click(tmp_path: Path, overrides: JsonObject) -> None:
    async with target(tmp_path) as to:
        click = await recorded_click(to) | overrides
        before = await to.state()
        assert not await clicked(to, to.fresh(click, ADA))
        assert await to.state() == before
        assert await to.refusals() == 1
        assert to.words() == 1


async def test_a_click_on_a_copy_of_the_message_or_in_another_thread_decides_nothing(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        click = await recorded_click(to)
        shown = to.running.message("proposal")
        copied = to.running.slack.workspace.post(OPS, ADA, shown.text, shown.blocks)
        board = to.running.message("board").ts
        before = await to.state()
        for count, ts in enumerate((copied.ts, board), start=1):
            container = {**click["container"], "message_ts": ts, "thread_ts": copied.ts}
            assert not await clicked(to, to.fresh(click | {"container": container}, ADA))
            assert await to.refusals() == to.words() == count
        assert await to.state() == before


async def test_a_click_on_an_old_message_whose_proposal_has_expired_decides_nothing(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        click = await recorded_click(to)
        old = proposal().model_copy(update={"expires_at": now() - timedelta(seconds=1)})
        await to.running.put(old)
        before = await to.state()
        assert not await clicked(to, to.fresh(click, ADA))
        assert await to.state() == before
        assert await to.refusals() == to.words() == 1


async def test_a_replayed_click_opens_no_second_form(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        click = await recorded_click(to)
        assert await clicked(to, click)
        before = await to.state()
        assert not await clicked(to, click), "Slack takes a trigger once"
        assert await to.state() == before
        assert await to.refusals() == to.words() == 1


# --- a form -----------------------------------------------------------------------------------------------------------

FORM_PLACES: Final = frozenset(
    ("view", name)
    for name in (
        *("type", "title", "submit", "close", "blocks", "hash", "root_view_id", "previous_view_id", "app_id", "bot_id"),
        *("team_id", "clear_on_close", "notify_on_close", "external_id", "submit_disabled", "app_installed_team_id"),
    )
)
"""What the dialog shows. The button and the choice stand in `private_metadata`, what was typed in `state`."""
FREE: Final = frozenset(
    {
        "view.id emptied",  # only a late answer needs it
        "view.id changed",
        "view.state.values.reason.reason.value changed",  # a reason is the person's own words
        "trigger_id removed",  # a submitted form opens nothing
        "trigger_id emptied",
        "trigger_id changed",
        "trigger_id retyped",
        *(f"view.state.values.{name}.{name}.type {how}" for name in ("reason", "typed_name") for how in ("removed", "emptied", "changed", "retyped")),
    }
)  # fmt: skip


async def recorded_form(to: Target) -> JsonObject:
    click = await recorded_click(to)
    await to.interact(to.fresh(click, ADA))
    await to.running.slack.person.submit(ADA, APPROVAL)
    return to.recorded()


def harmless(mutant: Mutant) -> bool:
    return means_nothing(mutant, frozenset(), FORM_PLACES) or str(mutant) in FREE


async def test_a_form_with_one_field_changed_approves_nothing_and_is_audited_and_said(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        form = await recorded_form(to)
        before = await to.state()
        tried = [one for one in mutants(form) if not harmless(one)]
        for mutant in tried:
            rows = await to.refusals()
            answer = await to.interact(mutant.payload)
            assert await to.state() == before, mutant
            if str(mutant) not in UNPARSED:
                assert await to.refusals() - rows == 1, mutant
                assert mutant.place == ("type",) or answer.json()["response_action"] in {"errors", "update"}, mutant
        assert len(tried) >= 40


async def test_what_has_no_meaning_in_a_form_changes_nothing_of_its_approval(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        form = await recorded_form(to)
        assert "btn_opaque" in str(form)
        for number, mutant in enumerate(sampled(one for one in mutants(form) if harmless(one))):
            # An approval ends a proposal for the person, so each mutant is of the form of a fresh one.
            name, button = ProposalId(f"prop_f{number}"), f"btn_f{number}"
            async with to.running.store.begin() as tx:
                await tx.put(proposal().model_copy(update={"id": name, "button": button}))
            await to.interact(json.loads(json.dumps(mutant.payload).replace("btn_opaque", button)))
            given = await to.running.store.approvals(name)
            assert [(one.user.user_id, one.person, one.typed_name) for one in given] == [
                (ADA, "T0LAB/U0ADA", "worker")
            ], mutant
        assert to.executions() == 0


async def test_a_replayed_form_is_one_approval_and_another_persons_is_none(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        form = await recorded_form(to)
        for _ in range(3):
            await to.interact(form)
        assert len(await to.running.store.approvals("prop_1")) == 1
        for user, team in (
            (GUEST, "T0LAB"),
            (BOT, "T0LAB"),
            (BOT_USER_ID, "T0LAB"),
            (STRANGER, "T0FAR"),
            (GRACE, "T0FAR"),
        ):
            rows = await to.refusals()
            await to.interact(form | {"user": {"id": user, "team_id": team}})
            assert await to.refusals() == rows + 1
        assert len(await to.running.store.approvals("prop_1")) == 1
        assert to.executions() == 0


# --- a slash command --------------------------------------------------------------------------------------------------

SLASH: Final = frozenset({"team_domain", "channel_name", "user_name", "channel_id"})
"""Names that are never asked; the channel says only where a late answer goes."""
TYPED: Final = frozenset({"text changed", "trigger_id changed", "trigger_id emptied"})
"""Another reason is the person's own words; the trigger only tells one gesture from its repetition."""


async def test_a_command_with_one_field_changed_freezes_nothing(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        await to.running.slack.person.slash(ADA, OPS, "/nats freeze 1h maintenance")
        command = to.recorded()
        for mutant in mutants(command):
            if mutant.kind == "retyped":
                continue  # a form of HTTP has texts only
            known = mutant.place == ("trigger_id",)
            rows, frozen = await to.refusals(), len(await to.running.store.freezes())
            answer = await to.slash(mutant.payload if known else to.fresh(mutant.payload, ADA))
            harmless = means_nothing(mutant, SLASH) or str(mutant) in TYPED
            assert len(await to.running.store.freezes()) - frozen == harmless, mutant
            if harmless:
                continue
            assert answer.text or mutant.place == ("command",), mutant
            words_only = mutant.place == ("text",)  # the help, for who typed nothing
            assert await to.refusals() - rows == (not words_only), mutant


# --- a shortcut -------------------------------------------------------------------------------------------------------

SHORTCUT: Final = frozenset({"message_ts", "action_ts"})
SHORTCUT_PLACES: Final = frozenset(
    {
        ("channel", "name"),
        *(("message", name) for name in ("type", "user", "bot_id", "app_id", "blocks", "team", "text")),
    }
)
"""Who wrote the message and what it says: a hint for the form's title, never a fact."""
NO_TITLE: Final = frozenset({"message.text retyped"})
ELSEWHERE: Final = frozenset(
    f"{place} {how}" for place in ("channel.id", "message.ts") for how in ("emptied", "changed")
)
"""Where the message stands says only whether it is an incident's thread, and where the answer goes."""


async def test_a_shortcut_with_one_field_changed_opens_no_form_and_asks_nothing(tmp_path: Path) -> None:
    async with target(tmp_path, clusters=("prod", "test")) as to:
        said = to.running.slack.person.say(ADA, OPS, "consumers hang")
        await to.running.slack.person.message_shortcut(ADA, OPS, said.ts, QUESTION)
        shortcut = to.recorded()
        before = await to.state()
        for mutant in mutants(shortcut):
            known = mutant.place == ("trigger_id",)
            rows, words = await to.refusals(), to.words()
            await to.interact(mutant.payload if known else to.fresh(mutant.payload, ADA))
            view = to.running.slack.open_view(ADA)
            to.running.slack.workspace.close_views(ADA)
            opened = view is not None and view.body.get("callback_id") == QUESTION
            harmless = means_nothing(mutant, SHORTCUT, SHORTCUT_PLACES) and str(mutant) not in NO_TITLE
            harmless |= str(mutant) in ELSEWHERE
            assert opened == harmless, mutant
            assert await to.state() == before, mutant
            if harmless or str(mutant) in UNPARSED:
                continue
            told = view is not None or to.words() > words
            assert told == (tellable(mutant) and (mutant.place[0] != "channel")), mutant
            # A trigger that Slack doesn't take is said, and no more: a form that was not opened has asked nothing.
            assert known or await to.refusals() - rows == 1, mutant
