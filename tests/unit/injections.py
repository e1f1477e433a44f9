"""Text that tries to be more than text, wherever it is shown: mentions, links, markup, tags, formulas, terminal controls, label and shell breaks.

Each payload stands alone and inside the words of an alert, since some sinks look at the first character and some at the last.
"""

from __future__ import annotations

import random
from typing import Final

SLACK: Final = (
    *("<!channel>", "<!here>", "<!everyone>", "<!here|here>", "<@U0ADA>", "<@U0ADA|ada>", "<#C0OPS>", "<#C0OPS|ops>"),
    *("<!subteam^S0OWN>", "<!subteam^S0OWN|@owners>", "<!date^1^{date}^http://evil.example|x>", "@channel @here"),
    *("<http://evil.example>", "<https://evil.example|https://grafana.internal>", "<mailto:a@evil.example|b>"),
    *("&lt;!channel&gt;", "&amp;lt;!channel&amp;gt;", "&#60;!channel&#62;", "<<!channel>>", "<!channel", "!channel>"),
    *(
        "*bold* _italic_ ~gone~ `code`",
        "```\nfence\n```",
        "> quote",
        ">>> quote",
        ":rotating_light: :x:",
        "\u2022 point",
    ),
    *("http://evil.example/?a=b&c=d", "evil.example", "slack://open", "\uff1c!channel\uff1e", "<\u200b!channel>"),
)
MARKUP: Final = (
    *(
        "[a](http://evil.example)",
        "![a](http://evil.example/x.png)",
        "[a]: http://evil.example",
        "<https://evil.example>",
    ),
    *("# heading", "## heading", "- point", "+ point", "* point", "1. point", "1) point", "---", "===", "| a | b |"),
    *("|---|---|", "~~~\nfence\n~~~", "````\nfence", "$x^2$", "a@evil.example", "@octocat #1 GH-1", "www.evil.example"),
    *("\\[a](b)", "\\\\", "\\", "&nbsp;", "<!-- comment -->", "[red]r[/red]", "[link=http://evil.example]x[/link]"),
    *("line one\nline two", "line\r\nline", "line\u2028line", "line\x0bline", "\ttab", " leading", "trailing "),
)
TAGS: Final = (
    *(
        "<script>alert(1)</script>",
        "<ScRiPt src=//evil.example>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
    ),
    *('"><a href="javascript:alert(1)">x</a>', "'><b>x</b>", "</style><script>x</script>", "</title></head><body>"),
    *("</pre></td></table>", "]]><!-- x -->", "<!doctype html>", "<iframe srcdoc='x'>", '" onmouseover="alert(1)'),
    *("&lt;script&gt;", "&#x3c;script&#x3e;", "<\x00script>", "<meta http-equiv=refresh content=0>", "<base href=//e>"),
    *("{{7*7}}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{%raw%}", "%(x)s", "%s%n", "{0.__class__}", "{x!r}"),
)
CELLS: Final = (
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|'/C calc'!A0", '=HYPERLINK("http://evil.example","x")', "=1;2", "\t=1"),
    *(
        "\r=1",
        "\n=1",
        " =1",
        "\u00a0=1",
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20SUM(A1)",
        "'=1",
        '"=1',
        '","=1',
        "\ufeff=1",
    ),
    *(
        '"',
        '""',
        ",",
        ";",
        "a,b",
        'a"b',
        'a","b',
        "\u200b=1",
        "|cmd",
        "%0A=1",
        "DDE(1)",
        "=IMPORTXML(A1)",
        "-2+3+cmd|' /C calc'!A0",
    ),
)
TERMINAL: Final = (
    *("\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://evil.example\x07x\x1b]8;;\x07", "\x1b[2J\x1b[H", "\x1b[6n", "\x9b31m"),
    *("\x1bP+q\x1b\\", "\x07", "\x08\x08\x08", "\x00", "\x7f", "\x85", "\x90", "\r overwritten", "\x1b[?1049h", "\x1b_x\x1b\\"),
    *("\u202egpj.exe", "\u2066x\u2069", "\u200e\u200f", "\u200b\u200c\u200d", "\ufeff", "\u061c", "\u00ad", "\u2060", "\u3164"),
    *("\ud800", "\udfff", "\ue000", "\U000e0041", "e\u0301\u0301\u0301\u0301\u0301\u0301", "\u115f", "\u2800", "\ufff9x\ufffb"),
)  # fmt: skip
QUOTES: Final = (
    *('" 1\nnatsmedic_up 1', 'x"} 2', 'x\\"} 2', "x\\", "x\\\\", "x\n# HELP y", 'a="b",c="d"', '{l="1"} 1', "x\\n"),
    *("$(id)", "`id`", "; id", "| id", "&& id", "|| id", "> /tmp/x", "< /etc/passwd", "' ; id ; '", '" ; id ; "', "$HOME"),
    *("${IFS}id", "a b", "--help", "-rf", "~root", "*", "?", "[a]", "!!", "\\' ; id", "$'\\x41'", "a\nid", "#x", "x#y", "(id)"),
    *('{"a": 1}', '", "b": "', "\\u0000", "null", "NaN", "[]", "'", "../../etc/passwd", "a/b", "%2e%2e%2f", "C:\\x", "file:///x"),
)  # fmt: skip
PAYLOADS: Final = tuple(dict.fromkeys((*SLACK, *MARKUP, *TAGS, *CELLS, *TERMINAL, *QUOTES)))
CORPUS: Final = tuple(dict.fromkeys((*PAYLOADS, *(f"Consumer {payload} stuck" for payload in PAYLOADS))))

_JOINTS: Final = ("", "", " ", "\n", "\\", '"', "'", "|", "&", "<", ">", "\u202e", "`", "A", "\u00e9", "\U0001f600")


def generated(count: int, seed: int = 6) -> list[str]:
    """Payloads cut and put together at random, the same ones for a seed."""
    dice = random.Random(seed)
    made: list[str] = []
    for _ in range(count):
        parts = [dice.choice(PAYLOADS) for _ in range(dice.randrange(1, 5))]
        cut = [part[dice.randrange(len(part)) :] if dice.random() < 0.3 else part for part in parts]
        made.append("".join(part + dice.choice(_JOINTS) for part in cut))
    return made
