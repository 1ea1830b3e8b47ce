"""What `host` keeps off the device."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ascend_fixes import host
from benchmarks.ascend.cells.parts import (
    BATCH,
    LENGTH,
    TAGS,
    WIDTH,
    Gradients,
    Made,
    random_ids,
    random_values,
    step_of,
)


class Embedded(nn.Cell):
    """Rows kept on the host and a layer on the device."""

    def __init__(self, embedding: nn.Cell) -> None:
        super().__init__()
        self.embedding, self.dense = embedding, nn.Dense(WIDTH, TAGS)

    def construct(self, ids):
        return (self.dense(self.embedding(ids)) ** 2).mean()


def host_embedding() -> Made:
    return step_of(Embedded(host.Embedding(50, WIDTH, optimizer="sgd")), random_ids(50, BATCH, LENGTH))


def plain_embedding() -> Made:
    return step_of(Embedded(nn.Embedding(50, WIDTH)), random_ids(50, BATCH, LENGTH))


class Called(nn.Cell):
    """A host function between two operators."""

    def __init__(self) -> None:
        super().__init__()
        self.function = host.callback(_sorted, lambda x: x, ms.float32, gradient=_unsorted)

    def construct(self, x):
        return self.function(x * 2.0) + 1.0


def _sorted(x: np.ndarray) -> np.ndarray:
    return np.sort(x)


def _unsorted(x: np.ndarray, out: np.ndarray, dout: np.ndarray) -> np.ndarray:
    gradient = np.empty_like(dout)
    gradient[np.argsort(x)] = dout
    return gradient


def host_callback() -> Made:
    return Called(), random_values(LENGTH)


def host_callback_gradient() -> Made:
    return Gradients(Called()), random_values(LENGTH)


class Static(nn.Cell):
    """One static operator of `host`."""

    def __init__(self, name: str, check: bool = False) -> None:
        super().__init__()
        self.name, self.check = name, check

    def construct(self, x):
        if self.name == "unique":
            return host.unique(x, 8, check=self.check)
        if self.name == "nonzero":
            return host.nonzero(x, 8, check=self.check)
        if self.name == "masked_select":
            return host.masked_select(x, x > 0, 8, check=self.check)
        if self.name == "where":
            return host.where(x > 0, 8, check=self.check)
        return host.top_k(x, 3, 5, check=self.check)


def host_unique() -> Made:
    return Static("unique"), random_ids(5, LENGTH)


def host_unique_float() -> Made:
    return Static("unique"), random_values(LENGTH)


def host_nonzero() -> Made:
    return Static("nonzero"), random_ids(2, BATCH, LENGTH)


def host_masked_select() -> Made:
    return Static("masked_select"), random_values(BATCH, LENGTH)


def host_masked_select_gradient() -> Made:
    return Gradients(Static("masked_select")), random_values(BATCH, LENGTH)


def host_where() -> Made:
    return Static("where"), random_values(BATCH, LENGTH)


def host_top_k() -> Made:
    return Static("top_k"), random_values(BATCH, LENGTH)


def host_unique_checked() -> Made:
    return Static("unique", True), random_ids(5, LENGTH)


def host_nonzero_checked() -> Made:
    return Static("nonzero", True), random_ids(2, BATCH, LENGTH)


def host_top_k_checked() -> Made:
    return Static("top_k", True), random_values(BATCH, LENGTH)


class PlainStatic(nn.Cell):
    """The same by `mindspore.ops`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def construct(self, x):
        if self.name == "unique":
            return ops.unique(x)
        if self.name == "nonzero":
            return ops.nonzero(x)
        if self.name == "masked_select":
            return ops.masked_select(x, x > 0)
        return ops.topk(x, 5)


def plain_unique() -> Made:
    return PlainStatic("unique"), random_ids(5, LENGTH)


def plain_nonzero() -> Made:
    return PlainStatic("nonzero"), random_ids(2, BATCH, LENGTH)


def plain_masked_select() -> Made:
    return PlainStatic("masked_select"), random_values(BATCH, LENGTH)


def plain_top_k() -> Made:
    return PlainStatic("top_k"), random_values(BATCH, LENGTH)


def host_place() -> Made:
    cell = PlainStatic("top_k")
    host.place(cell, ["TopK"])
    return cell, random_values(BATCH, LENGTH)


class DecodingStep(nn.Cell):
    """One step of a language model: tokens (rows,), state (rows, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.cell, self.out = nn.Embedding(50, WIDTH), nn.GRUCell(WIDTH, WIDTH), nn.Dense(WIDTH, 50)

    def construct(self, tokens, state):
        state = self.cell(self.embedding(tokens), state)
        return self.out(state), state


def beam_step() -> Made:
    return DecodingStep(), random_ids(50, BATCH * 3), random_values(BATCH * 3, WIDTH)


class Joined(nn.Cell):
    """More pieces than Ascend's kernels take, put together in groups."""

    def construct(self, x):
        return host.concat((x,) * 200, 0), host.stack((x,) * 200, 0)


def host_concat() -> Made:
    return Joined(), random_values(2, 3)
