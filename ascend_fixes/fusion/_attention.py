"""The decoder of RNNSearch as one layer: a GRU that looks at a source before every step.

Bahdanau, Cho and Bengio 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2, with the gates of `mindspore.nn.GRUCell`.
Written as a loop over `GRUCell`, graph and compile time grow with the target, and the gradient adds up one product of weights a
step. Here steps run in a loop with a gradient of its own, as those of `GRU` do, and the weights' gradients are taken of all steps
at once; a gradient of that gradient cannot be taken.
"""

from __future__ import annotations

from typing import Any

import mindspore
from mindspore import ParameterTuple, Tensor, nn, ops

from ascend_fixes.fusion._blocks import Blocks
from ascend_fixes.fusion._functions import tanh_of_half
from ascend_fixes.fusion._guarding import safe
from ascend_fixes.fusion._layers import LayerError, Softmax

__all__ = ["AttentionGRU"]


class AttentionGRU(nn.Cell):
    """States and contexts of all steps of a GRU with additive attention, whose graph does not grow with their number.

    At every step the state before it asks, ``query``; the energies are ``score`` of ``tanh(keys + query)``; the context is the mean of
    the annotations, weighted by the softmax of the energies where the mask counts; and ``cell`` takes the step's input beside the
    context. Parameters are those cells': ``cell`` an `nn.GRUCell` of ``input_size + context_size``, ``query`` an `nn.Dense` from
    ``hidden_size`` to ``attention_size``, ``score`` one from there to 1 without bias. The gates' and the context's products are in x's
    type, all else is in float32.

    Args:
        input_size: width of the inputs.
        hidden_size: width of the states.
        context_size: width of the annotations.
        attention_size: width of the keys.

    Raises:
        LayerError: a size is not a positive integer.
    """

    def __init__(self, input_size: int, hidden_size: int, context_size: int, attention_size: int) -> None:
        super().__init__()
        sizes = {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "context_size": context_size,
            "attention_size": attention_size,
        }
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise LayerError(f"{name} must be a positive integer, not {value!r}")
        self.cell = nn.GRUCell(input_size + context_size, hidden_size)
        self.query = nn.Dense(hidden_size, attention_size)
        self.score = nn.Dense(attention_size, 1, has_bias=False)
        self.product, self.steps = ops.MatMul(False, True), _Steps(hidden_size, context_size)
        self.read_first = ParameterTuple(list(self.get_parameters()))
        safe(self)

    def construct(
        self, x: Tensor, state: Tensor, annotations: Tensor, keys: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States (batch, length, hidden) and contexts (batch, length, context), of x's type.

        Args:
            x: (batch, length, input), the input of every step.
            state: (batch, hidden), before the first step.
            annotations: (batch, source, context).
            keys: (batch, source, attention).
            mask: (batch, source), true or 1 where the source counts; a row in which nothing does has contexts of zeros.
        """
        # A graph that first reads a Parameter behind a loop keeps the value that it had when the graph was compiled (A9).
        x = ops.depend(x, self.read_first)
        kind, full = x.dtype, mindspore.float32
        batch, length, width = x.shape
        weights = self.cell.weight_ih.astype(kind)
        rows = x.swapaxes(0, 1).reshape(length * batch, width)
        shares = self.product(rows, weights[:, :width]).astype(full) + self.cell.bias_ih.astype(full)
        found = self.steps(
            shares.reshape(length, batch, weights.shape[0]),
            state.astype(full),
            annotations.astype(kind),
            2.0 * keys.astype(full),
            mask.astype(full),
            weights[:, width:],
            self.cell.weight_hh.astype(kind),
            self.cell.bias_hh.astype(full),
            2.0 * self.query.weight.astype(full),
            2.0 * self.query.bias.astype(full),
            2.0 * self.score.weight.astype(full),
        )
        found = found.swapaxes(0, 1)
        size = state.shape[-1]
        contexts = found[..., size : size + annotations.shape[-1]]
        return found[..., :size].astype(kind), contexts.astype(kind)


class _Steps(Blocks):
    """Every state, with the context and the weights of the attention behind it: (length, batch, hidden + context + source) float32.

    The hyperbolic tangent of the energies, ``tanh(y) = 2 sigmoid(2 y) - 1``, is taken by the sigmoid of doubled keys and queries: a
    softmax does not see the 1.
    """

    def __init__(self, hidden_size: int, context_size: int) -> None:
        super().__init__()
        self.size, self.width, self.softmax = hidden_size, context_size, Softmax(-1)
        self.product, self.back_product = ops.MatMul(False, True), ops.MatMul(False, False)
        self.over_rows, self.over_source = ops.MatMul(True, False), ops.BatchMatMul()
        self.over_width, self.over_steps = ops.BatchMatMul(False, True), ops.BatchMatMul(True, False)

    def construct(
        self,
        gi: Tensor,
        h: Tensor,
        annotations: Tensor,
        keys: Tensor,
        mask: Tensor,
        w_c: Tensor,
        w_hh: Tensor,
        b_hh: Tensor,
        w_q: Tensor,
        b_q: Tensor,
        v: Tensor,
    ) -> Tensor:
        """Run the steps.

        Args:
            gi: (length, batch, 3 hidden) float32, the input's shares of the gates.
            h: (batch, hidden) float32, the state before the first step.
            annotations: (batch, source, context), of the type of products.
            keys: (batch, source, attention) float32, doubled.
            mask: (batch, source) float32.
            w_c, w_hh, b_hh: (3 hidden, context) and (3 hidden, hidden) of the type of products, and (3 hidden,) float32.
            w_q, b_q, v: (attention, hidden), (attention,) and (1, attention), float32, doubled.
        """
        shape = (h.shape[0], self.size + self.width + mask.shape[1])
        return self.ahead_all(h, (gi,), (annotations, keys, mask, w_c, w_hh, b_hh, w_q, b_q, v), shape)

    def bprop(
        self,
        gi: Tensor,
        h: Tensor,
        annotations: Tensor,
        keys: Tensor,
        mask: Tensor,
        w_c: Tensor,
        w_hh: Tensor,
        b_hh: Tensor,
        w_q: Tensor,
        b_q: Tensor,
        v: Tensor,
        out: Tensor,
        dout: Tensor,
    ) -> tuple[Tensor, ...]:
        """The gradients of the inputs; that of the mask is zero.

        The gates of all steps are computed again at once. What is left to loop over, backwards, are the products of a step, the
        sigmoids of the energies, which would be as large as all steps' keys if they were kept, and the sum of the keys'
        gradients.
        """
        length, batch, gates = gi.shape
        size, end, kind = self.size, self.size + self.width, w_hh.dtype
        states, contexts, weights = out[..., :size], out[..., size:end], out[..., end:]
        before = ops.concat((h.expand_dims(0), states[:-1]), 0) if length > 1 else h.expand_dims(0)
        old, seen = before.reshape(length * batch, size), contexts.reshape(length * batch, self.width).astype(kind)
        gh = self.product(old.astype(kind), w_hh).astype(mindspore.float32) + b_hh
        arguments = gi.reshape(length * batch, gates) + self.product(seen, w_c).astype(mindspore.float32)
        opened = ops.sigmoid(arguments[:, : 2 * size] + gh[:, : 2 * size])
        reset, update = opened[:, :size], opened[:, size:]
        candidate = tanh_of_half(0.5 * (arguments[:, 2 * size :] + reset * gh[:, 2 * size :]))
        # What the gradient of a state is multiplied by to give those of the arguments of the three gates.
        to_candidate = (1.0 - update) * (1.0 - candidate * candidate)
        to_update = (old - candidate) * update * (1.0 - update)
        to_reset = to_candidate * gh[:, 2 * size :] * reset * (1.0 - reset)
        to_gi = ops.concat((to_reset, to_update, to_candidate), -1)
        to_gh = ops.concat((to_reset, to_update, to_candidate * reset), -1)
        queries = self.product(old, w_q) + b_q
        sequences = (
            dout,
            ops.concat((update, to_gi, to_gh), -1).reshape(length, batch, 7 * size),
            queries.reshape(length, batch, w_q.shape[0]),
            weights,
        )
        shape = (batch, size + self.width + w_q.shape[0])
        nothing = (h * 0.0, keys * 0.0, v * 0.0)
        found, (dh, dkeys, dv) = self.back_all(nothing, sequences, (annotations, keys, w_c, w_hh, w_q, v), shape)
        totals, dcontexts = found[..., :size].reshape(length * batch, size), found[..., size:end]
        dqueries = found[..., end:].reshape(length * batch, w_q.shape[0]) * v
        thrice = ops.concat((totals, totals, totals), -1)
        dgi, dgh = thrice * to_gi, thrice * to_gh
        dannotations = self.over_steps(weights.swapaxes(0, 1).astype(kind), dcontexts.swapaxes(0, 1).astype(kind))
        return (
            dgi.reshape(length, batch, gates),
            dh,
            dannotations,
            dkeys * v,
            mask * 0.0,
            self.over_rows(dgi.astype(kind), seen),
            self.over_rows(dgh.astype(kind), old.astype(kind)),
            dgh.sum(0),
            self.over_rows(dqueries, old),
            dqueries.sum(0),
            dv,
        )

    def ahead(
        self,
        h: Tensor,
        gi: Any,
        annotations: Tensor,
        keys: Tensor,
        mask: Tensor,
        w_c: Tensor,
        w_hh: Tensor,
        b_hh: Tensor,
        w_q: Tensor,
        b_q: Tensor,
        v: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """A few steps: states, contexts and weights of each, and the last state."""
        size, (batch, source, attention) = self.size, keys.shape
        values = []
        for t in range(len(gi)):
            bent = ops.sigmoid(keys + (self.product(h, w_q) + b_q).expand_dims(1))
            energies = self.product(bent.reshape(batch * source, attention), v).reshape(batch, source)
            weights = self.softmax(energies, mask)
            context = self.over_source(weights.expand_dims(1).astype(annotations.dtype), annotations).squeeze(1)
            gh = self.product(h.astype(w_hh.dtype), w_hh).astype(mindspore.float32) + b_hh
            arguments = gi[t] + self.product(context, w_c).astype(mindspore.float32)
            opened = ops.sigmoid(arguments[:, : 2 * size] + gh[:, : 2 * size])
            candidate = tanh_of_half(0.5 * (arguments[:, 2 * size :] + opened[:, :size] * gh[:, 2 * size :]))
            h = candidate + opened[:, size:] * (h - candidate)
            values.append(ops.concat((h, context.astype(mindspore.float32), weights), -1))
        return ops.stack(values, 0), h

    def back(
        self,
        after: Any,
        dout: Any,
        factors: Any,
        queries: Any,
        weights: Any,
        annotations: Tensor,
        keys: Tensor,
        w_c: Tensor,
        w_hh: Tensor,
        w_q: Tensor,
        v: Tensor,
    ) -> tuple[Tensor, Any]:
        """A few steps, last first: the gradients of their states, contexts and queries, in order; and what goes on before them."""
        size, end, (batch, source, attention), values = self.size, self.size + self.width, keys.shape, []
        dh, dkeys, dv = after
        for t in range(len(dout) - 1, -1, -1):
            total = dh + dout[t][:, :size]
            thrice = ops.concat((total, total, total), -1)
            dgi, dgh = thrice * factors[t][:, size : 4 * size], thrice * factors[t][:, 4 * size :]
            dcontext = dout[t][:, size:end] + self.back_product(dgi.astype(w_c.dtype), w_c).astype(mindspore.float32)
            dweights = self.over_width(dcontext.expand_dims(1).astype(annotations.dtype), annotations).squeeze(1)
            weighted = weights[t] * (dout[t][:, end:] + dweights.astype(mindspore.float32))
            energies = weighted - weights[t] * weighted.sum(1, keepdims=True)
            bent = ops.sigmoid(keys + queries[t].expand_dims(1))
            dv = dv + self.back_product(energies.reshape(1, batch * source), bent.reshape(batch * source, attention))
            slope = bent - bent * bent
            dkeys = dkeys + energies.expand_dims(-1) * slope
            dquery = self.over_source(energies.expand_dims(1), slope).squeeze(1)
            through = self.back_product(dgh.astype(w_hh.dtype), w_hh).astype(mindspore.float32)
            dh = total * factors[t][:, :size] + through + self.back_product(dquery * v, w_q)
            values.append(ops.concat((total, dcontext, dquery), -1))
        return ops.stack(values[::-1], 0), (dh, dkeys, dv)
