"""Publishes App Home: when somebody opens it, and again while it may still be open and something of it has changed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.adapters.slack.api import SlackApi
from bot.adapters.slack.directory import SlackDirectory
from bot.adapters.slack.render_board import headline
from bot.adapters.slack.render_home import SHOWN, HomeFacts, home_view, refusal_view
from bot.adapters.slack.wanted import load
from bot.errors import NatsmedicError, Refused
from bot.flow.admission import Admission
from bot.flow.rights import rights
from bot.model import Choice, JsonObject, Person, Proposal, ProposalState, SlackUser, digest
from bot.policy import decide, may_run
from bot.ports import Clock, Store
from bot.settings import PolicySettings

REFRESH_SECONDS: Final = 10.0
"""Between two looks at whether a Home has changed."""
SEEN_FOR: Final = timedelta(hours=1)
"""Slack does not say when a Home is closed."""
MOST_VIEWERS: Final = 200
"""People whose Homes are kept fresh, the latest ones: views.publish takes about 100 a minute (reference/chatops.md 5, tier 4)."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Viewer:
    seen: datetime
    shown: str
    """Digest of what was published last."""


class Home:
    """Serves App Home. Nothing here raises into Bolt."""

    def __init__(
        self,
        api: SlackApi,
        store: Store,
        clock: Clock,
        directory: SlackDirectory,
        admission: Admission,
        rules: PolicySettings,
        clusters: tuple[str, ...],
    ) -> None:
        self._api = api
        self._store = store
        self._clock = clock
        self._directory = directory
        self._admission = admission
        self._rules = rules
        self._clusters = clusters
        self._viewers: OrderedDict[SlackUser, _Viewer] = OrderedDict()

    async def opened(self, user: SlackUser) -> None:
        """Publish to somebody who has opened it; who may not look gets the refusal, and it is audited."""
        try:
            try:
                person = await self._admission.admit(user, may_run, "home")
            except Refused as error:
                self._viewers.pop(user, None)
                await self._api.publish(user.user_id, refusal_view(str(error)))
                return
            view = await self._view(person, await self._common(self._clock.now()))
            await self._api.publish(user.user_id, view)
        except NatsmedicError as error:
            log.warning("a Home could not be published", reason=str(error))
            return
        self._viewers[user] = _Viewer(self._clock.now(), digest(view))
        self._viewers.move_to_end(user)
        if len(self._viewers) > MOST_VIEWERS:
            self._viewers.popitem(last=False)

    async def run(self) -> None:
        """Keep Homes fresh until cancelled."""
        while True:
            await self._clock.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except Exception:  # the loop outlives a mistake in one Home; it is logged whole
                log.exception("refreshing Homes failed")

    async def refresh(self) -> None:
        """Publish once what has changed for those who have opened it a while ago."""
        now = self._clock.now()
        for user in [user for user, viewer in self._viewers.items() if now - viewer.seen >= SEEN_FOR]:
            del self._viewers[user]
        if not self._viewers:
            return
        try:
            common = await self._common(now)
        except NatsmedicError as error:
            log.warning("Homes could not be refreshed", reason=str(error))
            return
        for user, viewer in list(self._viewers.items()):
            try:
                person = await self._directory.look_up(user)
                allowed = may_run(person, self._rules)
                view = await self._view(person, common) if allowed.allowed else refusal_view(allowed.sentence)
                if digest(view) != viewer.shown:
                    await self._api.publish(user.user_id, view)
                    viewer.shown = digest(view)
            except NatsmedicError as error:
                log.warning("a Home could not be refreshed", reason=str(error))
                return

    async def _common(self, now: datetime) -> HomeFacts:
        """What everybody sees alike."""
        incidents = await self._store.incidents(open_only=True, threads_only=True, limit=SHOWN)
        cases = [(one, " ".join(headline(await load(self._store, one, now)))) for one in incidents]
        return HomeFacts(
            incidents=tuple(cases),
            open_count=await self._store.count_open(),
            freezes=tuple(one for one in await self._store.freezes() if one.active(now)),
            runs=tuple(await self._store.runs(SHOWN)),
        )

    async def _view(self, person: Person, common: HomeFacts) -> JsonObject:
        now = self._clock.now()
        active = await self._store.proposals(active_only=True)
        waiting = [(one, await self._why_not(one, person, now)) for one in active if one.state is ProposalState.PENDING]
        held = rights(person, self._rules, self._clusters, common.freezes, now)
        words = " ".join([f"You are {person.key}.", *(one.summary for one in held)])
        return home_view(replace(common, rights=words, waiting=tuple(waiting), now=now))

    async def _why_not(self, proposal: Proposal, person: Person, now: datetime) -> str:
        approvals = await self._store.approvals(proposal.id)
        return decide(proposal, approvals, person, Choice.APPROVE, self._rules, now).sentence
