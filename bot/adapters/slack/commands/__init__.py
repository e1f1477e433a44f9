"""`/nats` and the same words behind a mention: who may, and what they get to see. Every answer is for the asker alone unless they say `public`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bot.adapters.slack.commands.acting import Acting
from bot.adapters.slack.commands.looking import Looking
from bot.adapters.slack.commands.reply import FILE, MORE, Ask, Reply, say
from bot.adapters.slack.commands.words import WORDS, nearest
from bot.errors import BadInput, Refused
from bot.flow.admission import Admission
from bot.model import Person

__all__ = ["FILE", "MORE", "Ask", "Commands", "Reply", "say"]

PUBLIC = "public"


class Commands:
    """Answers one line."""

    def __init__(self, looking: Looking, acting: Acting, admission: Admission) -> None:
        self._admission = admission
        self.acting = acting
        self._looks: dict[str, Callable[[Ask], Awaitable[Reply]]] = {
            "status": looking.status,
            "incidents": looking.incidents,
            "proposals": looking.proposals,
            "runbooks": looking.runbooks,
            "audit": looking.audit,
            "whoami": looking.whoami,
            "help": looking.help,
        }
        self._acts: dict[str, Callable[[Ask, Person], Awaitable[Reply]]] = {
            "diagnose": acting.diagnose,
            "run": acting.run,
            "freeze": acting.freeze,
            "unfreeze": acting.unfreeze,
        }

    async def answer(self, ask: Ask) -> Reply:
        """Answer; raises `StoreError` and `SlackCallFailed`. What the asker can mend is in the answer."""
        words = ask.words
        how: set[str] = set()
        while len(words) > 1 and words[-1].lower() in {PUBLIC, FILE} - how:
            how.add(words[-1].lower())
            words = words[:-1]
        name = words[0].lower() if words else "help"
        if name not in WORDS:
            return say(f"There is no /nats {name[:40]}.{nearest(name, list(WORDS))} /nats help lists what there is.")
        try:
            reply = await self._answer(replace(ask, words=(name, *words[1:]), as_file=FILE in how), name)
        except (BadInput, Refused) as error:
            return say(str(error))
        return replace(reply, public=PUBLIC in how)

    async def _answer(self, ask: Ask, name: str) -> Reply:
        person = await self._admission.admit(ask.user, WORDS[name].rule, name)
        return await self._looks[name](ask) if name in self._looks else await self._acts[name](ask, person)
