"""`/nats`, mentions and the message shortcut over the stand-in Slack: what they set going, and whom they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bot.adapters.clock import SystemClock
from bot.adapters.slack.app import COMMAND, Listeners, register
from bot.flow.asking import COMMAND as SOURCE
from bot.flow.freeze import freeze
from bot.model import Incident
from tests.integration.slack_adapter_support import ADA, GRACE, GUEST, OPS, House, house, offer, told

pytestmark = pytest.mark.timeout(60)


async def asked(running: House) -> Incident:
    await running.fold()
    (found,) = [one for one in await running.store.incidents() if one.source == SOURCE]
    return found


async def shortcut_twice(running: House, ts: str) -> None:
    """Use the shortcut, delivered twice."""
    running.slack.duplicate_gestures(1)
    await running.slack.person.message_shortcut(ADA, OPS, ts, "diagnose_alert")


async def test_a_diagnosis_that_a_person_asks_for_is_an_incident_that_bears_their_name(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.slack.person.slash(ADA, OPS, "/nats run stuck-consumer APP/ORDERS/worker", copies=2)
        incident = await asked(running)
        assert (incident.requested_by, incident.title, incident.cluster) == ("T0LAB/U0ADA", "STUCK_CONSUMER", "prod")
        assert incident.labels == {"account": "APP", "stream": "ORDERS", "consumer": "worker"}
        await running.until(lambda: "this thread" in str(running.slack.ephemerals(ADA)[-1].blocks))


async def test_two_who_ask_the_same_have_each_requested_what_comes_of_it(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        for person in (ADA, GRACE):
            await running.slack.person.slash(person, OPS, "/nats run stuck-consumer APP/ORDERS/worker")
        await running.fold()
        found = {one.requested_by for one in await running.store.incidents() if one.source == SOURCE}
        assert found == {f"T0LAB/{ADA}", f"T0LAB/{GRACE}"}


@pytest.mark.parametrize(
    ("wanted", "shown", "hidden"),
    [
        ("", ("deploy night", "100% sure"), ()),
        ("night", ("deploy night",), ("100% sure",)),
        ("0%", ("100% sure",), ("deploy night",)),
        (f"<@{GRACE}|grace>", ("100% sure",), ("deploy night",)),
        ("1h", ("deploy night", "100% sure"), ()),
        ("since 1h", ("deploy night", "100% sure"), ()),
        ("nothing of the kind", ("has no row about",), ("deploy night",)),
    ],
)
async def test_the_audit_log_is_narrowed_to_an_object_a_person_or_a_time(
    tmp_path: Path, wanted: str, shown: tuple[str, ...], hidden: tuple[str, ...]
) -> None:
    async with house(tmp_path) as running:
        await running.slack.person.slash(ADA, OPS, "/nats freeze 1h deploy night")
        await running.slack.person.slash(GRACE, OPS, "/nats freeze 1h 100% sure")
        await running.slack.person.slash(ADA, OPS, f"/nats audit {wanted}".strip())
        answer = str(running.slack.ephemerals(ADA)[-1].blocks)
        assert all(words in answer for words in shown), answer
        assert not any(words in answer for words in hidden), answer


@pytest.mark.parametrize("line", ["diagnose", "run stuck-consumer", "incidents", "audit", "freeze 1h maintenance"])
async def test_a_guest_is_refused_and_that_is_a_row(tmp_path: Path, line: str) -> None:
    async with house(tmp_path) as running:
        await running.slack.person.slash(GUEST, OPS, f"/nats {line}")
        assert "Guests" in await told(running, GUEST)
        assert len(await running.audited("command.refused")) == 1
        assert running.engine.started == []
        assert await running.store.freezes() == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run", "stands nothing; expected /nats run RUNBOOK"),
        ("run stuck-consumer a/b/c/d", "'a/b/c/d' is no object"),
        ("diagnose prdo", "Did you mean prod?"),
        ("freeze soon because", "A duration is"),
        ("unfreeze frz_1", "expected /nats unfreeze ID REASON"),
    ],
)
async def test_a_wrong_argument_says_what_is_expected(tmp_path: Path, line: str, expected: str) -> None:
    async with house(tmp_path) as running:
        await running.slack.person.slash(ADA, OPS, f"/nats {line}")
        assert expected in str(running.slack.ephemerals(ADA)[-1].blocks)


async def test_one_person_freezes_and_two_lift_it(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await running.slack.person.slash(ADA, OPS, "/nats freeze prod 1h deploy night")
        (frozen,) = await running.store.freezes()
        assert (frozen.cluster, frozen.reason) == ("prod", "deploy night")
        await running.slack.person.slash(ADA, OPS, f"/nats unfreeze {frozen.id} done")
        assert "another person" in await told(running, ADA, 2)
        await running.slack.person.slash(GRACE, OPS, f"/nats unfreeze {frozen.id} done")
        assert await running.store.freezes() == []


async def test_a_mention_in_a_thread_is_about_its_incident_and_answered_there_once(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        board = running.message("board")
        running.slack.person.say(ADA, OPS, "<@U0NATSMEDIC> diagnose", board.ts)
        assert "Looking again" in await told(running, ADA)
        assert running.slack.ephemerals(ADA)[-1].thread_ts == board.ts
        (started,) = [key for _, key in running.engine.started]
        assert started.startswith("inc_1/asked Ev")


async def test_the_shortcut_asks_for_a_cluster_and_takes_the_words_for_a_title(tmp_path: Path) -> None:
    async with house(tmp_path, clusters=("prod", "test")) as running:
        said = running.slack.person.say(ADA, OPS, "consumers <!channel> hang")
        await running.slack.person.message_shortcut(ADA, OPS, said.ts, "diagnose_alert")
        await running.until(
            lambda: (view := running.slack.open_view(ADA)) is not None and view.body.get("callback_id") is not None
        )
        assert (await running.slack.person.submit(ADA, {"cluster": "test"})).ok
        await told(running, ADA)
        incident = await asked(running)
        assert (incident.cluster, incident.title) == ("test", "consumers <!channel> hang")


@pytest.mark.parametrize("words", ["<@U0NATSMEDIC> diagnose", "see <https://x.example|it>, <@U0NATSMEDIC> diagnose"])
async def test_a_mention_is_understood_behind_a_greeting(tmp_path: Path, words: str) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        running.slack.person.say(ADA, OPS, words, running.message("board").ts)
        assert "Looking again" in await told(running, ADA)


@pytest.mark.parametrize("on", ["board", "proposal"])
async def test_the_shortcut_on_any_message_of_a_thread_looks_at_its_incident_again_and_once(
    tmp_path: Path, on: str
) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await shortcut_twice(running, running.message(on).ts)
        assert "Looking again" in await told(running, ADA)
        assert running.slack.ephemerals(ADA)[-1].thread_ts == running.message("board").ts
        (started,) = {key for _, key in running.engine.started}
        assert started.startswith("inc_1/asked ")
        assert running.slack.open_view(ADA) is None


async def test_the_shortcut_delivered_twice_opens_one_form_and_tells_of_no_failure(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        said = running.slack.person.say(ADA, OPS, "consumers hang")
        await shortcut_twice(running, said.ts)
        await running.until(
            lambda: (view := running.slack.open_view(ADA)) is not None and view.body.get("callback_id") is not None
        )
        assert running.slack.ephemerals(ADA) == []
        assert len(running.slack.calls("views.open")) == 1


async def test_the_answer_to_a_shortcut_reaches_a_channel_without_natsmedic(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        said = running.slack.person.say(ADA, "C0OUT", "consumers hang")
        await running.slack.person.message_shortcut(ADA, "C0OUT", said.ts, "diagnose_alert")
        await running.until(
            lambda: (view := running.slack.open_view(ADA)) is not None and view.body.get("callback_id") is not None
        )
        assert (await running.slack.person.submit(ADA, {"cluster": "prod"})).ok
        assert "is being looked at" in await told(running, ADA)
        assert running.slack.ephemerals(ADA)[0].channel == "C0OUT"


def test_the_manifest_names_what_the_app_listens_to_and_nothing_else() -> None:
    manifest = yaml.safe_load(Path("deploy/slack-manifest.yaml").read_text())
    heard: dict[str, set[str]] = {"command": set(), "event": set(), "message_shortcut": set()}

    class Recorder:
        def __getattr__(self, kind: str) -> object:
            def take(name: str) -> object:
                heard.setdefault(kind, set()).add(name)
                return lambda listener: listener

            return take

    register(Recorder(), Listeners.__new__(Listeners))  # pyright: ignore[reportArgumentType]
    features = manifest["features"]
    assert {one["command"] for one in features["slash_commands"]} == heard["command"] == {COMMAND}
    assert {one["callback_id"] for one in features["shortcuts"]} == heard["message_shortcut"]
    assert set(manifest["settings"]["event_subscriptions"]["bot_events"]) == heard["event"]
    assert "app_mentions:read" in manifest["oauth_config"]["scopes"]["bot"]


async def test_whoami_offers_nothing_that_a_freeze_stops(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await running.slack.person.slash(ADA, OPS, "/nats whoami")
        assert "you may approve this" in str(running.slack.ephemerals(ADA)[-1].blocks)
        await freeze(running.store, SystemClock(), "ada", "release night")
        await running.slack.person.slash(ADA, OPS, "/nats whoami")
        told_now = str(running.slack.ephemerals(ADA)[-1].blocks)
        assert "you may approve this" not in told_now
        assert "What waits for approval" in told_now
        assert "release night" in told_now
