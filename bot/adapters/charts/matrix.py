"""A matrix: one coloured field per pair, with its numbers in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from bot.adapters.charts import canvas
from bot.model import Cell, Matrix, Severity

FRAME_INCHES: Final = 1.0
"""Height of headings and margins."""
ROW_INCHES: Final = 0.56
CROWDED_ROW_INCHES: Final = 0.36
LEGEND_INCHES: Final = 0.25
CROWDED: Final = 9
"""From so many columns on there is no room for notes."""
ROW_NAME_INCHES: Final = 2.2
COLUMN_NAME_INCHES: Final = 1.7
MARGIN_INCHES: Final = 0.6
"""Width of what stands left of the row names, and of gaps."""
FILLED: Final = 0.92
"""Share of a field's width that its text may take."""


def draw_matrix(chart: Matrix) -> bytes:
    """Return the chart as a PNG."""
    crowded = len(chart.columns) >= CROWDED
    rows = [canvas.label(name, ROW_NAME_INCHES) for name in chart.rows]
    columns = [canvas.label(name, COLUMN_NAME_INCHES) for name in chart.columns]
    field = (canvas.WIDTH_INCHES - MARGIN_INCHES - _widest(rows)) / len(columns)
    upright = _widest(columns) > field
    note = canvas.wrapped(chart.note, canvas.NOTE_LINES)
    height = FRAME_INCHES + (_widest(columns) if upright else 0.0)
    height += len(chart.rows) * (CROWDED_ROW_INCHES if crowded else ROW_INCHES)
    height += len(chart.legend) * LEGEND_INCHES + canvas.line_inches(note)
    figure = canvas.new_figure(height, chart.title)
    axes = figure.add_subplot()
    for y, row in enumerate(chart.cells):
        for x, cell in enumerate(row):
            _field(axes, x, y, cell, field, crowded=crowded)
    _name_sides(axes, chart, rows, columns, upright=upright)
    _explain(figure, chart, note)
    return canvas.png(figure)


def _widest(names: Sequence[str]) -> float:
    return max(canvas.width_inches(name, canvas.TEXT_SIZE) for name in names)


def _field(axes: Axes, x: int, y: int, cell: Cell, width: float, *, crowded: bool) -> None:
    """Draw one field; a text that is too wide for it gets smaller, for a number must not be cut."""
    if cell.severity is None:
        return
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=canvas.FILL[cell.severity], edgecolor="white", linewidth=2.5))
    ink = canvas.ON_FILL[cell.severity]
    noted = bool(cell.note) and not crowded
    weight = "normal" if cell.severity is Severity.OK else "bold"
    size = canvas.SMALL_SIZE if crowded else canvas.TITLE_SIZE
    text = canvas.label(cell.text, canvas.WIDTH_INCHES / 2, size, weight)
    size *= min(1.0, width * FILLED / canvas.width_inches(text, size, weight)) if text else 1.0
    written = [axes.text(x + 0.5, y + (0.38 if noted else 0.52), text, color=ink, size=size, weight=weight)]
    if noted:
        words = canvas.label(cell.note, width * FILLED, canvas.SMALL_SIZE)
        written.append(axes.text(x + 0.5, y + 0.76, words, color=ink, size=canvas.SMALL_SIZE))
    for one in written:
        one.set(
            ha="center", va="center", in_layout=False
        )  # inside the axes: the layout need not measure hundreds of them


def _name_sides(axes: Axes, chart: Matrix, rows: Sequence[str], columns: Sequence[str], *, upright: bool) -> None:
    axes.set_xlim(0, len(chart.columns))
    axes.set_ylim(len(chart.rows), 0)
    axes.xaxis.tick_top()
    axes.set_xticks([x + 0.5 for x in range(len(columns))], columns, rotation=90 if upright else 0, color=canvas.INK)
    axes.set_yticks([y + 0.5 for y in range(len(rows))], rows, color=canvas.INK)
    axes.tick_params(length=0, pad=6)
    axes.spines[:].set_visible(False)
    heading = canvas.wrapped(chart.column_title, 1)
    axes.set_title(heading, fontsize=canvas.SMALL_SIZE, color=canvas.SOFT, loc="left", pad=8)
    axes.set_ylabel(canvas.wrapped(chart.row_title, 1), fontsize=canvas.SMALL_SIZE)


def _explain(figure: Figure, chart: Matrix, note: str) -> None:
    """Write the note and what the colours mean below the fields."""
    swatches = [
        Patch(facecolor=canvas.FILL[severity], edgecolor=canvas.SOFT, linewidth=0.5, label=canvas.wrapped(words, 1))
        for severity, words in chart.legend
    ]
    legend = figure.legend(
        handles=swatches,
        title=note or None,
        loc="outside lower left",
        alignment="left",
        frameon=False,
        fontsize=canvas.SMALL_SIZE,
        title_fontsize=canvas.SMALL_SIZE,
        labelspacing=0.35,
        borderpad=0.0,
        borderaxespad=0.9,
    )
    legend.get_title().set_color(canvas.SOFT)
