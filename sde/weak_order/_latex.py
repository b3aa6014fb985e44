"""The tables of the weak-order command, in LaTeX without any package."""

from collections.abc import Sequence

from sde.weak_order._measure import Row
from sde.weak_order._tables import observable_cells

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "±": r"$\pm$",
    **{sign: "\\" + sign for sign in "_&%#${}"},
}


def escape(text: str) -> str:
    r"""Text as LaTeX shows it.

    >>> print(escape("double_well, 1.00 ± 0.02"))
    double\_well, 1.00 $\pm$ 0.02
    """
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


def latex_table(columns: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> list[str]:
    r"""The lines of a `tabular`, with a note below it that is part of the table.

    >>> print("\n".join(latex_table(["run", "slope"], [["a_1", "1.00"]], "seed 0")))
    \begin{tabular}{ll}
    \hline
    run & slope \\
    \hline
    a\_1 & 1.00 \\
    \hline
    \multicolumn{2}{l}{\footnotesize seed 0} \\
    \end{tabular}
    """
    width = len(columns)
    lines = [" & ".join(map(escape, row)) + r" \\" for row in (columns, *rows)]
    return [
        rf"\begin{{tabular}}{{{'l' * width}}}",
        r"\hline",
        lines[0],
        r"\hline",
        *lines[1:],
        r"\hline",
        rf"\multicolumn{{{width}}}{{l}}{{\footnotesize {escape(note)}}} \\",
        r"\end{tabular}",
    ]


def latex_tables(rows: Sequence[Row], note: str) -> str:
    """All statements in one table, then every test function of each."""
    columns = ("statement", "chain", "equation", "expected", "slope", "verdict")
    cells = []
    for row in rows:
        report = next(iter(row.reports.values()))
        names = (row.statement.id, report.chain, report.equation)
        cells.append([*names, row.expected, row.slope, row.verdict])
    lines = latex_table(columns, cells, note)
    for row in rows:
        lines += ["", f"% {row.statement.id}", *latex_table(*observable_cells(row.reports), note)]
    return "\n".join(lines) + "\n"
