"""The second factor at its edges: whose clock is off, a code twice, wrong ones too often, nobody's secret."""

from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from pydantic import SecretStr, ValidationError
from pyotp.totp import TOTP

from bot.model import Choice, Factor, RiskClass
from bot.policy import CODE_FAULTS, Reason, asks_code, check_code, enrolment, locked_until, new_secret
from bot.policy.factor import CLOCKS_APART, LOCKED, MOST_WRONG, STEP
from bot.settings import PolicySettings
from tests.integration.store_records import proposal

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
NOW = datetime(2026, 11, 27, 12, 0, 10, tzinfo=UTC)
PERSONS = {"ada": ("U0000ADA",), "bo": ("U00000BO",)}
RULES = PolicySettings.model_validate(
    {"persons": PERSONS, "second_factor": {"secrets": {"ada": SECRET}, "risks": ["destructive"]}}
)
FRESH = Factor(id="ada")


def code(at: datetime = NOW) -> str:
    return TOTP(SECRET).at(at)


def wrong() -> str:
    taken = {code(NOW + timedelta(seconds=STEP * n)) for n in range(-2, 3)}
    return next(text for n in range(10) if (text := f"{n:06d}") not in taken)


def test_codes_are_those_of_the_standard() -> None:
    """RFC 6238, appendix B: SHA-1, at 59 seconds, of the last six of eight digits."""
    standard = PolicySettings.model_validate(
        {"persons": PERSONS, "second_factor": {"secrets": {"ada": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}}}
    )
    left, decision = check_code(FRESH, "287082", standard, datetime.fromtimestamp(59, UTC))
    assert (decision.allowed, left.step) == (True, 1)


@pytest.mark.parametrize(
    ("risk", "choice", "asked"),
    [
        (RiskClass.DESTRUCTIVE, Choice.APPROVE, True),
        (RiskClass.DESTRUCTIVE, Choice.DENY, False),
        (RiskClass.MEDIUM, Choice.APPROVE, False),
    ],
)
def test_a_code_is_asked_for_by_the_risk_of_what_is_approved(risk: RiskClass, choice: Choice, asked: bool) -> None:
    one = proposal().model_copy(update={"risk": risk})
    assert asks_code(one, choice, RULES) is asked
    assert not asks_code(one, choice, PolicySettings())


@pytest.mark.parametrize("steps", range(-CLOCKS_APART - 1, CLOCKS_APART + 2))
def test_a_clock_may_be_off_by_one_step_either_way(steps: int) -> None:
    _, decision = check_code(FRESH, code(NOW + timedelta(seconds=STEP * steps)), RULES, NOW)
    assert decision.allowed is (abs(steps) <= CLOCKS_APART)


def test_a_code_counts_once_and_none_before_it_does_any_more() -> None:
    left, decision = check_code(FRESH, f" {code()} ", RULES, NOW)
    assert decision.allowed
    for again in (code(), code(NOW - timedelta(seconds=STEP))):
        same, refused = check_code(left, again, RULES, NOW)
        assert (same, refused.reason) == (left, Reason.USED_CODE)
    later = NOW + timedelta(seconds=STEP)
    assert check_code(left, code(later), RULES, later)[1].allowed


@pytest.mark.parametrize("sent", ["", "12345", "1234567", "abcdef", "１２３４５６", "🙂"])
def test_what_is_no_code_is_a_wrong_one(sent: str) -> None:
    left, decision = check_code(FRESH, sent, RULES, NOW)
    assert (decision.reason, left.wrong, left.step) == (Reason.WRONG_CODE, (NOW,), 0)


def test_five_wrong_codes_lock_a_person_out_even_with_the_right_one_until_ten_minutes_are_over() -> None:
    left = FRESH
    for second in range(MOST_WRONG):
        left, decision = check_code(left, wrong(), RULES, NOW + timedelta(seconds=second))
        assert decision.reason is Reason.WRONG_CODE
    last = NOW + timedelta(seconds=MOST_WRONG - 1)
    for at in (last, last + LOCKED - timedelta(seconds=MOST_WRONG)):
        same, decision = check_code(left, code(at), RULES, at)
        assert (same.step, decision.reason) == (0, Reason.LOCKED)
        assert "12:10:14 UTC" in decision.sentence
    at = NOW + LOCKED
    left, decision = check_code(left, code(at), RULES, at)
    assert decision.allowed
    assert left.wrong == ()


def test_a_clock_that_is_set_back_locks_nobody_out_for_longer() -> None:
    left = Factor(id="ada", wrong=(NOW + timedelta(days=1),) * MOST_WRONG)
    assert check_code(left, code(), RULES, NOW)[1].allowed


def test_who_has_no_secret_approves_nothing_that_asks_for_a_code() -> None:
    left, decision = check_code(Factor(id="bo"), code(), RULES, NOW)
    assert (left, decision.reason) == (Factor(id="bo"), Reason.NO_FACTOR)
    assert "natsmedic policy enrol" in decision.sentence


def test_where_the_settings_know_no_second_factor_nobody_has_one() -> None:
    left, decision = check_code(FRESH, code(), PolicySettings(), NOW)
    assert (left, decision.reason) == (FRESH, Reason.NO_FACTOR)


def test_no_secret_is_shown_by_the_settings() -> None:
    assert SECRET not in repr(RULES)
    assert SECRET not in RULES.model_dump_json()


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({"cy": SECRET}, "unknown person 'cy'"),
        ({"ada": "not base32!"}, "no secret of an authenticator"),
        ({"ada": "JBSWY3DPEHPK3PXP"}, "at least 16 bytes"),
    ],
)
def test_a_secret_of_nobody_or_too_short_a_one_is_refused_at_the_start(secrets: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        PolicySettings.model_validate({"persons": PERSONS, "second_factor": {"secrets": secrets}})
    assert said in str(error.value.errors())
    assert not any(secret in str(error.value.errors(include_input=False)) for secret in secrets.values())


def test_an_enrolment_is_what_an_authenticator_reads() -> None:
    secret = new_secret()
    assert SecretStr(secret) != SecretStr(new_secret())
    read = pyotp.parse_uri(enrolment("ada", secret))
    assert isinstance(read, TOTP)
    assert (read.secret, read.name, read.issuer, read.interval, read.digits) == (secret, "ada", "natsmedic", 30, 6)


def test_a_lock_begins_with_the_last_wrong_code_it_takes_and_ends_after_its_time() -> None:
    lately = tuple(NOW - timedelta(seconds=n) for n in range(MOST_WRONG))
    assert locked_until(FRESH.model_copy(update={"wrong": lately[1:]}), NOW) is None
    locked = FRESH.model_copy(update={"wrong": lately})
    assert locked_until(locked, NOW) == NOW + LOCKED
    oldest = min(lately)
    assert locked_until(locked, oldest + LOCKED - timedelta(microseconds=1)) == NOW + LOCKED
    assert locked_until(locked, oldest + LOCKED) is None


ENROL = "so nothing that asks for a code can be approved. `natsmedic policy enrol` makes one."


def test_what_is_wrong_with_a_code_is_said_word_for_word() -> None:
    used, _ = check_code(FRESH, code(), RULES, NOW)
    given = ((FRESH, "0"), (used, code()), (Factor(id="bo"), "0"))
    assert [check_code(known, sent, RULES, NOW)[1].sentence for known, sent in given] == [
        "That is not the code of now. Type the six digits that your authenticator shows.",
        "That code was used already. Wait for the next one.",
        f"`policy.second_factor.secrets` has none for bo, {ENROL}",
    ]


def test_whatever_is_wrong_with_a_code_is_a_matter_of_its_field() -> None:
    used, _ = check_code(FRESH, code(), RULES, NOW)
    locked = Factor(id="ada", wrong=(NOW,) * MOST_WRONG)
    given = ((FRESH, "0"), (used, code()), (Factor(id="bo"), "0"), (locked, code()))
    assert {check_code(known, sent, RULES, NOW)[1].reason for known, sent in given} == CODE_FAULTS
