"""Settings of a run in words: each flag with its value and the first sentence of its help."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator

from genjax.checks import flag
from genjax.families import FAMILIES
from genjax.files import Json, flatten


def explained(config: Json) -> list[tuple[str, str, str]]:
    """Returns flag, value and meaning of each field of a config.json."""
    meanings = dict(_meanings(FAMILIES[config["family"]].config_class))
    rows = []
    for name, value in flatten(config).items():
        part, _, field = name.rpartition(".")
        rows.append((flag(part, field) if name in meanings else name, str(value), meanings.get(name, "")))
    return rows


def _meanings(kind: type, part: str = "") -> Iterator[tuple[str, str]]:
    """Yields each field of a dataclass and its parts by its dotted name, with the first sentence of its docstring."""
    classes = [base for base in reversed(kind.__mro__) if dataclasses.is_dataclass(base)]
    docs = dict(pair for base in classes for pair in _docstrings(base))
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from _meanings(field.type, f"{part}{field.name}.")
        else:
            yield f"{part}{field.name}", docs.get(field.name, "").split(". ")[0].rstrip(".")


def _docstrings(kind: type) -> Iterator[tuple[str, str]]:
    """Yields the fields that a class itself declares, with the docstrings below them; none without its source."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except OSError:
        return
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for field, below in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
                yield field.target.id, " ".join(below.value.value.split())
