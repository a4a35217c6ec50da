"""A table for people: lines and colours on a terminal, plain columns in a pipe."""

import sys
from collections.abc import Sequence


def show(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on standard output; None is shown as a dash."""
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        # Nothing is cut or wrapped here: a program or a search may be reading.
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for line in ([*columns], *cells):
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in cells:
        table.add_row(*map(Text, row))  # as text: brackets in a name are not markup
    Console().print(table)
