"""Answers that are long or late: files for the asker alone, and the address of the gesture with another way behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.adapters.slack.client import make_hooks
from bot.lab.slack import Message
from tests.integration.slack_adapter_support import ADA, GRACE, GUEST, OPS, House, house, incident, offer

pytestmark = pytest.mark.timeout(60)

OUT, DIRECT = "C0OUT", "D0ADA"
MANY = 12


async def crowded(running: House) -> None:
    async with running.store.begin() as tx:
        for number in range(MANY):
            await tx.put(incident(f"Alert \u202e {number}", name=f"many{number}"))


def filed(running: House, channel: str) -> list[str]:
    """The texts of the files in a channel."""
    shown = [file for m in running.slack.messages(channel) for file in m.files]
    return [(running.slack.workspace.files[file].content or b"").decode() for file in shown]


def whispers(running: House, user: str) -> list[Message]:
    return running.slack.ephemerals(user)


async def heard(running: House, user: str, words: str) -> Message:
    """Wait until somebody is told these words."""
    await running.until(lambda: any(words in m.text for m in whispers(running, user)))
    return next(m for m in whispers(running, user) if words in m.text)


async def test_a_list_of_several_pages_offers_a_file_that_the_asker_alone_gets(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await crowded(running)
        await running.slack.person.slash(ADA, OPS, "/nats incidents")
        page = await heard(running, ADA, "12 open incidents")
        await running.slack.person.click(ADA, OPS, page.ts, "All as a file")
        await heard(running, ADA, "in your direct messages")
        (text,) = filed(running, DIRECT)
        assert text.count("\n") == MANY
        assert r"Alert \u202e 11" in text
        assert filed(running, OPS) == []
        assert whispers(running, GRACE) == []


async def test_a_list_of_one_page_offers_no_file(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await running.slack.person.slash(ADA, OPS, "/nats incidents")
        assert "All as a file" not in str((await heard(running, ADA, "1 open incidents")).blocks)


@pytest.mark.parametrize("line", ["incidents", "proposals", "runbooks", "audit"])
async def test_every_list_comes_as_a_file_where_that_is_said(tmp_path: Path, line: str) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await running.slack.person.slash(ADA, OPS, "/nats freeze 1h deploy night")
        await running.slack.person.slash(ADA, OPS, f"/nats {line} file")
        await heard(running, ADA, "in your direct messages")
        (text,) = filed(running, DIRECT)
        expected = {"incidents": "inc_1", "proposals": "prop_1", "runbooks": "STUCK_CONSUMER", "audit": "deploy night"}
        assert expected[line] in text


async def test_a_file_that_is_asked_for_in_public_stands_in_the_thread(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        board = running.message("board")
        running.slack.person.say(ADA, OPS, "<@U0NATSMEDIC> proposals public file", board.ts)
        await heard(running, ADA, "The file is here")
        (message,) = [m for m in running.slack.messages(OPS) if m.files]
        assert message.thread_ts == board.ts
        assert filed(running, DIRECT) == []


async def test_without_the_scope_the_asker_is_told_and_nobody_else_sees_a_file(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        running.slack.faults.missing_scopes.add("im:write")
        await running.slack.person.slash(ADA, OPS, "/nats incidents file")
        assert "scope im:write is missing" in (await heard(running, ADA, "could not be posted")).text
        assert filed(running, OPS) == filed(running, DIRECT) == []


async def test_a_guest_gets_no_file(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await crowded(running)
        await running.slack.person.slash(GUEST, OPS, "/nats incidents file")
        await heard(running, GUEST, "Guests")
        assert filed(running, "D0GUEST") == filed(running, OPS) == []


async def test_a_late_answer_reaches_who_asked_in_a_channel_without_natsmedic(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        await running.slack.person.slash(ADA, OUT, "/nats incidents file")
        assert (await heard(running, ADA, "in your direct messages")).channel == OUT
        assert running.slack.calls("chat.postEphemeral") == []


async def used_up(running: House) -> str:
    issued = running.slack.workspace.new_response_url(ADA, OPS)
    for _ in range(5):
        running.slack.workspace.use_response_url(issued.id)
    return f"{running.slack.workspace.public_url}/response/{issued.id}"


@pytest.mark.parametrize("kind", ["used", "expired", "foreign", "absent"])
async def test_where_the_gestures_address_takes_no_answer_it_is_whispered(tmp_path: Path, kind: str) -> None:
    async with house(tmp_path) as running:
        await offer(running)
        address = {
            "used": await used_up(running),
            "expired": f"{running.slack.workspace.public_url}/response/gone",
            "foreign": "http://127.0.0.1:9/response/x",
            "absent": "",
        }[kind]
        await running.slack.person.slash(ADA, OPS, "/nats incidents file", overrides={"response_url": address})
        await heard(running, ADA, "in your direct messages")
        assert len(running.slack.calls("chat.postEphemeral")) == 1
        asked = [call.outcome for call in running.slack.calls("response_url")]
        assert asked == {"used": ["used_url"], "expired": ["expired_url"]}.get(kind, [])


@pytest.mark.parametrize(
    ("api", "address", "opens"),
    [
        ("https://slack.com/api/", "https://hooks.slack.com/actions/T1/2/abc", True),
        ("https://slack.com/api/", "http://hooks.slack.com/actions/T1/2/abc", False),
        ("https://slack.com/api/", "https://hooks.slack.com.evil.example/x", False),
        ("https://slack.com/api/", "https://hooks.slack.com@evil.example/x", False),
        ("https://slack.com/api/", "https://hooks.slack.com:8443/x", False),
        ("https://slack.com/api/", "http://169.254.169.254/latest/meta-data", False),
        ("https://slack.com/api/", "file:///etc/passwd", False),
        ("http://127.0.0.1:8080/api/", "http://127.0.0.1:8080/response/x", True),
        ("http://127.0.0.1:8080/api/", "http://127.0.0.1:8081/response/x", False),
        ("http://127.0.0.1:8080/api/", "https://hooks.slack.com/x", False),
    ],
)
def test_only_an_address_of_slacks_own_is_answered(api: str, address: str, opens: bool) -> None:
    assert (make_hooks(api)(address) is not None) is opens
