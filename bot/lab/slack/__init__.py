"""A stand-in for Slack: one workspace in memory, on a loopback address, for tests and for the demo.

It speaks the Web API, Socket Mode and signed HTTP requests to the real Bolt app, enforces Slack's limits with Slack's
error strings, has faults on demand, acts as any person (`Person`, `/lab/...`, the web page at `/`) and keeps the log.

    async with StandInSlack() as slack:
        client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)

Where it differs from the real Slack (reference/chatops.md section 5 has the sources):

- One workspace; no Enterprise Grid, no OAuth, no token rotation, no Slack Connect. A stranger is a user record with
  another `team_id`, or an override of the payload.
- Conversations: public and private channels; a direct message is the channel whose id is the person's. Channel
  membership of people is not modelled (everybody sees every channel); only the bot's own is.
- Direct messages are reached by user id, `conversations.open` is missing. No `reply_broadcast`, pins, bookmarks, canvases, lists, search,
  scheduled messages, unfurling, huddles, presence, reminders, workflows, `assistant.*`, `files.info`.
- Events: `app_mention`, `app_home_opened`, and whatever `Person.event` is given. `message` events of people's
  messages are not sent by themselves. The subscription is never disabled for failures.
- Block Kit: the limits of section 5; no check of `markdown` block content, dates, dispatch settings, `focus_on_load`;
  `external_select` does not ask the app for options. The wording of the reasons in `response_metadata.messages` is
  close to Slack's, not always equal. `file`, `video` and alpha blocks are accepted and drawn as a name.
- `msg_blocks_too_long` begins at 13,200 characters, an observed value, not a documented one.
- Rate limits: a bucket per method by tier, one message a second and channel with a burst of 5 (Slack gives no number),
  no workspace-wide cap.
- What the app does after three seconds is recorded (`late_ack`) and otherwise ignored; the real Slack's behaviour for
  late acknowledgements is not documented. Interactions are never repeated by Slack's own choice, only events are.
- `chat.update` keeps blocks, attachments and metadata that are left out of the call, as its page says.
- A click goes through for any user id; whether the person may is for the bot to decide, never for the stand-in.
- The page offers no menu of message shortcuts (`Person.message_shortcut` and `/lab/message_shortcut` do).
- View `hash` and trigger ages are checked; a person's window is never behind unless `stale=True` asks for it.
"""

from bot.lab.slack.faults import Fault, FaultKind
from bot.lab.slack.person import Person
from bot.lab.slack.records import (
    APP_ID,
    BOT_ID,
    BOT_USER_ID,
    TEAM_ID,
    Call,
    Channel,
    Delivery,
    Edit,
    ImpossibleGesture,
    Message,
    Outcome,
    User,
    UserGroup,
    View,
)
from bot.lab.slack.render import mentions
from bot.lab.slack.server import StandInSlack

__all__ = [
    "APP_ID",
    "BOT_ID",
    "BOT_USER_ID",
    "TEAM_ID",
    "Call",
    "Channel",
    "Delivery",
    "Edit",
    "Fault",
    "FaultKind",
    "ImpossibleGesture",
    "Message",
    "Outcome",
    "Person",
    "StandInSlack",
    "User",
    "UserGroup",
    "View",
    "mentions",
]
