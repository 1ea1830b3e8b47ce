"""Mixed precision: cast strategies, and the levels of `mindspore.amp`.

A cast strategy is what `auto_mixed_precision(net, "auto")` pushes around a network: names of operators whose float
inputs are cast down, and of those whose float inputs are cast up to float32. The graph compiler reads it from the
attribute `amp_strategy` of a cell and applies it to all that the cell calls, up to the next cell that has one of its
own; PyNative reads the innermost one that was pushed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = [
    "auto_cast_lists",
    "blanket_strategy",
    "cast_strategy",
    "loss_scale_manager",
    "mark_amp_level",
    "precision_process_target",
    "pushed_strategy",
    "rewrite_os_target",
]


def cast_strategy(dtype: Any, low: Iterable[str], full: Iterable[str]) -> Any:
    """Operators ``low`` take their float inputs in ``dtype``, ``full`` in float32, all others as they come."""
    from mindspore._c_expression.amp import AmpLevel, create_amp_strategy

    return create_amp_strategy(
        AmpLevel.AmpAuto, dtype, [(name, []) for name in sorted(low)], [(name, []) for name in sorted(full)]
    )


def blanket_strategy(dtype: Any) -> Any:
    """Every operator takes its float inputs in ``dtype``."""
    from mindspore._c_expression.amp import AmpLevel, create_amp_strategy

    return create_amp_strategy(AmpLevel.AmpO3, dtype, [], [])


@contextlib.contextmanager
def pushed_strategy(strategy: Any) -> Iterator[None]:
    """A cast strategy for PyNative: it holds for every operator called inside, in this thread."""
    from mindspore._c_expression.amp import pop_amp_strategy, push_amp_strategy

    push_amp_strategy(
        strategy.get_amp_level(), strategy.get_amp_dtype(), strategy.get_white_list(), strategy.get_black_list()
    )
    try:
        yield
    finally:
        pop_amp_strategy()


def auto_cast_lists() -> tuple[frozenset[str], frozenset[str]]:
    """The operators that MindSpore's own level "auto" computes in half precision, and in float32."""
    from mindspore.train import amp

    names = [
        frozenset(entry.__name__ for entry in entries) for entries in (amp.AMP_AUTO_WHITE_LIST, amp.AMP_AUTO_BLACK_LIST)
    ]
    return names[0], names[1]


def mark_amp_level(cell: Any, level: str) -> None:
    """Tell MindSpore that a network is lowered to ``level``: it then casts labels and outputs of the loss to float32."""
    cell._amp_level = level


def loss_scale_manager(level: str, overrides: dict[str, Any]) -> Any:
    """The loss scale manager that `build_train_network` uses at a level, or the one its caller gave; None for none."""
    from mindspore.train.amp import _config_level

    return {**_config_level.get(level, {}), **overrides}.get("loss_scale_manager")


def precision_process_target() -> str:
    """The function by which `build_train_network` and `Model` lower a network."""
    return "mindspore.train.amp:_auto_mixed_precision_process"


def rewrite_os_target() -> str:
    """The ``os`` by which the rewriting of networks (O1 and O2 of `amp`) finds the folder it writes its sources to."""
    return "mindspore.rewrite.symbol_tree.symbol_tree:os"
