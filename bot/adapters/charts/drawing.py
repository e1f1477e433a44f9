"""From a chart to a PNG, off the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from bot.model import Bars, Chart, Lines, Matrix

_ONE_AT_A_TIME: Final = threading.Lock()
"""matplotlib is not safe for threads (matplotlib.org, FAQ): its fonts are shared."""


async def draw(chart: Chart) -> bytes:
    """Return the chart as a PNG, 1080 pixels wide. Raises whatever the drawing library raises; the caller goes on without the picture."""
    return await asyncio.to_thread(draw_now, chart)


def draw_now(chart: Chart) -> bytes:
    """Draw on this thread."""
    with _ONE_AT_A_TIME:
        # Here and not above: see the package's docstring.
        from bot.adapters.charts.bars import draw_bars  # noqa: PLC0415
        from bot.adapters.charts.lines import draw_lines  # noqa: PLC0415
        from bot.adapters.charts.matrix import draw_matrix  # noqa: PLC0415

        match chart:
            case Matrix():
                return draw_matrix(chart)
            case Lines():
                return draw_lines(chart)
            case Bars():
                return draw_bars(chart)
