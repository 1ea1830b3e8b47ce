"""`adapt` on tiny cells: what is cured, what is left, and code that makes the same step."""

from __future__ import annotations

import dataclasses
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal

from ascend_fixes import Adapted, AuditReport, adapt, shapes
from ascend_fixes.adapting import AdaptError
from ascend_fixes.adapting._choosing import unsafe_to_pad

WIDTH, WORDS = 6, 30
PLACES = np.linspace(0, 1, 9, dtype=np.float32)


def batch(length: int = 9, rows: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    mask = (np.arange(length) < np.array([length, length - 2, length - 4])[:rows, None]).astype(np.float32)
    ids = random.integers(1, WORDS, (rows, length)).astype(np.int32) * mask.astype(np.int32)
    return ids, mask, np.arange(rows, dtype=np.int32) % 2


class Classifier(nn.Cell):
    """A masked mean over an embedding, and its loss. ``large`` makes one product leave float16."""

    def __init__(self, masked: bool = True, large: bool = False, places: np.ndarray | None = None) -> None:
        super().__init__()
        self.table, self.inner = nn.Embedding(WORDS, WIDTH, embedding_table=Normal(1.0)), nn.Dense(WIDTH, WIDTH)
        self.head, self.masked = nn.Dense(WIDTH, 2), masked
        self.dropout = nn.Dropout(p=0.5)
        self.places = None if places is None else Tensor(places)
        if large:
            self.inner.weight.set_data(self.inner.weight.value() * 1e7)

    def construct(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        x = ops.tanh(self.inner(self.dropout(self.table(ids))))
        if self.places is not None:
            x = x + self.places.reshape(1, -1, 1)
        if self.masked:
            on = mask.expand_dims(-1)
            x = (x * on).sum(1) / on.sum(1)
        else:
            x = x.mean(1)
        return ops.cross_entropy(self.head(x), labels)


AXES = {"ids": {1: "length"}, "mask": {1: "length"}}
SOUND = AuditReport("Classifier", "Ascend910B", (), {}, {}, axes=AXES, pad={"ids": 0, "mask": 0}, masks=("mask",))


def adapted(cell: nn.Cell, inputs: tuple | None = None, **options: Any) -> Adapted:
    """With an audit's report that is given, where the test is not about the audit: an audit takes seconds."""
    optimizer = nn.SGD(cell.trainable_params(), 0.1)
    given = {"lengths": [3, 4, 4, 5, 9, 9], "report": SOUND, **options}
    return adapt(cell, *(inputs or batch()), optimizer=optimizer, **given)


def trained(step: nn.Cell, cell: nn.Cell) -> list[float]:
    cell.dropout.set_train(False)
    return [float(step(*batch(length)).loss) for length in (9, 5, 7)]


def values(cell: nn.Cell) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in cell.get_parameters()}


def test_a_sound_cell_gets_a_bucketed_step_and_the_code_that_makes_it():
    cell = Classifier()
    before = values(cell)
    result = adapted(cell)
    assert result.report.ok and [one.what for one in result.report.equality] == [
        "float32, bucketed",
        "float16 under the policy, bucketed",
    ]
    assert all(np.array_equal(before[name], value) for name, value in values(cell).items())
    assert result.report.graphs == 2 and "sizes: length [5, 9], fitted to the lengths" in result.report.show()
    losses = trained(result.step, cell)
    assert len(shapes.graphs(result.step)) <= result.report.graphs
    for parameter in cell.get_parameters():
        parameter.set_data(Tensor(before[parameter.name]))
    names = {"cell": cell, "optimizer": nn.SGD(cell.trainable_params(), 0.1)}
    exec(result.code, names)
    names["step"].set_train()
    np.testing.assert_allclose(trained(names["step"], cell), losses, rtol=1e-6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.code = ""


def test_only_padding_that_was_not_looked_at_is_in_doubt():
    for kind, doubtful in (("padding-leak-loss", True), ("value-dependent-shape", False), ("fusion-inexact", False)):
        report = dataclasses.replace(SOUND, not_looked_at={kind: "the budget was spent"})
        assert bool(unsafe_to_pad(report)) == doubtful


def test_what_leaves_float16_is_kept_in_float32():
    result = adapted(Classifier(large=True))
    assert "fp32=['inner']" in result.code and result.report.ok
    assert any("float32 for 'inner'" in choice for choice in result.report.choices)


@pytest.mark.slow
def test_where_padding_leaks_nothing_is_padded_and_the_leak_is_left():
    result = adapted(Classifier(masked=False), precision="float32", report=None, axes={"ids": 1, "mask": 1}, budget=60)
    assert "bucketed" not in result.code and result.report.ok and result.report.graphs is None
    assert any(hazard.kind.startswith("padding-leak") for hazard in result.report.left)
    assert any("nothing is padded: padding-leak" in choice for choice in result.report.choices)


@pytest.mark.slow
def test_a_length_that_is_written_in_is_the_only_size():
    result = adapted(Classifier(places=PLACES), precision="float32", report=None, axes={"ids": 1, "mask": 1}, budget=60)
    assert "shapes.Buckets([9])" in result.code and result.report.graphs == 1
    assert any(one.hazard.kind == "length-written-in" for one in result.report.cured)
    assert float(result.step(*batch(5)).loss) > 0


class Counting(Classifier):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Parameter(Tensor(np.zeros(2**17, np.float32)), name="count", requires_grad=False)

    def construct(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        ops.assign_add(self.count, ops.ones_like(self.count))
        return super().construct(ids, mask, labels)


def test_what_the_forward_pass_writes_is_declared():
    result = adapted(Counting(), report=dataclasses.replace(SOUND, axes={}), precision="float32")
    assert "written = [cell.parameters_dict()[name] for name in ['count']]" in result.code


def test_wrong_use_is_one_clear_line():
    cell = Classifier()
    with pytest.raises(AdaptError, match="optimizer=None is no mindspore.nn.Optimizer; pass one of the cell's"):
        adapt(cell, *batch())
    with pytest.raises(AdaptError, match="it updates .*, which is no parameter of the cell"):
        adapt(cell, *batch(), optimizer=nn.SGD(Classifier().trainable_params(), 0.1))
    with pytest.raises(AdaptError, match="precision='half' is unknown; choose one of float16, float32"):
        adapted(cell, precision="half")
    with pytest.raises(ValueError, match="the inputs do not fit Classifier.construct"):
        adapted(cell, inputs=batch()[:2], report=None)
    assert ms.get_context("mode") == ms.GRAPH_MODE
