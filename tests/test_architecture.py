"""Who may import whom, and who may touch what: read off the source of every file."""

from __future__ import annotations

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from mindspore import Parameter, Tensor, nn, ops

import ascend_fixes

ROOT = Path(ascend_fixes.__file__).parent
TOOLBOXES = {"shapes", "host", "fusion", "amp", "dryrun"}
FLOORS = (  # from the ground; what stands on one floor may import what is below, and a toolbox its neighbours
    {"errors"},
    {"_mindspore"},
    {"patching", "processes", "files", "factories", "tensors"},
    {"compiling"},
    TOOLBOXES,
    {"testing"},
    {"defects"},
    {"cures"},
    {"auditing"},
    {"adapting"},
    {"doctor", "explaining", "evidence", "demo"},
    {"compiled", "_scenario"},
    {"__main__"},
)
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("ascend_fixes", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    """Every module of this package that a file imports, inside of functions and for type checking too."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides who imports whom"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return {name for name in found if name.partition(".")[0] == "ascend_fixes"} & set(MODULES)


def room(module: str) -> str:
    """``fusion`` for ``ascend_fixes.fusion._flags``."""
    return (module.split(".") + ["", ""])[1]


def floor(module: str) -> int:
    return next(height for height, rooms in enumerate(FLOORS) if room(module) in rooms)


def test_every_file_has_a_floor():
    homeless = [module for module in MODULES if room(module) and not any(room(module) in rooms for rooms in FLOORS)]
    assert not homeless


@pytest.mark.parametrize("module", [module for module in MODULES if room(module)])
def test_no_arrow_points_up(module):
    for other in imported(MODULES[module]):
        if other == "ascend_fixes" or room(other) == room(module):
            continue
        assert floor(other) <= floor(module), f"{module} imports {other}, which stands above it"
        if room(module) in TOOLBOXES:
            assert room(other) != "patching", f"{module} imports patching; toolboxes go through compiling.hold"


def test_no_circle_of_files():
    graph = {module: imported(path) - {"ascend_fixes"} for module, path in MODULES.items() if module != "ascend_fixes"}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_modules_inside_a_package_are_reached_by_others_through_its_face(path):
    """Of another toolbox only the face; defects, which are about one toolbox's inside, may look into it."""
    module = module_of(path)
    for other in imported(path):
        if room(module) in TOOLBOXES and room(other) in TOOLBOXES and room(other) != room(module):
            assert other.count(".") == 1, f"{module} imports {other}; import the package"


def written(path: Path) -> set[str]:
    """The names of attributes that a file sets on objects, by assignment, `setattr` or a class body."""
    found = set()
    for node in ast.walk(tree(path)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.attr for target in targets if isinstance(target, ast.Attribute)}
        for target in targets:
            if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                found.add(str(target.slice.value))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "setattr",
            "__setattr__",
        ):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_compiling_stands_between_a_call_and_its_graph(path):
    if module_of(path) != "ascend_fixes.compiling":
        assert not written(path) & {"compile", "check_names", "compile_and_run"}
    if room(module_of(path)) not in ("compiling", "_mindspore"):
        names = {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        doors = {"compilation_targets", "eager_gradient_target", "cell_compile_target", "jit_compile_target"}
        assert not names & {*doors, "jit_call_target"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@functools.cache
def platform_attributes() -> frozenset[str]:
    """The private attributes of MindSpore's cells, Tensors and primitives."""
    cell = nn.Dense(1, 1)
    samples = (cell, nn.Cell, Tensor(0.0), Parameter(Tensor(0.0)), ops.ReLU(), nn.SGD(cell.trainable_params()))
    return frozenset(name for sample in samples for name in dir(sample) if private(name))


@pytest.mark.parametrize("path", [path for path in FILES if room(module_of(path)) != "_mindspore"], ids=module_of)
def test_private_names_of_mindspore_stand_in_the_seam_only(path):
    own = {
        node.name
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and private(node.name)
    }
    own |= {
        node.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and private(node.attr)
    }
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name for name in names if name.startswith("mindspore.") and any(map(private, name.split(".")))}
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "mindspore":
            parts = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            found |= {part for part in parts if private(part)}
        elif isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if node.attr in platform_attributes() or getattr(base, "id", "") in ("mindspore", "ms", "nn", "ops"):
                found.add(node.attr)
    assert not found
