"""Messages from stored cases: within Slack's limits, inert whatever the data says, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.adapters.slack.blocks import fit, paragraph, rich, text
from bot.adapters.slack.modals import decision_form, details_view, sentence_view
from bot.adapters.slack.render import render
from bot.adapters.slack.render_board import board
from bot.adapters.slack.render_proposal import plan_text
from bot.adapters.slack.text import weight
from bot.adapters.slack.wanted import Case, ProposalCase, WantedMessage
from bot.adapters.visible import visible
from bot.flow.approval import Form
from bot.lab.slack.limits import BLOCKS_TEXT_SUM_MAX, block_text_length, check_message, check_view
from bot.lab.slack.methods_views import FILE_ALT_TEXT_MAX
from bot.model import (
    TERMINAL,
    Choice,
    ExecutionState,
    IncidentState,
    Json,
    JsonObject,
    Patch,
    ProposalState,
    RiskClass,
    SlackUser,
    Subject,
)
from bot.policy import WITHOUT_CODE
from bot.settings import PolicySettings
from tests.exhaustive import EXHAUSTIVE
from tests.unit.adapters.slack.slack_records import RULES, approval, case, diagnosis, execution, incident, proposal
from tests.unit.charts import matrix

CORPUS = [
    "<!channel>",
    "<!here|here> <@U0ADA> <#C0OPS> <!subteam^S0OWN>",
    "<http://evil.example|https://grafana.internal>",
    "&lt;!channel&gt;",
    "```\n*bold* _it_ ~no~ `code`\n> quote",
    "\u202etxt.exe \u200b\u2066 \x00 \x1b[31m",
    "{{7*7}} ${HOME} %(x)s {0.__class__}",
    ":white_check_mark: VERIFIED",
    "<!date^1^{date}^http://evil.example|x>",
    "&" * 5000,
    "x" * 1_048_576,
    "\U0001f600" * 9000,
    "",
]
WORDS = st.one_of(st.sampled_from(CORPUS), st.text(max_size=200), st.text(alphabet="<>&!@^#|{}\u202e\n", max_size=80))
EXAMPLES = 400 if EXHAUSTIVE else 8
"""Each draws a whole thread."""
LIGHT = 2**16
"""Characters of all stages beyond two: eighty stages of megabytes take a minute to digest, and what stands in each is cut before it is shown."""
OUR_DATE = re.compile(r"<!date\^\d+\^(\{date_short_pretty\} )?\{time\}\|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC>")


def tokens(mrkdwn: str) -> list[str]:
    """A small mrkdwn tokeniser: everything between < and > is a mention, a link or a command."""
    return re.findall(r"<[^<>]*>", mrkdwn)


def objects(value: Json) -> Iterator[JsonObject]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from objects(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from objects(part)


def assert_inert(blocks: Json, fallback: str, people: set[str]) -> None:
    assert "<" not in fallback
    assert ">" not in fallback
    for one in objects(list(blocks)):
        kind = one.get("type")
        assert kind not in {"link", "usergroup", "channel", "broadcast", "emoji", "image", "markdown"}
        assert "url" not in one
        assert "image_url" not in one
        if kind == "user":
            assert one["user_id"] in people
        if kind == "mrkdwn":
            assert OUR_DATE.sub("", one["text"]) == re.sub(r"<[^<>]*>", "", one["text"])
            assert all(OUR_DATE.fullmatch(token) for token in tokens(one["text"]))
        if kind == "plain_text":
            assert one["emoji"] is False
        for shown in (one.get("text"), one.get("alt_text")):
            if isinstance(shown, str):
                assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\ufeff\x00-\x08\x0b-\x1f]", shown)


def borne(words: str, stages: int) -> int:
    """How many of these stages a draw may have, all of them where everything is asked for."""
    return stages if EXHAUSTIVE else min(stages, 2 + LIGHT // (len(words) + 1))


def message(messages: tuple[WantedMessage, ...], kind: str) -> WantedMessage:
    return next(one for one in messages if one.key.startswith(f"{kind}:"))


def flat(wanted: WantedMessage) -> str:
    shown = [one["text"] for one in objects(list(wanted.blocks)) if isinstance(one.get("text"), str)]
    return " ".join(shown)


def buttons(wanted: WantedMessage) -> list[str]:
    return [one["action_id"] for one in objects(list(wanted.blocks)) if one.get("type") == "button"]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    words=WORDS,
    count=st.integers(0, 40),
    stages=st.integers(0, 30),
    state=st.sampled_from(list(ProposalState)),
)
def test_every_message_is_inert_and_within_slacks_limits(
    words: str, count: int, stages: int, state: ProposalState
) -> None:
    for wanted in render(case(words, count, borne(words, stages), state), RULES):
        check_message(list(wanted.blocks), [])
        assert block_text_length(list(wanted.blocks)) <= BLOCKS_TEXT_SUM_MAX
        assert weight(wanted.text) <= 40_000
        assert len(wanted.text) <= 4_000
        assert wanted.text
        assert_inert(wanted.blocks, wanted.text, {"U0ADA"})
        if wanted.file is not None:
            assert len(wanted.file.alt) <= FILE_ALT_TEXT_MAX
            assert len(wanted.file.title) <= FILE_ALT_TEXT_MAX
            assert visible(wanted.file.title + wanted.file.alt) == wanted.file.title + wanted.file.alt
            assert re.fullmatch(r"[a-z0-9_.-]+", wanted.file.name)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=WORDS, stages=st.integers(1, 80))
def test_every_dialog_is_inert_and_within_slacks_limits(words: str, stages: int) -> None:
    offered = proposal(words, stages=borne(words, stages))
    form = Form(proposal=offered, typed_name=words or None, may_break=True)
    entry = ProposalCase(offered, (approval(offered, words),))
    for view in (
        decision_form(form, Choice.APPROVE),
        decision_form(form, Choice.DENY),
        details_view(entry, RULES),
        sentence_view("Approve", words),
    ):
        check_view(view)
        assert_inert(view["blocks"], "", {"U0ADA"})


@pytest.mark.parametrize("words", CORPUS)
def test_a_user_id_that_is_none_is_shown_as_text(words: str) -> None:
    offered = proposal()
    entry = ProposalCase(offered, (approval(offered, user=words or "?"),))
    shown = message(render(Case(incident(), (diagnosis(),), (entry,)), RULES), "proposal")
    assert not [one for one in objects(list(shown.blocks)) if one.get("type") == "user"]


def test_the_parent_comes_first_and_a_run_follows_its_proposal() -> None:
    kinds = [one.key.partition(":")[0] for one in render(case("words"), RULES)]
    assert kinds == ["board", "verdict", "picture", "evidence", "proposal", "execution"]


@pytest.mark.parametrize("state", list(ProposalState))
def test_buttons_stand_only_on_a_pending_proposal(state: ProposalState) -> None:
    shown = message(render(case("words", state=state), RULES), "proposal")
    expected = ["approve", "deny", "details"] if state is ProposalState.PENDING else []
    assert buttons(shown) == expected


def test_guidance_for_people_has_no_buttons_and_shows_the_commands() -> None:
    shown = message(render(case("nats consumer info ORDERS worker", stages=0), RULES), "proposal")
    assert buttons(shown) == []
    assert "nats consumer info ORDERS worker\nnats consumer info ORDERS worker" in flat(shown)


def test_a_button_carries_the_opaque_id_and_nothing_else() -> None:
    shown = message(render(case("words"), RULES), "proposal")
    assert {one.get("value") for one in objects(list(shown.blocks)) if one.get("type") == "button"} == {"btn_opaque"}


def test_the_board_counts_approvals_and_names_the_expiry() -> None:
    shown = board(case("words"), RULES)
    assert "1 of 2 approvals" in flat(shown)
    assert "<!date^" in flat(shown)


def test_who_decided_in_the_terminal_is_named_without_a_mention() -> None:
    offered = proposal()
    by_hand = approval(offered).model_copy(
        update={"user": SlackUser(team_id=TERMINAL, user_id="adal"), "person": "ada"}
    )
    shown = message(render(Case(incident(), (diagnosis(),), (ProposalCase(offered, (by_hand,)),)), RULES), "proposal")
    assert "ada (terminal)" in flat(shown)
    assert not [one for one in objects(list(shown.blocks)) if one.get("type") == "user"]


def test_an_approval_of_another_version_counts_nothing_and_says_so() -> None:
    offered = proposal()
    old = approval(offered).model_copy(update={"proposal_digest": "0" * 64})
    shown = render(Case(incident(), (diagnosis(),), (ProposalCase(offered, (old,)),)), RULES)
    assert "0 of 2 approvals" in flat(message(shown, "board"))
    assert "void: given for another version" in flat(message(shown, "proposal"))


def test_an_approval_that_was_voided_says_why() -> None:
    offered = proposal()
    void = approval(offered).model_copy(update={"void": WITHOUT_CODE})
    shown = render(Case(incident(), (diagnosis(),), (ProposalCase(offered, (void,)),)), RULES)
    assert "0 of 2 approvals" in flat(message(shown, "board"))
    assert f"(void: {WITHOUT_CODE})" in flat(message(shown, "proposal"))


def test_nobody_may_approve_where_the_policy_names_nobody() -> None:
    shown = render(case("words"), PolicySettings())
    assert "nobody may approve it" in flat(message(shown, "board"))
    assert "Nobody may approve this" in flat(message(shown, "proposal"))


def test_the_board_never_calls_cleared_by_the_sender_verified() -> None:
    shown = board(Case(incident(state=IncidentState.CLEARED)), RULES)
    assert "Cleared by the sender, not verified" in flat(shown)


def test_an_unknown_outcome_is_said_even_when_the_sender_has_cleared() -> None:
    entry = ProposalCase(proposal(state=ProposalState.UNKNOWN), (), execution(state=ExecutionState.UNKNOWN))
    shown = board(Case(incident(state=IncidentState.CLEARED), (diagnosis(),), (entry,)), RULES)
    assert "Outcome unknown" in flat(shown)


def test_unknown_facts_are_listed_as_unknown() -> None:
    shown = message(render(case("words"), RULES), "verdict")
    assert "Unknown, could not be read" in flat(shown)
    assert "and 3 more, all in the evidence" in flat(shown)


def test_a_long_diff_is_cut_with_a_mark_and_attached_whole() -> None:
    diff = "-max_ack_pending: 1\n+max_ack_pending: 2\n" * 400
    messages = render(case(diff, stages=1), RULES)
    assert "(cut, " in flat(message(messages, "proposal"))
    attached = message(messages, "plan").file
    assert attached is not None
    assert attached.text is not None
    assert diff in attached.text


def test_a_short_plan_is_not_attached() -> None:
    assert not [one for one in render(case("words"), RULES) if one.key.startswith("plan:")]


def test_files_that_the_guidance_speaks_of_are_attached_whole_and_once() -> None:
    made = case("words")
    (entry, *others) = made.proposals
    patches = (Patch(name="nats-values.yaml", text="container: <!channel>\n"), Patch(name="more.yaml", text="x"))
    offered = entry.proposal.model_copy(update={"patches": patches})
    found = [
        one
        for one in render(replace(made, proposals=(replace(entry, proposal=offered), *others)), RULES)
        if one.key.startswith("patch:")
    ]
    files = [one.file for one in found]
    assert [(f.title, f.text) for f in files if f] == [(p.name, p.text) for p in patches]
    assert len({f.name for f in files if f}) == 2, "a file is found again by its name"
    assert all(offered.id in one.text and "<!channel>" not in one.text for one in found)


def test_the_plan_file_names_the_digest() -> None:
    offered = proposal()
    assert offered.digest in plan_text(offered)


def test_the_digest_is_shown_to_be_compared_by_eye() -> None:
    shown = message(render(case("words"), RULES), "proposal")
    assert f"digest {proposal('words').digest[:12]}" in flat(shown)


def test_numbers_are_shown_before_and_after() -> None:
    assert "ack floor" in flat(message(render(case("words"), RULES), "execution"))
    assert "90 → 95" in flat(message(render(case("words"), RULES), "execution"))


def test_the_same_case_gives_the_same_digests() -> None:
    first, second = (render(case("words"), RULES) for _ in range(2))
    assert [one.digest for one in first] == [one.digest for one in second]


def test_fit_cuts_the_longest_text_and_leaves_short_ones_whole() -> None:
    kept, cut = fit([rich(paragraph(text("short"))), rich(paragraph(text("y" * 2_000)))], budget=500)
    assert cut
    shown = [one["text"] for one in objects(list(kept)) if isinstance(one.get("text"), str)]
    assert shown[0] == "short"
    assert sum(weight(one) for one in shown) <= 500


def test_a_risk_without_a_second_group_can_not_be_approved() -> None:
    rules = RULES.model_copy(update={"approvers": {RiskClass.DESTRUCTIVE: ("operators",)}})
    assert "Nobody may approve this" in flat(message(render(case("words"), rules), "proposal"))


def test_pictures_stand_between_the_verdict_and_the_archive() -> None:
    keys = [one.key for one in render(case("words"), RULES)]
    assert keys[1:4] == ["verdict:diag_1", "picture:diag_1:1", "evidence:diag_1"]


@pytest.mark.parametrize(
    ("shown", "pictures"),
    [
        (("0/4", "0/4"), ["picture:d0:1"]),
        (("0/4", "1/4"), ["picture:d0:1", "picture:d1:1"]),
        (("0/4", "1/4", "0/4"), ["picture:d0:1", "picture:d1:1", "picture:d2:1"]),
        (("0/4", None, "0/4"), ["picture:d0:1", "picture:d2:1"]),
    ],
)
def test_a_picture_is_wanted_where_it_differs_from_the_last_one_of_its_kind(
    shown: tuple[str | None, ...], pictures: list[str]
) -> None:
    diagnoses = tuple(
        diagnosis().model_copy(update={"id": f"d{n}", "charts": (matrix(text=text),) if text else ()})
        for n, text in enumerate(shown)
    )
    keys = [one.key for one in render(Case(incident(), diagnoses), RULES)]
    assert [key for key in keys if key.startswith("picture:")] == pictures


def test_a_diagnosis_that_read_nothing_does_not_bring_a_picture_back() -> None:
    seen = diagnosis().model_copy(update={"charts": (matrix(),)})
    blind = seen.model_copy(update={"id": "d1", "charts": (), "snapshot_id": None})
    again = seen.model_copy(update={"id": "d2"})
    keys = [one.key for one in render(Case(incident(), (seen, blind, again)), RULES)]
    assert [key for key in keys if key.startswith("picture:")] == ["picture:diag_1:1"]


def test_charts_of_two_subjects_are_two_pictures() -> None:
    one, other = matrix(), matrix().model_copy(update={"subject": Subject(cluster="other")})
    told = diagnosis().model_copy(update={"charts": (one, other)})
    assert [m.key for m in render(Case(incident(), (told,)), RULES) if m.file and m.file.chart] == [
        "picture:diag_1:1",
        "picture:diag_1:2",
    ]
