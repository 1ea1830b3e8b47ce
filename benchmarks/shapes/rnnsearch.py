"""The RNNSearch step of the shapes benchmark: the example's model on sentence pairs, trained by Adam."""

from __future__ import annotations

import numpy as np
from mindspore import nn

from examples.rnnsearch.model import Loss, RNNSearch, Sizes

__all__ = ["RAGGED", "SIZES", "WORDS", "batch", "training_step"]

WORDS, SIZES = 4000, Sizes()  # words of each vocabulary; 256 wide throughout
SOURCE, TARGET = {1: "source"}, {1: "target"}
RAGGED = {"source": SOURCE, "source_mask": SOURCE, "before": TARGET, "target": TARGET, "weights": TARGET}


def training_step() -> nn.Cell:
    """One step of Adam on the cross entropy of the target words."""
    loss = Loss(RNNSearch(WORDS, WORDS, np.random.default_rng(0), SIZES))
    return nn.TrainOneStepCell(loss, nn.Adam(loss.trainable_params(), 1e-4)).set_train()


def batch(lengths: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Random sentence pairs of ``lengths`` [rows, 2], padded to ``size``: the arguments of the step."""
    random = np.random.default_rng(0)
    rows = len(lengths)
    masks = [(np.arange(width) < lengths[:, axis : axis + 1]).astype(np.float32) for axis, width in enumerate(size)]
    source, before, target = (
        (random.integers(1, WORDS, (rows, width)) * mask).astype(np.int32)
        for width, mask in ((size[0], masks[0]), (size[1], masks[1]), (size[1], masks[1]))
    )
    return [source, masks[0], before, target, masks[1]]
