"""What the quick comparison compares: four models, small, on built-in data as ragged as a real corpus, two sides each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.common.command_line import FIXES
from examples.common.trainer import Trainer, load

__all__ = ["MODELS", "SIDES", "Model", "trainer"]

SIDES = ("plain", "cured")


@dataclass(frozen=True)
class Model:
    """A model of the study.

    Attributes:
        title: for people.
        batch: samples a step.
        seconds: how long it may train on the batches of an epoch, of all shapes; the first graph of some takes ten.
        unrolls: its plain graph grows with the length; fused, that of a long batch compiles for minutes.
        options: what its training is asked for besides.
    """

    title: str
    batch: int
    seconds: float
    unrolls: bool = False
    options: tuple[tuple[str, Any], ...] = ()


# Those that compile longest come first: the last to run should not be the longest.
MODELS = {
    "bert_crf": Model("BERT-CRF", 4, 30, unrolls=True),
    "rnnsearch": Model("RNNSearch", 8, 40, unrolls=True),
    "albert": Model("ALBERT", 8, 20, options=(("length", 384), ("stride", 128))),
    "texting": Model("TextING", 16, 15),
}
_BATCHES = 40  # of training data, an epoch
_UNUSED = ("data", "embeddings", "vocabulary", "pretrained", "width", "length", "stride", "source", "target", "test")


def trainer(name: str, side: str, folder: Path, precision: str = "float32", fused: bool = False) -> Trainer:
    """A model, ready to train: "plain" as a newcomer to MindSpore writes it, or "cured", with every family of cures."""
    model = MODELS[name]
    request = {
        **dict.fromkeys(_UNUSED),
        **{"unbucketed": False, "distributed": 1, "seed": 0, "epochs": 2, "variant": side},
        **{"fixes": FIXES if side == "cured" else (), "precision": precision, "fused": fused},
        **{"ragged": True, "batch": model.batch, "limit": _BATCHES * model.batch, "cache": str(folder / "cache")},
        **dict(model.options),
    }
    made = load(name)(request, folder)
    if model.unrolls:  # the first batch, which every part repeats, is the shortest
        sizes = made.lengths(made.train).reshape(len(made.train), -1).sum(1)
        made.train = made.train[np.argsort(sizes, kind="stable")]
    return made
