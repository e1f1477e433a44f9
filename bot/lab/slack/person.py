"""What a person does in Slack, as gestures: type, click, fill in a dialog, close it, use a shortcut.

Each gesture builds the payload Slack would send (docs.slack.dev/reference/interaction-payloads), delivers it, and
gives back what the person then sees. `overrides` is merged into the payload, for hostile clicks.
"""

import copy
from typing import Literal

from bot.lab.slack import delivery
from bot.lab.slack.delivery import Deliveries
from bot.lab.slack.faults import Faults
from bot.lab.slack.forms import find_element, refused_by_form, state_values
from bot.lab.slack.records import (
    APP_ID,
    BOT_USER_ID,
    TEAM_DOMAIN,
    TEAM_ID,
    VERIFICATION_TOKEN,
    Delivery,
    ImpossibleGesture,
    Message,
    Outcome,
    SlackRefusal,
    User,
    View,
    ViewState,
    is_object,
    random_id,
    view_json,
)
from bot.lab.slack.workspace import Workspace
from bot.model.base import Json, JsonObject

TROUBLE = "We had some trouble connecting. Try again?"  # what Slack writes into a dialog it could not submit


def merged(payload: JsonObject, overrides: JsonObject | None) -> JsonObject:
    """The payload with the overrides laid over it, object by object."""
    result = copy.deepcopy(payload)
    for name, value in (overrides or {}).items():
        inner = result.get(name)
        result[name] = merged(inner, value) if is_object(inner) and is_object(value) else value
    return result


class Person:
    """Gestures of any person of the workspace, or of a stranger to it."""

    def __init__(self, workspace: Workspace, deliveries: Deliveries, faults: Faults) -> None:
        self.workspace = workspace
        self.deliveries = deliveries
        self.faults = faults

    def _who(self, user_id: str) -> User:
        return self.workspace.users.get(user_id) or User(id=user_id, name=user_id.lower())

    def _common(self, kind: str, user_id: str) -> JsonObject:
        user = self._who(user_id)
        return {
            "type": kind,
            "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": user.team_id},
            "api_app_id": APP_ID,
            "token": VERIFICATION_TOKEN,
            "team": {"id": TEAM_ID, "domain": TEAM_DOMAIN},
            "enterprise": None,
            "is_enterprise_install": False,
        }

    def _channel(self, channel_id: str) -> JsonObject:
        channel = self.workspace.channels.get(channel_id)
        return {"id": channel_id, "name": channel.name if channel else "directmessage"}

    def _url(self, user: str, channel: str, ts: str | None = None, thread_ts: str | None = None) -> str:
        issued = self.workspace.new_response_url(user, channel, ts, thread_ts)
        return f"{self.workspace.public_url}/response/{issued.id}"

    async def _deliver(self, kind: str, payload: JsonObject, copies: int) -> tuple[Delivery, Outcome]:
        sent = await self.deliveries.send_copies(kind, payload, self.faults.copies(copies))
        first = sent[0]
        return first, Outcome(
            failure=first.failure, response=first.response, delivery_ids=tuple(one.id for one in sent)
        )

    def _shown(self, channel: str, ts: str) -> Message:
        stored = self.workspace.messages.get(channel, {}).get(ts)
        private = next((m for m in self.workspace.ephemerals if m.channel == channel and m.ts == ts), None)
        found = stored or private
        if found is None:
            raise ImpossibleGesture(f"there is no message {ts} in {channel}")
        return found

    # --- buttons and menus -------------------------------------------------------------------------------------

    async def click(
        self,
        user: str,
        channel: str,
        ts: str,
        what: str,
        *,
        block_id: str | None = None,
        choice: Json = None,
        stale: bool = False,
        copies: int = 1,
        overrides: JsonObject | None = None,
    ) -> Outcome:
        """Presses a button (or chooses in a menu) of a message.

        `what` is an action id or the text on the button, `choice` the value(s) chosen in a menu. With `stale` the
        button may also be on a former version of the message, as when a person's window is behind.

        Raises:
            ImpossibleGesture: the message or the button is not there.
        """
        message = self._shown(channel, ts)
        versions = [message.blocks, *(a.get("blocks", ()) for a in message.attachments)]
        if stale:
            versions += [edit.blocks for edit in reversed(message.history)]
        found = next((f for blocks in versions if (f := find_element(blocks, what, block_id))), None)
        if found is None:
            raise ImpossibleGesture(f"message {ts} has no button {what!r}")
        container: JsonObject = {
            "type": "message",
            "message_ts": ts,
            "channel_id": channel,
            "is_ephemeral": message.visible_to is not None,
        }
        if message.thread_ts:
            container["thread_ts"] = message.thread_ts
        payload: JsonObject = {
            **self._common("block_actions", user),
            "container": container,
            "trigger_id": self.workspace.new_trigger(user),
            "channel": self._channel(channel),
            "state": {"values": {}},
            "response_url": self._url(user, channel, ts, message.thread_ts),
            "actions": [found.action(choice, self.workspace.next_ts())],
        }
        if message.visible_to is None:
            payload["message"] = self.workspace.message_json(message)
        _, outcome = await self._deliver(delivery.INTERACTIVE, merged(payload, overrides), copies)
        return outcome

    async def click_in_view(
        self,
        user: str,
        what: str,
        *,
        choice: Json = None,
        values: JsonObject | None = None,
        home: bool = False,
        copies: int = 1,
        overrides: JsonObject | None = None,
    ) -> Outcome:
        """Presses a button in the dialog the person has open, or in the App Home.

        Raises:
            ImpossibleGesture: no dialog is open, or it has no such button.
        """
        view = self.workspace.homes.get(user) if home else self.open_view(user)
        if view is None:
            raise ImpossibleGesture(f"{user} has no view open")
        found = find_element(view.body["blocks"], what, None)
        if found is None:
            raise ImpossibleGesture(f"the view has no button {what!r}")
        shown = view_json(view)
        shown["state"] = {"values": state_values(view.body["blocks"], values or {})}
        payload: JsonObject = {
            **self._common("block_actions", user),
            "container": {"type": "view", "view_id": view.id},
            "trigger_id": self.workspace.new_trigger(user, view.id),
            "view": shown,
            "actions": [found.action(choice, self.workspace.next_ts())],
        }
        _, outcome = await self._deliver(delivery.INTERACTIVE, merged(payload, overrides), copies)
        return outcome

    # --- dialogs -----------------------------------------------------------------------------------------------

    def open_view(self, user: str) -> View | None:
        """The dialog on top of what the person has open."""
        stack = self.workspace.stacks.get(user, [])
        return self.workspace.views[stack[-1]] if stack else None

    async def submit(
        self,
        user: str,
        values: JsonObject | None = None,
        *,
        copies: int = 1,
        overrides: JsonObject | None = None,
    ) -> Outcome:
        """Fills in the open dialog and presses its submit button.

        `values` maps the label, block id or action id of a field to what is typed or chosen. Fields the form itself
        requires are checked before anything is sent, as Slack's own window does.

        Raises:
            ImpossibleGesture: no dialog is open, or it has no such field.
        """
        view = self.open_view(user)
        if view is None:
            raise ImpossibleGesture(f"{user} has no dialog open")
        filled = state_values(view.body["blocks"], values or {})
        missing = refused_by_form(view.body["blocks"], filled)
        if missing:
            return Outcome(errors=missing)
        shown = view_json(view)
        shown["state"] = {"values": filled}
        payload: JsonObject = {
            **self._common("view_submission", user),
            "trigger_id": self.workspace.new_trigger(user, view.id),
            "view": shown,
            "response_urls": [],
        }
        sent, outcome = await self._deliver(delivery.INTERACTIVE, merged(payload, overrides), copies)
        if sent.failure is not None:
            return Outcome(failure=TROUBLE, delivery_ids=outcome.delivery_ids)
        return self._answered(user, view, sent.response or {}, outcome)

    def _answered(self, user: str, view: View, answer: JsonObject, outcome: Outcome) -> Outcome:
        action = answer.get("response_action")
        try:
            if action == "errors":
                fields = {b["block_id"] for b in view.body["blocks"] if b["type"] == "input"}
                errors: dict[str, str] = answer.get("errors") or {}
                if not errors or not set(errors) <= fields:
                    return Outcome(failure=TROUBLE, response=answer, delivery_ids=outcome.delivery_ids)
                return Outcome(errors=errors, response=answer, delivery_ids=outcome.delivery_ids)
            if action == "update":
                self.workspace.change_view(view, answer.get("view") or {})
            elif action == "push":
                self.workspace.show_view(user, answer.get("view") or {}, push=True)
            elif action == "clear":
                self.workspace.close_views(user)
            elif self.workspace.views[view.id].state is ViewState.OPEN:
                self.workspace.close_views(user, only_top=True)
        except SlackRefusal:
            return Outcome(failure=TROUBLE, response=answer, delivery_ids=outcome.delivery_ids)
        return outcome

    async def close_view(self, user: str, *, all_of_them: bool = False) -> Outcome:
        """Closes the dialog on top; the app hears of it where `notify_on_close` was set.

        Raises:
            ImpossibleGesture: no dialog is open.
        """
        view = self.open_view(user)
        if view is None:
            raise ImpossibleGesture(f"{user} has no dialog open")
        self.workspace.close_views(user, only_top=not all_of_them)
        if not view.body.get("notify_on_close"):
            return Outcome()
        payload = {**self._common("view_closed", user), "view": view_json(view), "is_cleared": all_of_them}
        _, outcome = await self._deliver(delivery.INTERACTIVE, payload, 1)
        return outcome

    # --- commands, shortcuts, words ----------------------------------------------------------------------------

    async def slash(
        self, user: str, channel: str, line: str, *, copies: int = 1, overrides: JsonObject | None = None
    ) -> Outcome:
        """Types a slash command (`/nats status`). What the app answers at once is shown as Slack shows it."""
        command, _, text = line.strip().partition(" ")
        who = self._who(user)
        payload: JsonObject = {
            "token": VERIFICATION_TOKEN,
            "team_id": who.team_id,
            "team_domain": TEAM_DOMAIN,
            "channel_id": channel,
            "channel_name": self._channel(channel)["name"],
            "user_id": who.id,
            "user_name": who.name,
            "command": command,
            "text": text.strip(),
            "api_app_id": APP_ID,
            "is_enterprise_install": "false",
            "response_url": self._url(user, channel),
            "trigger_id": self.workspace.new_trigger(user),
        }
        sent, outcome = await self._deliver(delivery.SLASH_COMMANDS, merged(payload, overrides), copies)
        answer = sent.response or {}
        if sent.failure is not None:
            note = f'{command} failed with the error "{sent.failure}"'
            self.workspace.post(channel, BOT_USER_ID, note, visible_to=user)
        elif answer.get("text") or answer.get("blocks"):
            self.workspace.post(
                channel,
                BOT_USER_ID,
                answer.get("text") or "",
                answer.get("blocks") or (),
                answer.get("attachments") or (),
                visible_to=None if answer.get("response_type") == "in_channel" else user,
            )
        return outcome

    async def message_shortcut(
        self, user: str, channel: str, ts: str, callback_id: str, *, overrides: JsonObject | None = None
    ) -> Outcome:
        """Uses a shortcut from the menu of a message.

        Raises:
            ImpossibleGesture: the message is not there.
        """
        message = self._shown(channel, ts)
        payload: JsonObject = {
            **self._common("message_action", user),
            "callback_id": callback_id,
            "action_ts": self.workspace.next_ts(),
            "trigger_id": self.workspace.new_trigger(user),
            "response_url": self._url(user, channel, ts, message.thread_ts),
            "message_ts": ts,
            "channel": self._channel(channel),
            "message": self.workspace.message_json(message),
        }
        _, outcome = await self._deliver(delivery.INTERACTIVE, merged(payload, overrides), 1)
        return outcome

    async def global_shortcut(self, user: str, callback_id: str) -> Outcome:
        """Uses a shortcut from the lightning menu."""
        payload: JsonObject = {
            **self._common("shortcut", user),
            "callback_id": callback_id,
            "action_ts": self.workspace.next_ts(),
            "trigger_id": self.workspace.new_trigger(user),
        }
        _, outcome = await self._deliver(delivery.INTERACTIVE, payload, 1)
        return outcome

    def say(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> Message:
        """Writes a message; mentioning the bot sends it an `app_mention` event."""
        message = self.workspace.post(channel, user, text, thread_ts=thread_ts)
        if f"<@{BOT_USER_ID}>" in text:
            event = {
                **self.workspace.message_json(message),
                "type": "app_mention",
                "channel": channel,
                "event_ts": message.ts,
            }
            self.event(event)
        return message

    def open_home(self, user: str, tab: Literal["home", "messages"] = "home") -> None:
        """Opens the App Home; the app hears `app_home_opened`."""
        event: JsonObject = {
            "type": "app_home_opened",
            "user": user,
            "channel": f"D{user[1:]}",
            "tab": tab,
            "event_ts": self.workspace.next_ts(),
        }
        if user in self.workspace.homes:
            event["view"] = view_json(self.workspace.homes[user])
        self.event(event)

    def event(self, event: JsonObject) -> None:
        """Sends any event of the Events API in Slack's outer object."""
        self.deliveries.send_event(
            {
                "token": VERIFICATION_TOKEN,
                "team_id": TEAM_ID,
                "api_app_id": APP_ID,
                "event": event,
                "type": "event_callback",
                "event_id": random_id("Ev"),
                "event_time": int(self.workspace.clock()),
                "authorizations": [
                    {
                        "enterprise_id": None,
                        "team_id": TEAM_ID,
                        "user_id": BOT_USER_ID,
                        "is_bot": True,
                        "is_enterprise_install": False,
                    }
                ],
                "is_ext_shared_channel": False,
            }
        )

    async def replay(self, delivery_id: str) -> Outcome:
        """Sends the very payload of an earlier delivery again.

        Raises:
            ImpossibleGesture: there was no such delivery.
        """
        past = self.deliveries.log.get(delivery_id)
        if past is None:
            raise ImpossibleGesture(f"there was no delivery {delivery_id}")
        _, outcome = await self._deliver(past.kind, past.payload, 1)
        return outcome
