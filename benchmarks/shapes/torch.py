"""The two steps of the shapes benchmark in eager PyTorch: an outside reference."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import torch
from torch import nn

from benchmarks.shapes import bert as shapes_bert
from benchmarks.shapes import rnnsearch as shapes_rnnsearch

__all__ = ["training_step"]


class Classifier(nn.Module):
    """`shapes_bert.Classifier`."""

    def __init__(self) -> None:
        super().__init__()
        width = shapes_bert.WIDTH
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, shapes_bert.HEADS, 4 * width, 0.0, "gelu", batch_first=True),
            shapes_bert.LAYERS,
        )
        self.words = nn.Embedding(shapes_bert.VOCABULARY, width)
        self.positions = nn.Embedding(shapes_bert.LONGEST, width)
        self.head = nn.Linear(width, 8)

    def forward(self, ids: Any, places: Any, mask: Any, label: Any, weight: Any) -> Any:
        x = self.encoder(self.words(ids) + self.positions(places), src_key_padding_mask=mask == 0)
        pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        losses = nn.functional.cross_entropy(self.head(pooled), label.long(), reduction="none")
        return (losses * weight).sum() / weight.sum()


class Translator(nn.Module):
    """`examples.rnnsearch.model.Loss`, without label smoothing."""

    def __init__(self) -> None:
        super().__init__()
        sizes, words = shapes_rnnsearch.SIZES, shapes_rnnsearch.WORDS
        self.source, self.target = nn.Embedding(words, sizes.embedding), nn.Embedding(words, sizes.embedding)
        self.gru = nn.GRU(sizes.embedding, sizes.hidden, batch_first=True, bidirectional=True)
        self.keys = nn.Linear(2 * sizes.hidden, sizes.attention, bias=False)
        self.start = nn.Linear(sizes.hidden, sizes.hidden)
        self.cell = nn.GRUCell(sizes.embedding + 2 * sizes.hidden, sizes.hidden)
        self.query, self.score = nn.Linear(sizes.hidden, sizes.attention), nn.Linear(sizes.attention, 1, bias=False)
        self.readout = nn.Linear(3 * sizes.hidden + sizes.embedding, 2 * sizes.maxout)
        self.output = nn.Linear(sizes.maxout, words)

    def forward(self, source: Any, source_mask: Any, before: Any, target: Any, weights: Any) -> Any:
        annotations, states = self.gru(self.source(source))
        keys, state, x = self.keys(annotations), torch.tanh(self.start(states[1])), self.target(before)
        outputs, contexts = [], []
        for step in range(before.shape[1]):
            scores = self.score(torch.tanh(keys + self.query(state)[:, None])).squeeze(-1)
            attention = torch.softmax(scores + (source_mask - 1) * 1e9, -1)
            context = torch.bmm(attention[:, None], annotations).squeeze(1)
            state = self.cell(torch.cat((x[:, step], context), -1), state)
            outputs.append(state)
            contexts.append(context)
        both = self.readout(torch.cat((torch.stack(outputs, 1), x, torch.stack(contexts, 1)), -1))
        first, second = both.chunk(2, -1)
        logits = self.output(torch.maximum(first, second))
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), target.long().flatten(), reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum().clamp(min=1)


def training_step(net: str, threads: int = 2) -> Callable[..., float]:
    """``step(*arrays) -> loss``, for "bert" or "rnnsearch"; returns when the step is done."""
    torch.set_num_threads(threads)
    module = Classifier() if net == "bert" else Translator()
    optimizer = torch.optim.Adam(module.parameters(), 1e-4)

    def step(*arrays: np.ndarray) -> float:
        loss = module(*(torch.from_numpy(array) for array in arrays))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    return step
