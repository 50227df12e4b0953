"""HTML made of names that may hold anything: text, links, tables and figures.

table("AP per class", ["class", "AP"], [["a < b", number(0.5)]])         # every text is escaped
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from utils.printable import one_line

NOTHING = "–"  # noqa: RUF001  # an en dash in the place of a number that does not exist


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table: what it shows, what it is sorted by, where it leads."""

    shown: str
    sort: float | str | None = None  # by what is shown
    link: str = ""
    strong: bool = False


Cells = Sequence[Cell | str]


def text(value: object) -> str:
    """Any text as HTML that shows it: markup is escaped, control characters are spelt out."""
    return html.escape(one_line(str(value)))


def link(target: str, shown: object) -> str:
    return f'<a href="{html.escape(target)}">{text(shown)}</a>'


def paragraph(content: str) -> str:
    """Take HTML."""
    return f"<p>{content}</p>"


def heading(words: str) -> str:
    """A heading within a section."""
    return f"<h3>{text(words)}</h3>"


def percent(fraction: float | None, *, target: str = "", digits: int = 1, strong: bool = False) -> Cell:
    """A fraction in percent, or NOTHING for None and NaN."""
    if fraction is None or math.isnan(fraction):
        return Cell(shown=NOTHING, sort=-1.0)
    return Cell(shown=f"{100 * fraction:.{digits}f}", sort=fraction, link=target, strong=strong)


def signed(difference: float) -> Cell:
    """A difference of fractions in percent, with its sign, or NOTHING for NaN."""
    return Cell(shown=NOTHING if math.isnan(difference) else f"{100 * difference:+.1f}", sort=difference)


def setting(value: object) -> str:
    """An option's value as it is typed."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return NOTHING if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def count(number: int, *, target: str = "") -> Cell:
    return Cell(shown=f"{number:,}", sort=number, link=target if number else "")


def table(caption: str, header: Sequence[str], rows: Iterable[Cells], *, sortable: bool = False) -> str:
    """A table whose first column names its rows."""
    kind = "numbers sortable" if sortable else "numbers"
    columns = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><caption>{text(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def items(lines: Sequence[str]) -> str:
    """A list of sentences; nothing for none."""
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>" if lines else ""


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values, one below the other."""
    return f'<dl class="facts">{"".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs)}</dl>'


def figure(key: str, caption: str) -> str:
    """The place of the chart `key`."""
    return f'<figure class="chart"><div id="{key}"></div><figcaption>{text(caption)}</figcaption></figure>'


def figures(content: Iterable[str]) -> str:
    """Several small figures side by side."""
    return f'<div class="charts">{"".join(content)}</div>'


def _cells(row: Cells) -> str:
    first, *others = (Cell(shown=cell) if isinstance(cell, str) else cell for cell in row)
    return f'<th scope="row"{_sort(first)}>{_content(first)}</th>' + "".join(
        f"<td{_sort(cell)}>{_content(cell)}</td>" for cell in others
    )


def _sort(cell: Cell) -> str:
    return "" if cell.sort is None else f' data-sort-value="{html.escape(one_line(str(cell.sort)))}"'


def _content(cell: Cell) -> str:
    shown = link(cell.link, cell.shown) if cell.link else text(cell.shown)
    return f"<strong>{shown}</strong>" if cell.strong else shown
