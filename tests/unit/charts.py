"""One chart of each kind, with any words in all the places where words of a cluster can stand."""

from bot.model import Bar, Bars, Cell, Limit, Lines, Matrix, Panel, Series, Severity, Subject

LEGEND = ((Severity.OK, "complete"), (Severity.CRITICAL, "no route"))


def matrix(words: str = "n0", *, size: int = 2, text: str = "0/4") -> Matrix:
    names = tuple(f"{words}{number}" for number in range(size))
    field = Cell(text=text, severity=Severity.CRITICAL, note=words)
    return Matrix(
        code="ROUTE_MATRIX",
        subject=Subject(cluster="prod"),
        title=f"Routes of {words}: 1 of 1 pairs incomplete",
        alt=f"{words} has no route",
        note=words,
        row_title="as this server shows it",
        column_title="with server",
        rows=names,
        columns=names,
        cells=tuple(tuple(Cell() if a == b else field for b in names) for a in names),
        legend=LEGEND,
    )


def lines(words: str = "n0", *, count: int = 2, top: float = 100.0) -> Lines:
    series = tuple(
        Series(
            name=f"{words}{number}",
            label=words,
            points=((0.0, top), (5.0, top / (number + 1))),
            lower=((0.0, 0.0), (5.0, 0.0)) if number else (),
            severity=None if number else Severity.CRITICAL,
        )
        for number in range(count)
    )
    panel = Panel(title=words, unit=words, series=series)
    return Lines(
        code="META_LAG", subject=Subject(cluster="prod"), title=words, alt=words, note=words, panels=(panel, panel)
    )


def bars(words: str = "n0", *, count: int = 3, value: float = 5_000.0) -> Bars:
    return Bars(
        code="API_QUEUES",
        subject=Subject(cluster="prod"),
        title=words,
        alt=words,
        note=words,
        unit=words,
        bars=tuple(
            Bar(group=f"{words}{number // 2}", name=words, value=value * number, severity=Severity.WARNING)
            for number in range(count)
        ),
        limit=Limit(name=words, value=10_000),
    )
