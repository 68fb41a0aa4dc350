"""LaTeX tables, which need the package booktabs."""

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"[&%$#_{}\\~^]")
COMMANDS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
"""Characters that a backslash before them does not print."""

NUMBER = re.compile(r"(?<![\w.-])-?\d+(\.\d+)?(e[+-]\d+)?( ± \d+(\.\d+)?)?(?![\w.-])")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats a table with a line for each of `rows`, the numbers in maths."""
    lines = [" & ".join(map(_cell, cells)) + r" \\" for cells in (header, *rows)]
    columns = "l" * len(header)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        + [r"\end{tabular}"]
    )


def _cell(text: str) -> str:
    return NUMBER.sub(_maths, SPECIAL.sub(lambda found: COMMANDS.get(found[0], "\\" + found[0]), text))


def _maths(found: re.Match[str]) -> str:
    number = re.sub(r"e([+-])0*(\d+)", lambda e: rf" \times 10^{{{e[1].strip('+')}{e[2]}}}", found[0])
    return "$" + number.replace("±", r"\pm") + "$"
