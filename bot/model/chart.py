"""Charts: pictures as data. A runbook makes them from a snapshot, an adapter draws them; nothing here knows of pixels.

Texts are as the cluster gave them: whoever draws makes them visible and cuts them. A chart holds no clock time, so that an unchanged cluster gives an
equal chart.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from bot.model.base import Record, digest
from bot.model.finding import Severity, Subject


class _Chart(Record):
    """What every chart has."""

    code: str
    """What kind of picture it is, e.g. ROUTE_MATRIX; with the subject it says of which one a later chart is the successor."""
    subject: Subject
    title: str
    """One line that says what is seen, with the numbers."""
    alt: str
    """One sentence that tells the same to people who don't see the picture."""
    note: str = ""
    """What must be known to read it, below the picture."""

    @property
    def slug(self) -> str:
        """The code as a part of a file's name."""
        return self.code.lower().replace("_", "-")

    @property
    def digest(self) -> str:
        """Digest of everything that is drawn."""
        return digest(self.model_dump(mode="json"))


class Cell(Record):
    """One field of a matrix. Without a severity it is empty on purpose (a server and itself)."""

    text: str = ""
    severity: Severity | None = None
    note: str = ""
    """What is missing, in a word or two."""


class Matrix(_Chart):
    """Two lists of names against each other."""

    kind: Literal["matrix"] = "matrix"
    row_title: str
    column_title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    """One tuple per row."""
    legend: tuple[tuple[Severity, str], ...]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if [len(row) for row in self.cells] != [len(self.columns)] * len(self.rows) or not self.rows:
            raise ValueError("a matrix needs one cell for each row and column, and at least one row")
        return self


Points = tuple[tuple[FiniteFloat, FiniteFloat], ...]
"""(seconds since the first reading, value), in order of time."""


class Series(Record):
    """One line, or two that belong together."""

    name: str
    """Whose line it is; the same name has the same look in all panels."""
    label: str
    """What is written at its end."""
    points: Points = Field(min_length=1)
    lower: Points = ()
    """A second line below the first one, at the same times, e.g. what is acknowledged of what is delivered."""
    severity: Severity | None = None
    """None where nothing speaks for or against it."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.lower and [x for x, _ in self.lower] != [x for x, _ in self.points]:
            raise ValueError("the two lines of a series need the same times")
        return self


class Panel(Record):
    """Lines over one vertical axis that begins at 0."""

    title: str
    unit: str
    series: tuple[Series, ...] = Field(min_length=1)


class Lines(_Chart):
    """Values over time, in one or more panels above each other with one time axis."""

    kind: Literal["lines"] = "lines"
    panels: tuple[Panel, ...] = Field(min_length=1)


class Bar(Record):
    """One value of a thing of a group, e.g. of a queue of a server."""

    group: str
    name: str
    value: Annotated[FiniteFloat, Field(ge=0)]
    severity: Severity


class Limit(Record):
    """A line at the value that the bars must stay below."""

    name: str
    value: Annotated[FiniteFloat, Field(gt=0)]


class Bars(_Chart):
    """Values side by side, on one axis that begins at 0."""

    kind: Literal["bars"] = "bars"
    unit: str
    bars: tuple[Bar, ...] = Field(min_length=1)
    """Those of one group stand together."""
    limit: Limit | None = None


Chart = Annotated[Matrix | Lines | Bars, Field(discriminator="kind")]
