"""`MapParameter` on a backend that has no kernel for its operators: a hash table kept on the host.

MindSpore's `MapParameter` maps integer keys to rows and grows by look-ups. Where its
operators MapTensorGet, MapTensorPut and MapTensorErase have no kernel (defect H2), a
`HostMap` answers the same calls, in graphs and eagerly: a `Table` finds the keys, an
array holds the rows. It has no gradient; rows that are trained belong in `host.Embedding`.
"""

from __future__ import annotations

import numbers
from typing import Any, Callable

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import initializer

from ascend_fixes.host._host_function import host_operator, numpy_dtype
from ascend_fixes.host._keys import KeysError
from ascend_fixes.host._table import Table

__all__ = ["HostMap"]


class HostMap(nn.Cell):
    """Rows by integer key; an unknown key reads ``default_value``. The arguments are those of `MapParameter`.

    ``m[keys]``, ``m.get(keys)``, ``m.put(keys, rows)``, ``m[keys] = rows`` (eagerly) and ``m.erase(keys)`` work in graphs;
    ``get_keys()``, ``get_values()`` and ``get_data()`` outside them. ``permit_filter_value`` other than 1 and
    ``evict_filter_value``, which count look-ups, raise `KeysError`.
    """

    def __init__(
        self,
        key_dtype: Any = None,
        value_dtype: Any = None,
        value_shape: Any = None,
        key_tensor: Tensor | None = None,
        value_tensor: Tensor | None = None,
        default_value: Any = "normal",
        permit_filter_value: int = 1,
        evict_filter_value: int | None = None,
        name: str | None = None,
        requires_grad: bool = True,
    ) -> None:
        super().__init__()
        if permit_filter_value != 1 or evict_filter_value not in (None, 2**63 - 1):
            raise KeysError("permit_filter_value and evict_filter_value have no meaning on the host; leave them out")
        dtype = value_tensor.dtype if value_tensor is not None else value_dtype or mindspore.float32
        shape: Any = value_tensor.shape[1:] if value_tensor is not None else 1 if value_shape is None else value_shape
        shape = (shape,) if isinstance(shape, numbers.Number) else tuple(shape)
        self.key_dtype = key_tensor.dtype if key_tensor is not None else key_dtype or mindspore.int32
        self.value_dtype, self.value_shape, self.default_value = dtype, shape, default_value
        self._held = _Rows(shape, numpy_dtype(dtype), self._default)
        self._get = host_operator(self._held.get, lambda keys: (*keys, *shape), dtype)
        self._get_inserting = host_operator(self._held.get_inserting, lambda keys: (*keys, *shape), dtype)
        self._put = host_operator(self._held.put, _keys, _keys)
        self._erase = host_operator(self._held.erase, _keys, _keys)
        for operator in (self._get, self._get_inserting, self._put, self._erase):
            operator.add_prim_attr("side_effect_io", True)  # or a graph drops some and reorders others
        if key_tensor is not None and value_tensor is not None:
            self._held.put(key_tensor.asnumpy(), value_tensor.asnumpy())

    def _default(self, count: int) -> np.ndarray:
        kind = self.default_value if isinstance(self.default_value, str) else float(self.default_value)
        return initializer(kind, [count, *self.value_shape], self.value_dtype).init_data().asnumpy()

    def construct(self, key_tensor: Tensor) -> Tensor:
        return self.get(key_tensor)

    def get(self, key_tensor: Tensor, insert_default_value: bool = True) -> Tensor:
        """The rows of keys (n,), shape (n, *value_shape); unknown keys are added with the default, or only read it."""
        if 0 in key_tensor.shape:
            return ops.zeros((*key_tensor.shape, *self.value_shape), self.value_dtype)
        if insert_default_value:
            return self._get_inserting(key_tensor)
        return self._get(key_tensor)

    def __getitem__(self, key_tensor: Tensor) -> Tensor:
        return self.get(key_tensor, True)

    def put(self, key_tensor: Tensor, value_tensor: Tensor) -> Tensor:
        """Set the rows of keys (n,); of a key that is repeated the last row stays. Returns the keys."""
        return self._put(key_tensor, value_tensor) if 0 not in key_tensor.shape else key_tensor

    def __setitem__(self, key_tensor: Tensor, value_tensor: Tensor) -> None:
        self.put(key_tensor, value_tensor)

    def erase(self, key_tensor: Tensor) -> Tensor:
        """Forget keys (n,); unknown ones are passed over. Returns the keys."""
        return self._erase(key_tensor) if 0 not in key_tensor.shape else key_tensor

    def get_keys(self) -> Tensor:
        """The keys (n,), in the order they came."""
        return Tensor(self._held.content()[0], self.key_dtype)

    def get_values(self) -> Tensor:
        """The rows (n, *value_shape), in the order of the keys."""
        return Tensor(self._held.content()[1], self.value_dtype)

    def get_data(self) -> tuple[Tensor, Tensor]:
        """Keys and rows."""
        return self.get_keys(), self.get_values()


def _keys(keys: Any, *rest: Any) -> Any:
    """Announces the shape or dtype of the keys."""
    return keys


class _Rows:
    """The keys and rows of a `HostMap`; a key that was erased keeps its place and is no longer live."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, default: Callable[[int], np.ndarray]) -> None:
        self._table = Table(np.empty(0, np.int64), default=-1, dtype=np.int64)
        self._rows = np.zeros((0, *shape), dtype)
        self._live = np.zeros(0, bool)
        self._default = default

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """The place of each key, adding those that are new."""
        places = self._table.add(keys)
        count = len(self._table)
        if count > len(self._rows):
            more = max(count, 2 * len(self._rows)) - len(self._rows)
            self._rows = np.concatenate([self._rows, np.zeros((more, *self._rows.shape[1:]), self._rows.dtype)])
            self._live = np.concatenate([self._live, np.zeros(more, bool)])
        return places

    def get_inserting(self, keys: np.ndarray) -> np.ndarray:
        places = self._places(keys)
        new = np.unique(places[~self._live[places]])
        if len(new):
            self._rows[new] = self._default(len(new))
            self._live[new] = True
        return self._rows[places]

    def get(self, keys: np.ndarray) -> np.ndarray:
        places = self._table(keys)
        known = places >= 0
        known[known] = self._live[places[known]]
        found = self._default(len(keys)).astype(self._rows.dtype)
        found[known] = self._rows[places[known]]
        return found

    def put(self, keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if rows.shape != (len(keys), *self._rows.shape[1:]):
            raise KeysError(f"{len(keys)} keys and rows of shape {rows.shape}; pass one row a key")
        places = self._places(keys)
        self._rows[places], self._live[places] = rows, True
        return keys

    def erase(self, keys: np.ndarray) -> np.ndarray:
        places = self._table(keys)
        self._live[places[places >= 0]] = False
        return keys

    def content(self) -> tuple[np.ndarray, np.ndarray]:
        live = np.flatnonzero(self._live)
        return self._table.keys(live) if len(live) else np.empty(0, np.int64), self._rows[live]
