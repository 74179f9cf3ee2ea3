"""Tables as text, Markdown, CSV and LaTeX."""

import re
import unicodedata

import pandas as pd

from rslab.errors import check_choice

FORMATS = ("text", "markdown", "csv", "latex")


def format_table(table: pd.DataFrame, fmt: str = "text", corner: str = "model") -> str:
    """A table of `accuracy_table` as aligned text, Markdown, CSV (full precision) or LaTeX."""
    check_choice("format", fmt, FORMATS)
    if fmt == "csv":
        return table.to_csv(index_label=corner, lineterminator="\n").rstrip("\n")
    header = [corner, *(f"{column:g}" if isinstance(column, float) else column for column in table.columns)]
    # One image in 500 is 0.2 %, one in 10,000 is 0.01 %: no cell is rounded up over a neighbour's.
    digits = 2 if "images" in table and table["images"].max() > 1000 else 1
    cells = [
        [str(name), *(_cell(column, value, digits) for column, value in zip(table.columns, row, strict=True))]
        for name, row in zip(table.index, table.values, strict=True)
    ]
    if fmt == "latex":
        lines = [" & ".join(map(_escape_latex, row)) + r" \\" for row in [header, *cells]]
        begin = [r"\begin{tabular}{l" + "r" * (len(header) - 1) + "}", r"\toprule"]
        return "\n".join([*begin, lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"])
    if fmt == "markdown":
        header, *cells = [[cell.replace("|", r"\|") for cell in row] for row in [header, *cells]]
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    aligned = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in [header, *cells]]
    if fmt == "text":
        return "\n".join("  ".join(row).rstrip() for row in aligned)
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [aligned[0], rule, *aligned[1:]])


def _cell(column, value, digits: int) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    if column == "images":
        return str(int(value))
    return f"{value:.3f}" if column == "ACR" else f"{value:.{digits}f}"


_LATEX = {
    **{mark: "\\" + mark for mark in "_%#&${}"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"±": r"$\pm$", "×": r"$\times$", "−": "$-$", "∞": r"$\infty$", "ℓ": r"$\ell$", "≤": r"$\leq$", "≥": r"$\geq$"},
    **{"→": r"$\to$", "√": r"$\surd$", "·": r"$\cdot$", "≈": r"$\approx$", "≠": r"$\neq$", "…": r"\dots{}"},
    **{"ε": r"$\varepsilon$", "ο": "o", "ς": r"$\varsigma$"},
}


_GREEK = re.compile("GREEK (SMALL|CAPITAL) LETTER (LAMDA|[A-Z]+)")


_CAPITALS = ("GAMMA", "DELTA", "THETA", "LAMDA", "XI", "PI", "SIGMA", "UPSILON", "PHI", "PSI", "OMEGA")


def _typeset(mark: str) -> str:
    """What LaTeX typesets as this mark: Greek letters by name, raised and lowered digits, all others as they are."""
    if mark in _LATEX:
        return _LATEX[mark]
    if letter := _GREEK.fullmatch(unicodedata.name(mark, "")):
        name = letter[2].replace("LAMDA", "LAMBDA")
        if letter[1] == "SMALL":
            return rf"$\{name.lower()}$"
        if letter[2] in _CAPITALS:
            return rf"$\{name.capitalize()}$"
        return {"ETA": "H", "RHO": "P", "CHI": "X"}.get(name, name[0])  # the others look like our letters
    kind, *_ = unicodedata.decomposition(mark).split() or [""]
    if kind in ("<super>", "<sub>"):
        return f"${'^' if kind == '<super>' else '_'}{{{unicodedata.normalize('NFKC', mark).replace('−', '-')}}}$"
    return mark


def _escape_latex(text: str) -> str:
    escaped = "".join(map(_typeset, text))
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped  # else an option of the line break above
