"""Mutants of a module: copies of its source with one small fault each, for tests to find."""

import ast
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitXor: ast.BitOr,
}  # fmt: skip
WRAPPERS = {"stop_gradient", "pmean", "mean_over_devices", "for_draw", "fold_in", "with_precision"}
"""Functions that a mutant leaves out: the call becomes its first argument."""
SYMMETRIC = {"min", "max", "minimum", "maximum", "logaddexp", "all_finite", "isinstance", "zip", "l1", "lpips"}
"""Functions whose arguments stay in order: another would change nothing, or not run at all."""
MESSAGES = {"logging", "logger", "print", "warnings"}
"""Modules and functions that only say something."""
HINTS = {"strict", "maxsize", "max_workers", "donate", "stacklevel"}
"""Keyword arguments that change no result of a correct program."""


class Mutant(NamedTuple):
    """A source with one fault."""

    name: str  # a hash of the line and the fault, so that changes of other lines leave it
    line: int
    before: str  # the code that the fault replaces
    after: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Makes all mutants of a module from its source."""
    tree, lines, found = ast.parse(source), source.encode().splitlines(keepends=True), []
    earlier = Counter[tuple[str, str, str]]()  # a line may come twice, or hold the same code twice
    conditions = {id(test) for node in ast.walk(tree) for test in _tests(node)}
    for node in _nodes(tree):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head = b"".join(lines[:first]) + lines[first][: node.col_offset]
        tail = lines[last][node.end_col_offset :] + b"".join(lines[last + 1 :])
        before = source.encode()[len(head) : len(source.encode()) - len(tail)].decode()
        for changed in _changes(node, id(node) in conditions):
            after = ast.unparse(changed)
            place = (lines[first].decode().strip(), before, after)
            earlier[place] += 1
            name = sha256(repr((*place, earlier[place])).encode()).hexdigest()[:12]
            inserted = after if isinstance(node, ast.stmt) else f"({after})"
            mutated = head.decode() + inserted + tail.decode()
            found.append(Mutant(name, node.lineno, " ".join(before.split()), after, mutated))
    return found


def _tests(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return [node.test]
    return node.ifs if isinstance(node, ast.comprehension) else []


def _nodes(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yields what decides results: no annotations, decorators, messages, texts, or default values of fields."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and _root(node.func) in MESSAGES):
        return
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    if isinstance(node, ast.Raise):
        return
    for field, value in ast.iter_fields(node):
        default = field == "value" and isinstance(node, ast.AnnAssign) and isinstance(value, ast.Constant)
        if default or field in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            hint = isinstance(child, ast.keyword) and (isinstance(node, ast.ClassDef) or child.arg in HINTS)
            if isinstance(child, ast.AST) and not hint:
                yield from _nodes(child)


def _changes(node: ast.expr | ast.stmt, condition: bool) -> Iterator[ast.expr | ast.stmt]:
    """Yields what may stand in the place of `node`, which may be the condition of an `if`."""
    if condition and isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.BoolOp):
        yield ast.UnaryOp(ast.Not(), node)
    match node:
        case ast.Compare(left, [op], [right]):
            yield ast.Compare(left, [COMPARISONS[type(op)]()], [right])
        case ast.BinOp(left, op, right) if type(op) in ARITHMETIC and not (_is_text(left) or _is_text(right)):
            yield ast.BinOp(left, ARITHMETIC[type(op)](), right)
        case ast.BinOp(left, ast.BitOr(), ast.Dict()):
            yield left
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        # Not the axis -1 to 1, which is the same of a matrix; as a number it becomes -2.
        case ast.UnaryOp(ast.USub() | ast.Not(), operand) if not isinstance(operand, ast.Constant):
            yield operand
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):  # also where 1e-12 guards a division: twice that would do as well
            yield ast.Constant(value + 1)
        case ast.Call(func, [first, *_]) if _name(func) in WRAPPERS:
            yield first
        case ast.Call(func, [test, one, other]) if _name(func) == "where":
            yield ast.Call(func, [test, other, one], node.keywords)
        case ast.Call(func, [one, other, *rest]) if _name(func) not in SYMMETRIC:
            # Of unlike arguments, most cannot be swapped without an error at once, which any test finds.
            if type(one) is type(other) and ast.dump(one) != ast.dump(other):
                yield ast.Call(func, [other, one, *rest], node.keywords)
        case ast.Raise() | ast.AugAssign():
            yield ast.Pass()
        case ast.Expr(ast.Call(func)) if _root(func) not in MESSAGES:
            yield ast.Pass()


def _name(func: ast.expr) -> str:
    """Returns the last name of a function: "where" of jnp.where."""
    return func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")


def _root(func: ast.expr) -> str:
    """Returns the first name of a function: "jnp" of jnp.where."""
    return _root(func.value) if isinstance(func, ast.Attribute) else getattr(func, "id", "")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
