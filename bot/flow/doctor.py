"""Judges what `natsmedic doctor` was answered, and runs its checks side by side. Every line says what was seen, what should be, and the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, cast

import structlog

from bot.errors import NatsmedicError
from bot.model import Json, part
from bot.model.checkup import CheckupLine, Health, Permission, Reply, Right

PATIENCE: Final = 5.0
"""Seconds one check may take; as long as the `nats` command waits for one answer."""
SKEW_WARN: Final = 5.0
"""Seconds between two clocks from which it is said: far more than a Date header's whole seconds and a slow answer come to."""
SKEW_FAIL: Final = 30.0
"""reference/safety.md 3.3, Clock: a skew above 30 s is told, long before Slack's window for signatures (300 s) closes."""
HTTP_OK: Final = 200
SCOPES: Final[Mapping[str, str]] = {
    "chat:write": "threads and status boards",
    "commands": "/nats and the message shortcut",
    "app_mentions:read": "words in threads",
    "files:write": "evidence and pictures",
    "users:read": "who approves",
    "usergroups:read": "who is in an approver group",
    "channels:history": "looking for its own message after a doubt",
    "groups:history": "the same in private channels",
    "im:write": "a long list as a file for whoever asked",
}
"""Scopes of deploy/slack-manifest.yaml and what each is for."""

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[Sequence[CheckupLine]]]


async def examine(checks: Mapping[str, Check], patience: float = PATIENCE) -> list[CheckupLine]:
    """Run all checks at once and return their lines in the order of the checks. What fails or takes too long is a line of its own, and hides no other."""
    found = await asyncio.gather(*(_one(name, check, patience) for name, check in checks.items()))
    return [one for lines in found for one in lines]


async def _one(name: str, check: Check, patience: float) -> Sequence[CheckupLine]:
    try:
        async with asyncio.timeout(patience):
            return await check()
    except TimeoutError:
        said, way_out = f"no answer within {patience:g} s", "see whether it can be reached from this machine"
    except NatsmedicError as error:
        said, way_out = str(error), "mend what it says and run natsmedic doctor again"
    except Exception as error:  # a defect of one check must not hide what the others found
        log.exception("a check of the doctor failed", check=name)
        said, way_out = f"the check itself failed ({type(error).__name__})", "report it as a defect of natsmedic"
    return [line(name, Health.UNKNOWN, said, "an answer", way_out)]


def judge_token(reply: Reply, workspaces: Sequence[str]) -> list[CheckupLine]:
    """Judge `auth.test`: does the bot token work, and in one of the home workspaces."""
    expected = f"a token of workspace {' or '.join(workspaces)}" if workspaces else "a token that Slack knows"
    if problem := _unanswered("Slack bot token", reply, expected, "reinstall the app and set slack.bot_token"):
        return [problem]
    team = str(reply.body.get("team_id") or "an unnamed workspace")
    seen = f"user {reply.body.get('user_id')} in workspace {team}"
    if not workspaces:
        way_out = f"add slack.workspaces: [{team}]"
        return [line("Slack bot token", Health.WARN, f"{seen}; slack.workspaces is empty", "a home workspace", way_out)]
    if team not in workspaces:
        way_out = f"set slack.bot_token to one of that workspace, or slack.workspaces to [{team}]"
        return [line("Slack bot token", Health.FAIL, seen, expected, way_out)]
    return [line("Slack bot token", Health.OK, seen, expected)]


def judge_scopes(reply: Reply) -> list[CheckupLine]:
    """Compare the scopes that Slack names beside an answer with those that are needed."""
    expected = " ".join(sorted(SCOPES))
    if reply.scopes is None:
        said = reply.silence or "Slack does not say which scopes the token has"
        return [line("Slack scopes", Health.UNKNOWN, said, expected, "mend the bot token first")]
    missing = sorted(SCOPES.keys() - set(reply.scopes))
    more = sorted(set(reply.scopes) - SCOPES.keys())
    lines: list[CheckupLine] = []
    if missing:
        said = "missing: " + ", ".join(f"{one} ({SCOPES[one]})" for one in missing)
        way_out = "update the app from deploy/slack-manifest.yaml and reinstall it"
        lines.append(line("Slack scopes", Health.FAIL, said, expected, way_out))
    if more:
        way_out = "remove them below OAuth & Permissions and reinstall the app: a lost token can do what its scopes say"
        lines.append(line("Slack scopes", Health.WARN, f"more than needed: {', '.join(more)}", expected, way_out))
    return lines or [line("Slack scopes", Health.OK, " ".join(sorted(reply.scopes)), expected)]


def judge_app_token(reply: Reply) -> list[CheckupLine]:
    """Judge `apps.connections.open`, whose address nobody connects to."""
    expected = "a token with connections:write"
    way_out = "make an app-level token with connections:write below Basic Information and set slack.app_token"
    problem = _unanswered("Slack app token", reply, expected, way_out)
    return [problem or line("Slack app token", Health.OK, "Slack would open a socket", expected)]


def judge_signing_secret(status: int | None, *, token: bool, serves: bool) -> list[CheckupLine]:
    """Judge what the natsmedic that serves answered to a request signed with `slack.signing_secret`: an HTTP status, None where it did not answer.

    `token`: what is given has the form of one of Slack's tokens. `serves`: there is a natsmedic that could be asked. Slack itself checks no secret for anybody.
    """
    subject, expected = "Slack signing secret", "the app's, and known to the natsmedic that serves"
    if token:
        way_out = "set slack.signing_secret to the Signing Secret below Basic Information, App Credentials"
        return [line(subject, Health.FAIL, "is a token of Slack's and no signing secret", expected, way_out)]
    if not serves:
        said = "given; no natsmedic serves that could be asked"
        return [line(subject, Health.UNKNOWN, said, expected, "start `natsmedic serve` and run natsmedic doctor again")]
    if status is None:
        way_out = "see why the natsmedic that serves does not answer"
        return [line(subject, Health.UNKNOWN, "the natsmedic that serves did not answer", expected, way_out)]
    if status != HTTP_OK:
        said = f"the natsmedic that serves refuses what is signed with it ({status})"
        way_out = "restart `natsmedic serve`, so that it reads the settings again"
        return [line(subject, Health.FAIL, said, expected, way_out)]
    said = (
        "the natsmedic that serves takes what is signed with it; that it is this app's shows at Slack's first request"
    )
    return [line(subject, Health.OK, said, expected)]


def judge_channel(channel: str, users: str, reply: Reply) -> list[CheckupLine]:
    """Judge `conversations.history`: only a member may read. `users` says what the channel is for."""
    subject = f"Slack channel {channel}"
    expected = f"natsmedic is a member ({users})"
    way_out = f"write `/invite @natsmedic` in the channel, or correct the id {channel} in the settings"
    problem = _unanswered(subject, reply, expected, way_out)
    return [problem or line(subject, Health.OK, "a member", expected)]


def judge_group(usergroup: str, group: str, reply: Reply) -> list[CheckupLine]:
    """Judge `usergroups.users.list` of a user group that policy.groups names."""
    subject = f"Slack user group {usergroup}"
    expected = f"people in it (policy.groups.{group})"
    way_out = f"add people to it in Slack, or correct policy.groups.{group}.usergroups"
    if problem := _unanswered(subject, reply, expected, way_out):
        return [problem]
    users: Json = reply.body.get("users")
    count = len(cast("list[Json]", users)) if isinstance(users, list) else 0
    if count == 0:
        return [line(subject, Health.FAIL, "nobody is in it", expected, way_out)]
    return [line(subject, Health.OK, f"{count} in it", expected)]


def judge_person(user: str, where: str, reply: Reply) -> list[CheckupLine]:
    """Judge `users.info` of somebody whom the settings name at `where`."""
    subject = f"Slack user {user}"
    expected = f"an active member, no guest ({where})"
    way_out = f"correct or remove {user} in {where}"
    if problem := _unanswered(subject, reply, expected, way_out):
        return [problem]
    raw = part(reply.body, "user")
    flaws = {
        "deactivated": ("deleted",),
        "a guest": ("is_restricted", "is_ultra_restricted"),
        "a bot": ("is_bot", "is_workflow_bot", "is_connector_bot"),
        "of another workspace": ("is_stranger",),
    }
    # As at a click (SlackDirectory): a flag that is anything but a plain false or nothing counts as set.
    seen = [said for said, flags in flaws.items() if any(raw.get(one) not in (None, False) for one in flags)]
    if raw.get("id") != user:
        seen.append("somebody else, as Slack answered")
    if seen:
        return [line(subject, Health.FAIL, f"is {' and '.join(seen)}, so nothing they press counts", expected, way_out)]
    return [line(subject, Health.OK, "an active member", expected)]


def judge_clock(other: str, theirs: datetime | None, ours: datetime) -> list[CheckupLine]:
    """Compare this machine's clock with another's."""
    subject = f"Clock against {other}"
    expected = f"less than {SKEW_WARN:g} s apart"
    if theirs is None:
        return [line(subject, Health.UNKNOWN, "it named no time", expected, f"see why {other} does not answer")]
    skew = (ours - theirs).total_seconds()
    seen = f"this machine is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) < SKEW_WARN:
        return [line(subject, Health.OK, seen, expected)]
    health = Health.FAIL if abs(skew) >= SKEW_FAIL else Health.WARN
    return [line(subject, health, seen, expected, "synchronise the clocks: `timedatectl set-ntp true` on this machine")]


def judge_permission(one: Permission, way_out: str) -> CheckupLine:
    """Judge one right: what is needed must be allowed, and what is not must be denied."""
    subject = f"{one.who}: {one.what}"
    expected = "allowed" if one.needed else "denied"
    if one.seen is Right.UNKNOWN:
        return line(subject, Health.UNKNOWN, one.detail, expected, "let this user log in first")
    if (one.seen is Right.ALLOWED) is one.needed:
        return line(subject, Health.OK, one.seen, expected)
    if one.needed and not one.exact:
        said = "denied for a name that does not exist; right where the permissions name what may be changed"
        return line(subject, Health.WARN, said, expected, way_out)
    return line(subject, Health.FAIL, one.seen, expected, way_out)


def judge_writers(cluster: str, writers: Sequence[str]) -> CheckupLine:
    """Judge, in mode approve, what may change a cluster: `writers` names the credentials that are configured for it."""
    subject, expected = f"{cluster}: writers", "credentials of a writer, in mode approve"
    if writers:
        return line(subject, Health.OK, ", ".join(writers), expected)
    said = "none, so that nothing proposed for this cluster can be approved"
    way_out = "configure nats.system_writer, a writer of an account or kubernetes.applier, or set mode: observe"
    return line(subject, Health.WARN, said, expected, way_out)


def judge_checkpoint(place: str, age: float | None, problem: str | None) -> CheckupLine:
    """Judge one place of checkpoints. `age` is seconds since the newest was kept; a chain that stands still needs no new one, so an age alone is no failure."""
    subject = f"Checkpoint in {place}"
    expected = "the newest head of the audit chain"
    if problem:
        return line(subject, Health.FAIL, problem, expected, "mend the place: natsmedic tries again by itself")
    if age is None:
        return line(subject, Health.WARN, "nothing was kept yet", expected, "start `natsmedic serve`, which keeps one")
    return line(subject, Health.OK, f"the newest is {age:.0f} s old", expected)


def _unanswered(subject: str, reply: Reply, expected: str, way_out: str) -> CheckupLine | None:
    if reply.silence:
        return line(subject, Health.UNKNOWN, reply.silence, expected, "see whether Slack can be reached from here")
    if reply.error in _BUSY:
        return line(subject, Health.UNKNOWN, f"Slack says {reply.error}", expected, "run natsmedic doctor again")
    if reply.error:
        return line(subject, Health.FAIL, f"Slack says {reply.error}", expected, way_out)
    return None


_BUSY: Final = frozenset({"ratelimited", "internal_error", "fatal_error", "request_timeout", "service_unavailable"})
"""Answers of Slack that say nothing about what was asked (docs.slack.dev, errors of each method)."""


def line(subject: str, health: Health, observed: str, expected: str, way_out: str = "") -> CheckupLine:
    """Return one line of the answer."""
    return CheckupLine(subject=subject, health=health, observed=observed, expected=expected, way_out=way_out)
