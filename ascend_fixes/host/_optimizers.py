"""Optimizers that update the touched rows of a table in place, their state beside the rows.

The formulas are MindSpore's own (`nn.SGD`, `nn.Adagrad`, `nn.Adam`), applied to the rows
of the batch alone. Adam is lazy, as `nn.LazyAdam`: the moments of a row that is not
touched stay as they are, while the bias correction counts every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

import numpy as np

__all__ = ["OPTIMIZERS", "SGD", "Adagrad", "Adam", "Optimizer"]


@dataclass(frozen=True)
class SGD:
    """Plain descent: ``row -= learning_rate * gradient``."""

    learning_rate: float = 0.1

    @property
    def slots(self) -> Mapping[str, float]:
        """Names of the arrays kept beside the rows, and what they hold at first."""
        return {}

    def update(self, rows: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray], step: int) -> np.ndarray:
        """The new rows; the parts of the state, one row each, are changed in place."""
        return rows - np.float32(self.learning_rate) * gradient


@dataclass(frozen=True)
class Adagrad:
    """Duchi, Hazan, Singer, JMLR 12 (2011): ``sum += g**2``, ``row -= learning_rate * g / sqrt(sum)``."""

    learning_rate: float = 0.001
    initial: float = 0.1

    @property
    def slots(self) -> Mapping[str, float]:
        return {"sum": self.initial}

    def update(self, rows: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray], step: int) -> np.ndarray:
        state["sum"] += gradient * gradient
        return rows - np.float32(self.learning_rate) * gradient / np.sqrt(state["sum"])


@dataclass(frozen=True)
class Adam:
    """Kingma, Ba, arXiv:1412.6980, in its lazy form."""

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @property
    def slots(self) -> Mapping[str, float]:
        return {"first": 0.0, "second": 0.0}

    def update(self, rows: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray], step: int) -> np.ndarray:
        state["first"] += np.float32(1 - self.beta1) * (gradient - state["first"])
        state["second"] += np.float32(1 - self.beta2) * (gradient * gradient - state["second"])
        rate = self.learning_rate * (1 - self.beta2**step) ** 0.5 / (1 - self.beta1**step)
        return rows - np.float32(rate) * state["first"] / (np.sqrt(state["second"]) + np.float32(self.epsilon))


Optimizer = Union[SGD, Adagrad, Adam]
OPTIMIZERS: Mapping[str, type] = {"sgd": SGD, "adagrad": Adagrad, "adam": Adam}
