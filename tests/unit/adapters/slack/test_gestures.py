"""Payloads of any shape become a record or nothing; never an exception, never another identity."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.adapters.slack import gestures
from bot.model import Choice, Json, JsonObject, SlackUser

CLICK: JsonObject = {
    "type": "block_actions",
    "user": {"id": "U0ADA", "username": "ada", "team_id": "T0LAB"},
    "team": {"id": "T0OTHER"},
    "container": {"type": "message", "message_ts": "1.2", "channel_id": "C0OPS", "thread_ts": "1.1"},
    "trigger_id": "1.abc",
    "actions": [{"action_id": "approve", "value": "btn_1"}],
}
FORM: JsonObject = {
    "user": {"id": "U0ADA", "team_id": "T0LAB"},
    "team": {"id": "T0OTHER"},
    "view": {
        "id": "V1",
        "private_metadata": json.dumps({"button": "btn_1", "choice": "approve"}),
        "state": {
            "values": {"reason": {"reason": {"value": "because"}}, "typed_name": {"typed_name": {"value": "worker"}}}
        },
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Json, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        for name, part in value.items():
            found += paths(part, (*at, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            found += paths(part, (*at, index))
    return found


def replaced(value: JsonObject, path: tuple[str | int, ...], new: Json) -> JsonObject:
    changed = copy.deepcopy(value)
    holder: Json = changed
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = new
    return changed


def test_the_person_is_the_payloads_user_not_its_team() -> None:
    press, form = gestures.press(CLICK), gestures.submission(FORM)
    assert press is not None
    assert press.user == SlackUser(team_id="T0LAB", user_id="U0ADA")
    assert form is not None
    assert form.user == SlackUser(team_id="T0LAB", user_id="U0ADA")
    assert (form.button, form.choice, form.reason, form.typed_name) == ("btn_1", Choice.APPROVE, "because", "worker")


@pytest.mark.parametrize(
    ("held", "ticked"),
    [
        ({"selected_options": [{"value": "break_glass"}]}, True),
        ({"selected_options": []}, False),
        ({"selected_options": [{"value": "yes"}]}, False),
        ({"selected_options": [{"value": "break_glass"}, {"value": "break_glass"}]}, False),
        ({"value": "break_glass"}, False),
        ({"selected_options": None}, False),
    ],
)
def test_only_the_one_box_breaks_the_glass(held: JsonObject, *, ticked: bool) -> None:
    form = gestures.submission(replaced(FORM, ("view", "state", "values", "break_glass"), {"break_glass": held}))
    assert form is not None
    assert form.break_glass is ticked


@given(st.sampled_from(paths(CLICK)), JSON)
def test_a_changed_click_never_raises(path: tuple[str | int, ...], new: Json) -> None:
    press = gestures.press(replaced(CLICK, path, new))
    assert press is None or isinstance(press.button, str)


@given(st.sampled_from(paths(FORM)), JSON)
def test_a_changed_form_never_raises(path: tuple[str | int, ...], new: Json) -> None:
    form = gestures.submission(replaced(FORM, path, new))
    assert form is None or form.choice in Choice


@given(JSON)
def test_a_payload_of_any_shape_never_raises(body: Json) -> None:
    assert gestures.press(body) is None
    assert gestures.submission(body) is None
    assert gestures.command(body) is None


@pytest.mark.parametrize("value", ["x" * 2000, "btn_1" + "y" * 300])
def test_an_oversized_button_is_not_a_button_of_ours(value: str) -> None:
    press = gestures.press(replaced(CLICK, ("actions", 0, "value"), value))
    assert press is not None
    assert not press.single


def test_two_actions_at_once_are_not_a_click() -> None:
    press = gestures.press(replaced(CLICK, ("actions",), CLICK["actions"] * 2))
    assert press is not None
    assert not press.single


@pytest.mark.parametrize("user", ["", "u0ada", "U0ADA ", "<@U0ADA>", "B0BOT", "U" + "A" * 60])
def test_what_is_no_user_id_is_nobody(user: str) -> None:
    assert gestures.press(replaced(CLICK, ("user", "id"), user)) is None
