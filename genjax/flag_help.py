"""Help of the command line, whose lines wrap at the width of the terminal alone.

Tyro keeps the line breaks of a field's docstring where they fall, and puts two empty lines before an indented one.
"""

import dataclasses
import inspect
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping

import docstring_parser
import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

T = typing.TypeVar("T")

REGISTRY = ConstructorRegistry()
"""Rules for tyro within `with REGISTRY:`."""


@REGISTRY.struct_rule
def _without_line_breaks(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Describes a dataclass as tyro does itself, with the lines of its fields' docstrings joined."""
    kind = info.type
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)) or hasattr(kind, "__parameters__"):
        return None  # among others, generic ones, which tyro wraps types in
    described = {
        field.arg_name: " ".join((field.description or "").split())
        # From the most general class on, so that a derived one may describe a field anew.
        for base in reversed(kind.__mro__[:-1])
        for field in docstring_parser.parse_from_object(base).params
    }
    types = typing.get_type_hints(kind, include_extras=True)
    fields = [
        StructFieldSpec(field.name, types[field.name], _default(info.default, field), described.get(field.name))
        for field in dataclasses.fields(kind)
    ]
    return StructConstructorSpec(instantiate=kind, fields=tuple(fields))


def _default(given: object, field: dataclasses.Field) -> object:
    if dataclasses.is_dataclass(given):
        return getattr(given, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is dataclasses.MISSING else field.default


def call_verb(verbs: Mapping[str, Callable[..., T]], described: str) -> T:
    """Calls the function of `verbs` that the command line names first, with its flags, and returns its result."""
    given = sys.argv[1:]
    if given and given[0] in verbs:  # alone, as tyro wraps no description of one among several
        verb = verbs[given[0]]
        return tyro.cli(verb, args=given[1:], prog=f"{sys.argv[0]} {given[0]}", description=description(verb))
    chosen: T = tyro.extras.subcommand_cli_from_dict(dict(verbs), description=description(described))
    return chosen


def summary(described: object) -> str:
    """Returns the first paragraph of a docstring in one line."""
    return " ".join((inspect.getdoc(described) or "").partition("\n\n")[0].split())


def description(described: object) -> str:
    """Returns a docstring, given as text or by its owner, wrapped at the width of the terminal.

    Its commands, in paragraphs that begin with $, keep their lines.
    """
    text, width = "", shutil.get_terminal_size().columns
    found = described if isinstance(described, str) else inspect.getdoc(described) or ""
    for paragraph in found.strip().split("\n\n"):
        if paragraph.startswith("$"):
            text += "\n" + paragraph  # tyro adds an empty line itself, were there one
        else:  # of wrapped lines tyro joins those that are not indented
            text += "\n\n" + textwrap.fill(
                " ".join(paragraph.split()), width, subsequent_indent="  ", break_on_hyphens=False
            )
    return text.strip()
