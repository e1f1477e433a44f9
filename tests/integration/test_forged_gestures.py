"""The gestures besides a decision, forged as its are: a board's and a proposal's other buttons, their forms, and the form behind the shortcut."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from bot.adapters.slack.commands import acting
from bot.adapters.slack.modals import HUSH, QUESTION, TUNED
from bot.adapters.slack.wanted import END_SILENCE, SILENCE, TAKE, TUNE
from bot.lab.slack import BOT_USER_ID
from bot.model import Incident, IncidentState, JsonObject, Silence, SlackUser
from tests.exhaustive import EXHAUSTIVE
from tests.integration.forged import Mutant, Target, mutants, target
from tests.integration.knob import knob_proposal, stages
from tests.integration.slack_adapter_support import (
    ADA,
    BOT,
    GONE,
    GUEST,
    OPS,
    STRANGER,
    diagnosis,
    incident,
    now,
)
from tests.integration.test_forged_payloads import (
    CLICK,
    CLICK_PLACES,
    FORM_PLACES,
    UNPARSED,
    means_nothing,
    recorded_form,
    tellable,
)

pytestmark = pytest.mark.timeout(120)

NOBODIES: Final = (
    *((user, "T0LAB") for user in (GUEST, BOT, GONE, BOT_USER_ID, "USLACKBOT")),
    (STRANGER, "T0FAR"),
    (ADA, "T0FAR"),
)
"""A guest, a bot, somebody who has left, ourselves, Slack's own bot, a stranger, and an approver's id from another workspace."""
VIEW: Final = frozenset(
    {
        "view.id emptied",  # only a late answer needs it
        "view.id changed",
        "view.state.values.reason.reason.value changed",  # a reason is the person's own words
        *(
            f"trigger_id {how}" for how in ("removed", "emptied", "changed", "retyped")
        ),  # a submitted form opens nothing
    }
)


@dataclass(frozen=True)
class Gesture:
    """`record` returns its payload as Slack makes it, not delivered yet; `harmless` says which mutants mean the same."""

    record: Callable[[Target], Awaitable[JsonObject]]
    harmless: Callable[[Mutant], bool]
    typed: frozenset[str] = frozenset()
    """Mutants that are a person's own mistake in a field: said at the field, and no refusal of a person."""
    opens: str = ""
    """callback_id of the form it opens; empty where it is done at once."""


async def plain(to: Target) -> None:
    """An incident that nobody holds and nothing silences, with a proposal of which a value may be set."""
    await to.running.put(incident(), diagnosis(), knob_proposal())
    await to.running.drawn()


async def silenced(to: Target) -> None:
    made = Silence(
        user=SlackUser(team_id="T0LAB", user_id=ADA),
        person="T0LAB/U0ADA",
        reason="noise",
        at=now(),
        until=now() + timedelta(hours=1),
    )
    await to.running.put(incident().model_copy(update={"silence": made}), diagnosis(), knob_proposal())
    await to.running.drawn()


def pressed(
    kind: str, what: str, before: Callable[[Target], Awaitable[None]]
) -> Callable[[Target], Awaitable[JsonObject]]:
    async def record(to: Target) -> JsonObject:
        await before(to)
        await to.running.slack.person.click(ADA, OPS, to.running.message(kind).ts, what)
        return to.recorded()

    return record


def sent(kind: str, what: str, values: JsonObject) -> Callable[[Target], Awaitable[JsonObject]]:
    async def record(to: Target) -> JsonObject:
        await plain(to)
        await to.running.slack.person.click(ADA, OPS, to.running.message(kind).ts, what)
        await to.interact(to.recorded())
        await to.running.slack.person.submit(ADA, values)
        return to.recorded()

    return record


async def question(to: Target) -> JsonObject:
    said = to.running.slack.person.say(ADA, OPS, "consumers hang")
    await to.running.slack.person.message_shortcut(ADA, OPS, said.ts, QUESTION)
    await to.interact(to.recorded())
    await to.running.slack.person.submit(ADA, {"cluster": "test"})
    return to.recorded()


def click(mutant: Mutant) -> bool:
    return means_nothing(mutant, CLICK, CLICK_PLACES)


def at_once(mutant: Mutant) -> bool:
    """A trigger opens a form, and is not needed where none opens."""
    return click(mutant) or str(mutant) in {"trigger_id emptied", "trigger_id changed"}


def form(*fields: str) -> Callable[[Mutant], bool]:
    """Whether a mutant changes nothing of a form: what it looks like, and what a field says besides its value."""

    def harmless(mutant: Mutant) -> bool:
        return means_nothing(mutant, frozenset(), FORM_PLACES) or str(mutant) in VIEW or str(mutant) in free

    kinds = ("removed", "emptied", "changed", "retyped", "flattened")
    free = {f"view.state.values.{field}.{field}.{part} {how}" for field in fields for part in LOOKS for how in kinds}
    return harmless


LOOKS: Final = (
    "type",
    *("selected_option.text", *(f"selected_option.text.{part}" for part in ("type", "text", "emoji"))),
)

GESTURES: Final = {
    TAKE: Gesture(pressed("board", TAKE, plain), at_once),
    SILENCE: Gesture(pressed("board", SILENCE, plain), click, opens=HUSH),
    END_SILENCE: Gesture(pressed("board", END_SILENCE, silenced), at_once),
    TUNE: Gesture(pressed("proposal", TUNE, plain), click, opens=TUNED),
    HUSH: Gesture(sent("board", SILENCE, {"lasts": "1h", "reason": "noise"}), form("lasts", "reason")),
    TUNED: Gesture(sent("proposal", TUNE, {"pace": "5"}), form("pace")),
    QUESTION: Gesture(question, form("cluster")),
}


@asynccontextmanager
async def recorded(name: str, tmp_path: Path) -> AsyncGenerator[tuple[Target, JsonObject]]:
    """A bot with the gesture's payload, to which it has not been delivered yet."""
    async with target(tmp_path, clusters=("prod", "test"), stages=stages()) as to:
        payload = await GESTURES[name].record(to)
        to.running.slack.workspace.close_views(ADA)
        yield to, payload


@dataclass(frozen=True)
class Came:
    """What came of one payload."""

    changed: bool
    rows: int
    told: bool
    opened: str


async def send(to: Target, payload: JsonObject, user: str = ADA) -> Came:
    before, rows, words = await to.state(), await to.refusals(), to.words()
    answer = await to.interact(payload)
    view = to.running.slack.open_view(user)
    to.running.slack.workspace.close_views(user)
    opened = str(view.body.get("callback_id", "")) if view is not None else ""
    action = answer.json().get("response_action") if answer.text.startswith("{") else None
    told = to.words() > words or action in {"errors", "update"} or (view is not None and not opened)
    return Came(await to.state() != before, await to.refusals() - rows, told, opened)


def fresh(to: Target, payload: JsonObject, number: int, *, form: bool) -> JsonObject:
    """The payload as if it had not been sent before: Slack gives each gesture a trigger, and each form an id."""
    made = copy.deepcopy(payload)
    if not form:
        return to.fresh(made, ADA)
    if isinstance(made.get("view"), dict) and "id" in made["view"] and isinstance(made["view"]["id"], str):
        made["view"]["id"] = f"V0FRESH{number}"
    return made


@pytest.mark.parametrize("name", GESTURES)
async def test_a_gesture_with_one_field_changed_does_nothing_and_is_audited_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(acting, "POINT_SECONDS", 0)  # nobody draws the thread that an answer would point at
    gesture = GESTURES[name]
    async with recorded(name, tmp_path) as (to, payload):
        tried = [one for one in mutants(payload) if not gesture.harmless(one)]
        assert len(tried) >= 30
        for number, mutant in enumerate(tried[:: 1 if EXHAUSTIVE else 6]):
            known = mutant.place in {("trigger_id",), ("view", "id")}
            form = "view" in payload
            came = await send(to, mutant.payload if known else fresh(to, mutant.payload, number, form=form))
            assert (came.changed, came.opened) == (False, ""), mutant
            if str(mutant) in UNPARSED:
                continue
            # A trigger that Slack doesn't take is said, and no more: a form that was not opened has asked nothing.
            unopened = known and mutant.kind in {"emptied", "changed"}
            assert came.rows == (str(mutant) not in gesture.typed and not unopened), (mutant, came)
            assert came.told == (tellable(mutant) or form) or mutant.place == ("type",), (mutant, came)
        whole = await send(to, fresh(to, payload, len(tried), form="view" in payload))
        assert (whole.changed, whole.opened) == (not gesture.opens, gesture.opens), "the recorded one itself works"


@pytest.mark.parametrize("name", GESTURES)
async def test_nobody_but_a_member_gets_anything_by_a_recorded_gesture(tmp_path: Path, name: str) -> None:
    async with recorded(name, tmp_path) as (to, payload):
        for number, (user, team) in enumerate(NOBODIES):
            forged = fresh(to, payload, number, form="view" in payload) | {"user": {"id": user, "team_id": team}}
            came = await send(to, forged)
            assert came == Came(changed=False, rows=1, told=True, opened=""), (user, team, came)


@pytest.mark.parametrize("name", [TAKE, SILENCE, TUNE])
async def test_a_button_on_a_copy_of_its_message_or_in_another_thread_does_nothing(tmp_path: Path, name: str) -> None:
    async with recorded(name, tmp_path) as (to, payload):
        kinds = ("proposal", "board") if name == TUNE else ("board", "proposal")
        shown, other = (to.running.message(kind) for kind in kinds)
        copied = to.running.slack.workspace.post(OPS, ADA, shown.text, shown.blocks)
        for number, ts in enumerate((copied.ts, other.ts)):
            container = {**payload["container"], "message_ts": ts, "thread_ts": copied.ts}
            came = await send(to, fresh(to, payload | {"container": container}, number, form=False))
            assert came == Came(changed=False, rows=1, told=True, opened=""), (ts, came)


async def closed(to: Target) -> None:
    found = await to.running.store.get(Incident, "inc_1")
    assert found is not None
    async with to.running.store.begin() as tx:
        await tx.put(found.model_copy(update={"state": IncidentState.CLOSED}))
        for proposal in await to.running.store.proposals():
            await tx.put(proposal.model_copy(update={"expires_at": now() - timedelta(seconds=1)}))


@pytest.mark.parametrize("name", [TAKE, HUSH, TUNE, TUNED])
async def test_a_gesture_on_an_old_message_does_nothing(tmp_path: Path, name: str) -> None:
    """Its incident is closed, and the time of its proposal over."""
    async with recorded(name, tmp_path) as (to, payload):
        await closed(to)
        came = await send(to, fresh(to, payload, 1, form="view" in payload))
        assert came == Came(changed=False, rows=1, told=True, opened=""), came


async def test_the_form_of_a_proposal_whose_time_is_over_decides_nothing(tmp_path: Path) -> None:
    async with target(tmp_path) as to:
        form = await recorded_form(to)
        to.running.slack.workspace.close_views(ADA)
        for user in (ADA, "U0GRACE"):
            async with to.running.store.begin() as tx:
                for proposal in await to.running.store.proposals():
                    await tx.put(proposal.model_copy(update={"expires_at": now() - timedelta(seconds=1)}))
            came = await send(to, form | {"user": {"id": user, "team_id": "T0LAB"}}, user)
            assert came == Came(changed=False, rows=1, told=True, opened=""), came
        assert await to.running.store.approvals("prop_1") == []
