"""Who may do what. Pure: facts in, a named decision out. An empty list means nobody (design/safety.md, Approving)."""

from bot.policy.applying import still_valid
from bot.policy.decision import Decision, Reason
from bot.policy.escalation import escalates_at, next_call
from bot.policy.explaining import Answered, Explanation, explain
from bot.policy.factor import (
    CODE_FAULTS,
    WITHOUT_CODE,
    asks_code,
    check_code,
    enrolment,
    lacks_code,
    locked_until,
    new_secret,
)
from bot.policy.form import SAY_WHY, check_form, typed_name
from bot.policy.groups import Standing, approver_groups, groups_for, required_groups, standing, stands_in
from bot.policy.membership import explicit_groups
from bot.policy.people import identity, may_freeze, may_lift, may_run, may_withdraw
from bot.policy.rules import decide
from bot.policy.windows import opens_at

__all__ = [
    "CODE_FAULTS",
    "SAY_WHY",
    "WITHOUT_CODE",
    "Answered",
    "Decision",
    "Explanation",
    "Reason",
    "Standing",
    "approver_groups",
    "asks_code",
    "check_code",
    "check_form",
    "decide",
    "enrolment",
    "escalates_at",
    "explain",
    "explicit_groups",
    "groups_for",
    "identity",
    "lacks_code",
    "locked_until",
    "may_freeze",
    "may_lift",
    "may_run",
    "may_withdraw",
    "new_secret",
    "next_call",
    "opens_at",
    "required_groups",
    "standing",
    "stands_in",
    "still_valid",
    "typed_name",
]
