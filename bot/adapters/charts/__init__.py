"""Draws charts as PNG, with matplotlib.

Measured against the alternatives (reference/dependencies.md, section 4): matplotlib is the heaviest (169 MB on disk, 60 MB of memory, 0.6 to 1.0 s for
its import, 0.2 s of CPU for a picture of three servers and 0.8 s for one of fifteen), and the only one that brings axes, ticks, text metrics and fonts with it. So it is imported when the first picture is
drawn, on a thread, and never by a process that draws none.
"""

from bot.adapters.charts.drawing import draw

__all__ = ["draw"]
