"""The losses of ALBERT and BERT-CRF over samples that share rows, as `ascend_fixes.shapes.pack_dataset` lays them."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops

from ascend_fixes.shapes import segment_mask
from examples.albert.model import Albert
from examples.bert_crf.model import BertCRF

__all__ = ["PackedLoss", "PackedSpanLoss"]


class PackedSpanLoss(nn.Cell):
    """`examples.albert.model.SpanLoss` over windows that share rows.

    Args:
        network: returns the logits.
    """

    def __init__(self, network: Albert) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(
        self,
        ids: Tensor,
        segments: Tensor,
        first: Tensor,
        last: Tensor,
        segment_ids: Tensor,
        positions: Tensor,
        sample_weight: Tensor,
    ) -> Tensor:
        """Run the model.

        Args:
            ids, segments, segment_ids, positions: (rows, width) int32.
            first, last: (rows, slots) int32, places in the row.
            sample_weight: (rows, slots) float32.

        Returns:
            The mean over windows, float32 scalar.
        """
        starts, ends = self.network(ids, segments, segment_mask(segment_ids).astype(ms.float32), positions)
        slots = ops.arange(1, first.shape[1] + 1).astype(ms.int32)
        own = segment_ids.expand_dims(1) == slots.expand_dims(1)
        losses = self.losses(starts, own, first) + self.losses(ends, own, last)
        return (losses * sample_weight).sum() / (2 * sample_weight.sum())

    def losses(self, logits: Tensor, own: Tensor, places: Tensor) -> Tensor:
        """(rows, slots): the cross entropy of each window's place among its own pieces, ``own`` (rows, slots, width)."""
        spread = ops.broadcast_to(logits.astype(ms.float32).expand_dims(1), own.shape)
        masked = ops.masked_fill(spread, own.logical_not(), Tensor(-1e9, ms.float32))
        found = ops.cross_entropy(masked.reshape(-1, own.shape[2]), places.reshape(-1), reduction="none")
        return found.reshape(places.shape)


class PackedLoss(nn.Cell):
    """`examples.bert_crf.model.Loss` over sentences that share rows; without dropout.

    The encoder sees full rows. The CRF takes every sentence by itself, from the places of its words.
    """

    def __init__(self, network: BertCRF) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(
        self,
        ids: Tensor,
        firsts: Tensor,
        tags: Tensor,
        lengths: Tensor,
        segment_ids: Tensor,
        positions: Tensor,
        sample_weight: Tensor,
    ) -> Tensor:
        """Run the model.

        Args:
            ids, segment_ids, positions: (rows, width) int32.
            firsts, tags: (rows, slots, words) int32, places in the row and tags; what stands past the end does not matter.
            lengths: (rows, slots) int32, how many words a sentence has, 0 for none.
            sample_weight: (rows, slots) float32.

        Returns:
            The mean over sentences, float32 scalar.
        """
        mask = segment_mask(segment_ids).astype(ms.float32)
        x = self.network.encoder(ids, ops.zeros_like(ids), mask, None, None, positions)
        rows, width, size = x.shape
        places = firsts + (ops.arange(rows) * width).astype(ms.int32).expand_dims(1).expand_dims(2)
        words = firsts.shape[2]
        emissions = self.network.classify(ops.gather(x.reshape(-1, size), places.reshape(-1, words), 0))
        losses = self.network.crf(emissions, tags.reshape(-1, words), lengths.reshape(-1))
        return (losses.astype(ms.float32) * sample_weight.reshape(-1)).sum() / sample_weight.sum()
