"""The second factor: a time-based one-time password (RFC 6238), six digits of 30 seconds each. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import pyotp
from pydantic import SecretStr
from pyotp.totp import TOTP

from bot.model import Approval, Choice, Factor, Proposal
from bot.policy.decision import ALLOWED, Decision, Reason, no, yes
from bot.settings import PolicySettings

STEP: Final = 30
"""Seconds that a code holds (RFC 6238, 5.2)."""
DIGITS: Final = 6
CLOCKS_APART: Final = 1
"""Steps that a person's clock may be off, either way (RFC 6238, 5.2)."""
MOST_WRONG: Final = 5
"""Wrong codes within `LOCKED` after which a person is locked out: guessing 5 of a million codes in 10 minutes takes years."""
LOCKED: Final = timedelta(minutes=10)


WITHOUT_CODE: Final = "given without a code of a second factor, which policy asks for now"
"""Why such an approval is void."""
CODE_FAULTS: Final = frozenset({Reason.NO_FACTOR, Reason.WRONG_CODE, Reason.USED_CODE, Reason.LOCKED})
"""What is said at the field of the code."""


def asks_code(proposal: Proposal, choice: Choice, rules: PolicySettings) -> bool:
    """Return whether whoever decides so must send a code."""
    return choice is Choice.APPROVE and rules.second_factor is not None and proposal.risk in rules.second_factor.risks


def lacks_code(approval: Approval, proposal: Proposal, rules: PolicySettings) -> bool:
    """Return whether it was given without the code that policy asks for now (design/safety.md, Approving 1: authority is that of the moment of use)."""
    return asks_code(proposal, approval.choice, rules) and not approval.factor


def check_code(known: Factor, code: str, rules: PolicySettings, now: datetime) -> tuple[Factor, Decision]:
    """Judge a person's code; return what is to be remembered from then on, whatever the outcome, and the outcome."""
    secret = _secrets(rules).get(known.id)
    if secret is None:
        return known, has_factor(known.id, rules)
    lately = _lately(known, now)
    known = known.model_copy(update={"wrong": lately})
    if (until := locked_until(known, now)) is not None:
        return known, no(
            Reason.LOCKED, f"{len(lately)} codes were wrong; no further one is looked at until {until:%H:%M:%S} UTC."
        )
    step = _step_of(secret.get_secret_value(), code.strip(), now)
    if step is None:
        return known.model_copy(update={"wrong": (*lately, now)}), no(
            Reason.WRONG_CODE, "That is not the code of now. Type the six digits that your authenticator shows."
        )
    if step <= known.step:
        return known, no(Reason.USED_CODE, "That code was used already. Wait for the next one.")
    return Factor(id=known.id, step=step), ALLOWED


def locked_until(known: Factor, now: datetime) -> datetime | None:
    """Return until when no code of this person is looked at; None where the next one is."""
    lately = _lately(known, now)
    return max(lately) + LOCKED if len(lately) >= MOST_WRONG else None


def has_factor(person: str, rules: PolicySettings) -> Decision:
    """Decide whether a person could send a code at all."""
    if person in _secrets(rules):
        return yes("The settings have a secret for the person's authenticator.")
    sentence = f"`policy.second_factor.secrets` has none for {person}, so nothing that asks for a code can be approved. `natsmedic policy enrol` makes one."
    return no(Reason.NO_FACTOR, sentence)


def new_secret() -> str:
    """Return a secret of 160 bits in base32 (RFC 4226, 4 R6)."""
    return pyotp.random_base32(32)


def enrolment(person: str, secret: str) -> str:
    """Return what an authenticator reads from a QR code."""
    return _totp(secret).provisioning_uri(name=person, issuer_name="natsmedic")


def _totp(secret: str) -> TOTP:
    return TOTP(secret, digits=DIGITS, interval=STEP)


def _secrets(rules: PolicySettings) -> Mapping[str, SecretStr]:
    return rules.second_factor.secrets if rules.second_factor is not None else {}


def _lately(known: Factor, now: datetime) -> tuple[datetime, ...]:
    return tuple(at for at in known.wrong if at <= now < at + LOCKED)


def _step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the step whose code this is; every one is compared, in constant time."""
    present, otp = int(now.timestamp()) // STEP, _totp(secret)
    steps: Sequence[int] = range(present - CLOCKS_APART, present + CLOCKS_APART + 1)
    found = [step for step in steps if hmac.compare_digest(otp.generate_otp(step).encode(), code.encode())]
    return found[-1] if found else None
