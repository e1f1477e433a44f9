"""The demo: an incident on a stand-in Kubernetes with pods that are local nats-servers, and the bot with the roles of deploy/.

Played by its script (bot.lab.scenario_scripts), or with a visitor who approves in the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bot.lab.kubernetes_scenarios import SCENARIOS, Scenario
from bot.lab.kubernetes_scene import Scene, Where, stage
from bot.lab.process import LabError
from bot.lab.scenario_scripts import NAMES, approvals, bereavement, incident, repair
from bot.lab.script import RealClock, Step, play
from bot.lab.whole import CHANNEL

VISIT_SECONDS: Final = 24 * 3600.0
"""How long a visitor may take to approve."""


async def run(where: Where, name: str, *, scripted: bool, say: Callable[[str], None]) -> None:
    """Run one scenario. Raises `LabError` where something is not as promised."""
    scenario = SCENARIOS[name]
    say(f"natsmedic demo: {scenario.told}")
    async with stage(scenario.manifest, where, say) as scene:
        say(f"  Slack, as a page: {scene.bot.slack.page_url}")
        await _play(scene, incident(scenario), say)
        if scripted:
            middle = bereavement() if where.replicas > 1 else ()
            await _play(scene, (*approvals(scenario), *middle, *repair(scenario)), say)
            say("\n----- the thread -----\n" + scene.bot.slack.render_text(CHANNEL) + "\n----------------------\n")
            say("The repair is proven, and the audit chain verifies.")
        else:
            await _visited(scene, scenario, say)


async def _play(scene: Scene, steps: tuple[Step[Scene], ...], say: Callable[[str], None]) -> None:
    report = await play(steps, scene, say, RealClock())
    if not report.passed:
        raise LabError(f"{report.verdict}; the thread:\n{scene.bot.slack.render_text(CHANNEL)}")


async def _visited(scene: Scene, scenario: Scenario, say: Callable[[str], None]) -> None:
    """Leave the buttons to the visitor, and stay until Ctrl-C."""
    names = " and then ".join(NAMES[approval.user] for approval in scenario.approvals)
    say(f"\n  Open {scene.bot.slack.page_url}")
    say(f"  Be {names} and approve: {scenario.wanted} … Ctrl-C ends the demo.")
    if scene.replicas is not None and len(scene.replicas.bots) > 1:
        say(
            f"  Then kill -9 one of the bots, while it repairs: {', '.join(str(bot.pid) for bot in scene.replicas.bots)}"
        )
    say("")
    await _play(scene, repair(scenario, VISIT_SECONDS), say)
    say("  Repaired. The page stays open until Ctrl-C.")
    await asyncio.Event().wait()
