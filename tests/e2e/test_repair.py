"""Alert to verified repair, through the real Bolt app, real servers and a real database; and everything that must stop it on the way."""

from __future__ import annotations

import asyncio
import json
import re
from io import BytesIO
from zipfile import is_zipfile

import pytest

from bot.adapters.archive import content_digest, read_archive
from bot.adapters.terminal import operator
from bot.lab.drills import Drill, ghost_split
from bot.lab.jetstream import consumer_views, request
from bot.lab.slack import Channel, StandInSlack, User, UserGroup
from bot.lab.stuck_consumer import break_consumer, drain
from bot.lab.whole import ADA, ADA_TWICE, BO, CHANNEL, CY, GUS, OPS, PEOPLE, VERIFIED_BOARD, WholeBot
from bot.model import TERMINAL, JsonObject, part, parts
from tests.e2e.conftest import Whole
from tests.e2e.target import counting
from tests.exhaustive import chosen

LABELS = {"account": "APP", "stream": "ORDERS", "consumer": "worker"}


async def broken(bot: WholeBot) -> Drill:
    """Break the consumer, post the alert, wait for the proposal."""
    drill = await break_consumer(bot.cluster)
    await bot.start()
    assert (await bot.alert(labels=LABELS)).status_code == 202
    await bot.see_button("approve")
    return drill


async def consumer_config(bot: WholeBot) -> JsonObject:
    client = await bot.cluster.connect()
    try:
        return part(await request(client, "CONSUMER.INFO.ORDERS.worker"), "config")
    finally:
        await client.close()


def evidence(bot: WholeBot) -> set[str]:
    """The digests of the snapshots that people find in the thread."""
    files = [file.content or b"" for file in bot.slack.workspace.files.values()]
    return {content_digest(read_archive(content)) for content in files if is_zipfile(BytesIO(content))}


async def insist_on_its_rows(bot: WholeBot, receipts: set[str]) -> None:
    """What was seen, offered, decided and done is on record as people had it before them. `receipts` is what the target bears now."""
    found: dict[str, list[JsonObject]] = {}
    for row in await bot.rows():
        found.setdefault(row["kind"], []).append(row)
    assert part(found["diagnosis.done"][0], "data")["snapshot"] in evidence(bot)
    approvals = found["approval.recorded"]
    assert [(one["actor"], part(one, "data")["reason"]) for one in approvals] == [
        ("ada", "checked the numbers"),
        ("bo", "checked the numbers"),
    ]
    (offered,) = [part(one, "data") for one in found["proposal.created"] if one["subject"] == approvals[0]["subject"]]
    assert {part(one, "data")["proposal_digest"] for one in approvals} == {offered["digest"]}
    previews = [part(stage, "preview") for stage in parts(part(offered, "proposal"), "stages")]
    assert all(one["summary"] in bot.slack.render_text(CHANNEL) for one in previews)
    assert all(one["blast_radius"] and one["way_back"] for one in previews)
    applied, verified = (
        [part(one, "data")["operation"] for one in found[kind]] for kind in ("stage.applied", "stage.verified")
    )
    assert len(applied) == len(previews)
    assert sorted(applied) == sorted(verified)
    assert receipts & {*applied}
    assert len(found["execution.done"]) == 1


@pytest.mark.parametrize("version", chosen(["2.10.26", "2.11.2", "2.11.11"], ["2.10.26"]))
async def test_a_split_consumer_is_repaired_by_two_people_without_losing_a_message(whole: Whole, version: str) -> None:
    async with whole(version=version) as bot:
        drill = await broken(bot)
        before = await consumer_config(bot)
        async with counting(bot.cluster) as target:
            assert (await bot.decide(ADA)).ok
            await bot.see("1 of 2")
            assert target.deleted["worker"] == 0, "one approval must not start a destructive change"
            assert (await bot.decide(BO)).ok
            await bot.see(VERIFIED_BOARD, 120)
        assert set(target.created) - {"worker", "worker-probe"} == set()
        after = await consumer_config(bot)
        changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
        assert changed <= {"deliver_policy", "opt_start_seq", "metadata"}
        start, predicted = await bot.predicted()
        assert after["opt_start_seq"] == start <= drill.worker.floor + 1
        drained = await drain(bot.cluster, drill, drill.published)
        assert drained.lost == []
        assert len(drained.repeated) <= predicted
        assert all(seq >= start for seq in drained.repeated)
        views = await consumer_views(bot.cluster, "ORDERS", "worker")
        assert len({v.leader for v in views.values()}) == 1
        code, output = await bot.command("audit", "verify")
        assert code == 0, output
        await insist_on_its_rows(bot, {str(one) for one in part(after, "metadata").values()})


async def test_an_approval_in_the_terminal_is_carried_out_by_the_bot_that_serves(whole: Whole) -> None:
    policy: JsonObject = {"policy": {**policy_section(), "terminal": {operator().user_id: "bo"}}}
    async with whole(overrides=policy) as bot:
        await broken(bot)
        assert (await bot.decide(ADA)).ok
        await bot.see("1 of 2")
        listed = json.loads((await bot.command("proposals", "list", "--active", "--format", "json"))[1])
        (offered,) = [one for one in listed if one["state"] == "pending" and one["risk"] == "destructive"]
        approve = ("proposals", "approve", offered["id"], "--reason", "by hand", "--typed-name", "worker")
        code, output = await bot.command(*approve)
        assert (code, "Recorded: 2 of 2." in output) == (0, True), output
        await bot.see(VERIFIED_BOARD, 120)
        (row,) = [row for row in await bot.audit("approval.recorded") if row["actor"] == "bo"]
        assert part(row, "data")["user"] == {"team_id": TERMINAL, "user_id": operator().user_id}
        await bot.see("bo (terminal)")


async def test_while_the_limit_is_still_reached_it_is_named_first_and_recreation_is_refused(whole: Whole) -> None:
    async with whole() as bot:
        drill = await ghost_split(bot.cluster, consumer_config={"ack_wait": 2_000_000_000})
        await bot.start()
        await bot.alert(labels=LABELS)
        text = await bot.see("max_ha_assets", 40)
        assert "n1" in text
        assert bot.button("approve") is None, "a recreation that would break again must not be offered"
        await bot.cluster.restart("n1", max_ha_assets=0)
        await bot.cluster.wait_ready()
        await bot.alert(labels=LABELS, state="resolved")
        await bot.see("Closed", 60)
        drained = await drain(bot.cluster, drill, drill.published)
        assert (drained.lost, drained.repeated) == ([], [])


async def test_one_deny_ends_it_and_nothing_is_changed(whole: Whole) -> None:
    async with whole() as bot:
        await broken(bot)
        async with counting(bot.cluster) as target:
            assert (await bot.decide(ADA)).ok
            assert (await bot.decide(BO, "deny", reason="the shop is selling")).ok
            await bot.see("the shop is selling")
            assert bot.button("approve") is None
            message = bot.button("approve", stale=True)
            assert message is not None
            await bot.slack.person.click(ADA_TWICE, CHANNEL, message.ts, "approve", stale=True)
            await bot.wait(
                lambda: "denied" in bot.told(ADA_TWICE).lower(), 10, "a click after the deny was not answered"
            )
            await asyncio.sleep(2)
            assert not target.created
            assert not target.deleted


async def test_an_unanswered_proposal_expires_and_its_button_is_dead(whole: Whole) -> None:
    policy = {"policy": {**policy_section(), "expiry_seconds": {"destructive": 12}}}
    async with whole(overrides=policy) as bot:
        await broken(bot)
        message = bot.button("approve")
        assert message is not None
        assert (await bot.decide(ADA)).ok
        await bot.see("Nobody with the authority approved it in time", 40)
        await bot.slack.person.click(BO, CHANNEL, message.ts, "approve", stale=True)
        await bot.wait(
            lambda: "expired" in bot.told(BO).lower(), 10, "a click on the expired proposal was not answered"
        )
        assert await bot.audit("proposal.expired")
        assert not await bot.audit("stage.intended")


async def test_clicks_of_people_without_authority_are_refused_to_them_alone_and_audited(whole: Whole) -> None:
    stranger = User("U0EVE", "eve", "Eve (other workspace)", team_id="T0OTHER", is_stranger=True)
    robot = User("U0BOT", "robot", "Robot", is_bot=True)
    gone = User("U0GONE", "gone", "Gone", deleted=True)
    people = [*PEOPLE, stranger, robot, gone]
    groups = (UserGroup(OPS, "nats-operators", "NATS operators", (ADA, GUS, "U0EVE", "U0BOT", "U0GONE")),)
    slack = StandInSlack(users=people, channels=(Channel(CHANNEL, "nats-oncall"),), usergroups=groups)
    async with whole(slack=slack) as bot:
        await broken(bot)
        message = bot.button("approve")
        assert message is not None
        for user in (CY, GUS):
            await slack.person.click(user, CHANNEL, message.ts, "approve")
            await bot.wait(lambda user=user: bool(bot.told(user)), 10, f"{user} was not told")
        for user in ("U0EVE", "U0BOT", "U0GONE"):  # Slack shows ephemeral messages to none of them
            await slack.person.click(user, CHANNEL, message.ts, "approve")
        foreign: JsonObject = {"user": {"team_id": "T0OTHER"}}
        await slack.person.click(ADA, CHANNEL, message.ts, "approve", overrides=foreign)
        await bot.wait(lambda: bool(bot.told(ADA)), 10, "a click from another workspace was not refused")
        assert (await bot.decide(ADA)).ok
        told = bot.told(ADA_TWICE)
        await slack.person.click(ADA_TWICE, CHANNEL, message.ts, "approve")
        await bot.wait(lambda: bot.told(ADA_TWICE) != told, 10, "the same person's second account was not refused")
        codes = {row["data"]["code"] for row in await bot.audit("click.refused")}
        assert {"not_an_approver", "guest", "foreign_workspace", "not_human", "inactive", "already_decided"} <= codes
        assert "Cy" not in slack.render_text(CHANNEL), "refusals are not for the thread"
        assert not await bot.audit("stage.intended")


async def test_a_form_without_reason_or_with_a_wrong_name_says_so_in_the_field(whole: Whole) -> None:
    async with whole() as bot:
        await broken(bot)
        answer = await bot.decide(ADA, typed_name="workr")
        assert "typed_name" in answer.errors
        answer = await bot.slack.person.submit(ADA, {"reason": "  ", "typed_name": "worker"})
        assert "reason" in answer.errors
        assert (await bot.slack.person.submit(ADA, {"reason": "checked", "typed_name": "worker"})).ok
        await bot.see("1 of 2")


async def test_a_hundred_clicks_of_ten_people_give_one_execution(whole: Whole) -> None:
    people = [User(f"U0P{n}", f"p{n}", f"Person {n}") for n in range(10)]
    groups = (UserGroup(OPS, "ops", "ops", tuple(p.id for p in people)),)
    slack = StandInSlack(
        users=people, channels=(Channel(CHANNEL, "nats-oncall"),), usergroups=groups, rate_limits=False
    )
    section = policy_section()
    section["groups"]["data-owners"] = {"users": [p.id for p in people]}
    async with whole(slack=slack, overrides={"policy": section}) as bot:
        drill = await broken(bot)
        message = bot.button("approve")
        assert message is not None
        values: JsonObject = {"reason": "me too", "typed_name": "worker"}

        async def press(user: str) -> None:
            await slack.person.click(user, CHANNEL, message.ts, "approve", stale=True)
            if bot.form(user) or await _opens(bot, user):
                await slack.person.submit(user, values, copies=10)

        async with counting(bot.cluster) as target:
            await asyncio.gather(*(press(p.id) for p in people))
            await bot.see(VERIFIED_BOARD, 120)
        assert len(await bot.audit("execution.started")) == 1
        assert len(await bot.audit("approval.recorded")) == 2
        assert len([e for e in target.order if e == ("DELETED", "worker")]) >= 1
        sent = await bot.audit("stage.sending")
        assert len(sent) == 2, "one delete and one create were sent"
        drained = await drain(bot.cluster, drill, drill.published)
        assert drained.lost == []


async def _opens(bot: WholeBot, user: str) -> bool:
    for _ in range(30):
        if bot.form(user):
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.mark.parametrize("move", ["leader", "floor", "config"])
async def test_an_approval_is_refused_when_the_world_has_moved_and_the_field_is_named(whole: Whole, move: str) -> None:
    async with whole() as bot:
        drill = await broken(bot)
        client = await bot.cluster.connect()
        try:
            if move == "leader":
                field = "leader"
                await _move_leader(bot)
            elif move == "floor":
                field = "floor"
                await _advance_floor(bot, drill)
            else:
                field = "config"
                config = part(await request(client, "CONSUMER.INFO.ORDERS.worker"), "config")
                body: JsonObject = {
                    "stream_name": "ORDERS",
                    "action": "update",
                    "config": config | {"max_ack_pending": 77},
                }
                await request(client, "CONSUMER.CREATE.ORDERS.worker", body)
        finally:
            await client.close()
        async with counting(bot.cluster) as target:
            await bot.decide(ADA)
            await bot.wait(
                lambda: (
                    re.search(rf"moved.*{field}", bot.told(ADA) + bot.slack.render_text(CHANNEL), re.DOTALL) is not None
                ),
                20,
                "drift unsaid",
            )
            await asyncio.sleep(1)
            assert not target.deleted
        drifted = await bot.audit("proposal.superseded")
        assert any(field in row["sentence"] for row in drifted), drifted


async def _move_leader(bot: WholeBot) -> None:
    """Step the consumer's leader down until every sound member names another one."""
    views = await consumer_views(bot.cluster, "ORDERS", "worker")
    old = views["n0"].leader
    client = await bot.cluster.connect()
    try:
        for _ in range(10):
            await request(client, "CONSUMER.LEADER.STEPDOWN.ORDERS.worker")
            for _ in range(30):
                await asyncio.sleep(0.2)
                views = await consumer_views(bot.cluster, "ORDERS", "worker")
                if views["n0"].leader == views["n2"].leader and views["n0"].leader not in {"", old}:
                    return
    finally:
        await client.close()
    raise AssertionError("the leader never moved")


async def _advance_floor(bot: WholeBot, drill: Drill) -> None:
    """Acknowledge the message above the floor, at the sound leader, by its acknowledgement subject."""
    views = await consumer_views(bot.cluster, "ORDERS", "worker")
    floor = drill.worker.floor
    client = await bot.cluster.connect()
    try:
        for seq in range(floor + 1, floor + 8):
            await client.publish(f"$JS.ACK.ORDERS.worker.1.{seq}.{seq}.0.0", b"+ACK")
        await client.flush()
        for _ in range(50):
            views = await consumer_views(bot.cluster, "ORDERS", "worker")
            if views["n0"].ack_floor.stream_seq > floor:
                return
            await asyncio.sleep(0.2)
    finally:
        await client.close()
    raise AssertionError("the floor never moved")


def policy_section() -> JsonObject:
    return {
        "groups": {"operators": {"usergroups": [OPS]}, "data-owners": {"users": [BO, ADA_TWICE]}},
        "persons": {"ada": [ADA, ADA_TWICE], "bo": [BO]},
        "approvers": {"low": ["operators"], "medium": ["operators"], "destructive": ["operators", "data-owners"]},
    }
