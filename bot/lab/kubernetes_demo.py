"""Demo scenarios on Kubernetes: the stand-in API server with pods that are local nats-servers, the bot with the roles of deploy/, and an incident.

Each scenario breaks something, lets the alert of that incident come in, has people approve the repair, and proves it: nothing acknowledged is lost, and the
cluster is as the proposal said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bot.lab.drills import create_stream
from bot.lab.kubernetes_scenarios import SCENARIOS, Approval, Scenario
from bot.lab.kubernetes_scene import STREAM, Scene, lost, stage
from bot.lab.process import LabError
from bot.lab.slack import Message
from bot.lab.whole import CHANNEL, PEOPLE, VERIFIED_BOARD

REPAIR_SECONDS: Final = 300.0


async def offered(scene: Scene, wanted: str) -> Message:
    """Wait for the proposal whose title begins like this, and return its message. Its buttons are there."""

    def look() -> Message | None:
        for parent in scene.bot.slack.messages(CHANNEL):
            for message in scene.bot.slack.thread(CHANNEL, parent.ts):
                text = " ".join(str(block) for block in message.blocks)
                if wanted in text and "'action_id': 'approve'" in text:
                    return message
        return None

    await scene.bot.wait(lambda: look() is not None, 90, f"no proposal {wanted!r} could be approved")
    found = look()
    if found is None:
        raise LabError(f"the proposal {wanted!r} vanished")
    return found


async def approve(scene: Scene, wanted: str, by: Approval) -> None:
    """One person approves the proposal whose title begins like this."""
    message = await offered(scene, wanted)
    pressed = await scene.bot.slack.person.click(by.user, CHANNEL, message.ts, "approve")
    if not pressed.ok:
        raise LabError(f"Slack refused the click: {pressed}")
    await scene.bot.wait(lambda: scene.bot.form(by.user), 20, "no form opened")
    outcome = await scene.bot.slack.person.submit(by.user, {"reason": by.reason, "typed_name": by.typed_name})
    if not outcome.ok:
        raise LabError(f"the form was refused: {outcome}")


async def approved(scene: Scene, scenario: Scenario) -> None:
    """Everybody whose approval is needed gives it, one after another."""
    for number, approval in enumerate(scenario.approvals, start=1):
        await approve(scene, scenario.wanted, approval)
        if number < len(scenario.approvals):
            await scene.bot.see(f"{number} of {len(scenario.approvals)}", 20)


async def play(scene: Scene, scenario: Scenario, started: float, say: Callable[[str], None], *, scripted: bool) -> bool:
    """Play the incident; return whether everything is as promised. Raises `LabError` where it is not."""
    await create_stream(scene.client, STREAM, 3)
    publishing = asyncio.create_task(scene.publisher.run(scene.client))
    say(f"  {await scenario.happens(scene)}")
    posted = time.monotonic()
    answer = await scene.bot.alert(scenario.alert, labels=dict(scenario.labels))
    say(f"  Alertmanager webhook {scenario.alert} posted: HTTP {answer.status_code}")
    await scene.bot.wait(lambda: scene.bot.board() is not None, 30, "no thread appeared")
    now = time.monotonic()
    say(f"  first message in the thread {now - posted:.1f} s after the alert, {now - started:.1f} s after the start")
    if scripted:
        await approved(scene, scenario)
        await _done(scene)
    else:
        names = " and ".join(person.real_name for person in PEOPLE if person.id in {a.user for a in scenario.approvals})
        say(
            f"\n  Open {scene.bot.slack.page_url}\n  Be {names} and approve: {scenario.wanted} … Ctrl-C ends the demo.\n"
        )
        await _done(scene, within=24 * 3600.0)
    say(f"  {await scenario.proof(scene)}")
    scene.publisher.over = True
    await publishing
    missing = await lost(scene)
    say(f"  {len(scene.publisher.acked)} orders were acknowledged meanwhile, {missing} of them lost")
    if not scripted:
        say("  Repaired. The page stays open until Ctrl-C.")
        await asyncio.Event().wait()
    say("\n----- the thread -----\n" + scene.bot.slack.render_text(CHANNEL) + "\n----------------------\n")
    code, output = await scene.bot.command("audit", "verify")
    say(f"$ natsmedic --config {scene.bot.config} audit verify\n{output.rstrip()}")
    return missing == 0 and code == 0


async def _done(scene: Scene, within: float = REPAIR_SECONDS) -> None:
    """Wait until the thread says that the change is done and the board that a new diagnosis found it well. Raises `LabError`."""
    await scene.bot.see("Done and verified: ", within)
    await scene.bot.see(VERIFIED_BOARD, REPAIR_SECONDS)


async def run(directory: Path, name: str, *, scripted: bool, port: int, say: Callable[[str], None]) -> bool:
    """Run one scenario in `directory`."""
    started = time.monotonic()
    scenario = SCENARIOS[name]
    say(f"natsmedic demo: {scenario.told}")
    async with stage(directory, scenario.manifest, port, say) as scene:
        say(f"  Slack, as a page: {scene.bot.slack.page_url}")
        return await play(scene, scenario, started, say, scripted=scripted)
