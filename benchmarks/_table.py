"""Tables of results, as text, Markdown and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass
class Table:
    """A benchmark's result.

    Attributes
    ----------
    title : str
    columns : list of str
        With their units.
    rows : list of list
        Numbers and text; floats are shown with four significant digits.
    notes : list of str
        How it was measured, what is missing.
    command : str
        What made it.
    """

    title: str
    columns: list[str]
    rows: list[list] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""

    def text(self) -> str:
        cells = [self.columns, *([show(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([self.title, *lines, *(f"  {note}" for note in self.notes)])

    def markdown(self) -> str:
        header = f"**{self.title}** (`{self.command}`)"
        rows = [self.columns, ["---:"] * len(self.columns)]
        rows += [[show(cell) for cell in row] for row in self.rows]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([header, "", *lines, "", *self.notes])

    def as_dict(self) -> dict:
        return asdict(self)


def show(cell) -> str:
    """A cell as text."""
    if cell is None:
        return "-"
    if isinstance(cell, bool) or not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
    if cell == 0 or not 1e-4 < abs(cell) < 1e5:
        return f"{cell:.3g}"
    digits = 4
    for size in (1, 10, 100, 1000):
        if abs(cell) >= size:
            digits -= 1
    return f"{cell:.{digits}f}"
