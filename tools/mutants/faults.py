"""The faults that can be put into a file."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from attrs import frozen

__all__ = ["PACKAGE", "ROOT", "Mutant", "drawn", "mutants_of"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "rollout_sdk"

OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
"""The text of an operator, and that of its replacement."""
OPPOSITES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)


@frozen
class Mutant:
    """One fault: a part of a file, and its replacement.

    Attributes:
        path: The file.
        line: Where it is.
        name: The class and function around it, with dots between them; empty at the top of the file.
        was: The line.
        becomes: The line with the fault.
        start: First byte of what is replaced.
        end: The byte after it.
        new: The replacement.
        runs_in: The line that the tests must reach to run it: of a parameter's default, which is evaluated at import, the first
            one of the function. None for code outside functions.
    """

    path: Path
    line: int
    name: str
    was: str
    becomes: str
    start: int
    end: int
    new: str
    runs_in: int | None = None

    def applied(self, source: bytes) -> bytes:
        """Return the source with the fault."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What stays the same when other parts of the file change: file, name, and the line before and after."""
        return str(self.path), self.name, self.was, self.becomes


class Finder(ast.NodeVisitor):
    """All faults that can be put into a file."""

    def __init__(self, path: Path, source: bytes) -> None:
        """Create a visitor for a file."""
        self.path = path
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.found: list[Mutant] = []
        self._in_function = False
        self._body: int | None = None
        self._names: list[str] = []

    def at(self, line: int, column: int) -> int:
        """Return a position in the file; columns of `ast` count bytes."""
        return self.starts[line - 1] + column

    def add(self, node: ast.stmt | ast.expr, new: str, start: int | None = None, end: int | None = None) -> None:
        """Add a fault that replaces a node, or a part of it."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = self.at(node.lineno, node.col_offset) if start is None else start
        stop = self.at(node.end_lineno, node.end_col_offset) if end is None else end
        runs_in = (self._body or node.lineno) if self._in_function else None
        first, last = self.source.rfind(b"\n", 0, begin) + 1, self.source.find(b"\n", stop)
        was = self.source[first:].partition(b"\n")[0].decode().strip()
        becomes = f"{self.source[first:begin].decode()}{new}{self.source[stop:last].decode()}".partition("\n")[0].strip()
        name = ".".join(self._names)
        self.found.append(Mutant(self.path, node.lineno, name, was, becomes, begin, stop, new, runs_in))

    def text(self, node: ast.expr) -> str:
        """Return the source of an expression."""
        return ast.get_source_segment(self.source.decode(), node) or ""

    def between(self, left: ast.expr, right: ast.expr, operator: ast.AST) -> None:
        """Swap the operator between two expressions."""
        if type(operator) not in OPERATORS:
            return
        spelled, swapped = (text.encode() for text in OPERATORS[type(operator)])
        assert left.end_lineno is not None
        assert left.end_col_offset is not None
        begin, stop = self.at(left.end_lineno, left.end_col_offset), self.at(right.lineno, right.col_offset)
        found = self.source.find(spelled, begin, stop)
        if found >= 0:
            self.add(left, swapped.decode(), found, found + len(spelled))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Visit a function: most faults are in functions, because other code runs at import."""
        before = self._in_function, self._body
        first = node.body[1 if ast.get_docstring(node, clean=False) is not None and len(node.body) > 1 else 0]
        self._in_function, self._body = True, first.lineno
        self._names.append(node.name)
        # Neither annotations nor decorators.
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        self._body = None
        for statement in node.body:
            self.visit(statement)
        self._in_function, self._body = before
        self._names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Skip the decorators of a class, such as its kind of equality: no call shows such a fault."""
        self._names.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._names.pop()

    def visit_If(self, node: ast.If) -> None:
        """Negate the condition; skip `if TYPE_CHECKING:`, which does nothing at run time."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """Negate the condition, unless it is constant."""
        if not isinstance(node.test, ast.Constant):
            self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Negate the condition."""
        self._negate(node.test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        # Of a comparison whose operator is replaced by its opposite, this would be the same fault again.
        is_opposite = isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], OPPOSITES)
        if self._in_function and not is_opposite:
            self.add(test, f"(not ({self.text(test)}))")

    def visit_Compare(self, node: ast.Compare) -> None:
        """Replace the comparison."""
        if self._in_function:
            for left, operator, right in zip((node.left, *node.comparators), node.ops, node.comparators, strict=False):
                self.between(left, right, operator)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Swap `and` and `or`."""
        if self._in_function:
            self.between(node.values[0], node.values[1], node.op)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Replace the operation, unless it concatenates texts."""
        if self._in_function and not any(isinstance(side, ast.JoinedStr) for side in (node.left, node.right)):
            self.between(node.left, node.right, node.op)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Replace a number or truth value, also of a module's constants; texts are for people."""
        if isinstance(node.value, bool):
            self.add(node, str(not node.value))
        elif isinstance(node.value, int | float):
            # Adding 1 to a large number changes nothing.
            self.add(node, f"({self.text(node)} {'* 2' if isinstance(node.value, float) and node.value else '+ 1'})")

    def visit_Return(self, node: ast.Return) -> None:
        """Return None instead."""
        if self._in_function and node.value is not None and not isinstance(node.value, ast.Constant):
            self.add(node, "return None")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        """Remove a call; docstrings are skipped."""
        if isinstance(node.value, ast.Constant):
            return
        if self._in_function and isinstance(node.value, ast.Call):
            self.add(node, "pass")
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The value, and not the type."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """An attribute that keeps what it was."""
        if self._in_function and isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self.add(node, "pass")
        if not (isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"):
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        """An error that is not raised; its message is for people."""
        if self._in_function:
            self.add(node, "pass")

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """A sum that does not grow."""
        if self._in_function:
            self.add(node, "pass")
        self.visit(node.value)


def mutants_of(path: Path, source: bytes) -> list[Mutant]:
    """All faults that a file has room for, and with which it is still Python."""
    finder = Finder(path, source)
    finder.visit(ast.parse(source))
    return [mutant for mutant in finder.found if _compiles(mutant.applied(source))]


def drawn(mutants: Iterable[Mutant], seed: int, number: int) -> list[Mutant]:
    """Some of the faults, at random; what is drawn of a file does not change with other parts of it, or with the number."""
    return sorted(mutants, key=lambda mutant: sha256(f"{seed} {mutant.key}".encode()).digest())[:number]


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True
