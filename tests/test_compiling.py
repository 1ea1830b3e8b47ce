"""The one door: hooks around compilations, in a stated order, and nothing around a step whose graph exists."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
import threading
from dataclasses import dataclass

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from ascend_fixes import _mindspore
from ascend_fixes.compiling import ORDER, Compilation, Hook, held, hold, on_cell, release
from ascend_fixes.defects import catalogue
from ascend_fixes.errors import UnknownNameError
from ascend_fixes.fusion._quirks import QUIRKS
from ascend_fixes.patching import MissingSymbolError, Replacement, ledger


class Twice(nn.Cell):
    def construct(self, x):
        return x * 2


@ms.jit
def thrice(x):
    return x * 3


@ms.jit
def scaled(x, factor):
    return x * factor


class Steps:
    """A method under jit."""

    @ms.jit
    def step(self, x):
        return x + 1


def ones(*shape):
    return Tensor(np.ones(shape, np.float32))


class Seen:
    """A hook that notes what it sees, and when it is entered and left."""

    def __init__(self, name="record", events=None, place="compile"):
        self.events = [] if events is None else events
        self.hook = Hook(name, self, place=place)

    @contextlib.contextmanager
    def __call__(self, compilation):
        self.events.append((self.hook.name, compilation))
        yield
        self.events.append((f"left {self.hook.name}", compilation))

    @property
    def names(self):
        return [name for name, _ in self.events]

    @property
    def compilations(self) -> list[Compilation]:
        return [compilation for name, compilation in self.events if not name.startswith("left")]


@pytest.fixture
def token():
    token = object()
    yield token
    release(token)


def test_a_hook_sees_what_is_compiled_and_only_that(token):
    seen, cell, net = Seen(), Twice(), Steps()
    hold(token, {"test": (seen.hook,)})
    for _ in range(2):
        cell(ones(2, 3)), thrice(ones(2, 3)), net.step(ones(2, 3))
    kinds = [(c.kind, c.subject, c.method) for c in seen.compilations]
    assert kinds == [
        ("cell", cell, "construct"),
        ("jit", _mindspore.under_jit(thrice), ""),
        ("jit", net, "step"),
    ]
    assert all(c.args[0].shape == (2, 3) for c in seen.compilations)
    assert seen.compilations[0].phase == _mindspore.latest_phase(cell)
    assert len({c.phase for c in seen.compilations}) == 3
    release(token)
    cell(ones(2, 4))
    assert len(seen.compilations) == 3


def test_the_gradient_in_pynative_mode_is_seen_too(token):
    seen = Seen()
    with _mindspore.mode_set(ms.PYNATIVE_MODE):
        hold(token, {"test": (seen.hook,)})
        ms.grad(thrice)(ones(2, 5))
    assert "gradient" in {c.kind for c in seen.compilations}


def test_the_order_is_the_stated_one_whoever_asks_first(token):
    events = []
    hooks = [Seen(name, events).hook for name in ORDER if name != "notice"]
    hold(token, {"Z": hooks[:3][::-1], "A": hooks[3:][::-1]})
    Twice()(ones(1))
    names = [hook.name for hook in hooks]
    assert [name for name, _ in events] == [*names, *(f"left {name}" for name in reversed(names))]


def test_a_hook_that_several_ask_for_runs_once(token):
    seen = Seen()
    other = object()
    hold(token, {"F1": (seen.hook,), "F2": (seen.hook,)})
    hold(other, {"F3": (seen.hook,)})
    assert [owner for _, owner, _ in held("record")] == ["F1", "F2", "F3"]
    Twice()(ones(1))
    assert len(seen.compilations) == 1
    release(other)
    Twice()(ones(1))
    assert len(seen.compilations) == 2


def test_hooks_of_one_cell_add_up_and_are_of_this_cell_alone():
    record, place, cell = Seen("record"), Seen("place"), Twice()
    on_cell(cell, record.hook)
    on_cell(cell, place.hook)
    on_cell(cell, place.hook)
    Twice()(ones(1))
    cell(ones(1))
    assert len(record.compilations) == len(place.compilations) == 1


@dataclass(frozen=True)
class Noted:
    """A hook that is a value: the same in a copy."""

    place: str

    @contextlib.contextmanager
    def __call__(self, compilation):
        NOTES.append((self.place, compilation.subject))
        yield


NOTES: list[tuple[str, nn.Cell]] = []


def test_a_deep_copy_has_the_hooks_for_itself():
    cell = Twice()
    on_cell(cell, Hook("place", Noted("of the cell")))
    twin = copy.deepcopy(cell)
    on_cell(twin, Hook("place", Noted("of the cell")))
    on_cell(twin, Hook("place", Noted("of the twin")))
    NOTES.clear()
    cell(ones(1)), twin(ones(1))
    assert [("of the cell", cell), ("of the cell", twin), ("of the twin", twin)] == NOTES


def test_a_function_and_a_bound_method_have_hooks_of_their_own():
    function, method, net, other = Seen(), Seen(), Steps(), Steps()
    on_cell(scaled, function.hook)
    on_cell(net.step, method.hook)
    scaled(ones(3), ones(3)), thrice(ones(7)), net.step(ones(3)), other.step(ones(3))
    assert [c.subject for c in function.compilations] == [_mindspore.under_jit(scaled)]
    assert [c.subject for c in method.compilations] == [net]


def test_a_hook_that_raises_keeps_the_graph_from_being_compiled():
    @contextlib.contextmanager
    def refusing(compilation):
        if compilation.args[0].shape == (5,):
            raise ValueError("no")
        yield

    for callee in (Twice(), thrice):
        on_cell(callee, Hook("check", refusing))
        with pytest.raises(ValueError, match="no"):
            callee(ones(5))
        assert callee(ones(4)).shape == (4,)
    assert not hasattr(_mindspore.under_jit(thrice), "__jit_function__")


def test_a_hook_that_swallows_an_error_has_what_it_surrounds_tried_again():
    outer, attempts, cell = Seen("record"), [], Twice()

    @contextlib.contextmanager
    def failing_once(compilation):
        attempts.append(compilation)
        if len(attempts) == 1:
            raise RuntimeError("cannot be written")
        yield

    @contextlib.contextmanager
    def patient(compilation):
        with contextlib.suppress(RuntimeError):
            yield

    on_cell(cell, outer.hook)
    on_cell(cell, Hook("cache", patient))
    on_cell(cell, Hook("tidy", failing_once))
    assert cell(ones(3)).asnumpy().tolist() == [2, 2, 2]
    assert len(attempts) == 2 and attempts[0] is attempts[1]
    assert outer.names == ["record", "left record"]


def test_what_is_found_is_told_at_every_call_with_the_name_of_its_graph(token):
    seen, cell = Seen("notice", place="found"), Twice()
    cell(ones(2)), thrice(ones(2))
    hold(token, {"test": (seen.hook,)})
    cell(ones(2)), cell(ones(2)), thrice(ones(2))
    assert [c.subject for c in seen.compilations] == [cell, cell, _mindspore.under_jit(thrice)]
    assert seen.compilations[0].phase == _mindspore.latest_phase(cell)
    assert seen.compilations[2].phase in _mindspore.jit_phases(thrice)


def test_a_failed_hold_leaves_nothing_in_force(token):
    seen = Seen()
    gone = Replacement("mindspore.amp:gone", lambda original: original)
    with pytest.raises(MissingSymbolError):
        hold(token, {"P1": (seen.hook, gone)})
    Twice()(ones(1))
    assert not seen.compilations and not held("record") and token not in ledger.tokens


def test_a_name_that_the_order_does_not_have_is_refused():
    with pytest.raises(UnknownNameError, match="a hook is one of announce, warn"):
        Hook("recrod", contextlib.nullcontext)


@pytest.mark.parametrize("thing", [len, lambda x: x, nn.Cell, 3])
def test_what_mindspore_does_not_compile_has_no_hooks(thing):
    with pytest.raises(TypeError, match="neither a cell nor a function under mindspore.jit"):
        on_cell(thing, Hook("record", contextlib.nullcontext))


def test_hooks_come_and_go_while_another_thread_compiles(token):
    stop, errors = threading.Event(), []

    def come_and_go():
        try:
            while not stop.is_set():
                other = object()
                hold(other, {"other": (Hook("tidy", lambda _: contextlib.nullcontext()),)})
                release(other)
        except Exception as error:
            errors.append(error)

    seen = Seen()
    hold(token, {"test": (seen.hook,)})
    thread = threading.Thread(target=come_and_go)
    thread.start()
    for length in range(1, 6):
        Twice()(ones(length))
    stop.set()
    thread.join()
    assert not errors and len(seen.compilations) == 5


# --- the catalogue's hooks --------------------------------------------------------------------------


def test_what_a_cure_keeps_out_of_fusion_is_what_the_table_says():
    cures = {id_: defect.patch for id_, defect in catalogue().items() if defect.patch and defect.patch.hooks}
    asked = {id_: hook.asks for id_, patch in cures.items() for hook in patch.hooks if hook.name == "flags"}
    rows = {quirk.source: quirk for quirk in QUIRKS if quirk.source in catalogue()}
    assert set(asked) == set(rows) == {"F1", "F2", "F3", "F6", "F7"}
    for id_, row in rows.items():
        cure = cures[id_]
        assert (row.keep_out, row.backends, row.since, row.before) == (
            asked[id_],
            cure.backends,
            cure.since,
            cure.before,
        )


IN_FORCE = """
import importlib, json, sys
import mindspore as ms, numpy as np
from mindspore import nn
import ascend_fixes
from ascend_fixes import _mindspore
from ascend_fixes.patching import ledger
ms.set_device("CPU"); ms.set_context(mode=ms.GRAPH_MODE)

def stored(target):
    module, _, path = target.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return vars(owner)[name]

targets = [*_mindspore.compilation_targets(), _mindspore.eager_gradient_target(), _mindspore.cell_compile_target()]
before = [stored(target) for target in targets]
report = ascend_fixes.patch("shapes", "fusion")
depth, value = 0, stored(targets[0])
while hasattr(value, "__wrapped__"):
    depth, value = depth + 1, value.__wrapped__
reasons = {cure.id: cure.reason for cure in report.cures if cure.state == "applied"}
net, x, passed = nn.ReLU(), ms.Tensor(np.ones(3, np.float32)), []
net(x)

def note(frame, event, _):
    if event == "call" and frame.f_globals.get("__name__", "").startswith("ascend_fixes"):
        passed.append(frame.f_code.co_name)

sys.setprofile(note)
net(x)
sys.setprofile(None)
ascend_fixes.unpatch()
after = [stored(target) for target in targets]
print("RESULT" + json.dumps([depth, reasons, all(a is b for a, b in zip(before, after)), ledger.applied, passed]))
"""


def test_under_all_patches_one_wrapper_stands_at_the_compiler_and_none_is_left(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IN_FORCE], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    depth, reasons, restored, applied, passed = json.loads(done.stdout.partition("RESULT")[2])
    assert depth == 1 and restored and not applied
    assert passed == ["call_in_turn"], "a step whose graph exists waits for its turn (S6), and passes nothing else"
    assert reasons["F1"] == "when MindSpore compiles: keeps cluster:Transpose out of fusion"
    assert reasons["F5"].startswith("replaces mindspore.") and "working directory" in reasons["F5"]
    assert {"S2", "S5", "S6", "F1", "F2", "F3", "F4", "F6", "F7"} <= set(reasons)
