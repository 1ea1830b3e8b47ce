"""Steps of a recurrent layer in a loop whose graph does not grow with the length.

Blocks of `BLOCK` steps are run by a loop that the compiler does not unroll. It cannot differentiate such a loop well (it would
keep the whole buffer of states once per block), so a layer states its gradient, which is a loop backwards.
"""

from __future__ import annotations

from typing import Any

import mindspore
from mindspore import Tensor, nn, ops

__all__ = ["BLOCK", "Blocks"]

BLOCK = 4  # steps per turn of the loop: each turn copies the buffer of states once, each step adds to the graph


class Blocks(nn.Cell):
    """The two loops. A layer derives from it and adds what a few steps do:

    ``ahead(state, *sequences, *fixed) -> (states, last state)``, and
    ``back(state, *sequences, *fixed) -> (values, state before the first)``, which takes the last step first and returns the values in
    the order of the steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.take, self.put = ops.Gather(), ops.TensorScatterUpdate()

    def ahead_all(self, state: Tensor, sequences: Any, fixed: Any) -> Tensor:
        """The states after every step, (length, *state.shape) float32.

        Args:
            state: before the first step, float32.
            sequences: Tensors (length, ...), of which each step has its part.
            fixed: what every step has.
        """
        length = sequences[0].shape[0]
        blocks = length // BLOCK if length >= 2 * BLOCK else 0
        inside, parts = blocks * BLOCK, []
        if blocks > 0:
            cut = self.in_blocks(sequences, blocks)
            buffer = ops.zeros((blocks, BLOCK, *state.shape), mindspore.float32)
            block, end = Tensor(0, mindspore.int32), Tensor(blocks, mindspore.int32)
            while block < end:
                states, state = self.ahead(state, *self.block_of(cut, block), *fixed)
                buffer = self.put(buffer, block.reshape(1, 1), states.expand_dims(0))
                block = block + 1
            parts.append(buffer.reshape(inside, *state.shape))
        if inside < length:
            states, state = self.ahead(state, *self.rest_of(sequences, inside), *fixed)
            parts.append(states)
        return ops.concat(parts, 0) if len(parts) > 1 else parts[0]

    def back_all(self, state: Tensor, sequences: Any, fixed: Any) -> Any:
        """The same backwards: the values of every step, and the state before the first."""
        length = sequences[0].shape[0]
        blocks = length // BLOCK if length >= 2 * BLOCK else 0
        inside, parts = blocks * BLOCK, []
        if inside < length:
            values, state = self.back(state, *self.rest_of(sequences, inside), *fixed)
            parts.append(values)
        if blocks > 0:
            cut = self.in_blocks(sequences, blocks)
            buffer = ops.zeros((blocks, BLOCK, *state.shape), mindspore.float32)
            block, end = Tensor(blocks - 1, mindspore.int32), Tensor(-1, mindspore.int32)
            while block > end:
                values, state = self.back(state, *self.block_of(cut, block), *fixed)
                buffer = self.put(buffer, block.reshape(1, 1), values.expand_dims(0))
                block = block - 1
            parts.append(buffer.reshape(inside, *state.shape))
        return (ops.concat(parts[::-1], 0) if len(parts) > 1 else parts[0]), state

    def in_blocks(self, sequences: Any, blocks: int) -> Any:
        found: Any = ()
        for one in sequences:
            found = found + (one[: blocks * BLOCK].reshape(blocks, BLOCK, *one.shape[1:]),)
        return found

    def block_of(self, cut: Any, block: Tensor) -> Any:
        found: Any = ()
        for one in cut:
            found = found + (self.take(one, block, 0),)
        return found

    def rest_of(self, sequences: Any, first: int) -> Any:
        found: Any = ()
        for one in sequences:
            found = found + (one[first:],)
        return found
