"""What recurrent layers share: the input's part of all steps at once, and steps in a loop whose graph does not grow with the length.

Blocks of `BLOCK` steps are run by a loop that the compiler does not unroll. It cannot differentiate such a loop well (it would
keep the whole buffer of states once per block), so a layer states its gradient, which is a loop backwards.
"""

from __future__ import annotations

from typing import Any

import mindspore
from mindspore import Tensor, nn, ops

__all__ = ["BLOCK", "Blocks", "Recurrence"]

BLOCK = 4  # steps per turn of the loop: each turn copies the buffer of states once, each step adds to the graph


class Recurrence(nn.Cell):
    """One direction of one layer. A layer derives from it and adds ``construct``, with the signature of MindSpore's own.

    Args:
        steps: what runs the steps.
    """

    def __init__(self, steps: nn.Cell) -> None:
        super().__init__()
        self.steps = steps
        self.product = ops.MatMul(False, True)

    def prepared(
        self, x: Tensor, seq_length: Tensor | None, w_ih: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where rows go on, the input's shares of the gates, and the bias of the state's; all float32.

        Args:
            x: (length, batch, input).
            seq_length: (batch,) int32, where rows end.
            w_ih, b_ih, b_hh: (gates x hidden, input), and (gates x hidden,) or None.

        Returns:
            (length, batch, 1) ones and zeros, (length, batch, gates x hidden), (gates x hidden,).
        """
        length, batch, size = x.shape
        going = ops.ones((length, batch, 1), mindspore.float32)
        if seq_length is not None:
            going = (ops.arange(length).expand_dims(-1) < seq_length).astype(mindspore.float32).expand_dims(-1)
            x = ops.masked_fill(x, going <= 0, Tensor(0.0, x.dtype))  # what stands past the end may be anything
        shares = self.product(x.reshape(length * batch, size), w_ih.astype(x.dtype)).astype(mindspore.float32)
        width = w_ih.shape[0]
        bias = ops.zeros((width,), mindspore.float32)
        if b_ih is not None and b_hh is not None:
            shares, bias = shares + b_ih.astype(mindspore.float32), b_hh.astype(mindspore.float32)
        return going, shares.reshape(length, batch, width), bias


class Blocks(nn.Cell):
    """The two loops. A layer derives from it and adds what a few steps do:

    ``ahead(state, *sequences, *fixed) -> (values, last state)``, and
    ``back(state, *sequences, *fixed) -> (values, state before the first)``, which takes the last step first and returns the values in
    the order of the steps. Of each sequence they get a tuple with a Tensor for every step: what `ops.unstack` takes apart at once
    costs on CPU a small part of as many indices (StridedSlice over the first axis).
    """

    def __init__(self) -> None:
        super().__init__()
        self.take, self.put = ops.Gather(), ops.TensorScatterUpdate()

    def ahead_all(self, state: Any, sequences: Any, fixed: Any, shape: tuple[int, ...]) -> Tensor:
        """The values of every step, (length, *shape) float32.

        Args:
            state: before the first step, float32; a Tensor, or a tuple of such.
            sequences: Tensors (length, ...), of which each step has its part.
            fixed: what every step has.
            shape: of a step's values.
        """
        length = sequences[0].shape[0]
        blocks = length // BLOCK if length >= 2 * BLOCK else 0
        inside, parts = blocks * BLOCK, []
        if blocks > 0:
            cut = self.in_blocks(sequences, blocks)
            buffer = ops.zeros((blocks, BLOCK, *shape), mindspore.float32)
            block, end = Tensor(0, mindspore.int32), Tensor(blocks, mindspore.int32)
            while block < end:
                values, state = self.ahead(state, *self.block_of(cut, block), *fixed)
                buffer = self.put(buffer, block.reshape(1, 1), values.expand_dims(0))
                block = block + 1
            parts.append(buffer.reshape(inside, *shape))
        if inside < length:
            values, state = self.ahead(state, *self.rest_of(sequences, inside), *fixed)
            parts.append(values)
        return ops.concat(parts, 0) if len(parts) > 1 else parts[0]

    def back_all(self, state: Any, sequences: Any, fixed: Any, shape: tuple[int, ...]) -> Any:
        """The same backwards: the values of every step, and the state before the first."""
        length = sequences[0].shape[0]
        blocks = length // BLOCK if length >= 2 * BLOCK else 0
        inside, parts = blocks * BLOCK, []
        if inside < length:
            values, state = self.back(state, *self.rest_of(sequences, inside), *fixed)
            parts.append(values)
        if blocks > 0:
            cut = self.in_blocks(sequences, blocks)
            buffer = ops.zeros((blocks, BLOCK, *shape), mindspore.float32)
            block, end = Tensor(blocks - 1, mindspore.int32), Tensor(-1, mindspore.int32)
            while block > end:
                values, state = self.back(state, *self.block_of(cut, block), *fixed)
                buffer = self.put(buffer, block.reshape(1, 1), values.expand_dims(0))
                block = block - 1
            parts.append(buffer.reshape(inside, *shape))
        return (ops.concat(parts[::-1], 0) if len(parts) > 1 else parts[0]), state

    def in_blocks(self, sequences: Any, blocks: int) -> Any:
        found: Any = ()
        for one in sequences:
            # On CPU a slice that takes all of an axis is far slower than one that takes nearly all of it.
            inside = one if one.shape[0] == blocks * BLOCK else one[: blocks * BLOCK]
            found = found + (inside.reshape(blocks, BLOCK, *one.shape[1:]),)
        return found

    def block_of(self, cut: Any, block: Tensor) -> Any:
        found: Any = ()
        for one in cut:
            found = found + (ops.unstack(self.take(one, block, 0), 0),)
        return found

    def rest_of(self, sequences: Any, first: int) -> Any:
        found: Any = ()
        for one in sequences:
            found = found + (ops.unstack(one[first:] if first > 0 else one, 0),)
        return found
