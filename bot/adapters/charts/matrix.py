"""A matrix: one coloured field per pair, with its numbers in it."""

from __future__ import annotations

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
LETTER_INCHES: Final = 0.105
"""Height of a letter of a name that stands upright."""
CROWDED: Final = 9
"""From so many columns on there is no room for notes."""
ROW_NAME_LIMIT: Final = 22
COLUMN_NAME_LIMIT: Final = 16
LYING_LETTERS: Final = 40
"""Letters of all column names together that fit beside each other."""
CELL_LIMIT: Final = 12


def draw_matrix(chart: Matrix) -> bytes:
    """Return the chart as a PNG."""
    crowded = len(chart.columns) >= CROWDED
    columns = [canvas.label(name, COLUMN_NAME_LIMIT) for name in chart.columns]
    longest = max(map(len, columns))
    upright = longest * len(columns) > LYING_LETTERS
    note = canvas.wrapped(chart.note, canvas.NOTE_LINES)
    height = FRAME_INCHES + (longest * LETTER_INCHES if upright else 0.0)
    height += len(chart.rows) * (CROWDED_ROW_INCHES if crowded else ROW_INCHES)
    height += len(chart.legend) * LEGEND_INCHES + canvas.line_inches(note)
    figure = canvas.new_figure(height, chart.title)
    axes = figure.add_subplot()
    for y, row in enumerate(chart.cells):
        for x, cell in enumerate(row):
            _field(axes, x, y, cell, crowded=crowded)
    _name_sides(axes, chart, columns, upright=upright)
    _explain(figure, chart, note)
    return canvas.png(figure)


def _field(axes: Axes, x: int, y: int, cell: Cell, *, crowded: bool) -> None:
    if cell.severity is None:
        return
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=canvas.FILL[cell.severity], edgecolor="white", linewidth=2.5))
    ink = canvas.ON_FILL[cell.severity]
    noted = bool(cell.note) and not crowded
    axes.text(
        x + 0.5,
        y + (0.38 if noted else 0.52),
        canvas.label(cell.text, CELL_LIMIT),
        ha="center",
        va="center",
        color=ink,
        size=canvas.SMALL_SIZE if crowded else canvas.TITLE_SIZE,
        weight="normal" if cell.severity is Severity.OK else "bold",
    )
    if noted:
        words = canvas.label(cell.note, CELL_LIMIT)
        axes.text(x + 0.5, y + 0.76, words, ha="center", va="center", color=ink, size=canvas.SMALL_SIZE)


def _name_sides(axes: Axes, chart: Matrix, columns: list[str], *, upright: bool) -> None:
    axes.set_xlim(0, len(chart.columns))
    axes.set_ylim(len(chart.rows), 0)
    axes.xaxis.tick_top()
    rows = [canvas.label(name, ROW_NAME_LIMIT) for name in chart.rows]
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
        Patch(facecolor=canvas.FILL[severity], edgecolor=canvas.SOFT, linewidth=0.5, label=canvas.drawable(words))
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
