"""Every way in is named here, with a test in which somebody is refused there; a new one that nobody has named fails.

It shows that no entry is forgotten. What the rules of an entry are worth is shown by the tests that are named.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typer.main import get_command

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.metrics import Standing, StoreCollector, metrics_app
from bot.adapters.metrics.app import METRICS_PATH
from bot.adapters.slack.app import COMMAND, HOME, MENTION, Listeners, register
from bot.adapters.slack.commands import MORE
from bot.adapters.slack.commands.words import WORDS, member
from bot.adapters.slack.modals import CALLBACK, HUSH, QUESTION, TUNED
from bot.adapters.slack.wanted import APPROVE, DENY, DETAILS, END_SILENCE, OPEN_THREAD, SILENCE, TAKE, TUNE
from bot.adapters.webhooks.app import SLACK_PATH, webhook_app
from bot.cli.root import app
from bot.model import DeliveryId, JsonObject
from bot.settings import MetricsSettings
from bot.settings.webhooks import SourceKind, WebhookSettings
from tests.integration.slack_adapter_support import ADA, GUEST, OPS, House, house, incident, offer, press, told
from tests.integration.test_webhook_sources import MAPPING

pytestmark = pytest.mark.timeout(60)

HERE: Final = Path(__file__).parent
CLICKS: Final = "test_slack_adapter_clicks.py"
OURS: Final = Path(__file__).name
FORGED: Final = "test_forged_payloads.py"
TUNING: Final = "test_slack_tuning.py"
STRANGERS: Final = (CLICKS, "test_strangers_are_refused_before_any_form_and_it_is_audited")
CASES: Final = ("test_cases.py", "test_who_may_not_is_refused_and_that_is_a_row")
SLACK: Final = {
    ("action", APPROVE): STRANGERS,
    ("action", DENY): (OURS, "test_a_guest_who_denies_is_refused_before_any_form"),
    ("action", DETAILS): (OURS, "test_a_guest_is_not_shown_the_plan"),
    ("command", COMMAND): (OURS, "test_a_guest_is_refused_every_word_that_is_not_for_everybody"),
    ("event", MENTION): (OURS, "test_a_guests_mention_is_refused_and_starts_nothing"),
    ("message_shortcut", QUESTION): (OURS, "test_a_guests_shortcut_is_refused_and_opens_no_form"),
    ("event", HOME): ("test_slack_home.py", "test_guests_and_strangers_see_a_refusal_and_no_incident"),
    **dict.fromkeys([("action", one) for one in (TAKE, SILENCE, END_SILENCE, OPEN_THREAD)], CASES),
    ("view_submission", HUSH): CASES,
    ("view_submission", CALLBACK): (FORGED, "test_a_replayed_form_is_one_approval_and_another_persons_is_none"),
    ("action", TUNE): (TUNING, "test_a_guest_is_shown_a_refusal_in_place_of_the_form"),
    ("view_submission", TUNED): (TUNING, "test_a_guest_who_sends_a_members_form_proposes_nothing"),
    ("action", MORE): (OURS, "test_a_guest_is_not_shown_the_next_page_of_what_a_member_asked_for_in_public"),
    ("view_submission", QUESTION): (OURS, "test_a_guest_who_sends_a_members_form_asks_nothing"),
}
WEBHOOK: Final = ("test_webhooks.py", "test_without_the_sources_own_secret_nothing_is_stored")
SIGNED: Final = ("test_webhook_sources.py", "test_an_unsigned_stranger_is_refused_before_the_body_is_read")
HTTP: Final = {
    ("POST", "/webhooks/alertmanager"): WEBHOOK,
    ("POST", "/webhooks/grafana"): SIGNED,
    ("POST", "/webhooks/pagerduty"): SIGNED,
    ("POST", "/webhooks/generic"): SIGNED,
    ("POST", SLACK_PATH): (CLICKS, "test_http_mode_answers_nothing_but_401_to_what_slack_did_not_sign"),
}
METRICS: Final = {
    ("GET", METRICS_PATH): ("test_metrics.py", "test_without_the_token_nobody_reads_the_metrics"),
}
OPEN: Final = {("GET", "/livez"), ("GET", "/healthz"), ("GET", "/readyz")}
"""For the kubelet, which has no secret: whether the bot lives, and what keeps it from its work. Starlette serves HEAD where GET is."""
SOURCES: Final[JsonObject] = {
    "alertmanager": {"bearer": "tok-alertmanager"},
    "grafana": {"kind": "grafana", "hmac_secret": "tok-grafana", "timestamp_header": "X-Grafana-Time"},
    "pagerduty": {"kind": "pagerduty", "hmac_secret": "tok-pagerduty"},
    "generic": {"kind": "generic", "bearer": "tok-generic", "mapping": MAPPING},
}
"""A source of each kind."""
ARGUMENTS: Final = {
    "run": "stuck-consumer",
    "freeze": "1h maintenance",
    "unfreeze": "frz_1 over",
}
VERBS: Final = {
    *("serve", "diagnose", "gather", "demo", "doctor", "version", "config schema", "config check"),
    *(
        "audit list",
        "audit kinds",
        "audit status",
        "audit export",
        "audit verify",
        "incidents list",
        "incidents show",
        "incidents report",
    ),
    *(
        "proposals list",
        "proposals show",
        "policy enrol",
        "policy explain",
        "policy show",
        "lab drill",
        "runbooks list",
        "runbooks show",
    ),
    *("freeze list", "db status", "db upgrade", "db downgrade", "db prune", "db backup"),
}
"""These ask nobody who they are: who may read the settings and the database may use them."""
PERSONAL: Final = dict.fromkeys(
    (
        "proposals approve",
        "proposals deny",
        "proposals withdraw",
        "freeze set",
        "freeze lift",
        "unlock",
        "audit acknowledge",
    ),
    ("test_terminal.py", "test_an_unknown_os_user_is_refused_everywhere_and_that_is_a_row"),
)
"""What only a person does whom the settings name for the OS user, each with a test in which somebody else is refused."""


def entries() -> set[tuple[str, str]]:
    heard: set[tuple[str, str]] = set()

    class Recorder:
        def __getattr__(self, kind: str) -> object:
            def take(name: str) -> object:
                heard.add((kind, name))
                return lambda listener: listener

            return take

    register(Recorder(), Listeners.__new__(Listeners))  # pyright: ignore[reportArgumentType]
    return heard


def verbs(command: object, path: tuple[str, ...] = ()) -> set[str]:
    below: dict[str, object] | None = getattr(command, "commands", None)
    if below is None:
        return {" ".join(path)}
    return {found for name, one in below.items() for found in verbs(one, (*path, name))}


class Nobody:
    """Takes nothing in."""

    async def accept(self, source: str, body: str) -> DeliveryId:
        raise AssertionError(source + body)


def assert_tests_exist(named: Iterable[tuple[str, str]]) -> None:
    for file, name in named:
        tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
        assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}, name


def test_every_entry_of_slack_has_a_test_that_shows_it_refused() -> None:
    assert entries() == SLACK.keys()
    assert_tests_exist(SLACK.values())


def test_every_address_of_http_has_a_test_that_shows_it_refused_or_is_open_to_all() -> None:
    settings = WebhookSettings.model_validate({"listen": "127.0.0.1:0", "sources": SOURCES})
    assert {source.kind for source in settings.sources.values()} == set(SourceKind)

    async def slack(_request: Request) -> Response:
        return Response()

    routes = webhook_app(settings, Nobody(), slack_handler=slack).routes
    assert all(isinstance(route, Route) for route in routes), "a mount would hide what is below it"
    found = {
        (method, route.path)
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert found == HTTP.keys() | OPEN
    assert_tests_exist(HTTP.values())


async def test_every_address_of_the_metrics_has_a_test_that_shows_it_refused(tmp_path: Path) -> None:
    async with SqlStore.open(f"sqlite:///{tmp_path / 'n.db'}", SystemClock()) as store:
        collector = StoreCollector(store, SystemClock(), Standing())
        routes = metrics_app(MetricsSettings(), CollectorRegistry(), collector).routes
    assert {("GET", route.path) for route in routes if isinstance(route, Route)} == METRICS.keys()
    assert len(routes) == len(METRICS)
    assert_tests_exist(METRICS.values())


def test_every_verb_of_the_command_line_is_known() -> None:
    assert verbs(get_command(app)) == VERBS | PERSONAL.keys()
    assert_tests_exist(PERSONAL.values())


@pytest.mark.parametrize("word", sorted(name for name, word in WORDS.items() if word.rule is not member))
async def test_a_guest_is_refused_every_word_that_is_not_for_everybody(tmp_path: Path, word: str) -> None:
    async with house(tmp_path) as running:
        await running.slack.person.slash(GUEST, OPS, f"/nats {word} {ARGUMENTS.get(word, '')}".strip())
        assert "Guests" in await told(running, GUEST)
        assert len(await running.audited("command.refused")) == 1
        assert running.engine.started == []
        assert await running.store.freezes() == []


async def test_a_guest_who_denies_is_refused_before_any_form(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await press(running, GUEST, DENY)
        assert "Guests" in await running.refusal()
        assert running.slack.open_view(GUEST) is None
        assert await running.store.approvals("prop_1") == []


async def test_a_guest_is_not_shown_the_plan(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await press(running, GUEST, DETAILS)
        assert "Guests" in await told(running, GUEST)
        assert running.slack.open_view(GUEST) is None
        assert len(await running.audited("command.refused")) == 1


async def test_a_guests_mention_is_refused_and_starts_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        running.slack.person.say(GUEST, OPS, "<@U0NATSMEDIC> diagnose")
        assert "Guests" in await told(running, GUEST)
        assert len(await running.audited("command.refused")) == 1
        assert running.engine.started == []


async def test_a_guests_shortcut_is_refused_and_opens_no_form(tmp_path: Path) -> None:
    async with house(tmp_path, clusters=("prod", "test")) as running:
        said = running.slack.person.say(ADA, OPS, "consumers hang")
        await running.slack.person.message_shortcut(GUEST, OPS, said.ts, QUESTION)
        await running.until(
            lambda: (view := running.slack.open_view(GUEST)) is not None and "Guests" in str(view.body["blocks"])
        )
        view = running.slack.open_view(GUEST)
        assert view is not None
        assert view.body.get("callback_id") != QUESTION
        assert len(await running.audited("command.refused")) == 1
        assert running.engine.started == []


async def shown_page(running: House) -> str:
    """Ask for a list in public, and return the ts of its first page."""
    async with running.store.begin() as tx:
        for number in range(12):
            await tx.put(incident(f"Alert {number}", name=f"many{number}"))
    running.slack.person.say(ADA, OPS, "<@U0NATSMEDIC> incidents public")
    await running.until(lambda: any("12 open incidents" in m.text for m in running.slack.messages(OPS)))
    return next(m.ts for m in running.slack.messages(OPS) if "12 open incidents" in m.text)


@pytest.mark.parametrize("label", ["Show more", "All as a file"])
async def test_a_guest_is_not_shown_the_next_page_of_what_a_member_asked_for_in_public(
    tmp_path: Path, label: str
) -> None:
    async with house(tmp_path) as running:
        page = await shown_page(running)
        await running.slack.person.click(GUEST, OPS, page, label)
        assert "Guests" in await told(running, GUEST)
        assert len(running.slack.ephemerals(GUEST)) == 1
        assert "Alert" not in str(running.slack.ephemerals(GUEST)[0].blocks)
        assert len(await running.audited("command.refused")) == 1
        assert not running.slack.calls("files.completeUploadExternal")


async def test_a_guest_who_sends_a_members_form_asks_nothing(tmp_path: Path) -> None:
    """A form that a member has opened is sent as if by a guest: authority is looked up again when it arrives."""
    async with house(tmp_path, clusters=("prod", "test")) as running:
        said = running.slack.person.say(ADA, OPS, "consumers hang")
        await running.slack.person.message_shortcut(ADA, OPS, said.ts, QUESTION)
        await running.until(
            lambda: (view := running.slack.open_view(ADA)) is not None and view.body.get("callback_id") == QUESTION
        )
        forged: JsonObject = {"user": {"id": GUEST}}
        await running.slack.person.submit(ADA, {"cluster": "test"}, overrides=forged)
        assert "Guests" in await told(running, GUEST)
        assert running.slack.ephemerals(ADA) == []
        assert len(await running.audited("command.refused")) == 1
        assert running.engine.started == []
        assert await running.store.incidents() == []
