"""The cures of A1, A2, A3, A5 and A7: MindSpore's own mixed-precision functions, done by `amp.autocast`.

`mindspore.amp.auto_mixed_precision` rewrites a network's source (O1) or sets flags on its cells (O2, O3). Both fail
on ordinary cells, and flags change the caller's network. Here every level is the wrapper that `autocast` makes with
the default `Policy`: O2 and O3 lower no more than O1 does, because what they would lower in addition (exponentials,
sums, masks, losses) is what leaves float16's range. Outputs are float32 at every level. Functions (level "auto")
are left to MindSpore.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import mindspore
from mindspore import nn
from mindspore.ops import Primitive

from ascend_fixes import _mindspore
from ascend_fixes.amp import _operators as operators
from ascend_fixes.amp._autocast import Autocast, autocast
from ascend_fixes.amp._policy import ArgumentTypeError, Policy, PolicyError

__all__ = ["custom", "levels", "precision_process", "train_network"]


def levels(*names: str) -> Callable[[Callable], Callable]:
    """A replacement for `mindspore.amp.auto_mixed_precision` at these levels; other levels stay MindSpore's."""

    def make(original: Callable) -> Callable:
        @functools.wraps(original)
        def auto_mixed_precision(network: Any, amp_level: str = "O0", *args: Any, **kwargs: Any) -> Any:
            if amp_level not in names or not isinstance(network, nn.Cell):
                return original(network, amp_level, *args, **kwargs)
            return _lowered(network, amp_level, *args, **kwargs)

        return auto_mixed_precision

    return make


def _lowered(network: nn.Cell, level: str, dtype: Any = mindspore.float16) -> Autocast:
    cast = autocast(network, _policy(dtype))
    _mindspore.mark_amp_level(cast, level)
    return cast


def _policy(dtype: Any, **entries: Any) -> Policy:
    name = str(dtype).lower()
    if name not in ("float16", "bfloat16"):
        raise PolicyError(f"dtype={dtype} is no half precision; use mindspore.float16 or mindspore.bfloat16")
    return Policy(f"compute={name}", **entries)


def precision_process(original: Callable) -> Callable:
    """For the function by which `build_train_network` and `Model` lower a network to float16 (O2, O3, ``cast_model_type``)."""

    @functools.wraps(original)
    def process(network: Any, config: dict[str, Any], level: str) -> Any:
        if str(config["cast_model_type"]).lower() != "float16":
            return original(network, config, level)
        return _lowered(network, level if level in ("O2", "O3") else "O2")

    return process


def train_network(original: Callable) -> Callable:
    """For `mindspore.amp.build_train_network`, which refuses loss scaling on CPU; elsewhere it is MindSpore's."""

    @functools.wraps(original)
    def build_train_network(
        network: Any, optimizer: Any, loss_fn: Any = None, level: str = "O0", boost_level: str = "O0", **kwargs: Any
    ) -> Any:
        manager = _mindspore.loss_scale_manager(level, kwargs)
        update = manager.get_update_cell() if manager is not None else None
        if update is None or _mindspore.backend() != "CPU":
            return original(network, optimizer, loss_fn, level, boost_level, **kwargs)
        plain = original(network, optimizer, loss_fn, level, boost_level, **{**kwargs, "loss_scale_manager": None})
        return nn.TrainOneStepWithLossScaleCell(plain.network, optimizer, scale_sense=update).set_train()

    return build_train_network


def custom(original: Callable) -> Callable:
    """For `mindspore.amp.custom_mixed_precision`: the same lists, primitives in both, and no change of the network."""

    @functools.wraps(original)
    def custom_mixed_precision(
        network: Any, *, white_list: Any = None, black_list: Any = None, dtype: Any = mindspore.float16
    ) -> Any:
        if not isinstance(network, nn.Cell) or (white_list is None) == (black_list is None):
            return original(network, white_list=white_list, black_list=black_list, dtype=dtype)  # raises
        present = {cls for _, cell in network.cells_and_names() for cls in type(cell).__mro__}
        if white_list is None:
            return autocast(network, _policy(dtype, fp32=_entries("black_list", black_list, present)))
        low = _entries("white_list", white_list, present)
        named = {entry.__name__ for entry in low}
        rest = [name for group in operators.LOW for name in group.names if name not in named]
        known = _mindspore.operator_names()
        return autocast(network, _policy(dtype, fp32=[name for name in rest if name in known], fp16=low))

    return custom_mixed_precision


def _entries(argument: str, classes: Any, present: set) -> list[type]:
    """The primitives of a list of MindSpore's, and those of its cell classes that the network has."""
    if not isinstance(classes, list):
        raise ArgumentTypeError(f"{argument}={classes!r} is no list; write it as a list of cell classes and primitives")
    for entry in classes:
        if not isinstance(entry, type) or not issubclass(entry, (nn.Cell, Primitive)):
            raise ArgumentTypeError(f"{argument}: {entry!r} is no class of a cell or a primitive")
    return [entry for entry in classes if issubclass(entry, Primitive) or entry in present]
