"""Markdown tables."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats a table with a line for each of `rows`; cells may hold any text."""
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in (header, ["---"] * len(header), *rows))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split("\n"))
