"""`/nats`: what the store holds, for the asker alone. Reads only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from bot.adapters.slack.blocks import Block, bold, bullets, fit, ours, paragraph, rich, small, text
from bot.adapters.slack.chat import SlackProjector
from bot.adapters.slack.directory import SlackDirectory
from bot.adapters.slack.render_board import headline, progress
from bot.adapters.slack.text import date, fallback
from bot.adapters.slack.wanted import ProposalCase, load
from bot.model import SlackUser
from bot.ports import Store
from bot.settings import PolicySettings

LISTED: Final = 10
HELP: Final = {
    "status": "open incidents, what waits for approval, whether threads can be drawn",
    "incidents": "open incidents and how each stands",
    "proposals": "proposals that are not decided or not finished",
    "whoami": "who natsmedic takes you for and what you may approve",
    "help": "this list",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the asker sees; `text` is the safe fallback."""

    text: str
    blocks: tuple[Block, ...]


class Commands:
    """The subcommands of `/nats`."""

    def __init__(
        self,
        store: Store,
        directory: SlackDirectory,
        projector: SlackProjector,
        rules: PolicySettings,
        workspaces: tuple[str, ...],
    ) -> None:
        self._store = store
        self._directory = directory
        self._projector = projector
        self._rules = rules
        self._workspaces = workspaces

    async def answer(self, user: SlackUser, line: str) -> Reply:
        """Answer one line typed behind `/nats`; raises StoreError."""
        if user.team_id not in self._workspaces:
            return say("natsmedic answers members of its own workspace only.")
        word = (line.split() or ["help"])[0].lower()
        known: dict[str, Callable[[SlackUser], Awaitable[Reply]]] = {
            "status": self._status,
            "incidents": self._incidents,
            "proposals": self._proposals,
            "whoami": self._whoami,
            "help": self._help,
        }
        if word not in known:
            return say(f"There is no /nats {word[:40]}. /nats help lists what there is.")
        return await known[word](user)

    async def _help(self, _: SlackUser) -> Reply:
        lines = bullets([bold(f"/nats {word}"), text(f": {meaning}")] for word, meaning in HELP.items())
        return _reply("What /nats can do", rich(paragraph(bold("What /nats can do")), lines))

    async def _status(self, _: SlackUser) -> Reply:
        incidents = await self._store.incidents(open_only=True)
        active = await self._store.proposals(active_only=True)
        health = self._projector.health()
        threads = "Threads are drawn." if health.ok else f"Threads cannot be drawn: {' '.join(health.problems)}"
        sentence = f"{len(incidents)} open incidents, {len(active)} active proposals. {threads}"
        return say(sentence)

    async def _incidents(self, _: SlackUser) -> Reply:
        incidents = await self._store.incidents(open_only=True)
        if not incidents:
            return say("There is no open incident.")
        blocks: list[Block] = []
        for incident in incidents[:LISTED]:
            sign, word = headline(await load(self._store, incident))
            head = paragraph(
                text(f"{sign} "), bold(incident.title, 300), text(f": {word} · cluster {incident.cluster or 'unknown'}")
            )
            blocks += [rich(head), ours(f"Opened {date(incident.opened_at)}")]
        blocks += _more(len(incidents))
        return _reply(f"{len(incidents)} open incidents", *blocks)

    async def _proposals(self, _: SlackUser) -> Reply:
        proposals = await self._store.proposals(active_only=True)
        if not proposals:
            return say("No proposal is active.")
        blocks: list[Block] = []
        for proposal in proposals[:LISTED]:
            entry = ProposalCase(proposal=proposal, approvals=tuple(await self._store.approvals(proposal.id)))
            state = progress(entry, self._rules)
            blocks.append(
                rich(
                    paragraph(bold(proposal.title, 300), text(f": {state} · {proposal.risk} · {proposal.subject}", 500))
                )
            )
            blocks.append(ours(f"Expires {date(proposal.expires_at)}"))
        blocks += _more(len(proposals))
        return _reply(f"{len(proposals)} active proposals", *blocks)

    async def _whoami(self, user: SlackUser) -> Reply:
        person = await self._directory.look_up(user)
        if person.problem is not None:
            return say(f"Slack could not say who you are: {person.problem}")
        groups = ", ".join(sorted(person.groups)) or "no policy group"
        may = [risk.value for risk, names in self._rules.approvers.items() if set(names) & person.groups]
        barred = not (person.human and person.active and person.home_workspace) or person.guest
        rights = "You may approve nothing." if barred or not may else f"You may approve: {', '.join(may)}."
        return say(f"You are {person.key} ({user.team_id}/{user.user_id}), in {groups}. {rights}")


def say(sentence: str) -> Reply:
    """One sentence as a reply."""
    return _reply(sentence, rich(paragraph(text(sentence))))


def _reply(words: str, *blocks: Block) -> Reply:
    return Reply(fallback(words), fit(blocks)[0])


def _more(count: int) -> list[Block]:
    return [small(f"and {count - LISTED} more")] if count > LISTED else []
