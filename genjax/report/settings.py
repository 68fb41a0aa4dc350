"""Settings of a run in words: each flag with its value and the first sentence of its help."""

import dataclasses
from collections.abc import Iterator

import docstring_parser

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
    classes = [base for base in reversed(kind.__mro__) if dataclasses.is_dataclass(base)]  # derived ones last: they win
    described = [field for base in classes for field in docstring_parser.parse_from_object(base).params]
    docs = {field.arg_name: " ".join((field.description or "").split()) for field in described}
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from _meanings(field.type, f"{part}{field.name}.")
        else:
            yield f"{part}{field.name}", docs.get(field.name, "").split(". ")[0].rstrip(".")
