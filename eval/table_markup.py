"""Tables in markdown and LaTeX, and text that these show as it is.

markdown_table(["method", "0.5"], [["a", "41.8"]], names=1)
latex_table(["method", "0.5"], [["a", r"\\textbf{41.8}"]], names=1, caption="mAP in percent")
"""

import re
from collections.abc import Sequence

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
# OT1, the usual encoding of fonts, has other glyphs in their place.
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def escape_markdown(text: str) -> str:
    """Text that markdown shows as it is, in a cell of a table too."""
    return re.sub(r"([\\`*_{}\[\]<>|~#&$])", r"\\\1", text)


def escape_latex(text: str) -> str:
    """Text that LaTeX shows as it is: no commands, no other glyphs, no hyphens that become a dash."""
    return re.sub("-(?=-)", "-{}", "".join(_LATEX.get(sign, sign) for sign in text))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, names: int) -> str:
    """Cells are markdown. The first `names` columns are flush left, the others, numbers, flush right."""
    aligned = ["---"] * names + ["---:"] * (len(header) - names)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, aligned, *rows))


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, names: int, caption: str) -> str:
    """A table with its caption, for a paper that uses the package booktabs. Cells and caption are LaTeX."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{caption}}}",
        f"\\begin{{tabular}}{{{'l' * names}{'r' * (len(header) - names)}}}",
        "\\toprule",
        f"{' & '.join(header)} \\\\",
        "\\midrule",
        *(f"{' & '.join(cells)} \\\\" for cells in rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"
