"""The bot as Prometheus sees it, and Prometheus as the bot hears of it: from a rule to a verified repair, and every step of it counted."""

from __future__ import annotations

import json
from pathlib import Path

from bot.lab.stuck_consumer import break_consumer
from bot.lab.whole import ADA, BO, VERIFIED_BOARD, WholeBot, free_port
from tests.e2e.conftest import Whole
from tests.e2e.monitoring import Monitoring, monitoring, needs_prometheus

ONCE = (
    'natsmedic_alerts_total{source="alertmanager",outcome="opened"}',
    'natsmedic_alerts_total{source="alertmanager",outcome="resolved"}',
    'natsmedic_executions_total{outcome="done"}',
    'natsmedic_actions_total{action="consumer.delete",outcome="verified"}',
    'natsmedic_actions_total{action="consumer.create",outcome="verified"} > 0',
    'natsmedic_alert_to_thread_seconds_count{job="natsmedic"}',
    'natsmedic_alert_to_verdict_seconds_count{job="natsmedic"}',
    'natsmedic_alert_to_approval_seconds_count{job="natsmedic"}',
    'natsmedic_alert_to_verified_seconds_count{job="natsmedic"}',
)
"""What happens once in the story."""
OFTEN = (
    'natsmedic_calls_total{system="nats",operation="gather",outcome="ok"}',
    'natsmedic_calls_total{system="nats",operation="delete_consumer",outcome="ok"}',
    'natsmedic_calls_total{system="slack",operation="chat.postMessage",outcome="ok"}',
    'natsmedic_calls_total{system="database",operation="write",outcome="ok"}',
    'sum(natsmedic_findings_total{severity="critical"})',
    "natsmedic_audit_rows",
    "natsmedic_store_readable",
    "natsmedic_build_info",
)


def exported(bot: WholeBot, leader: str) -> str:
    """The consumer as prometheus-nats-exporter shows it, with `-prefix=nats`."""
    about = f'cluster="{bot.servers.name}",account="APP",stream_name="ORDERS",consumer_name="worker",is_consumer_leader="{leader}"'
    return f"nats_consumer_num_pending{{{about}}} 7\n"


async def counted(bot: WholeBot, seen: Monitoring, query: str, wanted: float) -> None:
    async def reached() -> bool:
        return await seen.value(query) == wanted

    await bot.wait(reached, 15, f"{query} is {await seen.value(query)}, and never became {wanted}")


@needs_prometheus
async def test_a_rule_of_prometheus_opens_a_thread_and_the_repair_is_counted_step_by_step(
    whole: Whole, tmp_path: Path
) -> None:
    port = free_port()
    async with (
        whole(overrides={"metrics": {"listen": f"127.0.0.1:{port}"}}) as bot,
        monitoring(tmp_path, bot, port) as seen,
    ):
        await break_consumer(bot.cluster)
        await bot.start()
        await counted(bot, seen, 'up{job="natsmedic"}', 1)
        seen.exported = exported(bot, "false")
        thread = await bot.see("NatsConsumerLeaderless")
        assert "worker" in thread
        await bot.see_button("approve")
        await counted(bot, seen, 'sum(natsmedic_active_proposals{state="pending"})', 1)
        assert "NatsmedicNothingReceived" not in thread
        assert (await bot.decide(ADA)).ok
        await bot.see("1 of 2")
        assert (await bot.decide(BO)).ok
        await bot.see(VERIFIED_BOARD, 120)
        seen.exported = exported(bot, "true")
        for query in ONCE:
            await counted(bot, seen, query, 1)
        await counted(bot, seen, 'natsmedic_approvals_total{decision="approve"}', 2)
        for query in OFTEN:
            assert (await seen.value(query) or 0) > 0, query
        assert "NatsConsumerLeaderless" not in await seen.firing()
        lines = [json.loads(line) for line in bot.log.splitlines()]
        assert {line["level"] for line in lines} <= {"info", "warning"}, bot.log
