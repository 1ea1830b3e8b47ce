"""Finds the checkouts, and gives their sources the names that MindSpore has dropped since they were written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

MODELS = "mindspore-ai/models"
STILL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
"""A tiny transformer without dropout, in the names that most configurations share."""


def enter(repository: str, folder: str) -> Path:
    """Puts ``folder`` of the checkout first on the path; its modules are then importable as upstream names them."""
    if "AUDIT_MODELS" not in os.environ:
        raise OSError("AUDIT_MODELS is not set: name the directory with the checkouts, see benchmarks/auditing/models")
    path = Path(os.environ["AUDIT_MODELS"]) / repository / folder
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} is not there: python -m benchmarks.auditing.fetch {os.environ['AUDIT_MODELS']}"
        )
    sys.path.insert(0, str(path))
    sys.argv = sys.argv[:1]  # several of them read their settings from the command line when they are imported
    np.random.seed(0)
    ms.set_seed(0)
    return path


def stand_in(name: str, **members: Any) -> None:
    """A module of that name with these members, for what upstream imports and the tiny model never calls."""
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


def settings(**members: Any) -> SimpleNamespace:
    return SimpleNamespace(**members)


def ragged(lengths: tuple[int, ...], width: int, high: int, seed: int = 0) -> np.ndarray:
    """Random ids from 1 to ``high - 1`` [rows, width], int32, 0 beyond each row's end."""
    ids = np.random.default_rng(seed).integers(1, high, (len(lengths), width))
    return (ids * valid(lengths, width)).astype(np.int32)


def valid(lengths: tuple[int, ...], width: int) -> np.ndarray:
    """1 up to each row's end, 0 beyond [rows, width], int32."""
    return (np.arange(width) < np.asarray(lengths)[:, None]).astype(np.int32)


def tensors(*arrays: Any) -> tuple[Tensor, ...]:
    return tuple(Tensor(array) for array in arrays)


class WithLoss(nn.Cell):
    """A network and the loss its own training script joins it with: ``loss(network(*inputs), labels)``."""

    def __init__(self, network: nn.Cell, loss: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss = network, loss

    def construct(self, *arguments: Any) -> Any:
        return self.loss(self.network(*arguments[:-1]), arguments[-1])
