"""Pictures: real PNGs of a readable size, whatever the cluster calls its servers. What is on them is checked by eye; the data are tested with their runbooks."""

import asyncio
import io
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bot.adapters.charts import canvas, draw
from bot.adapters.charts.drawing import draw_now
from bot.adapters.visible import visible
from bot.model import Chart
from tests.unit.charts import bars, lines, matrix

WIDTH = 1080
MOST_BYTES = 200_000
HOSTILE = [
    "$x^2_a$",
    "$\\frac{1}{2}$ \\undefined{$",
    "\u202eevil\u2066",
    "<!channel> {0.__class__} %(x)s",
    "_hidden",
    "line\nbreak\ttab\x00",
    "名前界 🚀",
    "W" * 1_000,
    "\ud800",
    "",
]


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height of what is a whole and valid PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image.size


@pytest.mark.parametrize(
    "chart",
    [matrix(), matrix(size=8), matrix("prod-nats-eu-", size=15), lines(), lines(count=6), bars(), bars(count=15)],
    ids=lambda chart: chart.kind,
)
def test_a_picture_is_a_png_three_phones_wide_and_small(chart: Chart) -> None:
    png = draw_now(chart)
    width, height = size_of(png)
    assert width == WIDTH
    assert 300 <= height <= 1_500
    assert len(png) < MOST_BYTES


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("make", [matrix, lines, bars])
def test_hostile_names_make_an_ordinary_picture(make: type[Chart], words: str) -> None:
    width, height = size_of(draw_now(make(words)))  # pyright: ignore[reportArgumentType, reportUnknownArgumentType, reportCallIssue]
    assert width == WIDTH
    assert height <= 1_500


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=st.text(max_size=60), top=st.floats(0, 1e19), count=st.integers(1, 6))
def test_any_words_and_numbers_can_be_drawn(words: str, top: float, count: int) -> None:
    assert size_of(draw_now(lines(words, count=count, top=top)))[0] == WIDTH
    assert size_of(draw_now(bars(words, count=count, value=top)))[0] == WIDTH


@given(st.text())
def test_drawable_text_has_a_glyph_for_every_letter_and_hides_nothing(words: str) -> None:
    shown = canvas.drawable(words)
    assert all(ord(char) in canvas._glyphs() for char in shown)
    assert visible(shown) == shown


def test_what_the_font_lacks_or_nobody_sees_is_written_out() -> None:
    assert canvas.drawable("na\u202eme 界 é") == "na\\u202eme \\u754c é"


def test_a_name_is_cut_in_its_middle() -> None:
    assert canvas.label("prod-nats-europe-west-12", 1.3) == "prod-…est-12"
    assert canvas.label("n0", 1.3) == "n0"
    assert canvas.width_inches(canvas.label("W" * 1_000_000, 1.3), canvas.TEXT_SIZE) <= 1.3


@pytest.mark.parametrize("letter", ["i", "m", "W"])
def test_text_is_wrapped_by_the_width_of_its_letters(letter: str) -> None:
    lines = canvas.wrapped(f"{letter * 9} " * 40, 3, canvas.TITLE_SIZE, "bold").splitlines()
    room = canvas.WIDTH_INCHES - 2 * canvas.MARGIN_INCHES
    assert len(lines) == 3
    assert all(canvas.width_inches(line, canvas.TITLE_SIZE, "bold") <= room for line in lines)
    assert lines[-1].endswith("…")


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (1234.0, "1,234"), (999_999_999_999, "999,999,999,999"), (1e12, "1.0e+12")]
)
def test_numbers_have_their_thousands_apart_up_to_what_people_count(value: float, shown: str) -> None:
    assert canvas.number(value) == shown


def test_equal_charts_give_equal_bytes() -> None:
    assert draw_now(matrix()) == draw_now(matrix())


async def test_drawing_leaves_the_event_loop_free_and_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    inside = 0
    most = 0
    original = canvas.png

    def seen(figure: canvas.Figure) -> bytes:
        nonlocal inside, most
        threads.add(threading.get_ident())
        inside += 1
        most = max(most, inside)
        try:
            return original(figure)
        finally:
            inside -= 1

    monkeypatch.setattr(canvas, "png", seen)
    await asyncio.gather(*(draw(chart) for chart in (matrix(), bars(), lines())))
    assert threading.get_ident() not in threads
    assert most == 1


def test_a_process_that_draws_nothing_never_loads_the_library() -> None:
    program = "import sys, bot.bootstrap.serving; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
