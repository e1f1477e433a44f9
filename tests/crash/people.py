"""Who may approve in the crash harness: an operator and an owner of the data, two different people."""

from __future__ import annotations

from bot.adapters.clock import SystemClock
from bot.model import Person, RiskClass, SlackUser
from bot.settings import GroupSettings, PolicySettings

ADA = SlackUser(team_id="T1", user_id="U1")
BO = SlackUser(team_id="T1", user_id="U2")
GROUPS = {ADA.user_id: frozenset({"operators"}), BO.user_id: frozenset({"owners"})}
RULES = PolicySettings(
    groups={"operators": GroupSettings(users=(ADA.user_id,)), "owners": GroupSettings(users=(BO.user_id,))},
    approvers={
        RiskClass.LOW: ("operators",),
        RiskClass.MEDIUM: ("operators",),
        RiskClass.DESTRUCTIVE: ("operators", "owners"),
    },
)


class TwoPeople:
    """A directory that knows these two."""

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        del fresh
        return Person(
            user=user,
            key=user.user_id,
            human=True,
            active=True,
            guest=False,
            home_workspace=True,
            groups=GROUPS[user.user_id],
            looked_up_at=SystemClock().now(),
        )
