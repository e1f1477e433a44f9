"""Lines over time, each named at its end, where the eye follows it to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bot.adapters.charts import canvas
from bot.model import Lines, Panel, Series, Severity

FRAME_INCHES: Final = 0.8
"""Height of the time axis and margins."""
PANEL_INCHES: Final = 2.3
NAME_INCHES: Final = 2.2
SHORT_NAME_INCHES: Final = 1.6
"""Width of a name that shares its line with its value."""
TICKS: Final = 5
HEADROOM: Final = 1.12
"""Highest point of the axis, in highest values: a line must not touch the panel's title."""
LABEL_GAP: Final = 10.0
"""Points between the last reading and the names."""
FEW: Final = 4
"""Up to so many names of a panel have their value on a line of its own."""
LINE_HEIGHT: Final = 1.45
"""Distance of two lines of names, in letter heights."""
COLOURS: Final = ("#0072b2", "#1d1c1d", "#2f9bd1", "#7a4f9a", "#6b6b70", "#b5548a")
"""Dark enough to be read as text on white; without any green or red, which is kept for what is wrong."""
WRONG: Final = "#c1440e"
STEPS: Final = (1, 2, 5, 10)
"""Distances between ticks that people count in."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
WRONG_MARKER: Final = "X"
DASHES: Final = (0, (4.0, 2.0))


def draw_lines(chart: Lines) -> bytes:
    """Return the chart as a PNG."""
    note = canvas.wrapped(chart.note, canvas.NOTE_LINES)
    figure = canvas.new_figure(FRAME_INCHES + PANEL_INCHES * len(chart.panels) + canvas.line_inches(note), chart.title)
    span = max(x for panel in chart.panels for series in panel.series for x, _ in series.points)
    styles = _styles(chart.panels)
    named: list[tuple[Axes, list[Annotation]]] = []
    for index, panel in enumerate(chart.panels):
        axes = figure.add_subplot(len(chart.panels), 1, index + 1)
        axes.set_xlim(-0.02 * span, 1.02 * span)
        axes.tick_params(labelbottom=index == len(chart.panels) - 1)
        named.append((axes, _panel(axes, panel, span, styles)))
    named[-1][0].set_xlabel("seconds since the first reading", fontsize=canvas.SMALL_SIZE, loc="left")
    canvas.add_note(figure, note)
    figure.draw_without_rendering()  # now it is known where the lines end, in pixels
    for axes, names in named:
        _spread(axes, names)
    return canvas.png(figure)


def _styles(panels: Sequence[Panel]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name, the same in all panels."""
    wrong = {series.name for panel in panels for series in panel.series if series.severity is Severity.CRITICAL}
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    right = [name for name in names if name not in wrong]
    styles = {name: (COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]) for n, name in enumerate(right)}
    return styles | dict.fromkeys(wrong, (WRONG, WRONG_MARKER))


def _panel(axes: Axes, panel: Panel, span: float, styles: dict[str, tuple[str, str]]) -> list[Annotation]:
    """Draw the lines and return their names, each at the height where its line ends."""
    title = canvas.wrapped(f"{panel.title} · {panel.unit}", 1)
    axes.set_title(title, fontsize=canvas.SMALL_SIZE, loc="left", pad=10)
    names: list[Annotation] = []
    between, room = ("\n", NAME_INCHES) if len(panel.series) <= FEW else (" ", SHORT_NAME_INCHES)
    for series in panel.series:
        colour, marker = styles[series.name]
        _line(axes, series, colour, marker)
        value = " / ".join(canvas.number(points[-1][1]) for points in (series.points, series.lower) if points)
        names.append(
            axes.annotate(
                between.join((canvas.label(series.label, room, canvas.SMALL_SIZE, "bold"), value)),
                (span, series.points[-1][1]),
                xytext=(LABEL_GAP, 0.0),
                textcoords="offset points",
                va="center",
                color=colour,
                fontsize=canvas.SMALL_SIZE,
                fontweight="bold",
                annotation_clip=False,
            )
        )
    top = max(value for series in panel.series for _, value in series.points)
    axes.set_ylim(0, max(top, 1.0) * HEADROOM)
    axes.yaxis.set_major_locator(MaxNLocator(TICKS, integer=True, steps=STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(canvas.on_axis))
    axes.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True, steps=STEPS))
    axes.grid(axis="y", color=canvas.LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=8, labelsize=canvas.SMALL_SIZE)
    return names


def _line(axes: Axes, series: Series, colour: str, marker: str) -> None:
    x, y = zip(*series.points, strict=True)
    axes.plot(x, y, color=colour, marker=marker, markersize=7, linewidth=2.4, clip_on=False, zorder=3)
    if series.lower:
        low_x, low_y = zip(*series.lower, strict=True)
        axes.plot(low_x, low_y, color=colour, linestyle=DASHES, linewidth=2.0, clip_on=False, zorder=3)
        axes.fill_between(low_x, low_y, y, color=colour, alpha=0.12, linewidth=0)


def _spread(axes: Axes, names: Sequence[Annotation]) -> None:
    """Move names apart that would stand on each other; each stays as near to the end of its line as the others let it."""
    points_per_pixel = 72 / canvas.DPI
    ordered = sorted(names, key=lambda name: name.xy[1])
    heights = [canvas.SMALL_SIZE * LINE_HEIGHT * (1 + name.get_text().count("\n")) for name in ordered]
    wanted = [axes.transData.transform(name.xy)[1] * points_per_pixel for name in ordered]
    places = list(wanted)
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + (heights[index - 1] + heights[index]) / 2)
    highest = axes.get_window_extent().y1 * points_per_pixel
    for index in reversed(range(len(places))):
        places[index] = min(places[index], highest)
        highest = places[index] - heights[index]
    for name, place, want in zip(ordered, places, wanted, strict=True):
        name.set_position((LABEL_GAP, place - want))
