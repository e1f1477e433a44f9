"""The composition root: the only rooms that name concrete classes. Everything else receives ports.

`reading` is enough for a diagnosis on the command line; `serving` is the bot, and takes a second longer to load.
"""

from bot.bootstrap.reading import (
    archive_of,
    both_sides,
    open_readers,
    pictures_of,
    registry,
    report_on,
    snapshot_of_archive,
)

__all__ = ["archive_of", "both_sides", "open_readers", "pictures_of", "registry", "report_on", "snapshot_of_archive"]
