"""The report of an incident in its thread: once to each closing, as Markdown and HTML, whatever dies in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.adapters.slack import projector
from bot.lab.slack import FaultKind
from bot.lab.slack.records import StoredFile
from bot.model import AuditDraft, Incident, IncidentId, IncidentState, Relapse
from tests.integration.slack_adapter_support import OPS, House, another, diagnosis, house, incident, now, proposal

pytestmark = pytest.mark.timeout(60)

INC = IncidentId("inc_1")
SECRET = "nats://admin:hunter2@n1:4222"


def reports(running: House) -> list[StoredFile]:
    shown = [running.slack.workspace.files[file] for m in running.slack.messages(OPS) for file in m.files]
    return [file for file in shown if file.name.startswith("report-")]


def names(running: House) -> list[str]:
    return [file.name for file in reports(running)]


async def open_with(running: House, words: str = "Consumer stuck") -> None:
    await running.put(incident(words), diagnosis(), proposal())
    async with running.store.begin() as tx:
        await tx.audit(AuditDraft(kind="alert.firing", actor="am", incident_id=INC, sentence="It fires."))


async def moved(running: House, state: IncidentState) -> None:
    """Close it, or let it fire again."""
    async with running.store.begin() as tx:
        found = await tx.get(Incident, INC)
        assert found is not None
        if state is IncidentState.OPEN:
            again = Relapse(number=len(found.relapses) + 1, at=now(), after=found.state)
            found = found.model_copy(update={"relapses": (*found.relapses, again)})
        await tx.put(found.to(state, now()))
    running.adapter.chat.nudge(INC)


async def test_a_closing_posts_one_message_with_the_report_as_markdown_and_html(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await open_with(running)
        await running.drawn()
        assert reports(running) == []
        await moved(running, IncidentState.CLOSED)
        await running.drawn()
        markdown, html = reports(running)
        assert (markdown.name, html.name) == ("report-inc_1-1.md", "report-inc_1-1.html")
        assert markdown.content is not None
        assert html.content is not None
        assert markdown.content.startswith(b"# Incident report: Consumer stuck")
        assert b"All 1 rows verify." in markdown.content
        assert html.content.startswith(b"<!doctype html>")
        (message,) = [m for m in running.slack.messages(OPS) if markdown.id in m.files]
        assert (message.files, message.thread_ts) == ((markdown.id, html.id), running.message("board").ts)


async def test_a_relapse_and_a_second_closing_post_a_second_report_and_nothing_else_does(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await open_with(running)
        for state in (IncidentState.CLOSED, IncidentState.OPEN, IncidentState.CLOSED):
            await moved(running, state)
            await running.drawn()
        await running.put(diagnosis("Looked again.", name="2"))
        await running.drawn()
        assert names(running) == [f"report-inc_1-{number}.{ending}" for number in (1, 2) for ending in ("md", "html")]


@pytest.mark.parametrize("point", ["P03", "P04"])
async def test_a_crash_around_the_upload_leaves_one_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    async with house(tmp_path, start=False) as running:
        await open_with(running)
        await running.adapter.chat.draw(INC)
        await moved(running, IncidentState.CLOSED)

        def die(name: str) -> None:
            if name == point:
                raise asyncio.CancelledError

        monkeypatch.setattr(projector, "reached", die)
        with pytest.raises(asyncio.CancelledError):
            await another(running).chat.draw(INC)
        monkeypatch.undo()
        for _ in range(2):
            await another(running).chat.draw(INC)
        assert names(running) == ["report-inc_1-1.md", "report-inc_1-1.html"]


async def test_a_lost_answer_leaves_one_report(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await open_with(running)
        await running.drawn()
        running.slack.fault(FaultKind.DROP_AFTER_COMMIT, "files.completeUploadExternal")
        await moved(running, IncidentState.CLOSED)
        await running.drawn()
        assert names(running) == ["report-inc_1-1.md", "report-inc_1-1.html"]


async def test_the_report_quotes_no_secret_and_no_live_markup(tmp_path: Path) -> None:
    async with house(tmp_path) as running:
        await open_with(running, f"<!channel> {SECRET} <script>alert(1)</script>")
        await moved(running, IncidentState.CLOSED)
        await running.drawn()
        for file in reports(running):
            assert file.content is not None
            assert b"hunter2" not in file.content
            assert b"<script>" not in file.content
            assert b"<!channel>" not in file.content
        assert "<!channel>" not in "".join(file.title for file in reports(running))
