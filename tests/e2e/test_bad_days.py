"""Bad input and bad surroundings: a clear word in the log and in the thread, a process that stays up, and nothing lost or made up."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from bot.lab import config as lab_config
from bot.lab.config import READER, SYSREADER, WRITER, Login
from bot.lab.http import http_client
from bot.lab.servers import LabCluster
from bot.lab.slack import Message
from bot.lab.stuck_consumer import break_consumer
from bot.lab.whole import ADA, BO, CHANNEL, VERIFIED_BOARD, WholeBot, lab_slack
from bot.model import JsonObject, parts
from tests.e2e.conftest import Whole
from tests.e2e.target import counting

LABELS: Final = {"account": "APP", "stream": "ORDERS", "consumer": "worker"}
COULD_NOT_TELL: Final = "Could not tell"
SMALL_BODY: Final = 65_536


@asynccontextmanager
async def without_servers(directory: Path, overrides: JsonObject | None = None) -> AsyncGenerator[WholeBot]:
    """The bot with a cluster in its config of which no server runs; the test may start it."""
    cluster, slack = LabCluster(directory / "nats", "2.11.11"), lab_slack()
    try:
        async with slack, WholeBot(directory / "bot", cluster, slack, overrides) as bot:
            yield bot
    finally:
        await cluster.stop()


def logins(
    bot: WholeBot, *, system: Login = SYSREADER, reader: Login = READER, writer: Login = WRITER
) -> list[JsonObject]:
    """Return the `clusters` section with other logins."""
    section = parts(bot.settings(), "clusters")

    def written(login: Login) -> JsonObject:
        return {"user": login.user, "password": login.password, "inbox_prefix": login.inbox_prefix}

    account: JsonObject = {"APP": {"reader": written(reader), "writer": written(writer)}}
    return [section[0] | {"nats": section[0]["nats"] | {"system": written(system), "accounts": account}}]


def boards(bot: WholeBot) -> list[Message]:
    return [m for m in bot.slack.messages(CHANNEL) if m.thread_ts in {None, m.ts}]


async def alive(bot: WholeBot) -> bool:
    async with http_client() as client:
        return (await client.get(f"{bot.url}/readyz", timeout=5)).is_success


async def test_a_bad_webhook_is_refused_by_its_status_stores_nothing_and_the_bot_stays_up(tmp_path: Path) -> None:
    async with without_servers(tmp_path) as bot:
        listening: JsonObject = bot.settings()["webhooks"]
        bot.override(webhooks=listening | {"max_body_bytes": SMALL_BODY})
        await bot.start()
        good = {"Authorization": f"Bearer {bot.secret}"}
        bodies: list[tuple[int, bytes, dict[str, str]]] = [
            (401, b"{}", {}),
            (401, b"{}", {"Authorization": "Bearer wrong"}),
            (401, b"{}", {"Authorization": f"Basic {bot.secret}"}),
            (413, b" " * (SMALL_BODY + 1), good),
            (400, b"{", good),
            (400, b"[]", good),
            (400, b'{"version": "3", "alerts": []}', good),
            (400, b'{"version": "4", "alerts": [{"status": "on fire"}]}', good),
            (400, b"\xff\xfe{}", good),
            (400, b'{"version": "4", "alerts": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", good),
        ]
        async with http_client() as client:
            for status, body, headers in bodies:
                answer = await client.post(
                    f"{bot.url}/webhooks/alertmanager", content=body, headers=headers, timeout=15
                )
                assert answer.status_code == status, (body[:60], answer.text)
                assert answer.json()["error"]
                assert bot.secret not in answer.text
            assert (await client.get(f"{bot.url}/webhooks/alertmanager")).status_code == 405
            assert (await client.post(f"{bot.url}/webhooks/another", content=b"{}", headers=good)).status_code == 404
        code, output = await bot.command("audit", "export")
        kinds = [json.loads(line)["kind"] for line in output.splitlines()]
        assert (code, kinds) == (0, ["bot.started"])
        assert "none" in (await bot.command("incidents", "list"))[1]
        assert await alive(bot)
        assert boards(bot) == []
        assert bot.log.count("webhook refused") == len(bodies)
        assert bot.secret not in bot.log
        assert (await bot.alert()).status_code == 202
        await bot.see("NatsConsumerStuck")


async def test_an_unreachable_cluster_is_never_called_healthy_and_is_read_once_it_is_back(tmp_path: Path) -> None:
    async with without_servers(tmp_path) as bot:
        await bot.start()
        assert (await bot.alert(labels=LABELS)).status_code == 202
        text = await bot.see(COULD_NOT_TELL)
        assert "Nothing could be read from cluster lab" in text
        assert "Cannot tell" in text
        assert bot.button("approve") is None
        assert (await bot.alert(labels=LABELS, state="resolved")).status_code == 202
        text = await bot.see("Cleared by the sender, not verified by natsmedic")
        await bot.cluster.start()
        assert (await bot.alert(labels={}, fingerprint="b" * 16)).status_code == 202
        await bot.see("firing, nothing wrong found")
        await bot.cluster.stop()
        assert (await bot.alert(labels={}, fingerprint="c" * 16)).status_code == 202
        await bot.wait(
            lambda: bot.slack.render_text(CHANNEL).count("Nothing could be read") >= 3, 60, "the outage was not named"
        )
        assert not await bot.audit("proposal.created")
        assert "Verified" not in bot.slack.render_text(CHANNEL)
        assert await alive(bot)


async def test_a_wrong_password_is_named_as_the_reason_why_nothing_could_be_read(whole: Whole) -> None:
    async with whole(room={}) as bot:
        bad = [
            Login(login.user, "wrong-password-canary", login.account, login.inbox_prefix)
            for login in (SYSREADER, READER, WRITER)
        ]
        bot.override(clusters=logins(bot, system=bad[0], reader=bad[1], writer=bad[2]))
        await bot.start()
        assert (await bot.alert(labels=LABELS)).status_code == 202
        text = await bot.see(COULD_NOT_TELL)
        assert "credential" in text.lower() or "authorization" in text.lower()
        assert bot.button("approve") is None
        assert "canary" not in text + bot.log + (await bot.command("audit", "export"))[1]
        assert await alive(bot)


async def test_a_missing_jsz_permission_makes_the_facts_unknown_and_denied_not_healthy(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = tuple(subject for subject in lab_config.SYSREADER_PUBLISH if not subject.endswith("JSZ"))
    assert len(without) == len(lab_config.SYSREADER_PUBLISH) - 1
    monkeypatch.setattr(lab_config, "SYSREADER_PUBLISH", without)
    async with whole(room={}) as bot:
        await bot.start()
        assert (await bot.alert(labels=LABELS)).status_code == 202
        text = await bot.see(COULD_NOT_TELL)
        assert "denied" in text
        assert "$SYS.REQ.SERVER.PING.JSZ" in text, "the missing permission, as it must be written into the config"
        assert bot.button("approve") is None
        await bot.alert(labels=LABELS, state="resolved")
        await bot.see("Cleared by the sender, not verified by natsmedic")


async def test_a_writer_without_permission_is_denied_nothing_is_applied_and_the_thread_says_so(whole: Whole) -> None:
    async with whole() as bot:
        await break_consumer(bot.cluster)
        bot.override(clusters=logins(bot, writer=READER))
        await bot.start()
        assert (await bot.alert(labels=LABELS)).status_code == 202
        await bot.see_button("approve")
        async with counting(bot.cluster) as target:
            assert (await bot.decide(ADA)).ok
            await bot.see("1 of 2")
            assert (await bot.decide(BO)).ok
            text = await bot.see("Nothing was changed", 60)
            assert "denied" in text.lower()
            assert "not applied" in text
            assert "A repair did not work" in await bot.see("A repair did not work")
            assert not target.created
            assert not target.deleted
        failed = await bot.audit("execution.failed")
        assert len(failed) == 1
        assert "denied" in failed[0]["sentence"].lower()
        _, output = await bot.command("proposals", "list", "--format", "json")
        assert '"failed"' in output
        assert VERIFIED_BOARD not in bot.slack.render_text(CHANNEL)
        assert (await bot.command("audit", "verify"))[0] == 0


async def test_mode_observe_shows_the_repair_without_buttons_and_a_resolved_alert_verifies_nothing(
    whole: Whole,
) -> None:
    async with whole(overrides={"mode": "observe"}) as bot:
        await break_consumer(bot.cluster)
        await bot.start()
        async with counting(bot.cluster) as target:
            assert (await bot.alert(labels=LABELS)).status_code == 202
            text = await bot.see("Mode observe: natsmedic shows what it would do and changes nothing.")
            assert "Delete consumer worker" in text
            assert all(bot.button(action, stale=True) is None for action in ("approve", "deny"))
            await bot.alert(labels=LABELS, state="resolved")
            text = await bot.see("Cleared by the sender, not verified by natsmedic")
            assert VERIFIED_BOARD not in text
            assert not target.created
            assert not target.deleted
        assert not await bot.audit("stage.intended")
        assert len(boards(bot)) == 1


async def test_an_alert_during_a_slack_outage_gets_its_thread_afterwards_and_repeats_fold_into_it(whole: Whole) -> None:
    async with whole(room={}) as bot:
        await bot.start()
        await bot.slack.outage(6)
        for _ in range(3):
            assert (await bot.alert()).status_code == 202
        assert boards(bot) == []
        await bot.see("alert received 3 times")
        await bot.see("firing, nothing wrong found")
        assert len(boards(bot)) == 1
        assert (await bot.alert("NatsConsumerLag", fingerprint="b" * 16)).status_code == 202
        await bot.wait(lambda: len(boards(bot)) == 2, 30, "the second alert got no thread of its own")
        assert (await bot.alert(state="resolved")).status_code == 202
        text = await bot.see("Closed")
        assert VERIFIED_BOARD not in text, "a sender's word is no verification"
        assert len(boards(bot)) == 2
        assert len(await bot.audit("alert.firing")) == 4
        assert len(await bot.audit("diagnosis.done")) == 3


async def test_an_alert_of_no_configured_cluster_says_so_and_touches_none(tmp_path: Path) -> None:
    async with without_servers(tmp_path) as bot:
        first = parts(bot.settings(), "clusters")[0]
        bot.override(clusters=[first, first | {"name": "lab-two"}])
        await bot.start()
        assert (await bot.alert(labels={"cluster": "elsewhere"})).status_code == 202
        text = await bot.see("no configured cluster matches this alert")
        assert "lab, lab-two" in text
        assert not await bot.audit("diagnosis.done")
        assert bot.button("approve") is None
        assert (await bot.alert(labels={"cluster": "lab-two"}, fingerprint="b" * 16)).status_code == 202
        await bot.see("Nothing could be read from cluster lab-two")


async def test_an_unknown_key_of_the_config_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    async with without_servers(tmp_path) as bot:
        bot.directory.mkdir(parents=True)
        bot.config.write_text("mode: observe\nclusterz: []\nwebhooks: {lisen: '127.0.0.1:1'}\n")
        code, output = await bot.command("config", "check", str(bot.config))
        assert code == 2
        for wrong, right in (("clusterz", "clusters"), ("lisen", "listen")):
            assert any(wrong in line and right in line for line in output.splitlines()), output
        assert "Traceback" not in output
        code, output = await bot.command("serve")
        assert code == 2
        assert "clusterz" in output
