"""Tensors as NumPy arrays, and the Tensors inside of containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor

__all__ = ["array_of", "tensors_in"]


def array_of(value: Any) -> np.ndarray:
    """A Tensor or anything else as an array; bfloat16, which NumPy does not know, as float32."""
    if isinstance(value, Tensor):
        return (value.astype(mindspore.float32) if value.dtype == mindspore.bfloat16 else value).asnumpy()
    return np.asarray(value)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The Tensors in an output or argument, inside of tuples, lists and mappings too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
