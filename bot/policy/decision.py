"""A decision and its named reason."""

from __future__ import annotations

from enum import StrEnum

from bot.model import Record


class Reason(StrEnum):
    """Why somebody is refused; `allowed` is the only yes."""

    ALLOWED = "allowed"
    LOOKUP_FAILED = "lookup_failed"
    NOT_HUMAN = "not_human"
    INACTIVE = "inactive"
    GUEST = "guest"
    FOREIGN_WORKSPACE = "foreign_workspace"
    NOBODY = "nobody_may_approve"
    NOT_AN_APPROVER = "not_an_approver"
    NO_BREAK_GLASS = "may_not_break_the_glass"
    OWN_REQUEST = "own_request"
    ALREADY_DECIDED = "already_decided"
    NOT_NEEDED = "groups_already_covered"
    NOT_PENDING = "not_pending"
    EXPIRED = "expired"
    NOTHING_TO_RUN = "nothing_to_run"
    OUTSIDE_WINDOW = "outside_change_window"
    WRONG_NAME = "wrong_typed_name"
    NO_REASON = "no_reason"
    NO_FACTOR = "no_second_factor"
    WRONG_CODE = "wrong_code"
    USED_CODE = "used_code"
    LOCKED = "locked_out"


class Decision(Record):
    """`sentence` is for the person alone: why not, or, in an explanation, why."""

    reason: Reason
    sentence: str

    @property
    def allowed(self) -> bool:
        return self.reason is Reason.ALLOWED


ALLOWED = Decision(reason=Reason.ALLOWED, sentence="")


def yes(sentence: str) -> Decision:
    """Return an allowed decision that says why."""
    return Decision(reason=Reason.ALLOWED, sentence=sentence)


def no(reason: Reason, sentence: str) -> Decision:
    """Return a refusal."""
    return Decision(reason=reason, sentence=sentence)
