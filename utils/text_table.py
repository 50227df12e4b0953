"""Tables in plain text."""

from collections.abc import Iterable, Sequence

from utils.printable import one_line

LONGEST_CELL = 200


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, names: int = 1) -> str:
    """Lay out columns under their headings: the first `names` flush left, the others, numbers, flush right."""
    cells = [list(header), *([one_line(str(cell), LONGEST_CELL) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        aligned = [
            cell.ljust(width) if i < names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)
