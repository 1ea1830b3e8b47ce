"""S4: `bucket_batch_by_length` pads short of the boundary, aborts on an over-long sample, and leaves odd batches."""

from __future__ import annotations

from typing import Callable

import mindspore.dataset as ds
import numpy as np

from ascend_fixes.defects import Defect, Finding, Tool, first_line
from ascend_fixes.shapes import Buckets, LengthError, bucket_dataset

BOUNDARIES, BATCH = [8, 16], 2


def _batches(lengths: list[int]) -> list[tuple[int, ...]]:
    """The shapes of the batches that samples of these lengths come in."""
    samples = [(np.ones(length, np.int32),) for length in lengths]
    dataset = ds.GeneratorDataset(samples, ["ids"], shuffle=False).bucket_batch_by_length(
        ["ids"],
        BOUNDARIES,
        [BATCH] * (len(BOUNDARIES) + 1),
        element_length_function=len,
        pad_info={"ids": ([None], 0)},
        pad_to_bucket_boundary=True,
    )
    return [batch[0].shape for batch in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)]


def _tool_batches(lengths: list[int], overflow: str = "error") -> list[tuple[int, ...]]:
    samples = [(np.ones(length, np.int32),) for length in lengths]
    dataset = bucket_dataset(
        samples, lengths, Buckets(BOUNDARIES), BATCH, axes={"ids": 1}, columns=["ids"], overflow=overflow
    )
    return [batch[0].shape for batch in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)]


def probe_tool() -> Finding:
    """The same lengths through `bucket_dataset`: the over-long one refused by name, or dropped on request."""
    finding = _finding(_tool_batches, lambda lengths: _tool_batches(lengths, overflow="drop"))
    try:
        _tool_batches([3, 7, 20])
    except LengthError as error:
        return Finding(finding.present, f"{finding.evidence}; by default {first_line(error)}")
    return Finding(True, "an over-long sample was not refused")


def probe() -> Finding:
    """Lengths on and under the boundaries, and one over them: present if any of the three faults shows."""
    return _finding(_batches, _batches)


def _finding(batches: Callable, batches_of_over_long: Callable) -> Finding:
    shapes = batches([3, 7, 8, 15, 5])
    padded, rows = sorted({shape[1] for shape in shapes}), sorted({shape[0] for shape in shapes})
    faults = []
    if padded != BOUNDARIES:
        faults.append(f"boundaries {BOUNDARIES} pad to {padded}, so a sample of length 8 goes to the next bucket")
    if rows != [BATCH]:
        faults.append(f"batches of {rows} rows where {BATCH} were asked for")
    try:
        batches_of_over_long([3, 7, 20])
    except RuntimeError as error:
        faults.append(f"a sample of length 20: {first_line(error, containing='bucket')}")
    return Finding(bool(faults), "; ".join(faults) or f"batches of shapes {shapes}")


DEFECT = Defect(
    id="S4",
    family="shapes",
    symptom="bucket_batch_by_length pads to boundary - 1, aborts on over-long samples; short batches are new graphs",
    symptom_zh="bucket_batch_by_length 填充到边界减一，遇到过长的样本就中止，剩下的小批次又是新图",
    error=("Invalid data, requested to pad to bucket boundary failed, bucket index should be less than 3, but got 2"),
    cause=(
        "Boundaries are exclusive, so a bucket that ends at 8 holds and pads to 7. The last bucket has no boundary to "
        "pad to. Whatever is left in a bucket at the end of the data becomes a smaller batch: a new shape."
    ),
    seen="",
    upstream="none found",
    removal="when a batch is padded to its boundary, and the last one of a bucket can be filled up",
    probe=probe,
    tool=Tool("shapes.bucket_dataset", probe_tool),
)
