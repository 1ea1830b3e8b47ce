"""Copies of cells in which every operation passes through a method of ours, in graph and in PyNative mode.

MindSpore offers no hook on operators, so the methods of a cell are rewritten: each call and each arithmetic operation
in their source becomes an argument of a method that the copy has in addition. The cells themselves, their classes
and modules stay as they are. The graph compiler reads the new source where `inspect` finds it, in
`linecache`: no file is written.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import itertools
import linecache
import textwrap
import types
from dataclasses import dataclass
from typing import Any, Callable, ClassVar

from mindspore import nn

from ascend_fixes import _mindspore
from ascend_fixes.amp._overrides import states_gradient

__all__ = ["CONTAINERS", "SYMBOLS", "CallEdit", "Edit", "Site", "instrumented"]

SYMBOLS = {"MatMult": "MatMul", "Mult": "Mul", "Mod": "FloorMod", "Assign": "setitem"}
SYMBOLS.update({name: name for name in ("Add", "Sub", "Div", "Pow", "FloorDiv")})
"""MindSpore's operators of Python's, by the name of the node in the syntax tree."""

CONTAINERS = (nn.CellList, nn.CellDict, nn.SequentialCell)  # they compute nothing themselves
_NUMBERS = itertools.count()
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True)
class Site:
    """An operation in a method's source: the text of what is called (or the operator's symbol), file, line and text."""

    callee: str
    file: str
    line: int
    text: str


class Edit(ast.NodeTransformer):
    """Rewrites one method. Subclasses say how in `around`, and which ``methods`` the copies get."""

    methods: ClassVar[dict[str, Callable]] = {}

    def __init__(self, name: str, owner: str, file: str, first_line: int) -> None:
        self.name, self.owner, self.file, self.first_line = name, owner, file, first_line
        self.sites: list[Site] = []
        self.texts: dict[int, str] = {}

    def around(self, node: ast.expr) -> ast.expr:
        """What stands in place of an operation, whose parts are rewritten already."""
        raise NotImplementedError

    def call(self, method: str, *arguments: ast.expr) -> ast.Call:
        """``self.method(arguments)``."""
        return ast.Call(ast.Attribute(ast.Name(self.owner, ast.Load()), method, ast.Load()), list(arguments), [])

    def site(self, node: Any) -> int:
        """The number of an operation among the method's `sites`."""
        name = (
            self.texts[id(node)].partition("(")[0]
            if isinstance(node, ast.Call)
            else type(getattr(node, "op", node)).__name__
        )
        self.sites.append(Site(name, self.file, self.first_line + node.lineno - 1, self.texts[id(node)]))
        return len(self.sites) - 1

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id in _BUILTINS:
            return node if node.func.id == "super" else self.generic_visit(node)  # type: ignore[return-value]
        return self.edited(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        return node  # a message

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        return self.edited(node)

    def edited(self, node: Any) -> ast.expr:
        self.texts[id(node)] = ast.unparse(node)
        self.generic_visit(node)
        return ast.copy_location(self.around(node), node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        node.value = self.visit(node.value)  # an index is no operation
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        if not isinstance(node.target, ast.Name):
            return node
        value = ast.copy_location(ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value), node)
        return ast.copy_location(ast.Assign([node.target], self.visit(value)), node)


class CallEdit(Edit):
    """``a * f(b)`` becomes ``self.routed("construct", 1, lambda x, y: x * y, a, self.routed("construct", 0, f, b))``.

    Subclasses have one method in ``methods``, through which every operation goes: it is given the name of the rewritten
    method, the number of the site in the copy's ``operation_sites`` of that name, what is called, and the arguments.
    """

    def around(self, node: ast.expr) -> ast.expr:
        (routed,) = self.methods
        place = ast.Constant(self.name), ast.Constant(self.site(node))
        if isinstance(node, ast.Call):
            call = self.call(routed, *place, node.func, *node.args)
            call.keywords = node.keywords
            return call
        assert isinstance(node, ast.BinOp)
        names = [ast.arg("left_"), ast.arg("right_")]
        body = ast.BinOp(ast.Name("left_", ast.Load()), node.op, ast.Name("right_", ast.Load()))
        function = ast.Lambda(ast.arguments([], names, None, [], [], None, []), body)
        return self.call(routed, *place, function, node.left, node.right)


def instrumented(cell: nn.Cell, edit: type[Edit], prepare: Callable[[nn.Cell, str], dict[str, Any]]) -> nn.Cell:
    """A copy of ``cell`` and of the cells in it whose methods are rewritten by ``edit``; parameters are shared.

    ``prepare(cell, path)`` gives attributes for the copy of each cell. Cells with a ``bprop`` of their own are one operation:
    they stay as they are. So do methods whose source is not to be had.
    """
    return _instrumented(cell, "", edit, prepare, {}, {})


def _instrumented(cell: Any, path: str, edit: type[Edit], prepare: Callable, copies: dict, classes: dict) -> Any:
    if id(cell) in copies:
        return copies[id(cell)]
    if states_gradient(cell):
        return cell
    children = {
        name: _instrumented(child, f"{path}.{name}" if path else name, edit, prepare, copies, classes)
        for name, child in _mindspore.child_cells(cell).items()
    }
    twin = _mindspore.copy_with_children(cell, children)
    copies[id(cell)] = twin
    if isinstance(cell, CONTAINERS):
        return twin
    cls = type(cell)
    if cls not in classes:
        classes[cls] = _rewritten_class(cls, edit)
    twin.__class__ = classes[cls]
    for name, value in prepare(cell, path).items():
        setattr(twin, name, value)
    return twin


def _rewritten_class(cls: type, edit: type[Edit]) -> type:
    members: dict[str, Any] = dict(edit.methods)
    found: dict[str, list[Site]] = {}
    for base in reversed([base for base in cls.__mro__ if issubclass(base, nn.Cell) and base is not nn.Cell]):
        for name, function in vars(base).items():
            if isinstance(function, types.FunctionType) and not name.startswith("__"):
                rewritten = _rewritten(function, base.__name__, edit)
                members.pop(name, None)
                if rewritten is not None:
                    members[name], found[name] = rewritten
    members["operation_sites"] = found
    members["__module__"], members["__doc__"] = cls.__module__, cls.__doc__
    return type(cls.__name__, (cls,), members)


def _rewritten(function: types.FunctionType, owner: str, edit: type[Edit]) -> tuple[Callable, list[Site]] | None:
    """The function rewritten, and its sites; None where there is nothing to rewrite. `mindspore.jit` around it is left out."""
    function = _mindspore.under_jit(function) or function
    if not isinstance(function, types.FunctionType):
        return None
    code = function.__code__
    if hasattr(function, "__wrapped__") or not code.co_argcount:
        return None
    try:
        source = textwrap.dedent(inspect.getsource(function))
        node = ast.parse(source).body[0]
    except (OSError, SyntaxError, TypeError):
        return None
    if not isinstance(node, ast.FunctionDef):
        return None
    editor = edit(function.__name__, code.co_varnames[0], code.co_filename, code.co_firstlineno)
    node.decorator_list, node.returns = [], None
    edited = ast.Module(node.body, [])
    editor.generic_visit(edited)  # a statement may become several
    node.body = edited.body
    for argument in [*node.args.args, *node.args.kwonlyargs]:
        argument.annotation = None
    node.args.defaults = [ast.Constant(None) for _ in node.args.defaults]
    node.args.kw_defaults = [default and ast.Constant(None) for default in node.args.kw_defaults]
    # Inside a class of that name private names are mangled as they were; free variables are those of a function around.
    inner: ast.stmt = ast.ClassDef(owner, [], [], [node], [])
    outer = [name for name in code.co_freevars if name != "__class__"]
    if outer:
        arguments = ast.arguments([], [ast.arg(name) for name in outer], None, [], [], None, [])
        inner = ast.FunctionDef("around", arguments, [inner], [], None)
    text = ast.unparse(ast.fix_missing_locations(ast.Module([inner], [])))
    file = f"<{function.__qualname__}, rewritten, {next(_NUMBERS)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    made_code = _code_named(compile(text, file, "exec"), function.__name__)
    if made_code is None or not set(made_code.co_freevars) <= set(code.co_freevars):
        return None
    cells = dict(zip(code.co_freevars, function.__closure__ or ()))
    made = types.FunctionType(
        made_code,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells[name] for name in made_code.co_freevars),
    )
    made.__kwdefaults__, made.__module__ = function.__kwdefaults__, function.__module__
    made.__qualname__, made.__doc__ = function.__qualname__, function.__doc__
    return made, editor.sites


def _code_named(code: types.CodeType, name: str) -> types.CodeType | None:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_name == name:
                return constant
            found = _code_named(constant, name)
            if found is not None:
                return found
    return None
