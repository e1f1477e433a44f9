"""What every picture has: its size, its colours, its text. Imports matplotlib, so only a drawing thread imports this.

Sizes are chosen for a phone: Slack shows a picture about 360 points wide there, a third of `WIDTH_INCHES * DPI`, so 12 pt here are 8 px on it.
Colours differ in lightness first, so that they can be told apart without seeing colour, and follow Okabe and Ito (jfly.uni-koeln.de/color) in hue.
"""

from __future__ import annotations

import io
import textwrap
from functools import cache, lru_cache
from typing import Final

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL import Image

from bot.adapters.visible import visible, written_out
from bot.model import Severity

WIDTH_INCHES: Final = 7.2
DPI: Final = 150
POINTS_PER_INCH: Final = 72
SUBPIXELS: Final = 64
"""FreeType counts in 1/64 of a pixel."""
MARGIN_INCHES: Final = 0.12
TITLE_SIZE: Final = 15.0
TEXT_SIZE: Final = 12.5
SMALL_SIZE: Final = 11.0
LEADING: Final = 1.25
"""Distance of two lines, in letter heights."""
COLUMNS: Final = range(90, 10, -2)
"""Letters that a line across the picture may have, from narrow ones to wide ones."""
TITLE_LINES: Final = 3
NOTE_LINES: Final = 4
NAME_LETTERS: Final = 40
"""Letters of either end of a name that are looked at; no name of so many fits anywhere."""
PALETTE: Final = 128
"""Colours of a picture, with those between ink and paper."""
COUNTED: Final = 1e12
FONT: Final = "DejaVu Sans"
"""Comes with matplotlib, so that pictures look the same in a container without any font."""

INK: Final = "#1d1c1d"
SOFT: Final = "#5c5c61"
LINE: Final = "#d4d4d8"
FILL: Final = {
    Severity.OK: "#cfe3f2",
    Severity.WARNING: "#f2b134",
    Severity.CRITICAL: "#a8321f",
    Severity.UNKNOWN: "#ececee",
}
ON_FILL: Final = {
    Severity.OK: "#17324a",
    Severity.WARNING: "#241a00",
    Severity.CRITICAL: "#ffffff",
    Severity.UNKNOWN: "#4a4a4f",
}

mpl.rcdefaults()  # a matplotlibrc of the machine must not turn TeX on, or change what we tested
mpl.rcParams.update(
    {
        "font.family": FONT,
        "font.size": TEXT_SIZE,
        "text.parse_math": False,  # a server may be called $x^2$
        "axes.formatter.use_mathtext": False,
        "text.color": INK,
        "axes.edgecolor": SOFT,
        "axes.labelcolor": SOFT,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
    }
)


def new_figure(height_inches: float, title: str) -> Figure:
    """Return an empty figure of that height for all but the title, and with its title.

    No pyplot: nothing is registered, and the figure goes with its last reference.
    """
    lines = wrapped(title, TITLE_LINES, TITLE_SIZE, "bold")
    height = height_inches + line_inches(lines, TITLE_SIZE)
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=MARGIN_INCHES, h_pad=MARGIN_INCHES / 2, hspace=0.04)
    left = MARGIN_INCHES / WIDTH_INCHES
    figure.suptitle(lines, x=left, ha="left", fontsize=TITLE_SIZE, fontweight="bold", linespacing=LEADING)
    return figure


def add_note(figure: Figure, note: str) -> None:
    """Write the note, which is wrapped already, below everything, from the left edge on."""
    if note:
        figure.supxlabel(note, x=MARGIN_INCHES / WIDTH_INCHES, ha="left", fontsize=SMALL_SIZE, color=SOFT)


def line_inches(text: str, size: float = SMALL_SIZE) -> float:
    """Return the height of wrapped text."""
    return len(text.splitlines()) * size * LEADING / POINTS_PER_INCH


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG. Its few colours fit into a palette, which makes it a third of the size."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.frombuffer("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
    target = io.BytesIO()
    pixels.quantize(PALETTE, dither=Image.Dither.NONE).save(target, format="png", optimize=True)
    return target.getvalue()


def wrapped(text: str, most_lines: int, size: float = SMALL_SIZE, weight: str = "normal") -> str:
    """Return text drawable and broken into lines that fit across the picture."""
    shown, lines = drawable(text), list[str]()
    for columns in COLUMNS:
        lines = textwrap.wrap(shown, columns, max_lines=most_lines, placeholder=" …", break_on_hyphens=False)
        if all(width_inches(line, size, weight) <= WIDTH_INCHES - 2 * MARGIN_INCHES for line in lines):
            break
    return "\n".join(lines)


def label(text: str, inches: float, size: float = TEXT_SIZE, weight: str = "normal") -> str:
    """Return a name drawable and cut in its middle to a width: names of one cluster differ at their ends."""
    shown = drawable(text if len(text) <= 2 * NAME_LETTERS else text[:NAME_LETTERS] + text[-NAME_LETTERS:])
    cut, left = shown, len(shown)
    while left > 2 and width_inches(cut, size, weight) > inches:
        left -= 1
        cut = f"{shown[: left // 2]}…{shown[len(shown) - (left - left // 2) :]}"
    return cut


def drawable(text: str) -> str:
    """Return text with everything written out that can't be seen, or that the font has no glyph for."""
    return "".join(char if ord(char) in _glyphs() else written_out(char) for char in visible(text))


@lru_cache(maxsize=1_000)
def width_inches(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line of drawable text is."""
    font = _font(weight)
    font.set_size(size, POINTS_PER_INCH)
    font.set_text(text, 0.0)
    return font.get_width_height()[0] / SUBPIXELS / POINTS_PER_INCH


def number(value: float) -> str:
    """Return a count with its thousands apart; one that is longer than people count, by its size."""
    return f"{value:,.0f}" if abs(value) < COUNTED else f"{value:.1e}"


def on_axis(value: float, _: object) -> str:
    """Return the text of a tick, as matplotlib's FuncFormatter asks for it."""
    return number(value)


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(_font("normal").get_charmap())


def _font(weight: str) -> FT2Font:
    return font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=FONT, weight=weight)))
