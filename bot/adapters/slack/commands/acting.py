"""Commands that set something going: a diagnosis, a freeze, its lifting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.adapters.slack.api import SlackApi
from bot.adapters.slack.blocks import link, paragraph, rich, text
from bot.adapters.slack.commands.reply import Ask, Reply, say, show
from bot.adapters.slack.commands.words import FOREVER, WORDS, nearest
from bot.errors import BadInput
from bot.flow.asking import ANYTHING, Asking, focus_from
from bot.flow.freeze import freeze, lift
from bot.model import LIFTERS, Focus, Incident, Person
from bot.model.span import EXAMPLES, span
from bot.ports import Clock, Messages, Store
from bot.runbook import Runbook

POINT_SECONDS: Final = 30
"""How long a thread is waited for before the asker is told that it comes later; a first draw takes one or two."""
POLL: Final = 0.5


class Acting:
    """Asks for diagnoses and sets freezes, for people whom the admission has let in."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        messages: Messages,
        api: SlackApi,
        asking: Asking,
        clusters: Sequence[str],
        runbooks: Sequence[Runbook],
    ) -> None:
        self._store = store
        self._clock = clock
        self._messages = messages
        self._api = api
        self._asking = asking
        self._clusters = tuple(clusters)
        self._codes = {runbook.code: runbook for runbook in runbooks}

    async def diagnose(self, ask: Ask, person: Person) -> Reply:
        """Look at a cluster; in an incident's thread without further words, at that incident again."""
        words = ask.words[1:]
        if ask.incident is not None and not words:
            return await self._again(ask, person, ask.incident)
        clusters = [word for word in words if word in self._clusters]
        codes = [code for word in words if word not in self._clusters and (code := self._code(word))]
        if len(words) > len(clusters) + len(codes) or len(clusters) > 1 or len(codes) > 1:
            raise _wrong("diagnose", ask.rest(), self._hint(words))
        cluster = clusters[0] if clusters else self._only_cluster(ask)
        return await self._ask(ask, person, cluster, codes[0] if codes else ANYTHING, Focus())

    async def run(self, ask: Ask, person: Person) -> Reply:
        """Look with one runbook, first at one thing."""
        code = self._code(ask.words[1]) if len(ask.words) > 1 else None
        if code is None:
            raise _wrong("run", ask.rest(), self._hint(ask.words[1:2]))
        left = list(ask.words[2:])
        cluster = left.pop(0) if left and left[0] in self._clusters else self._only_cluster(ask)
        if len(left) > 1:
            raise _wrong("run", ask.rest(), "")
        return await self._ask(ask, person, cluster, code, focus_from(left[0]) if left else Focus())

    async def freeze(self, ask: Ask, person: Person) -> Reply:
        """Stop changes."""
        words = list(ask.words[1:])
        cluster = words.pop(0) if words and words[0] in self._clusters else None
        lasts = span(words[0]) if words else None
        if len(words) < 2 or (not lasts and words[0] != FOREVER):
            raise _wrong("freeze", ask.rest(), f" A duration is {EXAMPLES}, or {FOREVER}.")
        made = await freeze(
            self._store,
            self._clock,
            person.key,
            " ".join(words[1:]),
            cluster=cluster,
            lasts=lasts or None,
            event=ask.event,
        )
        if not made.active(self._clock.now()):
            return say(f"This was done before, and freeze {made.id} is over by now.")
        return say(f"{made.id}: {made}. Nothing new is sent from now on.")

    async def unfreeze(self, ask: Ask, person: Person) -> Reply:
        """Say, as one of two, that changes may go on."""
        if len(ask.words) < 3:
            raise _wrong("unfreeze", ask.rest(), " /nats status lists the freezes with their ids.")
        lifted = await lift(self._store, self._clock, ask.words[1], person.key, ask.rest(2))
        if lifted.lifted:
            return say(f"Freeze {lifted.id} is lifted.")
        return say(f"Recorded, {len(lifted.lifts)} of {LIFTERS}: another person must lift {lifted.id} as well.")

    async def ask_about(self, person: str, event: str, cluster: str, title: str, message: str) -> Reply:
        """Ask about a chat message. Its words are a title and choose nothing but, where they are an alert's name, the runbook."""
        if cluster not in self._clusters:
            raise BadInput(f"No cluster is called {cluster[:80]!r}; expected one of {', '.join(self._clusters)}.")
        fingerprint = await self._asking.ask(person, event, cluster, title, message=message)
        return say(f"Cluster {cluster} is being looked at.", lambda: self._pointer(fingerprint))

    async def _ask(self, ask: Ask, person: Person, cluster: str, title: str, focus: Focus) -> Reply:
        fingerprint = await self._asking.ask(person.key, ask.event, cluster, title, focus)
        return say(
            f"Cluster {cluster} is being looked at. You asked, so somebody else approves what is proposed.",
            lambda: self._pointer(fingerprint),
        )

    async def _again(self, ask: Ask, person: Person, incident: Incident) -> Reply:
        if incident.cluster is None:
            raise BadInput("No configured cluster matches this incident: /nats diagnose CLUSTER looks at one.")
        await self._asking.again(person.key, ask.event, incident)
        return say("Looking again; this thread shows what is found.")

    async def _pointer(self, fingerprint: str) -> Reply:
        """Wait until the thread is there, and lead to it."""
        end = self._clock.now().timestamp() + POINT_SECONDS
        while self._clock.now().timestamp() < end:
            incident = await self._asking.incident(fingerprint)
            rows = await self._messages.of(incident.id) if incident else ()
            board = next((row for row in rows if incident and row.key == f"board:{incident.id}" and row.ts), None)
            if board is not None and board.ts is not None:
                address = await self._api.permalink(board.channel, board.ts)
                return show(
                    "Your diagnosis",
                    rich(paragraph(text("What you asked for is in "), link(address, "this thread"), text("."))),
                )
            await self._clock.sleep(POLL)
        return say("Your question is stored; its thread appears as soon as it can be drawn.")

    def _only_cluster(self, ask: Ask) -> str:
        if ask.incident is not None and ask.incident.cluster is not None:
            return ask.incident.cluster
        if len(self._clusters) == 1:
            return self._clusters[0]
        raise BadInput(f"No cluster is named; expected one of {', '.join(self._clusters)}: {WORDS[ask.words[0]].usage}")

    def _code(self, word: str) -> str | None:
        code = word.upper().replace("-", "_")
        return code if code in self._codes else None

    def _hint(self, words: Sequence[str]) -> str:
        known = [*self._clusters, *self._codes]
        close = (nearest(one, known) or nearest(one.upper(), known) for one in words if one not in known)
        return next((hint for hint in close if hint), "")


def _wrong(word: str, seen: str, hint: str) -> BadInput:
    told = f"{seen[:120]!r}" if seen else "nothing"
    return BadInput(f"Behind /nats {word} stands {told}; expected {WORDS[word].usage}.{hint}")
