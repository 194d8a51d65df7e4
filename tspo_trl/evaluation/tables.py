"""Tables of text in Markdown and on a console."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

MISSING_VALUE = "-"
_ANY_WIDTH = 10_000  # characters, more than any table needs


@dataclass(frozen=True)
class Table:
    """
    A table of text.

    Args:
        header (sequence of `str`):
            Names of the columns.
        rows (sequence of sequences of `str`):
            Cells, one for each column. A newline in a cell breaks the line on a console only.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Return the table in Markdown, with a newline at the end."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        cells = ([cell.replace("\n", " ").replace("|", "\\|") for cell in line] for line in lines)
        return "".join(f"| {' | '.join(line)} |\n" for line in cells)

    def print(self, console: "Console") -> None:
        """
        Print the table. Columns are as wide as their cells, so narrow terminals and pipes lose nothing.

        Args:
            console (`rich.console.Console`):
                Console to print on.
        """
        from rich.box import SIMPLE_HEAD
        from rich.measure import Measurement
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for position, name in enumerate(self.header):
            table.add_column(Text(name.replace(" ", "\n")), justify="right" if position else "left")
        for row in self.rows:
            table.add_row(*map(Text, row))
        table.width = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).maximum
        console.print(table, crop=False)


def number_text(value: float | None) -> str:
    """Format a number with three decimals, `None` as a dash."""
    return MISSING_VALUE if value is None else f"{value:z.3f}"


def p_value_text(value: float | None) -> str:
    """Format a p-value with three decimals, a small one as `<0.001` and `None` as a dash."""
    return "<0.001" if value is not None and value < 0.001 else number_text(value)


def interval_text(low: float | None, high: float | None) -> str:
    """Format an interval as `[low, high]`, `None` as an empty text."""
    return "" if low is None or high is None else f"[{low:z.3f}, {high:z.3f}]"


def label(name: str) -> str:
    """Return a key of a report as words: `exact_match` becomes `exact match`."""
    return name.replace("_", " ")
