"""Bars from left to right, so that names are read without turning the head."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bot.adapters.charts import canvas
from bot.model import Bars, Limit, Severity

FRAME_INCHES: Final = 1.3
"""Height of the axis, the limit's name and margins."""
BAR_INCHES: Final = 0.36
GROUP_GAP: Final = 0.6
"""Between two groups, in bars."""
NAME_INCHES: Final = 2.4
TICKS: Final = 4
STEPS: Final = (1, 2, 5, 10)
ROOM: Final = 1.16
"""Length of the axis in longest bars: a bar's value stands behind it."""
FAR: Final = 4.0
"""A limit that is so many times the longest bar would make the bars unreadable; it is told instead of drawn."""
PAPER: Final = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
"""Behind a value, so that no line runs through it."""
COLOURS: Final = canvas.FILL | {Severity.OK: "#7fb0d6"}
"""Darker where all is well than a matrix's field: a bar stands alone on white."""


def draw_bars(chart: Bars) -> bytes:
    """Return the chart as a PNG."""
    places: list[float] = []
    for index, bar in enumerate(chart.bars):
        gap = GROUP_GAP if index and bar.group != chart.bars[index - 1].group else 0.0
        places.append((places[-1] + 1 + gap) if places else 0.0)
    note = canvas.wrapped(chart.note, canvas.NOTE_LINES)
    figure = canvas.new_figure(FRAME_INCHES + BAR_INCHES * (places[-1] + 1) + canvas.line_inches(note), chart.title)
    axes = figure.add_subplot()
    longest = max(bar.value for bar in chart.bars)
    limit = chart.limit
    drawn = limit is not None and limit.value <= longest * FAR
    end = max(longest, limit.value if limit and drawn else 0.0, 1.0) * ROOM
    for place, bar in zip(places, chart.bars, strict=True):
        axes.barh(place, bar.value, height=0.78, color=COLOURS[bar.severity])
        weight = "bold" if bar.severity is not Severity.OK else "normal"
        text = canvas.number(bar.value)
        axes.annotate(
            text, (bar.value, place), xytext=(6, 0), textcoords="offset points", va="center", weight=weight, bbox=PAPER
        )
    if limit is not None:
        _limit(axes, limit, end if not drawn else limit.value, drawn=drawn)
    axes.set_xlim(0, end)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    names = [canvas.label(f"{bar.group} · {bar.name}", NAME_INCHES) for bar in chart.bars]
    axes.set_yticks(places, names, color=canvas.INK)
    axes.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(canvas.on_axis))
    axes.grid(axis="x", color=canvas.LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(length=0, pad=8)
    axes.tick_params(axis="x", labelsize=canvas.SMALL_SIZE)
    axes.set_xlabel(canvas.label(chart.unit, NAME_INCHES), fontsize=canvas.SMALL_SIZE, loc="left")
    canvas.add_note(figure, note)
    return canvas.png(figure)


def _limit(axes: Axes, limit: Limit, at: float, *, drawn: bool) -> None:
    """Draw the limit as a line, or say where it would be."""
    text = canvas.label(f"{limit.name} {canvas.number(limit.value)}", NAME_INCHES, canvas.SMALL_SIZE)
    if drawn:
        axes.axvline(at, color=canvas.FILL[Severity.CRITICAL], linewidth=2.0, linestyle=(0, (4.0, 2.0)))
    axes.annotate(
        text if drawn else f"{text} →",
        (at, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 6),
        textcoords="offset points",
        ha="right",
        color=canvas.FILL[Severity.CRITICAL],
        fontsize=canvas.SMALL_SIZE,
        annotation_clip=False,
    )
