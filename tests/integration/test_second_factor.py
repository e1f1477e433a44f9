"""Codes at the desk, in Slack's form and in the terminal: what is recorded, and that nothing else is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyotp.totp import TOTP
from typer.testing import CliRunner

from bot.cli.root import app
from bot.flow.approval import Answer, Form
from bot.model import AuditEntry, Factor, ProposalState
from bot.policy.factor import LOCKED
from bot.settings.policy import FactorSettings
from tests.integration import slack_adapter_support as support
from tests.integration import test_approval_desk as desk_support
from tests.integration.slack_adapter_support import ADA, APPROVAL, offer, press, state, told

SECRETS = {"U2": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "U1": "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"}


async def locked(h: desk_support.House) -> list[AuditEntry]:
    return [row for row in await h.store.audit_entries() if row.kind == "factor.locked"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    factor = FactorSettings.model_validate({"secrets": SECRETS})
    monkeypatch.setattr(desk_support, "RULES", desk_support.RULES.model_copy(update={"second_factor": factor}))


@pytest.mark.usefixtures("asked")
async def test_two_codes_of_two_people_start_it_and_without_them_nothing_is_recorded(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        form = await h.desk.open(h.click("U2"))
        assert isinstance(form, Form)
        assert form.ask_code
        for code in ("", "000000", "not a code"):
            answer = await h.desk.decide(h.click("U2"), "checked", "ORDERS", code)
            assert (answer.accepted, set(answer.errors)) == (False, {"code"})
        assert await h.store.approvals(h.proposal.id) == []
        for user in ("U2", "U1"):
            code = TOTP(SECRETS[user]).at(h.clock.now())
            assert (await h.desk.decide(h.click(user), "checked", "ORDERS", code)).accepted
        assert await h.state() is ProposalState.APPROVED
        assert await h.refusals() == ["wrong_code"] * 3
        kept = await h.store.get(Factor, "U2")
        assert kept is not None
        assert (kept.step > 0, kept.wrong) == (True, ())


@pytest.mark.usefixtures("asked")
async def test_a_guesser_is_locked_out_and_the_lock_outlasts_a_restart(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        for _ in range(5):
            await h.desk.decide(h.click("U2"), "checked", "ORDERS", "000000")
        right = TOTP(SECRETS["U2"]).at(h.clock.now())
        answer = await h.desk.decide(h.click("U2"), "checked", "ORDERS", right)
        assert "no further one is looked at" in answer.errors["code"]
        kept = await h.store.get(Factor, "U2")
        assert kept is not None
        assert len(kept.wrong) == 5
        assert await h.refusals() == [*["wrong_code"] * 5, "locked_out"]


@pytest.mark.usefixtures("asked")
async def test_a_lock_out_is_one_row_that_names_the_person_and_its_end(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        for wrong in range(7):
            assert len(await locked(h)) == (wrong >= 5)
            await h.desk.decide(h.click("U2"), "checked", "ORDERS", "000000")
        (row,) = await locked(h)
        assert (row.actor, row.subject, row.incident_id) == ("bot", "U2", h.proposal.incident_id)
        assert row.data == {"person": "U2", "wrong": 5, "until": (h.clock.now() + LOCKED).isoformat()}
        h.clock.time += LOCKED
        later = h.proposal.model_copy(update={"id": "prop_2", "button": "btn_2", "expires_at": h.clock.now() + LOCKED})
        async with h.store.begin() as tx:
            await tx.put(later)
        for _ in range(5):
            await h.desk.decide(h.click("U2", button="btn_2"), "checked", "ORDERS", "000000")
        assert len(await locked(h)) == 2, "a lock that begins anew is told anew"


async def test_who_has_no_secret_is_refused_before_any_form_and_it_is_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factor = FactorSettings.model_validate({"secrets": {"U1": SECRETS["U1"]}})
    monkeypatch.setattr(desk_support, "RULES", desk_support.RULES.model_copy(update={"second_factor": factor}))
    async with desk_support.house(tmp_path) as h:
        answer = await h.desk.open(h.click("U2"))
        assert isinstance(answer, Answer)
        assert "`policy.second_factor.secrets` has none for U2" in answer.sentence
        code = TOTP(SECRETS["U1"]).at(h.clock.now())
        assert not (await h.desk.decide(h.click("U2"), "checked", "ORDERS", code)).accepted
        assert await h.refusals() == ["no_second_factor"] * 2
        assert await h.store.get(Factor, "U2") is None


@pytest.mark.usefixtures("asked")
async def test_another_persons_code_is_a_wrong_one_and_is_not_used_up_by_it(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        theirs = TOTP(SECRETS["U1"]).at(h.clock.now())
        answer = await h.desk.decide(h.click("U2"), "checked", "ORDERS", theirs)
        assert set(answer.errors) == {"code"}
        assert await h.refusals() == ["wrong_code"]
        assert (await h.desk.decide(h.click("U1"), "checked", "ORDERS", theirs)).accepted


@pytest.mark.usefixtures("asked")
async def test_a_code_that_was_seen_over_a_shoulder_counts_for_no_other_proposal(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        code = TOTP(SECRETS["U2"]).at(h.clock.now())
        assert (await h.desk.decide(h.click("U2"), "checked", "ORDERS", code)).accepted
        second = h.proposal.model_copy(update={"id": "prop_2", "button": "btn_2"})
        async with h.store.begin() as tx:
            await tx.put(second)
        answer = await h.desk.decide(h.click("U2", button="btn_2"), "checked", "ORDERS", code)
        assert "used already" in answer.errors["code"]


@pytest.mark.usefixtures("asked")
async def test_no_code_is_in_the_audit_log_or_anywhere_else_in_the_database(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        code = TOTP(SECRETS["U2"]).at(h.clock.now())
        await h.desk.decide(h.click("U2"), "checked", "ORDERS", "918273")
        await h.desk.decide(h.click("U2"), "checked", "ORDERS", code)
        texts = [entry.model_dump_json() for entry in await h.store.audit_entries()]
        kept = await h.store.get(Factor, "U2")
        assert kept is not None
        assert not [text for text in (*texts, kept.model_dump_json()) if "918273" in text or f'"{code}"' in text]


async def test_the_form_in_slack_asks_for_the_code_and_says_what_is_wrong_at_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factor = FactorSettings.model_validate({"secrets": {"ada": SECRETS["U2"]}})
    rules = support.RULES.model_copy(update={"second_factor": factor, "persons": {"ada": (ADA,)}})
    monkeypatch.setattr(support, "RULES", rules)
    async with support.house(tmp_path) as running:
        await offer(running)
        await press(running, ADA)
        await running.until(lambda: running.slack.open_view(ADA) is not None)
        view = running.slack.open_view(ADA)
        assert view is not None
        fields = [block["block_id"] for block in view.body["blocks"] if block["type"] == "input"]
        assert fields == ["typed_name", "code", "reason"]
        refused = await running.slack.person.submit(ADA, APPROVAL | {"code": "000000"})
        assert "not the code of now" in str(refused)
        assert await state(running) is ProposalState.PENDING
        code = TOTP(SECRETS["U2"]).now()
        assert (await running.slack.person.submit(ADA, APPROVAL | {"code": code})).ok
        assert "1 of 2" in await told(running, ADA)


def test_an_enrolment_prints_a_secret_and_its_picture_and_keeps_neither() -> None:
    runner = CliRunner()
    outputs = [runner.invoke(app, ["policy", "enrol", "--person", "ada"]) for _ in range(2)]
    assert [one.exit_code for one in outputs] == [0, 0]
    secrets = [one.output.rsplit("\n", 2)[-2] for one in outputs]
    assert len({*secrets}) == 2
    assert all(
        len(secret) == 32 and f"secrets.ada\n{secret}" in one.output
        for secret, one in zip(secrets, outputs, strict=True)
    )
