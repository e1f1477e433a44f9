"""Commands that only look: at the store, at the runbooks, at who asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from bot.adapters.slack.blocks import Block, bold, bullets, moment, ours, paragraph, rich, text
from bot.adapters.slack.chat import SlackProjector
from bot.adapters.slack.commands.reply import Ask, Reply, as_file, page_of, say, show
from bot.adapters.slack.commands.words import WORDS
from bot.adapters.slack.desk import Desk
from bot.adapters.slack.directory import SlackDirectory
from bot.adapters.slack.render_board import headline, progress
from bot.adapters.slack.text import date
from bot.adapters.slack.wanted import ProposalCase, load
from bot.flow.checkpoints import Kept
from bot.flow.rights import rights, standing_of
from bot.model import AuditFilter, AuditLine, Incident, Person, Proposal, ProposalState, SlackUser
from bot.model.span import span
from bot.ports import Clock, Store
from bot.runbook import Runbook
from bot.settings import PolicySettings

MOST_LISTED: Final = 1_000
"""Open incidents, the newest ones; nobody reads further, and `natsmedic incidents list --limit` does."""
AUDIT_SHOWN: Final = 200
"""Newest rows; the whole log is `natsmedic audit` on the command line."""
AUDIT_FILED: Final = 5_000
"""Newest rows in a file: 1 to 2 MB of text."""
_MENTION: Final = re.compile(r"<@([UW][A-Z0-9]{1,30})(\|[^>]*)?>")


class Looking:
    """Answers from what is stored."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        directory: SlackDirectory,
        desk: Desk,
        projector: SlackProjector,
        rules: PolicySettings,
        runbooks: tuple[Runbook, ...],
        clusters: tuple[str, ...],
        checkpoints: Callable[[], Sequence[Kept]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._directory = directory
        self._desk = desk
        self._projector = projector
        self._rules = rules
        self._runbooks = runbooks
        self._clusters = clusters
        self._checkpoints = checkpoints

    async def help(self, ask: Ask) -> Reply:
        """List the words."""
        del ask
        lines = bullets([bold(word.usage, 300), text(f": {word.meaning}")] for word in WORDS.values())
        hint = "Answers are for you alone; with public as the last word everybody sees them, and with file a list comes whole, as a file. In a thread: @natsmedic and the same words."
        return show(
            "What /nats can do",
            rich(paragraph(bold("What /nats can do")), lines),
            rich(paragraph(text(hint))),
        )

    async def status(self, ask: Ask) -> Reply:
        """Say where everything stands, or in a thread where its incident does."""
        if ask.incident is not None:
            sign, word = headline(await load(self._store, ask.incident, self._clock.now()))
            return say(f"{sign} {word}: {ask.incident.title}")
        open_count = await self._store.count_open()
        active = await self._store.proposals(active_only=True)
        frozen = [freeze for freeze in await self._store.freezes() if freeze.active(self._clock.now())]
        health = self._projector.health()
        threads = "Threads are drawn." if health.ok else f"Threads cannot be drawn: {' '.join(health.problems)}"
        head = paragraph(text(f"Open incidents: {open_count:,}. Active proposals: {len(active)}. {threads}"))
        held = [bullets([text(f"{one.id}: {one}", 500)] for one in frozen)] if frozen else []
        places = [bullets([text(_kept(one), 500)] for one in found)] if (found := self._checkpoints()) else []
        return show("Status", rich(head, *held, *places))

    async def incidents(self, ask: Ask) -> Reply:
        """List what is open: the newest, and how many there are in all."""
        incidents = await self._store.incidents(open_only=True, threads_only=True, limit=MOST_LISTED)
        if not incidents:
            return say("There is no open incident.")
        if ask.as_file:
            count = await self._store.count_open()
            title = "Open incidents" if count <= MOST_LISTED else f"The newest of {count:,} open incidents"
            return as_file(title, map(_incident_line, incidents))
        blocks: list[Block] = []
        shown, lead = page_of(ask, incidents)
        for incident in shown:
            sign, word = headline(await load(self._store, incident, self._clock.now()))
            where = text(f": {word} · cluster {incident.cluster or 'unknown'}")
            blocks += [rich(paragraph(text(f"{sign} "), bold(incident.title, 300), where))]
            blocks += [ours(f"Opened {date(incident.opened_at)}")]
        return show(f"{await self._store.count_open():,} open incidents", *blocks, *lead)

    async def proposals(self, ask: Ask) -> Reply:
        """List what is not finished, in a thread that of its incident."""
        found = await self._store.proposals(active_only=True)
        proposals = [one for one in found if ask.incident is None or one.incident_id == ask.incident.id]
        if not proposals:
            return say("No proposal is active.")
        if ask.as_file:
            return as_file("Active proposals", map(_proposal_line, proposals))
        blocks: list[Block] = []
        shown, lead = page_of(ask, proposals)
        for proposal in shown:
            entry = ProposalCase(proposal=proposal, approvals=tuple(await self._store.approvals(proposal.id)))
            state = progress(entry, self._rules)
            told = text(f": {state} · {proposal.risk} · {proposal.subject}", 500)
            blocks += [rich(paragraph(bold(proposal.title, 300), told)), ours(f"Expires {date(proposal.expires_at)}")]
        return show(f"{len(proposals)} active proposals", *blocks, *lead)

    async def runbooks(self, ask: Ask) -> Reply:
        """List what natsmedic knows to look for."""
        if ask.as_file:
            lines = (f"{one.code}: {one.title} ({len(one.checks)} checks)" for one in self._runbooks)
            return as_file("Runbooks", lines)
        shown, lead = page_of(ask, self._runbooks)
        lines = bullets([bold(one.code), text(f": {one.title} ({len(one.checks)} checks)", 300)] for one in shown)
        return show(f"{len(self._runbooks)} runbooks", rich(lines), *lead)

    async def audit(self, ask: Ask) -> Reply:
        """Show the newest rows about an object, of a person, or since a time."""
        wanted = ask.rest()
        narrowed = await self._narrowed(ask, wanted)
        most = AUDIT_FILED if ask.as_file else AUDIT_SHOWN
        rows = await self._store.newest_audit_lines(limit=most, wanted=narrowed)
        if not rows:
            return say(f"The audit log has no row {f'about {wanted[:80]}' if wanted else 'yet'}.")
        if ask.as_file:
            return as_file("Rows of the audit log", map(_row_line, rows))
        shown, lead = page_of(ask, rows[::-1])
        lines = bullets([_at(one), text(f" {one.actor} · {one.kind}: {one.sentence}", 600)] for one in shown)
        return show(f"{len(rows)} rows of the audit log, newest first", rich(lines), *lead)

    async def _narrowed(self, ask: Ask, wanted: str) -> AuditFilter:
        """Which rows are meant: since a time, of a mentioned person, about some words, or, where nothing is said in a thread, of its incident."""
        if lasts := span(wanted.removeprefix("since ")):
            return AuditFilter(since=self._clock.now() - lasts)
        if mentioned := _MENTION.fullmatch(wanted):
            user = SlackUser(team_id=ask.user.team_id, user_id=mentioned[1])
            return AuditFilter(actor=(await self._directory.look_up(user)).key)
        if not wanted and ask.incident is not None:
            return AuditFilter(incident=ask.incident.id)
        return AuditFilter(words=tuple(filter(None, wanted.split("/"))))

    async def whoami(self, ask: Ask) -> Reply:
        """Say who the asker is, what they may approve, and why not."""
        person = await self._directory.look_up(ask.user)
        if person.problem is not None:
            return say(f"Slack could not say who you are: {person.problem}")
        now = self._clock.now()
        place = f"{ask.user.team_id}/{ask.user.user_id}"
        named = person.key if person.key == place else f"{person.key} ({place})"
        head = f"You are {named}. {standing_of(person, self._rules, now)}"
        parts = [paragraph(text(head))]
        for held in rights(person, self._rules, self._clusters, await self._store.freezes(), now):
            parts.append(paragraph(text(held.summary)))
            parts.append(bullets([bold(one.risk), text(f": {one.sentence}", 400)] for one in held.rights))
            parts += [bullets([text(note, 400)] for note in held.notes)] if held.notes else []
        waiting = await self._waiting(person)
        if waiting:
            parts.append(paragraph(text("What waits for approval:")))
            parts.append(bullets([bold(one.title, 200), text(f": {why}", 400)] for one, why in waiting))
        return show("Who you are", rich(*parts))

    async def _waiting(self, person: Person) -> list[tuple[Proposal, str]]:
        """What waits for approval, and why this person may not give it."""
        active = await self._store.proposals(active_only=True)
        pending = [one for one in active if one.state is ProposalState.PENDING][:AUDIT_SHOWN]
        return [(one, await self._desk.why_not(one, person) or "you may approve this.") for one in pending]


def _row_line(row: AuditLine) -> str:
    return (
        f"{row.seq}  {row.at}  {row.kind}  {row.actor}  {row.incident_id or '-'}  {row.subject or '-'}  {row.sentence}"
    )


def _kept(place: Kept) -> str:
    what = "has nothing of the audit log" if place.row is None else f"has row {place.row} of the audit log"
    since = "" if place.age_seconds is None else f", kept {place.age_seconds} s ago"
    wrong = f"; {place.problem}" if place.problem else ""
    return f"{place.place} {what}{since}{wrong}"


def _incident_line(one: Incident) -> str:
    return f"{one.opened_at:%Y-%m-%d %H:%M:%S}Z  {one.id}  {one.state}  cluster {one.cluster or 'unknown'}  {one.title}"


def _proposal_line(one: Proposal) -> str:
    until = f"expires {one.expires_at:%Y-%m-%d %H:%M:%S}Z"
    return f"{one.id}  {one.state}  {one.risk}  {until}  {one.subject}  {one.title}"


def _at(line: AuditLine) -> Block:
    try:
        return moment(line.entry().at)
    except ValueError:
        return text(line.at)  # altered: `natsmedic audit verify` says so, and it is shown as it stands
