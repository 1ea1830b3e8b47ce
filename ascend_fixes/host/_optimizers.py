"""Optimizers that update the touched rows of a table in place, their state beside the rows.

The formulas are MindSpore's own (`nn.SGD`, `nn.Adagrad`, `nn.Adam`), applied to the rows
of the batch alone. Adam is lazy, as `nn.LazyAdam`: the moments of a row that is not
touched stay as they are, while the bias correction counts every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        """Names of what is kept beside a row, each of the row's width, and what it holds at first."""
        return {}

    def update(self, rows: np.ndarray, gradient: np.ndarray, state: Sequence[np.ndarray], step: int) -> None:
        """Change rows and state, arrays of one shape, in place; the state is in the order of the slots."""
        rows -= np.float32(self.learning_rate) * gradient


@dataclass(frozen=True)
class Adagrad:
    """Duchi, Hazan, Singer, JMLR 12 (2011): ``sum += g**2``, ``row -= learning_rate * g / sqrt(sum)``."""

    learning_rate: float = 0.001
    initial: float = 0.1

    @property
    def slots(self) -> Mapping[str, float]:
        return {"sum": self.initial}

    def update(self, rows: np.ndarray, gradient: np.ndarray, state: Sequence[np.ndarray], step: int) -> None:
        (total,) = state
        total += gradient * gradient
        rows -= np.float32(self.learning_rate) * gradient / np.sqrt(total)


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

    def update(self, rows: np.ndarray, gradient: np.ndarray, state: Sequence[np.ndarray], step: int) -> None:
        first, second = state
        first += np.float32(1 - self.beta1) * (gradient - first)
        second += np.float32(1 - self.beta2) * (gradient * gradient - second)
        rate = self.learning_rate * (1 - self.beta2**step) ** 0.5 / (1 - self.beta1**step)
        change = np.sqrt(second)
        change += np.float32(self.epsilon)
        np.divide(first, change, out=change)
        change *= np.float32(rate)
        rows -= change


Optimizer = Union[SGD, Adagrad, Adam]
OPTIMIZERS: Mapping[str, type] = {"sgd": SGD, "adagrad": Adagrad, "adam": Adam}
