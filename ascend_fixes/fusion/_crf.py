"""A linear-chain conditional random field whose graph grows with the logarithm of the length.

The partition function is a product of one matrix per step in the semiring of
logarithms, and that product is associative: it is taken pairwise, level by level,
as a balanced tree (Sarkka and Garcia-Fernandez, "Temporal parallelization of Bayesian
smoothers", https://arxiv.org/abs/1905.13002, do the same for filters). The model is
that of Lafferty, McCallum and Pereira (ICML 2001), with scores for the first and
the last tag.

A long chain's scores add up to numbers whose last place in float32 is larger than
what decides between two tags. So every step's emissions and every product are taken
relative to their largest, and what was subtracted is added up apart from them; in the
loss the largest emissions cancel and are never added.
"""

from __future__ import annotations

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Uniform, initializer

from ascend_fixes.fusion._guarding import safe
from ascend_fixes.fusion._layers import LayerError, LogSumExp
from ascend_fixes.host import viterbi

__all__ = ["CRF"]

_MARGINALS = "_ascend_fixes_marginals"  # the attribute that keeps the cell that `marginals` has compiled
_NEVER = -1e9  # the logarithm of zero; finite, so that no difference is NaN


class CRF(nn.Cell):
    """Negative log-likelihood, marginals and best tags of a chain; everything is accumulated in float32.

    Args:
        num_tags: the number of tags, K. A level of the tree holds K ** 3 numbers per pair of steps.

    Attributes:
        transitions: (K, K), the score of a tag (row) followed by another (column).
        start, end: (K,), the scores of a first and a last tag.

    Raises:
        LayerError: ``num_tags`` is not a positive integer.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        if isinstance(num_tags, bool) or not isinstance(num_tags, int) or num_tags < 1:
            raise LayerError(f"num_tags must be a positive integer, not {num_tags!r}")
        self.num_tags = num_tags
        self.transitions = Parameter(initializer(Uniform(0.1), (num_tags, num_tags)), name="transitions")
        self.start = Parameter(initializer(Uniform(0.1), (num_tags,)), name="start")
        self.end = Parameter(initializer(Uniform(0.1), (num_tags,)), name="end")
        self.over_middle, self.over_last = LogSumExp(axis=-2), LogSumExp(axis=-1)
        self.largest = ops.ReduceMax(keep_dims=True)
        safe(self)

    def construct(self, emissions: Tensor, tags: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The negative log-likelihood of each sequence, (batch,) float32.

        Args:
            emissions: (batch, length, K), the score of every tag at every step.
            tags: (batch, length) int32.
            lengths: (batch,) int32, 1 to length; all steps count by default. What stands past the end, of emissions
                and tags, may be anything.
        """
        going = self._going(emissions, lengths)
        full, _ = self._relative(self._inside(emissions, going), -1)
        return self._log_partition(full, going) - self._score(full, tags, going)

    def score(self, emissions: Tensor, tags: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The unnormalised score of the given tags, (batch,) float32."""
        going = self._going(emissions, lengths)
        return self._score(self._inside(emissions, going), tags, going)

    def log_partition(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The logarithm of the sum of the exponentiated scores of all tag sequences, (batch,) float32."""
        going = self._going(emissions, lengths)
        full, tops = self._relative(self._inside(emissions, going), -1)
        return self._log_partition(full, going) + tops.sum((1, 2))

    def marginals(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The probability of every tag at every step, (batch, length, K) float32; zero past the end."""
        found = self.__dict__.get(_MARGINALS)
        if found is None or found.partition.crf is not self:  # a copy of the layer gets its own
            found = self.__dict__[_MARGINALS] = _Marginals(self)  # not a sub-cell: it holds this cell
        return found(emissions.astype(mindspore.float32), lengths)

    def decode(self, emissions: Tensor, lengths: Tensor | None = None) -> np.ndarray:
        """The best tags, (batch, length) int32, -1 past the end; found on the host, by `host.viterbi`.

        Raises:
            DecodingError: a score that counts is NaN, or a length is out of range.
        """
        scores = emissions.asnumpy().astype(np.float64)
        ends = None if lengths is None else lengths.asnumpy()
        if ends is not None:  # what stands past the end may be anything
            scores[np.arange(scores.shape[1]) >= ends[:, None]] = 0.0
        transitions, start, end = (
            parameter.asnumpy().astype(np.float64) for parameter in (self.transitions, self.start, self.end)
        )
        return viterbi(scores, transitions, ends, start, end, fill=-1)[0]

    def _score(self, full: Tensor, tags: Tensor, going: Tensor) -> Tensor:
        """`score` of float32 emissions that are zero past the end."""
        chosen = (tags.expand_dims(-1) == ops.arange(self.num_tags)).astype(mindspore.float32) * going.expand_dims(-1)
        total = (full * chosen).sum((1, 2)) + (chosen[:, 0] * self.start).sum(-1)
        if full.shape[1] > 1:
            pairs = chosen[:, :-1].expand_dims(-1) * chosen[:, 1:].expand_dims(-2)
            total = total + (pairs * self.transitions).sum((1, 2, 3))
            ending = going - ops.concat((going[:, 1:], going[:, :1] * 0.0), 1)
        else:
            ending = going
        return total + (chosen * ending.expand_dims(-1) * self.end).sum((1, 2))

    def _log_partition(self, full: Tensor, all_going: Tensor) -> Tensor:
        """`log_partition` of float32 emissions that are zero past the end."""
        size, first = self.num_tags, full[:, 0] + self.start
        if full.shape[1] == 1:
            return self.over_last(first + self.end)
        going = all_going[:, 1:].reshape(full.shape[0], -1, 1, 1)
        identity = (1.0 - ops.eye(size, size, mindspore.float32)) * _NEVER
        chain = (self.transitions + full[:, 1:].expand_dims(-2)) * going + identity * (1.0 - going)
        taken_out = full[:, 0, 0] * 0.0
        while chain.shape[1] > 1:
            count = chain.shape[1]
            paired = chain[:, : count - count % 2].reshape(full.shape[0], count // 2, 2, size, size)
            product = self.over_middle(paired[:, :, 0].expand_dims(-1) + paired[:, :, 1].expand_dims(-3))
            product, tops = self._relative(product, (-2, -1))
            taken_out = taken_out + tops.sum((1, 2, 3))
            chain = product if count % 2 == 0 else ops.concat((product, chain[:, count - 1 :]), 1)
        through = self.over_middle(first.expand_dims(-1) + chain[:, 0])
        return self.over_last(through + self.end) + taken_out

    def _relative(self, x: Tensor, axes: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Less the largest along the axes, and that; the gradient takes it for a constant, for it is added again."""
        top = ops.stop_gradient(self.largest(x, axes))
        return x - top, top

    def _going(self, emissions: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, length) float32, one where a step counts."""
        steps = ops.arange(emissions.shape[1]).expand_dims(0)
        if lengths is None:
            return ops.ones(emissions.shape[:2], mindspore.float32)
        return (steps < lengths.expand_dims(-1)).astype(mindspore.float32)

    @staticmethod
    def _inside(emissions: Tensor, going: Tensor) -> Tensor:
        """The emissions in float32, zero where a step does not count."""
        outside = (going <= 0).expand_dims(-1)
        return ops.masked_fill(emissions.astype(mindspore.float32), outside, Tensor(0.0, mindspore.float32))


class _Partition(nn.Cell):
    """The logarithm of the partition function as a cell."""

    def __init__(self, crf: CRF) -> None:
        super().__init__(auto_prefix=False)
        self.crf = crf

    def construct(self, emissions: Tensor, lengths: Tensor | None) -> Tensor:
        return self.crf.log_partition(emissions, lengths)


class _Marginals(nn.Cell):
    """Its gradient by the emissions: the marginals."""

    def __init__(self, crf: CRF) -> None:
        super().__init__(auto_prefix=False)
        self.partition = _Partition(crf)

    def construct(self, emissions: Tensor, lengths: Tensor | None) -> Tensor:
        return mindspore.grad(self.partition)(emissions, lengths)  # made here: what makes it cannot be copied
