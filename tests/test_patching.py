"""The ledger, on a small platform of its own: no MindSpore is needed to show what it promises."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes.patching import ConflictError, Ledger, MissingSymbolError, PatchError, Replacement

SOURCE = '''
def scale(x, factor=2):
    """Scales."""
    return x * factor

class Base:
    limit = 7
    def step(self, x):
        """Steps."""
        return x + 1
    @staticmethod
    def build(x):
        return [x]
    @classmethod
    def name(cls):
        return cls.__name__
    @property
    def size(self):
        return 3

class Child(Base):
    pass
'''


def toy_platform():
    """Modules ``toy`` (re-exports) and ``toy.core`` (definitions), and outside of them ``user``."""
    core = types.ModuleType("toy.core")
    exec(SOURCE, core.__dict__)
    package = types.ModuleType("toy")
    package.core, package.scale, package.Base, package.Child = core, core.scale, core.Base, core.Child
    user = types.ModuleType("user")
    user.scale = core.scale
    modules = {"toy": package, "toy.core": core, "user": user}
    sys.modules.update(modules)
    yield types.SimpleNamespace(package=package, core=core, user=user, ledger=Ledger("toy"))
    for name in [name for name in sys.modules if name.split(".")[0] in ("toy", "user")]:
        del sys.modules[name]


@pytest.fixture
def platform():
    yield from toy_platform()


def adding(amount):
    def make(original):
        @functools.wraps(original)
        def replacement(*args, **kwargs):
            return original(*args, **kwargs) + amount

        return replacement

    return make


def replacing_property(original):
    return property(lambda self: original.fget(self) + 1, doc=original.__doc__)


def subclassing(original):
    return type(original.__name__, (original,), {"extra": 1, "__doc__": original.__doc__, "__wrapped__": original})


FIXES = {
    "P1": [Replacement("toy.core:scale", adding(100))],
    "P2": [Replacement("toy.core:scale", adding(1000)), Replacement("toy.core:Base.step", adding(10))],
    "P3": [Replacement("toy.core:Child.step", adding(5))],
    "P4": [Replacement("toy.core:Base.build", adding([0])), Replacement("toy.core:Base.name", adding("!"))],
    "P5": [Replacement("toy.core:Base.size", replacing_property)],
    "P6": [Replacement("toy.core:Child", subclassing)],
}


def snapshot(platform):
    holders = [platform.package, platform.core, platform.user, platform.core.Base, platform.core.Child]
    return [(holder, dict(vars(holder))) for holder in holders]


def assert_same(before):
    for holder, names in before:
        now = vars(holder)
        assert list(now) == list(names), holder
        assert all(now[name] is value for name, value in names.items()), holder


def test_a_function_is_replaced_wherever_the_platform_exports_it(platform):
    platform.ledger.hold("t", {"P1": FIXES["P1"]})
    assert platform.package.scale is platform.core.scale
    assert platform.package.scale(1) == 102
    assert platform.user.scale(1) == 2, "a user's own module is left alone"
    assert platform.ledger.applied == ("P1",)


def test_an_export_bound_after_the_patch_is_taken_back_too(platform):
    original = platform.core.scale
    platform.ledger.hold("t", {"P1": FIXES["P1"]})
    late = types.ModuleType("toy.late")
    late.scale = platform.core.scale
    sys.modules["toy.late"] = late
    platform.ledger.release(*platform.ledger.tokens)
    assert late.scale is original


def test_replacements_keep_name_doc_and_signature(platform):
    original = platform.core.scale
    platform.ledger.hold("t", FIXES)
    assert platform.core.scale.__doc__ == "Scales." and platform.core.scale.__name__ == "scale"
    assert inspect.signature(platform.core.scale) == inspect.signature(original)
    assert inspect.unwrap(platform.core.scale) is original
    assert isinstance(platform.core.Child(), platform.core.Base)


def test_every_kind_of_binding(platform):
    base = platform.core.Base()
    platform.ledger.hold("t", {key: FIXES[key] for key in ("P2", "P3", "P4", "P5")})
    assert base.step(1) == 12
    assert platform.core.Base.build(4) == [4, 0] and base.build(4) == [4, 0]
    assert platform.core.Base.name() == "Base!" and platform.core.Child.name() == "Child!"
    assert base.size == 4
    assert isinstance(vars(platform.core.Base)["build"], staticmethod)
    assert platform.core.Child().step(1) == 1 + 1 + 5, "built from the inherited original"


def test_an_inherited_attribute_is_inherited_again(platform):
    platform.ledger.hold("t", {"P3": FIXES["P3"]})
    assert "step" in vars(platform.core.Child)
    platform.ledger.release("t")
    assert "step" not in vars(platform.core.Child)


def test_chains_do_not_depend_on_the_order_of_patching(platform):
    platform.ledger.hold("first", {"P2": FIXES["P2"]})
    platform.ledger.hold("second", {"P1": FIXES["P1"]})
    assert platform.core.scale(1) == 1102
    platform.ledger.release("first")
    assert platform.core.scale(1) == 102
    assert platform.core.Base().step(1) == 2


def test_a_class_replacement_is_one_class_while_it_is_held(platform):
    platform.ledger.hold("a", {"P6": FIXES["P6"]})
    made = platform.core.Child
    platform.ledger.hold("b", {"P6": FIXES["P6"], "P1": FIXES["P1"]})
    assert platform.core.Child is made is platform.package.Child


def test_holds_nest(platform):
    platform.ledger.hold("outer", {"P1": FIXES["P1"]})
    platform.ledger.hold("inner", {"P1": FIXES["P1"], "P2": FIXES["P2"]})
    platform.ledger.release("inner")
    platform.ledger.release("inner")
    assert platform.ledger.applied == ("P1",)


@pytest.mark.parametrize(
    "target", ["toy.core:absent", "toy.core:Base.absent", "toy.nowhere:scale", "toy.core:Absent.step"]
)
def test_a_missing_symbol_takes_back_the_others(platform, target):
    before = snapshot(platform)
    with pytest.raises(MissingSymbolError, match=target):
        platform.ledger.hold("t", {**FIXES, "P9": [Replacement(target, adding(1))]})
    assert_same(before)
    assert platform.ledger.applied == ()


def test_a_replacement_that_cannot_be_made_changes_nothing(platform):
    before = snapshot(platform)
    with pytest.raises(PatchError, match="toy.core:scale.*boom"):
        platform.ledger.hold(
            "t", {"P3": FIXES["P3"], "P9": [Replacement("toy.core:scale", lambda f: exec("raise ValueError('boom')"))]}
        )
    assert_same(before)


def test_a_place_that_cannot_be_written_takes_back_the_others(platform):
    class Guard(type):
        def __setattr__(cls, name, value):
            raise TypeError("read only")

    Locked = Guard("Locked", (), {"step": platform.core.Base.step, "__module__": "toy.core"})
    platform.core.Locked = Locked
    before = snapshot(platform)
    with pytest.raises(PatchError, match="Locked.step cannot be replaced .read only."):
        platform.ledger.hold(
            "t", {"P1": FIXES["P1"], "P2": FIXES["P2"], "P9": [Replacement("toy.core:Locked.step", adding(1))]}
        )
    assert_same(before)
    platform.ledger.hold("t", {"P1": FIXES["P1"]})
    assert platform.core.scale(1) == 102


def test_a_patch_on_top_is_refused_and_named(platform):
    platform.ledger.hold("t", {"P1": FIXES["P1"], "P3": FIXES["P3"]})
    before = platform.core.scale

    def theirs(x):
        return before(x)

    platform.core.scale = theirs
    with pytest.raises(ConflictError, match="toy.core.scale was replaced by .*test_patching.*theirs"):
        platform.ledger.release(*platform.ledger.tokens)
    assert "step" in vars(platform.core.Child) and platform.ledger.applied == ("P1", "P3")
    platform.core.scale = before
    platform.ledger.release(*platform.ledger.tokens)
    assert platform.ledger.applied == ()


def test_a_patch_on_top_of_an_export_is_refused(platform):
    platform.ledger.hold("t", {"P1": FIXES["P1"]})
    platform.package.scale = adding(7)(platform.package.scale)
    with pytest.raises(ConflictError, match="toy.scale was replaced"):
        platform.ledger.release("t")


def test_two_names_of_one_function_in_one_hold_are_refused(platform):
    """Each would write over the other, and neither could be taken back."""
    before = snapshot(platform)
    twice = {
        "P1": [Replacement("toy.core:scale", adding(100))],
        "P2": [Replacement("toy:scale", adding(1000))],
    }
    with pytest.raises(PatchError, match=r"toy.*scale and toy.*scale are two names of one function"):
        platform.ledger.hold("t", twice)
    assert platform.ledger.applied == () and platform.ledger.tokens == ()
    platform.ledger.release("t")
    assert_same(before)


def test_a_symbol_that_somebody_replaced_before_is_refused(platform):
    theirs = platform.core.scale = adding(7)(platform.core.scale)
    with pytest.raises(ConflictError, match="toy.core.scale has already been replaced by .*test_patching"):
        platform.ledger.hold("t", FIXES)
    assert platform.core.scale is theirs and platform.ledger.applied == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hold", "release", "all"]), st.integers(0, 2), st.sets(st.sampled_from(sorted(FIXES)))
        ),
        max_size=12,
    )
)
def test_what_is_in_force_follows_from_what_is_held(steps):
    generator = toy_platform()
    toy = next(generator)
    try:
        before, held = snapshot(toy), {}
        for action, token, chosen in steps:
            if action == "hold":
                toy.ledger.hold(token, {key: FIXES[key] for key in chosen})
                held[token] = held.get(token, set()) | chosen
            elif action == "release":
                toy.ledger.release(token)
                held.pop(token, None)
            else:
                toy.ledger.release(*toy.ledger.tokens)
                held = {}
            active = set().union(*held.values())
            assert toy.ledger.applied == tuple(sorted(active))
            assert toy.package.scale(1) == 2 + 100 * ("P1" in active) + 1000 * ("P2" in active)
            assert toy.core.Base().step(1) == 2 + 10 * ("P2" in active)
        toy.ledger.release(*toy.ledger.tokens)
        assert_same(before)
    finally:
        generator.close()


def test_threads(platform):
    before, errors = snapshot(platform), []

    def work(seed):
        try:
            for turn in range(60):
                token = (seed, turn)
                platform.ledger.hold(token, {key: FIXES[key] for key in sorted(FIXES)[seed % 3 :: 2]})
                assert platform.core.Base().step(1) in (2, 12)
                platform.ledger.release(token)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors
    assert_same(before)
