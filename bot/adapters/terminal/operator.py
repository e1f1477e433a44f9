"""Which user of the operating system runs this process."""

from __future__ import annotations

import os
import pwd

from bot.model import TERMINAL, SlackUser


def operator() -> SlackUser:
    """Return who runs this process by its real user id. LOGNAME and USER are not asked: whoever runs a process writes its environment."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:  # a container may run as a number that has no name
        name = str(number)
    return SlackUser(team_id=TERMINAL, user_id=name)


def operator_named() -> str:
    """Return who runs this process, for a row of the audit log about what needs no person of the settings."""
    return f"{operator().user_id} (terminal)"
