"""Text from alerts and from the cluster is shown, and does nothing: no mention, no link, no markup, no terminal control."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Final

from bot.lab.drills import ghost_split, remove_decoys
from bot.lab.slack import mentions
from bot.lab.whole import ADA, BO, CHANNEL, VERIFIED_BOARD, WholeBot
from bot.model import Json, JsonObject
from tests.e2e.conftest import Whole

STREAM: Final = "<!here|ORDERS`{{7}}\u202e"
"""JetStream takes every name without blanks, dots, stars, angle brackets to the right, and slashes."""
CONSUMER: Final = "<@U0ADA|worker`"
DESCRIPTION: Final = (
    "<!channel> <!subteam^S0OPERATORS> <http://evil.example|https://grafana.internal> ```\u202e\u200b\x1b[31m"
)
HOSTILE: Final = {
    "broadcast": "<!channel> <!here|here> <!everyone> @channel",
    "people": "<@U0ADA> <!subteam^S0OPERATORS> <#C0NATSONCALL>",
    "link": "<http://evil.example|https://grafana.internal> http://evil.example",
    "escaped": "&lt;!channel&gt; &amp;lt;!channel&amp;gt;",
    "code": "```\n*bold* _it_ `x` ~no~\n> quote ```",
    "bidi": "\u202etxt.exe\u2066 \u200b\ufeff",
    "controls": "\x00\x07\x1b[31mred\x1b]0;title\x07\r\nVerified healthy by natsmedic",
    "template": "{{7*7}} ${HOME} %(x)s {0.__class__} $(id)",
    "<!channel>\u202e": "a name can be hostile too",
}
MEGABYTE: Final = "<!channel>\u202e" + "A" * 1_048_576
MANY_LABELS: Final = {f"label_{number}<@U0ADA>": f"<!here> {number}" for number in range(2_000)}
LIVE: Final = frozenset({"link", "usergroup", "channel", "broadcast", "emoji", "image", "markdown"})
"""Rich-text leaves and blocks that notify, lead somewhere or parse markup; the bot has no use for any of them."""
HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
PARSED_BY_SLACK: Final = frozenset({"blocks", "view", "attachments"})


def hidden(text: str, allowed: str = "") -> set[str]:
    """Characters that nobody sees and that steer what shows them."""
    return {f"U+{ord(char):04X}" for char in text if unicodedata.category(char) in HIDDEN and char not in allowed}


def objects(value: Json) -> Iterator[JsonObject]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from objects(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from objects(part)


def assert_inert(arguments: JsonObject) -> None:
    """Nothing in the arguments of one Web API call mentions, links, parses markup or hides a character."""
    told = str(arguments.get("text") or "")
    assert mentions(told) == [], told[:500]
    assert "<http" not in told
    for name in PARSED_BY_SLACK & arguments.keys():
        raw = arguments[name]
        for one in objects(json.loads(raw) if isinstance(raw, str) else raw):
            kind = one.get("type")
            assert kind not in LIVE, one
            assert "url" not in one, one
            if kind == "user":
                assert one["user_id"] in {ADA, BO}, "only people who decided are named, from their own clicks"
            text = one.get("text")
            if not isinstance(text, str):
                continue
            assert hidden(text, "\n\t\ufe0f\u200d") == set(), one
            if kind == "mrkdwn":
                assert mentions(text) == [], text
                assert "<http" not in text
            if kind == "plain_text":
                assert one.get("emoji") is False, one


def assert_slack_took_everything(bot: WholeBot) -> None:
    refused = [
        (c.method, c.outcome) for c in bot.slack.calls() if c.outcome not in {"ok", "ratelimited", "rate_limited"}
    ]
    assert refused == []
    assert any(PARSED_BY_SLACK & call.args.keys() for call in bot.slack.calls())
    for call in bot.slack.calls():
        assert_inert(call.args)


async def assert_terminal_is_safe(bot: WholeBot) -> None:
    """What the commands print and the log holds has every hidden character written out."""
    for words in (("incidents", "list"), ("audit", "list"), ("audit", "export"), ("proposals", "list")):
        code, output = await bot.command(*words)
        assert code == 0, output
        assert hidden(output, "\n") == set(), words
    assert hidden(bot.log, "\n") == set()


async def test_hostile_alerts_are_shown_as_inert_text_in_slack_terminal_and_log(whole: Whole) -> None:
    async with whole(room={}) as bot:
        await bot.start()
        assert (await bot.alert(labels=HOSTILE, annotations=HOSTILE, fingerprint="a" * 16)).status_code == 202
        hostile_name = f"Nats {HOSTILE['broadcast']} {HOSTILE['bidi']} {HOSTILE['controls']} {HOSTILE['link']} {HOSTILE['template']}"
        assert (await bot.alert(hostile_name, annotations=HOSTILE, fingerprint="b" * 16)).status_code == 202
        megabyte = {"summary": MEGABYTE}
        assert (
            await bot.alert(MEGABYTE[:300], labels={"big": MEGABYTE}, annotations=megabyte, fingerprint="c" * 16)
        ).status_code == 202
        assert (await bot.alert(labels=MANY_LABELS, fingerprint="d" * 16)).status_code == 202
        await bot.wait(
            lambda: len([m for m in bot.slack.messages(CHANNEL) if m.thread_ts in {None, m.ts}]) == 4,
            60,
            "no four threads",
        )
        await bot.wait(lambda: sum("Runbook " in text for text in _threads(bot)) == 4, 60, "no four verdicts")
        text = bot.slack.render_text(CHANNEL)
        assert "<!channel> <!here|here>" in text, "it is shown as it came"
        assert HOSTILE["template"] in text, "nothing was evaluated"
        assert "\\u202etxt.exe" in text
        assert "(cut, " in text
        assert VERIFIED_BOARD not in "".join(block for m in bot.slack.messages(CHANNEL) for block in _bold(m.blocks))
        assert_slack_took_everything(bot)
        await assert_terminal_is_safe(bot)
        _, output = await bot.command("incidents", "list", "--format", "json")
        shown = ""
        for incident in json.loads(output):
            code, output = await bot.command("incidents", "show", incident["id"])
            assert code == 0, output
            assert hidden(output, "\n\t") == set()
            shown += output
        assert "\\u202etxt.exe\\u2066 \\u200b\\ufeff" in shown
        assert "\\x1b[31mred" in shown


async def test_hostile_names_and_descriptions_in_the_cluster_are_inert_from_verdict_to_repair(whole: Whole) -> None:
    async with whole() as bot:
        config: JsonObject = {"description": DESCRIPTION, "metadata": {"<!channel>": DESCRIPTION, "owner": "<@U0ADA>"}}
        drill = await ghost_split(bot.cluster, stream=STREAM, consumers=(CONSUMER,), consumer_config=config)
        await remove_decoys(bot.cluster, drill)
        await bot.start()
        labels = {"account": "APP", "stream": STREAM, "consumer": CONSUMER}
        assert (await bot.alert(labels=labels)).status_code == 202
        await bot.see_button("approve")
        assert (await bot.decide(ADA, typed_name=CONSUMER, reason="<!channel> \u202e <http://evil.example|x>")).ok
        await bot.see("1 of 2")
        await bot.slack.person.click(BO, CHANNEL, (await bot.see_button("details")).ts, "details")
        await bot.wait(lambda: bot.slack.open_view(BO) is not None, 15, "no details opened")
        await bot.slack.person.close_view(BO, all_of_them=True)
        assert (await bot.decide(BO, typed_name=CONSUMER)).ok
        text = await bot.see(VERIFIED_BOARD, 120)
        assert "<!here|ORDERS`{{7}}\\u202e" in text
        assert_slack_took_everything(bot)
        await assert_terminal_is_safe(bot)
        assert (await bot.command("audit", "verify"))[0] == 0


def _threads(bot: WholeBot) -> list[str]:
    """The text of each thread."""
    whole = bot.slack.render_text(CHANNEL)
    return whole.split("\n\n")


def _bold(blocks: tuple[JsonObject, ...]) -> list[str]:
    """The bot's own words: what stands in bold."""
    return [str(one["text"]) for one in objects(list(blocks)) if one.get("style") == {"bold": True}]
