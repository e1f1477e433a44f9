"""A second factor at the desk: what is asked for, what is remembered of a code, and the lock-out, word for word."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pyotp.totp import TOTP

from bot.flow.approval import Answer, Form
from bot.model import Choice, Factor
from bot.settings.policy import FactorSettings
from tests.integration import test_approval_desk as desk_support
from tests.integration.store_records import NOW
from tests.integration.test_approval_desk import house
from tests.integration.test_desk_record import OPERATOR, OWNER, decide, refused, rows

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def code_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    factor = FactorSettings.model_validate({"secrets": {OPERATOR: SECRET}})
    monkeypatch.setattr(desk_support, "RULES", desk_support.RULES.model_copy(update={"second_factor": factor}))


async def test_a_code_is_asked_for_told_at_its_field_and_used_up(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        approve, deny = await h.desk.open(h.click(OPERATOR)), await h.desk.open(h.click(OPERATOR, Choice.DENY))
        assert isinstance(approve, Form)
        assert isinstance(deny, Form)
        assert (approve.ask_code, deny.ask_code) == (True, False)
        without = await decide(h)
        said = "That is not the code of now. Type the six digits that your authenticator shows."
        assert without == Answer(accepted=False, sentence="", errors={"code": said})
        assert await rows(h) == [refused("wrong_code", said)]
        assert await h.store.get(Factor, OPERATOR) == Factor(id=OPERATOR, wrong=(NOW,))
        assert await h.store.approvals("prop_1") == []
        h.clock.time += timedelta(seconds=1)
        code = TOTP(SECRET).at(h.clock.now())
        answer = await h.desk.decide(h.click(OPERATOR), "it is stuck", "ORDERS", code)
        assert answer.accepted
        (kept,) = await h.store.approvals("prop_1")
        assert kept.factor
        assert await h.store.get(Factor, OPERATOR) == Factor(id=OPERATOR, step=int(NOW.timestamp()) // 30)
        owner = await h.desk.decide(h.click(OWNER), "it is stuck", "ORDERS", code)
        assert (owner.accepted, owner.errors) == (False, {})
        assert (await rows(h))[-1][5]["code"] == "no_second_factor"
        assert await h.store.get(Factor, OWNER) is None


async def test_a_denial_needs_no_code_and_is_on_record_without_one(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        assert (await decide(h, choice=Choice.DENY)).accepted
        (kept,) = await h.store.approvals("prop_1")
        assert not kept.factor


async def test_a_lock_out_is_on_record_once_with_its_end(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        answers = [await decide(h) for _ in range(7)]
        wrong = "That is not the code of now. Type the six digits that your authenticator shows."
        locked = "5 codes were wrong; no further one is looked at until 08:10:00 UTC."
        assert [answer.errors["code"] for answer in answers] == [*[wrong] * 5, *[locked] * 2]
        sentence = "5 codes of U2 were wrong: no further one is looked at until 08:10:00 UTC."
        data = {"person": OPERATOR, "wrong": 5, "until": (NOW + timedelta(minutes=10)).isoformat()}
        assert [row for row in await rows(h) if row[0] != "click.refused"] == [
            ("factor.locked", "bot", "inc_1", OPERATOR, sentence, data)
        ]
