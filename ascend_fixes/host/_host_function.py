"""A Python function on the host as an operator inside a compiled graph.

MindSpore's own way, `ops.Custom` with ``func_type="pyfunc"``, copies whatever array
comes back into the output's memory: one of another shape is read past its end or cut
short without a word, one of another dtype fails as ``memcpy failed``. A `Callback`
checks both and names them. The function's own exceptions reach the caller with their
traceback.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, Callable

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.errors import AscendFixesError

__all__ = ["Callback", "CallbackError", "callback", "host_operator", "numpy_dtype"]

_MOST_INPUTS = 6  # with a gradient, or of a function that takes any number: each number is an operator of its own


class CallbackError(AscendFixesError, ValueError):
    """A host function that returned something else than announced, or that cannot be an operator."""


def callback(function: Callable[..., Any], shape: Any, dtype: Any, gradient: Callable | None = None) -> Callback:
    """Make ``function`` an operator: ``net.lookup = callback(f, (8,), mindspore.int32)``, then ``net.lookup(x)``.

    Args:
        function: gets one NumPy array an input and returns an array, or a tuple of arrays. A 0-d input comes as
            an array of shape () in NumPy's default dtype of its kind. It is called on the host in the
            order of the graph, from a thread of MindSpore's.
        shape: of the output: a tuple of positive integers, or a function from the inputs' shapes to one. A list for
            several outputs.
        dtype: of the output, a MindSpore or NumPy dtype, or a function from the inputs' dtypes to a MindSpore one. A
            list for several.
        gradient: ``gradient(*inputs, output, output_gradient)`` returns one array an input, in its shape and
            dtype, or None where it has no gradient. None means that differentiating raises.

    Returns:
        A cell. Call it inside another cell's ``construct``, or by itself.

    Raises:
        CallbackError: a shape or dtype that cannot be; on the call, an input is empty, or what came back has another
            shape, dtype or number of arrays.
    """
    return Callback(function, shape, dtype, gradient)


@functools.cache
def numpy_dtype(dtype: Any) -> np.dtype:
    """NumPy's dtype for MindSpore's. `mindspore.dtype_to_nptype` is deprecated, and says so at every call."""
    for kind in "?bhiqBHIQefdFD":
        if Tensor(np.zeros(1, kind)).dtype == dtype:
            return np.dtype(kind)
    raise CallbackError(f"NumPy has no dtype for {dtype}; convert to float32 first")


def _dtype(dtype: Any) -> Any:
    """MindSpore's dtype for NumPy's or Python's; anything else as it is."""
    if not isinstance(dtype, (type, np.dtype, str)):
        return dtype
    try:
        return Tensor(np.zeros((), np.dtype(dtype))).dtype
    except TypeError:
        raise CallbackError(f"dtype={dtype!r} is no dtype of MindSpore's; pass one, for example float32") from None


class Callback(nn.Cell):
    """What `callback` returns."""

    def __init__(self, function: Callable, shape: Any, dtype: Any, gradient: Callable | None = None) -> None:
        super().__init__()
        several = isinstance(dtype, list) or isinstance(shape, list)
        if several and (not isinstance(dtype, list) or not isinstance(shape, list) or len(dtype) != len(shape)):
            raise CallbackError(
                f"shape={shape!r} and dtype={dtype!r}: pass two lists of one length for several outputs"
            )
        for each in map(_fixed, shape if several else [shape]):
            if not callable(each) and not (isinstance(each, tuple) and all(size > 0 for size in each)):
                raise CallbackError(
                    f"shape={each!r}: pass a tuple of positive integers, or a function that returns one"
                )
        if several and () in map(_fixed, shape):
            raise CallbackError("one of several outputs cannot have the shape (); announce (1,)")
        dtype = [_dtype(each) for each in dtype] if several else _dtype(dtype)
        self.scalar = shape == ()
        backward = None if gradient is None else _backward(function, gradient, several)
        counts = _counts(function) if gradient is None else [len(inspect.signature(function).parameters)]
        shape = (1,) if self.scalar else shape
        self.operators = tuple(host_operator(function, shape, dtype, backward, count) for count in counts)
        self.least, self.most, self.name = counts[0], counts[-1], _name(function)

    def construct(self, *inputs: Any) -> Any:
        _check_count(len(inputs), self.least, self.most, self.name)
        tensors: tuple[Tensor, ...] = ()
        for x in inputs:  # a graph that hands NumPy's own array to a host function ends the process
            tensors = (*tensors, x if isinstance(x, Tensor) else Tensor(x))
            _check_not_empty(tensors[-1].shape)
        output = self.operators[len(inputs) - self.least](*tensors)
        if self.scalar:
            return ops.reshape(output, ())
        return output


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _counts(function: Callable) -> range:
    """How many inputs a function takes."""
    if isinstance(function, np.ufunc):
        return range(function.nin, function.nin + 1)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # of some functions written in C
        return range(1, _MOST_INPUTS + 1)
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return range(1, _MOST_INPUTS + 1)
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return range(sum(one.default is one.empty for one in places), len(places) + 1)


@ops.constexpr
def _check_count(count: int, least: int, most: int, name: str) -> None:
    if not least <= count <= most:
        takes = f"{least}" if least == most else f"{least} to {most}"
        raise CallbackError(f"{name} takes {takes} inputs, got {count}")


@ops.constexpr
def _check_not_empty(shape: tuple[int, ...]) -> None:
    if 0 in shape:  # MindSpore itself fails with "memcpy failed"
        raise CallbackError(f"an input has the shape {shape}: nothing to hand to a host function; skip the call")


def _fixed(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape


def host_operator(
    function: Callable, shape: Any, dtype: Any, backward: Any = None, count: int | None = None
) -> ops.Custom:
    """The bare primitive behind a `Callback`, of ``count`` inputs or as many as the function names.

    Every output has at least one dimension.
    """
    checked = _Checked(function, shape, dtype)

    def operator(*inputs: Any) -> Any:  # MindSpore takes nothing but a function with a source
        return checked(*inputs)

    operator.__name__ = checked.name
    # MindSpore packs the inputs into a tuple unless their number is to be seen.
    seen = inspect.signature(function) if count is None else _signature(count)
    operator.__signature__ = seen  # type: ignore[attr-defined]
    return ops.Custom(operator, _announced(shape), _announced(dtype), func_type="pyfunc", bprop=backward)


def _signature(count: int) -> inspect.Signature:
    return inspect.Signature(
        [inspect.Parameter(f"x{place}", inspect.Parameter.POSITIONAL_ONLY) for place in range(count)]
    )


def _announced(what: Any) -> Callable:
    """The announcement of a shape or dtype as a function of the inputs' shapes or dtypes."""
    if isinstance(what, list):
        parts = [_announced(part) for part in what]
        return lambda *inputs: tuple(part(*inputs) for part in parts)
    return what if callable(what) and not isinstance(what, type(mindspore.float32)) else lambda *inputs: what


class _Checked:
    """A host function whose results are checked before MindSpore copies them."""

    def __init__(self, function: Callable, shape: Any, dtype: Any) -> None:
        self._function = function
        self._shape, self._dtype = _announced(shape), _announced(dtype)
        self._several = isinstance(shape, list)
        self.name = _name(function)

    def __call__(self, *inputs: Any) -> Any:
        # What arrives lies in memory that MindSpore uses again after the call.
        arrays = [np.array(value) for value in inputs]
        result = self._function(*arrays)
        shapes = self._shape(*(array.shape for array in arrays))
        dtypes = self._dtype(*(mindspore.from_numpy(array).dtype for array in arrays))
        if not self._several:
            return self._check(result, shapes, dtypes, "")
        results = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        if len(results) != len(shapes):
            raise CallbackError(f"{self.name} returned {len(results)} arrays, {len(shapes)} were announced")
        return tuple(
            self._check(part, shape, dtype, f" as output {number}")
            for number, (part, shape, dtype) in enumerate(zip(results, shapes, dtypes))
        )

    def _check(self, result: Any, shape: Sequence[int], dtype: Any, which: str) -> np.ndarray:
        array = np.asarray(result)
        if array.shape == () and tuple(shape) == (1,):
            array = array.reshape(1)
        wanted = numpy_dtype(dtype)
        if array.shape != tuple(shape):
            raise CallbackError(
                f"{self.name} returned shape {array.shape}{which}, {tuple(shape)} was announced; "
                "return or announce the other"
            )
        if array.dtype != wanted and not isinstance(result, (bool, int, float)):
            raise CallbackError(
                f"{self.name} returned {array.dtype}{which}, {wanted} was announced; convert with astype"
            )
        return np.ascontiguousarray(array, wanted)


# --- gradients -----------------------------------------------------------------------------------


def _backward(function: Callable, gradient: Callable, several: bool) -> Callable:
    """The function that differentiates the operator: the compiler reads its source and counts its arguments."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    count = len(kinds)
    if any(kind is inspect.Parameter.VAR_POSITIONAL for kind in kinds) or not 1 <= count <= _MOST_INPUTS:
        raise CallbackError(
            f"a callback with a gradient takes 1 to {_MOST_INPUTS} named inputs, "
            f"{_name(function)} takes {inspect.signature(function)}; name or stack them"
        )
    if several:
        raise CallbackError("a callback with a gradient has one output; concatenate them, or leave the gradient out")

    def gradients(*arrays: np.ndarray) -> Any:
        found = gradient(*arrays)
        found = found if isinstance(found, (tuple, list)) else (found,)
        if len(found) != count:
            raise CallbackError(f"the gradient returned {len(found)} arrays for {count} inputs")
        return tuple(np.zeros_like(array) if part is None else np.asarray(part) for part, array in zip(found, arrays))

    likewise: list = [_input(place) for place in range(count)]
    called: Any = _first_of(gradients) if count == 1 else gradients
    called.__name__ = f"the gradient of {_name(function)}"
    announced = likewise[0] if count == 1 else likewise
    return (_one, _two, _three, _four, _five, _six)[count - 1](
        host_operator(called, announced, announced, count=count + 2)
    )


def _input(place: int) -> Callable:
    """Announces the shape or dtype of one of the inputs."""
    return lambda *inputs: inputs[place]


def _first_of(gradients: Callable) -> Callable:
    return lambda *arrays: gradients(*arrays)[0]


def _one(operator: ops.Custom) -> Callable:
    def bprop(a, out, dout):  # type: ignore[no-untyped-def]
        return (operator(a, out, dout),)

    return bprop


def _two(operator: ops.Custom) -> Callable:
    def bprop(a, b, out, dout):  # type: ignore[no-untyped-def]
        return operator(a, b, out, dout)

    return bprop


def _three(operator: ops.Custom) -> Callable:
    def bprop(a, b, c, out, dout):  # type: ignore[no-untyped-def]
        return operator(a, b, c, out, dout)

    return bprop


def _four(operator: ops.Custom) -> Callable:
    def bprop(a, b, c, d, out, dout):  # type: ignore[no-untyped-def]
        return operator(a, b, c, d, out, dout)

    return bprop


def _five(operator: ops.Custom) -> Callable:
    def bprop(a, b, c, d, e, out, dout):  # type: ignore[no-untyped-def]
        return operator(a, b, c, d, e, out, dout)

    return bprop


def _six(operator: ops.Custom) -> Callable:
    def bprop(a, b, c, d, e, f, out, dout):  # type: ignore[no-untyped-def]
        return operator(a, b, c, d, e, f, out, dout)

    return bprop
