"""Advisories take the durable way, over restarts and refusals of the database."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError

from bot.errors import BadInput, StoreBusy
from bot.flow.incoming import IncomingAlert
from bot.flow.intake import Intake
from bot.flow.notices import ADVISORIES, SCHEDULE, AdvisoryAlert, Notice, fingerprint_of, parse_notice
from bot.model import AlertState, DeliveryId, IncidentState, JsonObject
from bot.settings import WebhookSettings
from tests.integration import store_records as records
from tests.integration.noticed_support import PACE, House, house
from tests.integration.test_intake import cluster


def advisory(h: House, stream: str = "ORDERS", name: str = "prod") -> tuple[IncomingAlert, JsonObject]:
    alert = IncomingAlert(
        fingerprint=fingerprint_of(name, stream),
        state=AlertState.FIRING,
        name=AdvisoryAlert.STREAM_QUORUM_LOST,
        labels={"cluster": name, "account": "APP", "stream": stream},
        annotations={"summary": "lost"},
        starts_at=h.clock.now(),
        ends_at=None,
    )
    return alert, {"type": "raw", "stream": stream}


LOST = "NatsStreamQuorumLost"


async def test_an_advisory_is_a_stored_delivery_an_incident_and_a_diagnosis(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        desk = h.advisories()
        desk.heard(*advisory(h))
        await desk.deliver()
        (delivery,) = await h.store.unprocessed_deliveries()
        assert delivery.source == ADVISORIES
        assert json.loads(delivery.body)["evidence"] == {"type": "raw", "stream": "ORDERS"}
        assert h.quiet.started == []
        assert await h.fold() == ["alert"]
        incident = (await h.incidents())[LOST]
        assert (incident.cluster, incident.channel, incident.state) == ("prod", "C0PROD", IncidentState.OPEN)
        assert set(await h.sources()) == {ADVISORIES}


async def test_repeats_fold_into_the_open_incident_and_silence_clears_it(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        desk = h.advisories()
        due: list[str] = []
        for _ in range(31):
            desk.heard(*advisory(h))
            await desk.deliver()
            due += await h.fold()
            h.later(20)
        assert due == ["alert"]
        assert (await h.incidents())[LOST].firing_count == 3, "at 0, 300 and 600 s"
        h.later(PACE.silence)
        await desk.deliver()
        (reason,) = await h.fold()
        assert reason.startswith("sender resolved")
        assert await h.states() == {LOST: IncidentState.CLEARED}


async def test_after_a_restart_an_open_advisory_is_neither_doubled_nor_forgotten(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        before = h.advisories()
        before.heard(*advisory(h))
        await before.deliver()
        await h.fold()
    async with house(tmp_path, clock=h.clock) as h:
        h.later(3_600)
        after = h.advisories()
        await after.adopt()
        after.heard(*advisory(h))
        await after.deliver()
        assert await h.fold() == []
        h.later(PACE.silence)
        await after.deliver()
        await h.fold()
        assert await h.states() == {LOST: IncidentState.CLEARED}


async def test_a_delivery_that_was_stored_and_not_folded_before_a_crash_is_folded_and_cleared(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        before = h.advisories()
        before.heard(*advisory(h))
        await before.deliver()
    async with house(tmp_path, clock=h.clock) as h:
        after = h.advisories()
        await after.adopt()
        assert await h.fold() == ["alert"]
        h.later(PACE.silence)
        await after.deliver()
        await h.fold()
        assert await h.states() == {LOST: IncidentState.CLEARED}


async def test_only_what_is_open_here_is_adopted(tmp_path: Path) -> None:
    both = cluster("prod"), cluster("stage")
    async with house(tmp_path, *both) as h:
        for name in ("prod", "stage"):
            desk = h.advisories(name)
            desk.heard(*advisory(h, name, name))
            desk.heard(*advisory(h, f"{name} over", name))
            await desk.deliver()
            await h.fold()
        async with h.store.begin() as tx:
            for incident in await h.store.incidents():
                if incident.labels["stream"].endswith("over"):
                    await tx.put(incident.model_copy(update={"state": IncidentState.CLEARED}))
            await tx.put(
                records.incident().model_copy(update={"source": "alertmanager", "fingerprint": "another source's"})
            )
    async with house(tmp_path, *both, clock=h.clock) as h:
        desk = h.advisories("prod")
        await desk.adopt()
        h.later(PACE.silence)
        await desk.deliver()
        (delivery,) = await h.store.unprocessed_deliveries()
        notice = Notice.model_validate_json(delivery.body)
        assert (notice.cluster, notice.alert.labels["stream"]) == ("prod", "prod")


async def test_advisories_again_after_silence_are_a_relapse_of_the_same_incident(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        desk = h.advisories()
        desk.heard(*advisory(h))
        await desk.deliver()
        h.later(PACE.silence)
        await desk.deliver()
        await h.fold()
        h.later(10)
        desk.heard(*advisory(h))
        await desk.deliver()
        (reason,) = await h.fold()
        assert reason.startswith("relapse")
        assert await h.states() == {LOST: IncidentState.OPEN}


async def test_what_the_store_does_not_take_is_kept_in_order_and_delivered_later(tmp_path: Path) -> None:
    async with house(tmp_path, max_queue=1) as h:
        async with h.store.begin() as tx:
            await tx.put(records.delivery("full"))
        desk = h.advisories()
        desk.heard(*advisory(h))
        await desk.deliver()
        desk.heard(*advisory(h, "LATER"))
        h.later(PACE.silence)
        await desk.deliver()
        assert await h.store.count_unprocessed() == 1
        async with h.store.begin() as tx:
            await tx.put(records.delivery("full", processed=True))
        bodies: list[tuple[str, str]] = []
        for _ in range(6):
            await desk.deliver()
            for delivery in await h.store.unprocessed_deliveries():
                alert = Notice.model_validate_json(delivery.body).alert
                bodies.append((alert.labels["stream"], alert.state))
            await h.fold()
        assert bodies == [
            ("ORDERS", "firing"),
            ("ORDERS", "resolved"),
            ("LATER", "firing"),
            ("LATER", "resolved"),
        ]


async def test_the_running_desk_delivers_news_at_once_and_survives_a_busy_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h:
        busy = [True, True]

        async def accept(source: str, body: str) -> DeliveryId:
            if busy:
                busy.pop()
                raise StoreBusy("another process writes")
            return await Intake.accept(h.intake, source, body)

        monkeypatch.setattr(h.intake, "accept", accept)
        monkeypatch.setattr("bot.flow.advisories.TICK", 0.01)
        desk = h.advisories()
        running = asyncio.create_task(desk.run())
        desk.heard(*advisory(h))
        async with asyncio.timeout(10):
            while await h.store.count_unprocessed() == 0:
                await asyncio.sleep(0.01)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert busy == []
        assert await h.fold() == ["alert"]


async def test_no_webhook_can_bear_the_name_of_a_source_of_ours() -> None:
    for source in (ADVISORIES, SCHEDULE):
        with pytest.raises(ValidationError):
            WebhookSettings.model_validate({"sources": {source: {"bearer": "x"}}})


@pytest.mark.parametrize("body", ["", "{}", '{"version": "4", "alerts": []}', '{"cluster": "prod", "alert": {}}'])
async def test_a_foreign_body_is_no_notice(body: str) -> None:
    with pytest.raises(BadInput, match="no notice of natsmedic"):
        parse_notice(body)


async def test_the_cluster_of_a_notice_is_not_chosen_by_labels(tmp_path: Path) -> None:
    other = cluster("stage", cluster="prod")
    async with house(tmp_path, other, cluster("prod", env="production")) as h:
        desk = h.advisories("prod")
        desk.heard(*advisory(h))
        await desk.deliver()
        await h.fold()
        assert (await h.incidents())[LOST].cluster == "prod"


async def test_a_notice_of_a_cluster_that_is_configured_no_longer_is_an_incident_that_says_so(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        desk = h.advisories("gone")
        desk.heard(*advisory(h, name="gone"))
        await desk.deliver()
        await h.fold()
        incident = (await h.incidents())[LOST]
        assert incident.cluster is None
        assert incident.note is not None
