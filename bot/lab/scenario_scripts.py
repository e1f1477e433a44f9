"""The demo's incidents as scripts: damage, alert, thread, approval, verified repair, and its proof."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Final

from bot.lab.drills import create_stream
from bot.lab.kubernetes import NatsManifest
from bot.lab.kubernetes_scenarios import SCENARIOS, Approval, Scenario
from bot.lab.kubernetes_scene import STREAM, Scene, Where, lost, stage
from bot.lab.process import LabError
from bot.lab.replicas import name_of
from bot.lab.script import Expect, Fault, Script, Seen, Step
from bot.lab.slack import Message
from bot.lab.whole import CHANNEL, PEOPLE, VERIFIED_BOARD

THREAD_SECONDS: Final = 30.0
OFFER_SECONDS: Final = 90.0
REPAIR_SECONDS: Final = 300.0
FORM_SECONDS: Final = 20.0
TAKEN_OVER_SECONDS: Final = 15.0
"""After a replica dies for good its work goes on elsewhere within that (issue 7)."""
DONE: Final = "Done and verified: "
NAMES: Final = {person.id: person.real_name for person in PEOPLE}


def incident(scenario: Scenario) -> tuple[Step[Scene], ...]:
    """From the damage to the proposal."""
    return (
        Fault("an application publishes orders, again until each is acknowledged", _application),
        Fault(scenario.told, scenario.happens),
        Fault(f"Alertmanager posts {scenario.alert}", partial(_alert, scenario)),
        Expect("a thread opens", _thread, THREAD_SECONDS),
        Expect(f"it offers: {scenario.wanted} …", partial(_offer, scenario.wanted), OFFER_SECONDS),
    )


def approvals(scenario: Scenario) -> tuple[Step[Scene], ...]:
    """Everybody whose approval is needed gives it, one after another."""
    steps: list[Step[Scene]] = []
    for number, by in enumerate(scenario.approvals, start=1):
        steps.append(Fault(f"{NAMES[by.user]} approves: {by.reason}", partial(_approve, scenario.wanted, by)))
        if number < len(scenario.approvals):
            so_far = f"{number} of {len(scenario.approvals)} approvals"
            steps.append(Expect(f"the thread counts {so_far}", partial(_told, so_far), FORM_SECONDS))
    return tuple(steps)


def bereavement() -> tuple[Step[Scene], ...]:
    """The bot that repairs is killed in the middle, and another one goes on with it."""
    return (
        Expect("a bot begins to repair", _begun, FORM_SECONDS),
        Fault("kill -9 for that bot", _killed),
        Expect("another bot goes on with the repair", _taken_over, TAKEN_OVER_SECONDS),
    )


def repair(scenario: Scenario, patience: float = REPAIR_SECONDS) -> tuple[Step[Scene], ...]:
    """The verified repair within so many seconds, and its proof."""
    return (
        Expect("the change is done and verified", partial(_told, DONE), patience),
        Expect("a new diagnosis finds it repaired", partial(_told, VERIFIED_BOARD), patience + REPAIR_SECONDS),
        Fault("the application publishes no more", _application_ends),
        Expect("the repair is proven", partial(_proof, scenario.proof), once=True),
        Expect("no acknowledged order is lost", _nothing_lost, once=True),
        Expect("the audit chain verifies", _audit, once=True),
    )


def hindrance() -> str:
    """Why the stand-in Kubernetes can't run here."""
    return "" if sys.platform == "linux" else "the stand-in Kubernetes needs Linux"


def script(name: str, scenario: Scenario) -> Script[Scene]:
    """A scenario, with its approvals by scripted people."""
    return Script(
        name,
        f"{scenario.told}, from the alert to the verified repair",
        "natsmedic demo",
        partial(_set_up, scenario.manifest),
        (*incident(scenario), *approvals(scenario), *repair(scenario)),
        hindrance,
    )


def _set_up(manifest: NatsManifest, directory: Path, say: Callable[[str], None]) -> AbstractAsyncContextManager[Scene]:
    return stage(manifest, Where(directory), say)


async def _begun(scene: Scene) -> Seen:
    found = await scene.replicas.at_it() if scene.replicas is not None else None
    return Seen(found is not None, f"{name_of(found)} is at it" if found else "none does")


async def _killed(scene: Scene) -> str:
    found = await scene.replicas.at_it() if scene.replicas is not None else None
    if found is None:
        raise LabError("no bot repairs any more, so none can be killed at it")
    scene.killed = found
    pid = found.pid
    await found.kill()
    return f"process {pid}, {name_of(found)}"


async def _taken_over(scene: Scene) -> Seen:
    found = await scene.replicas.at_it() if scene.replicas is not None else None
    gone_on = found is not None and found is not scene.killed
    return Seen(gone_on, f"{name_of(found)} is at it" if found and gone_on else "nobody else is at it yet")


async def _application(scene: Scene) -> str:
    await create_stream(scene.client, STREAM, 3)
    scene.publishing = asyncio.create_task(scene.publisher.run(scene.client))
    return f"to stream {STREAM}"


async def _alert(scenario: Scenario, scene: Scene) -> str:
    answer = await scene.bot.alert(scenario.alert, labels=dict(scenario.labels))
    return f"HTTP {answer.status_code}"


async def _thread(scene: Scene) -> Seen:
    board = scene.bot.board()
    return Seen(board is not None, "the first message is there" if board else "no message yet")


def proposal(scene: Scene, wanted: str) -> Message | None:
    """The message of the proposal whose title begins like this, while it can be approved."""
    for parent in scene.bot.slack.messages(CHANNEL):
        for message in scene.bot.slack.thread(CHANNEL, parent.ts):
            text = " ".join(str(block) for block in message.blocks)
            if wanted in text and "'action_id': 'approve'" in text:
                return message
    return None


async def _offer(wanted: str, scene: Scene) -> Seen:
    there = proposal(scene, wanted) is not None
    return Seen(there, "it can be approved" if there else _end_of_thread(scene))


async def _approve(wanted: str, by: Approval, scene: Scene) -> str:
    message = proposal(scene, wanted)
    if message is None:
        raise LabError(f"no proposal {wanted!r} can be approved")
    pressed = await scene.bot.slack.person.click(by.user, CHANNEL, message.ts, "approve")
    if not pressed.ok:
        raise LabError(f"Slack refused the click: {pressed}")
    await scene.bot.wait(lambda: scene.bot.form(by.user), FORM_SECONDS, "no form opened")
    form = {"reason": by.reason} | ({"typed_name": by.typed_name} if by.typed_name else {})
    outcome = await scene.bot.slack.person.submit(by.user, form)
    if not outcome.ok:
        raise LabError(f"the form was refused: {outcome}")
    return ""


async def _told(words: str, scene: Scene) -> Seen:
    text = scene.bot.slack.render_text(CHANNEL)
    line = next((line.strip() for line in text.splitlines() if words in line), "")
    return Seen(bool(line), line or _end_of_thread(scene))


def _end_of_thread(scene: Scene) -> str:
    """The last words that were said, for people who ask what is there instead."""
    lines = [line.strip() for line in scene.bot.slack.render_text(CHANNEL).splitlines() if line.strip()]
    return f"the thread ends: {' / '.join(lines[-3:])}"


async def _proof(proof: Callable[[Scene], Awaitable[str]], scene: Scene) -> Seen:
    return Seen(holds=True, observed=await proof(scene))


async def _application_ends(scene: Scene) -> str:
    await scene.application_ends()
    return f"{len(scene.publisher.acked)} orders were acknowledged"


async def _nothing_lost(scene: Scene) -> Seen:
    missing = await lost(scene)
    told = f"{len(scene.publisher.acked)} orders were acknowledged meanwhile, {missing} of them lost"
    return Seen(missing == 0, told)


async def _audit(scene: Scene) -> Seen:
    code, output = await scene.bot.command("audit", "verify")
    return Seen(code == 0, " / ".join(output.split("\n")).strip(" /"))


SCRIPTS: Final = tuple(script(name, scenario) for name, scenario in SCENARIOS.items())
