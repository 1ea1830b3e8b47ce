"""Host functions as operators: results, gradients, and the errors that MindSpore's own way hides."""

from __future__ import annotations

import traceback

import mindspore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from ascend_fixes.host import CallbackError, callback

kept = []


def cube(x):
    kept.append(x)
    return x**3


def cube_gradient(x, output, above):
    return 3 * x**2 * above


def scaled(x, y, z):
    return x * y


def scaled_gradient(x, y, z, output, above):
    return above * y, above * x, None


class Around(nn.Cell):
    """A host operator between two of the device's."""

    def __init__(self, operator):
        super().__init__()
        self.operator = operator

    def construct(self, *inputs):
        return self.operator(*inputs) * 2 + 1


def same(*shapes):
    return shapes[0]


def of(values, dtype=np.float32):
    return Tensor(np.array(values, dtype))


three = of([1, -2, 3])
cubes = Around(callback(cube, same, same, cube_gradient))
differentiated = mindspore.grad(cubes)


@settings(max_examples=20)
@given(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3))
def test_result_and_gradient(values):
    x = np.array(values, np.float32)
    np.testing.assert_allclose(cubes(Tensor(x)).asnumpy(), 2 * x**3 + 1, rtol=1e-5)
    np.testing.assert_allclose(differentiated(Tensor(x)).asnumpy(), 6 * x**2, rtol=1e-5)


@pytest.mark.parametrize("eager", [False, True])
def test_several_inputs_and_no_gradient_for_one(eager):
    cell = Around(callback(scaled, same, same, scaled_gradient))
    inputs = three, of([4, 5, 6]), of([7, 8], np.int32)
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE if eager else mindspore.GRAPH_MODE)
    try:
        assert cell(*inputs).asnumpy().tolist() == [9, -19, 37]
        by_x, by_y = mindspore.grad(cell, (0, 1))(*inputs)
    finally:
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
    assert by_x.asnumpy().tolist() == [8, 10, 12] and by_y.asnumpy().tolist() == [2, -4, 6]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_every_number_of_inputs_with_a_gradient(count):
    names = [f"x{place}" for place in range(count)]
    space: dict = {}
    exec(f"def total({', '.join(names)}): return {' + '.join(names)}", space)

    def gradient(*arrays):
        return tuple(arrays[-1] * (place + 1) for place in range(count))

    cell = Around(callback(space["total"], same, same, gradient))
    found = mindspore.grad(cell, tuple(range(count)))(*[three] * count)
    found = found if isinstance(found, tuple) else (found,)
    assert [part.asnumpy().tolist() for part in found] == [[2 * (place + 1)] * 3 for place in range(count)]


def test_several_outputs_and_a_scalar():
    def split(x):
        return x[:1], x.astype(np.int32)

    outputs = callback(split, [(1,), same], [mindspore.float32, mindspore.int32])(three)
    assert [part.asnumpy().tolist() for part in outputs] == [[1], [1, -2, 3]]

    def total(x):
        return x.sum()

    assert Around(callback(total, (), mindspore.float32))(three).asnumpy() == np.float32(5)
    assert Around(callback(total, (), mindspore.float32))(three).shape == ()


def test_two_operators_in_one_graph_are_not_mixed_up():
    class Both(nn.Cell):
        def __init__(self):
            super().__init__()
            self.one = callback(lambda x: x + 1, same, same)
            self.two = callback(lambda x: x + 10, same, same)

        def construct(self, x):
            return self.one(x), self.two(x)

    one, two = Both()(three)
    assert one.asnumpy().tolist() == [2, -1, 4] and two.asnumpy().tolist() == [11, 8, 13]


def test_what_the_function_keeps_stays_as_it_was():
    kept.clear()
    for start in range(20):
        cubes(of([start, start + 1, start + 2]))
    assert [array.tolist() for array in kept] == [[start, start + 1, start + 2] for start in range(20)]


def failing(x):
    raise KeyError("the 17th entry")


def test_an_exception_keeps_its_type_and_traceback():
    with pytest.raises(KeyError, match="the 17th entry") as error:
        Around(callback(failing, same, same))(three)
    assert "in failing" in "".join(traceback.format_exception(error.type, error.value, error.tb))


def test_the_defect_mindspores_own_operator_takes_a_wrong_shape_without_a_word():
    def two_of_three(x):
        return x[:2]

    own = ops.Custom(two_of_three, same, same, "pyfunc")
    assert own(three).shape == (3,)  # the third is whatever lay behind
    with pytest.raises(CallbackError, match=r"two_of_three returned shape \(2,\), \(3,\) was announced"):
        callback(two_of_three, same, same)(three)


@pytest.mark.parametrize(
    ("function", "shape", "dtype", "message"),
    [
        (lambda x: x.astype(np.float64), same, same, "returned float64, float32 was announced"),
        (lambda x: None, same, same, r"returned shape \(\)"),
        (lambda x: (x, x, x), [same, same], [same, same], "returned 3 arrays, 2 were announced"),
        (lambda x: (x, x[:1]), [same, same], [same, same], r"\(1,\) as output 1"),
    ],
)
def test_what_comes_back_is_checked(function, shape, dtype, message):
    with pytest.raises(CallbackError, match=message):
        callback(function, shape, dtype).construct(three)  # eagerly: a graph that fails takes seconds to end


def test_an_empty_input_is_named():
    with pytest.raises(CallbackError, match=r"shape \(0, 2\)"):
        Around(callback(cube, same, same))(Tensor(np.zeros((0, 2), np.float32)))


def test_a_wrong_gradient_is_named():
    def gradient(x, output, above):
        return above[:1]

    with pytest.raises(CallbackError, match=r"the gradient of cube returned shape \(1,\)"):
        mindspore.grad(Around(callback(cube, same, same, gradient)))(three)


def many(*inputs):
    return inputs[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((many, same, same, cube_gradient), "named inputs"),
        ((cube, [same], same), "two lists of one length"),
        ((cube, [()], [mindspore.float32]), "announce"),
        ((cube, [same], [same], cube_gradient), "has one output"),
        ((cube, (3,), "float33"), "dtype='float33' is no dtype"),
        ((cube, 3, np.float32), "shape=3: pass a tuple"),
        ((cube, (0,), np.float32), r"shape=\(0,\): pass a tuple of positive"),
    ],
)
def test_what_cannot_be_an_operator_is_named(arguments, message):
    with pytest.raises(CallbackError, match=message):
        callback(*arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.dtype("float32"), "float32", mindspore.float32])
def test_numpys_names_of_a_dtype_will_do(dtype):
    np.testing.assert_allclose(callback(cube, (3,), dtype).construct(three).asnumpy(), [1, -8, 27])


def test_numpy_arrays_and_lists_will_do():
    assert callback(cube, (3,), np.float32)(np.array([1, -2, 3], np.float32)).asnumpy().tolist() == [1, -8, 27]
    assert callback(cube, (2,), np.int64)([1, 2]).asnumpy().tolist() == [1, 8]


@pytest.mark.parametrize("eager", [False, True])
def test_functions_of_any_number_of_inputs(eager):
    def raised(x, power=2.0, *, base=1):
        return x ** np.float32(power) + np.float32(base)

    mindspore.set_context(mode=mindspore.PYNATIVE_MODE if eager else mindspore.GRAPH_MODE)
    try:
        assert callback(np.abs, same, same)(three).asnumpy().tolist() == [1, 2, 3]
        assert callback(np.maximum, same, same)(three, of([0, 0, 9])).asnumpy().tolist() == [1, 0, 9]
        assert callback(raised, same, same)(three).asnumpy().tolist() == [2, 5, 10]
        assert Around(callback(raised, same, same))(three, of([3, 1, 1])).asnumpy().tolist() == [5, -1, 9]
        for count in (1, 2, 6):
            cell = callback(lambda *inputs: sum(inputs), same, same)
            assert cell(*[three] * count).asnumpy().tolist() == [count, -2 * count, 3 * count]
        with pytest.raises(CallbackError, match="raised takes 1 to 2 inputs, got 3"):
            callback(raised, same, same)(three, three, three)
    finally:
        mindspore.set_context(mode=mindspore.GRAPH_MODE)


def test_nothing_is_said_while_it_runs(capfd):
    cubes(three)
    assert capfd.readouterr().err == ""


def test_without_a_gradient_differentiating_fails():
    with pytest.raises(RuntimeError, match="bprop"):
        mindspore.grad(Around(callback(cube, same, same)))(three)
