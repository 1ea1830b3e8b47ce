"""Decoding on the host around a static graph: beam search over any one-step cell, and Viterbi paths of CRF scores.

A beam that grows, ends and reorders by data cannot be one static graph, and the
published ports fell back to greedy search. Here the graph is one step for
``batch * beam`` rows, always of one shape; ranking, ending and bookkeeping are
NumPy, and the state is reordered where it lies.

Sources: the length normalisation and the search are those of Wu et al., "Google's
neural machine translation system", arXiv:1609.08144, section 7; the Viterbi recursion
is Forney, "The Viterbi algorithm", Proceedings of the IEEE 61(3), 1973.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Callable

import mindspore
import numpy as np
from mindspore import Tensor, ops

from ascend_fixes.errors import AscendFixesError, first_line

__all__ = ["BeamResult", "DecodingError", "beam_search", "viterbi"]


class DecodingError(AscendFixesError, ValueError):
    """Scores, states or limits that cannot be decoded."""


# --- Viterbi -------------------------------------------------------------------------------------


def viterbi(
    scores: Any,
    transitions: Any,
    lengths: Any = None,
    start: Any = None,
    end: Any = None,
    fill: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The best tag path of every sequence, and its score.

    Args:
        scores: of tags, floats of shape (batch, steps, tags).
        transitions: of shape (tags, tags), from the tag of the row to that of the column.
        lengths: of the sequences, integers of shape (batch,), 0 to steps; None: all have all steps.
        start, end: scores of beginning and ending with a tag, shape (tags,); None: zeros.
        fill: the tag written past a sequence's length.

    Returns:
        ``paths`` int32 (batch, steps) and ``best`` (batch,), float64 or, for narrower scores, float32. Of paths with
        equal scores the one with the lower tag at the last difference. An empty sequence scores 0. A
        score of minus infinity forbids.

    Raises:
        DecodingError: shapes that do not fit, a length out of range, or NaN.
    """
    scores, transitions = _floats("scores", scores, 3), _floats("transitions", transitions, 2)
    batch, steps, tags = scores.shape
    if transitions.shape != (tags, tags) or not tags:
        raise DecodingError(f"transitions have shape {transitions.shape}, scores have {tags} tags; pass (tags, tags)")
    lengths = _lengths(lengths, batch, steps)
    ends = {
        name: np.zeros(tags, scores.dtype) if value is None else _floats(name, value, 1).astype(scores.dtype)
        for name, value in (("start", start), ("end", end))
    }
    for name, value in ends.items():
        if value.shape != (tags,):
            raise DecodingError(f"{name} has shape {value.shape}, scores have {tags} tags")
    paths = np.full((batch, steps), fill, np.int32)
    if not batch or not steps:
        return paths, np.zeros(batch, scores.dtype)

    # Tags first, sentences last: the maximum over the tag left runs along whole contiguous planes.
    emitted, transitions = np.ascontiguousarray(scores.transpose(1, 2, 0)), transitions.astype(scores.dtype)
    totals = np.empty_like(emitted)
    totals[0] = emitted[0] + ends["start"][:, None]
    through = np.empty((tags, tags, batch), scores.dtype)
    for step in range(1, steps):
        np.add(totals[step - 1][:, None, :], transitions[:, :, None], out=through)
        arrived = np.maximum.reduce(through, axis=0)
        arrived += emitted[step]
        totals[step] = np.where(step < lengths, arrived, totals[step - 1])
    last = totals[-1] + ends["end"][:, None]
    tag = last.argmax(axis=0)
    best = np.where(lengths > 0, last[tag, np.arange(batch)], 0).astype(scores.dtype)
    # Which tag a best score came from is worked out on the way back, for the one tag of each path alone.
    for step in range(steps - 1, -1, -1):
        inside = step < lengths
        paths[:, step] = np.where(inside, tag, fill)
        if step:
            tag = np.where(inside, (totals[step - 1] + transitions[:, tag]).argmax(axis=0), tag)
    return paths, best


def _floats(name: str, values: Any, dimensions: int) -> np.ndarray:
    array = np.asarray(values.asnumpy() if isinstance(values, Tensor) else values)
    if array.ndim != dimensions:
        raise DecodingError(f"{name} has shape {array.shape}; pass {dimensions} dimensions")
    array = array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)
    if np.isnan(array).any():
        raise DecodingError(f"{name} holds NaN at {tuple(np.argwhere(np.isnan(array))[0].tolist())}; mend it first")
    return array


def _lengths(lengths: Any, batch: int, steps: int) -> np.ndarray:
    if lengths is None:
        return np.full(batch, steps)
    array = np.asarray(lengths.asnumpy() if isinstance(lengths, Tensor) else lengths)
    if array.shape != (batch,) or (array.dtype.kind not in "iu" and batch):
        raise DecodingError(f"lengths are {array.dtype} of shape {array.shape}; pass integers of shape ({batch},)")
    if batch and not 0 <= array.min() <= array.max() <= steps:
        wrong = array[(array < 0) | (array > steps)][0]
        raise DecodingError(f"a length is {wrong}, the scores have {steps} steps; pass 0 to {steps}")
    return array


# --- beam search -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BeamResult:
    """The best hypotheses of every sentence, best first.

    Attributes:
        tokens: int32 (batch, n_best, max_length), the end token included; ``end`` past the length.
        lengths: int32 (batch, n_best), tokens with the end token; 0 where there are fewer hypotheses.
        scores: float64 (batch, n_best): log probability over the length normalisation; minus infinity
            where there are fewer hypotheses.
        steps: how often ``step`` was called.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray
    steps: int


def beam_search(
    step: Callable[[Tensor, Any], tuple[Any, Any]],
    state: Any,
    beam: int,
    max_length: int,
    start: Any,
    end: int,
    length_penalty: float = 0.0,
    n_best: int = 1,
    early_stop: bool = True,
    normalize: bool = True,
    state_axes: Any = 0,
) -> BeamResult:
    """Search for the most probable token sequences with a step of one static shape.

    A hypothesis that takes the end token while it is among the ``beam`` best is set aside; the beam is
    filled from the others. With beam 1 this is greedy search.

    Args:
        step: ``step(tokens, state) -> scores, state``: a cell or function. ``tokens`` is int32 (batch * beam,), the
            last token of every hypothesis; ``scores`` (batch * beam, vocabulary). The shapes never change.
        state: Tensors or arrays, or tuples, lists and dicts of them, with a row for each sentence; each row
            is repeated ``beam`` times, and rows follow their hypotheses. What ``step`` returns has the
            same form.
        beam: hypotheses kept for a sentence.
        max_length: tokens at most, the end token included; what has not ended by then is taken as it is.
        start: the first tokens fed, int (then the state gives the batch) or integers of shape (batch,).
        end: the token that ends a hypothesis.
        length_penalty: a of the normalisation ``((5 + length) / 6) ** a``; 0 for none.
        n_best: hypotheses returned for a sentence, at most ``beam``.
        early_stop: leave a sentence when ``beam`` of its hypotheses have ended; otherwise when no live one can
            still beat the worst of these.
        normalize: take ``scores`` as logits and apply log-softmax, which leaves log probabilities as they are.
        state_axes: the axis of the state that is the batch, as 1 for a recurrent state (layers, batch, width); one for the
            whole state, or one for each part of it, in its form. None marks what is the same for all sentences.

    Raises:
        DecodingError: limits out of range, a batch that cannot be told, a part of the state that does not have it, a first
            call of ``step`` that fails, scores of a wrong shape, or NaN.
    """
    first = np.atleast_1d(np.asarray(start.asnumpy() if isinstance(start, Tensor) else start, np.int32))
    batch = len(first) if np.ndim(start) else _batch(state, state_axes)
    if min(beam, max_length, n_best) < 1 or n_best > beam:
        raise DecodingError(
            f"beam={beam}, max_length={max_length}, n_best={n_best}: all at least 1, n_best at most beam"
        )
    search = _Search(batch, beam, max_length, end, length_penalty, early_stop)
    everyone = np.repeat(np.arange(batch), beam)
    state = _map(state, state_axes, lambda leaf, axis: _rows(leaf, axis, everyone, batch))
    tokens = np.repeat(np.broadcast_to(first, (batch,)), beam)
    taken = 0
    while taken < max_length and not search.done.all():
        fed = Tensor(tokens.astype(np.int32))
        scores, state = step(fed, _mutable(state)) if taken else _first_call(step, fed, state)
        taken += 1
        tokens, parents = search.advance(_log_probabilities(scores, batch * beam, taken, normalize))
        if taken < max_length and not search.done.all():
            state = _map(state, state_axes, lambda leaf, axis: _rows(leaf, axis, parents, batch * beam))  # noqa: B023
    return search.result(n_best, taken)


class _Search:
    """The hypotheses of a batch: live ones, and those that ended."""

    def __init__(self, batch: int, beam: int, length: int, end: int, penalty: float, early: bool) -> None:
        self._beam, self._end, self._penalty, self._early = beam, end, penalty, early
        self._step, self._length = 0, length
        self._live = np.full((batch, beam), -np.inf)
        self._live[:, 0] = 0.0  # one hypothesis: the others would repeat it
        self._tokens = np.full((batch, beam, length), end, np.int32)
        self._ended = np.full((batch, beam), -np.inf)
        self._ended_tokens = np.full((batch, beam, length), end, np.int32)
        self._ended_lengths = np.zeros((batch, beam), np.int32)
        self.done = np.zeros(batch, bool)

    def advance(self, log_probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take a step of every hypothesis; the next tokens and, of each row, the row that it comes from."""
        batch, beam = self._live.shape
        words = log_probabilities.shape[1]
        if not 0 <= self._end < words:
            raise DecodingError(f"end={self._end} is not a token of a vocabulary of {words}")
        total = (self._live[:, :, None] + log_probabilities.reshape(batch, beam, words)).reshape(batch, -1)
        # One candidate of each hypothesis ends, so twice the beam holds enough that do not.
        ranked = _top(total, min(2 * beam, total.shape[1]))
        scores, parents, tokens = np.take_along_axis(total, ranked, 1), ranked // words, ranked % words
        self._step += 1
        ends = (tokens == self._end) & np.isfinite(scores) & ~self.done[:, None]
        self._set_aside(np.where(ends, scores, -np.inf)[:, :beam], parents[:, :beam], self._step)
        order = np.argsort(tokens == self._end, axis=1, kind="stable")[:, :beam]
        picked = [np.take_along_axis(part, order, 1) for part in (scores, parents, tokens)]
        scores, parents, tokens = (_widened(part, beam, fill) for part, fill in zip(picked, (-np.inf, 0, self._end)))
        self._tokens = np.take_along_axis(self._tokens, parents[:, :, None], 1)
        self._tokens[:, :, self._step - 1] = tokens
        self._live = np.where((tokens == self._end) | self.done[:, None], -np.inf, scores)
        if self._step == self._length:
            live, everyone = self._live, np.broadcast_to(np.arange(beam), (batch, beam))
            self._set_aside(live, everyone, self._step)
        self._close()
        rows = (parents + beam * np.arange(batch)[:, None]).reshape(-1)
        return tokens.reshape(-1), rows

    def _set_aside(self, scores: np.ndarray, parents: np.ndarray, length: int) -> None:
        """Merge hypotheses that end now into those that ended, and keep the best."""
        tokens = np.take_along_axis(self._tokens, parents[:, :, None], 1)
        both = np.concatenate([self._ended, scores / self._norm(length)], axis=1)
        best = np.argsort(-both, axis=1, kind="stable")[:, : self._beam]
        lengths = np.where(np.isfinite(scores), length, 0).astype(np.int32)
        self._ended = np.take_along_axis(both, best, 1)
        self._ended_lengths = np.take_along_axis(np.concatenate([self._ended_lengths, lengths], 1), best, 1)
        self._ended_tokens = np.take_along_axis(np.concatenate([self._ended_tokens, tokens], 1), best[:, :, None], 1)

    def _norm(self, length: int) -> float:
        return ((5 + length) / 6) ** self._penalty

    def _close(self) -> None:
        """Mark the sentences that need no further step."""
        full = np.isfinite(self._ended).all(axis=1)
        if self._early:
            self.done |= full
        else:  # log probabilities only fall, so the best a live one can reach is its score now, well normalised
            norm = max(self._norm(self._step + 1), self._norm(self._length))
            self.done |= full & (self._live.max(axis=1) / norm <= self._ended.min(axis=1))
        self.done |= ~np.isfinite(self._live).any(axis=1)

    def result(self, n_best: int, steps: int) -> BeamResult:
        lengths = self._ended_lengths[:, :n_best]
        inside = np.arange(self._length) < lengths[:, :, None]
        tokens = np.where(inside, self._ended_tokens[:, :n_best], np.int32(self._end))
        return BeamResult(tokens, lengths, self._ended[:, :n_best], steps)


def _top(values: np.ndarray, count: int) -> np.ndarray:
    """The columns of the ``count`` largest of each row, falling; of equal ones the first."""
    some = np.argpartition(-values, count - 1, axis=1)[:, :count] if count < values.shape[1] else None
    if some is None:
        return np.argsort(-values, axis=1, kind="stable")
    some.sort(axis=1)
    order = np.argsort(-np.take_along_axis(values, some, 1), axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)


def _widened(values: np.ndarray, width: int, fill: Any) -> np.ndarray:
    """Columns filled up to a width: a small vocabulary has fewer candidates than the beam."""
    missing = width - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), constant_values=fill) if missing > 0 else values


def _log_probabilities(scores: Any, rows: int, step: int, normalize: bool) -> np.ndarray:
    values = np.asarray(scores.asnumpy() if isinstance(scores, Tensor) else scores, np.float64)
    if values.ndim != 2 or len(values) != rows:
        raise DecodingError(f"step {step} returned scores of shape {values.shape}; return ({rows}, vocabulary)")
    if np.isnan(values).any():
        raise DecodingError(f"step {step} returned NaN for row {np.argwhere(np.isnan(values))[0][0]}; mend the model")
    if normalize:
        values = values - values.max(axis=1, keepdims=True)
        values = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values


# --- states ----------------------------------------------------------------------------------------


def _map(state: Any, axes: Any, change: Callable[[Any, int], Any]) -> Any:
    """The state with every leaf changed that has a batch axis; ``axes`` is one axis, or as the state is."""
    if state is None or axes is None:
        return state
    if isinstance(state, dict):
        return {key: _map(part, _part(axes, key, state), change) for key, part in state.items()}
    if isinstance(state, (tuple, list)):
        parts = [_map(part, _part(axes, place, state), change) for place, part in enumerate(state)]
        if hasattr(state, "_fields"):
            return type(state)(*parts)
        return tuple(parts) if isinstance(state, tuple) else parts
    if isinstance(axes, bool) or not isinstance(axes, Integral):
        raise DecodingError(
            f"state_axes has {axes!r} for a part of the state; pass the number of its batch axis, or None"
        )
    return change(state, int(axes))


def _part(axes: Any, key: Any, state: Any) -> Any:
    """The axes of one part of a container: those that are given for it, or the one that is given for all."""
    if isinstance(axes, Integral):
        return axes
    try:
        if len(axes) == len(state) and isinstance(axes, dict) == isinstance(state, dict):
            return axes[key]
    except (TypeError, LookupError):
        pass
    raise DecodingError(f"state_axes={axes!r} has not the form of the state, a {type(state).__name__} of {len(state)}")


def _mutable(state: Any) -> Any:
    """Containers of Tensors marked as data; otherwise they are constants, and every step compiles a graph."""
    return mindspore.mutable(state) if isinstance(state, (tuple, list, dict)) and _only_tensors(state) else state


def _only_tensors(state: Any) -> bool:
    if isinstance(state, dict):
        return bool(state) and all(map(_only_tensors, state.values()))
    if isinstance(state, (tuple, list)) and not hasattr(state, "_fields"):
        return bool(state) and all(map(_only_tensors, state))
    return isinstance(state, Tensor)


def _rows(leaf: Any, axis: int, rows: np.ndarray, expected: int) -> Any:
    """Rows of a leaf along its batch axis, gathered where it lies."""
    if _length(leaf, axis) != expected:
        raise DecodingError(
            f"a part of the state has shape {tuple(np.shape(leaf))}; its axis {axis} must be {expected}, one row a sentence "
            "before the search and one a hypothesis in it; where another axis is the batch, pass state_axes="
        )
    if isinstance(leaf, Tensor):
        return ops.gather(leaf, Tensor(rows, mindspore.int32), axis)
    return np.take(np.asarray(leaf), rows, axis)


def _length(leaf: Any, axis: int) -> int:
    """Of an axis; -1 where there is none."""
    shape = np.shape(leaf)
    return shape[axis] if -len(shape) <= axis < len(shape) else -1


def _batch(state: Any, axes: Any) -> int:
    """What the batch axes of the leaves agree on."""
    found: set[int] = set()
    _map(state, axes, lambda leaf, axis: found.add(_length(leaf, axis)))
    if len(found) != 1 or min(found) < 1:
        sizes = f"batch axes of {sorted(found)} rows" if found else "no rows"
        raise DecodingError(
            f"start is one token and the state has {sizes}, which gives no batch: pass start of shape (batch,), and "
            "state_axes= where axis 0 of the state is not the batch"
        )
    return found.pop()


def _first_call(step: Callable, tokens: Tensor, state: Any) -> tuple[Any, Any]:
    """Call the step for the first time. What fails may do so because another axis of the state is the batch."""
    try:
        scores, returned = step(tokens, _mutable(state))
        return (scores.asnumpy() if isinstance(scores, Tensor) else scores), returned
    except Exception as error:
        shapes: list[tuple[int, ...]] = []
        _map(state, 0, lambda leaf, axis: shapes.append(tuple(np.shape(leaf))))
        if all(len(shape) < 2 for shape in shapes):
            raise
        raise DecodingError(
            f"the first call of step failed ({first_line(error)}). It got {len(tokens)} tokens and a state of shapes "
            f"{shapes}; where another axis of the state is the batch, pass state_axes="
        ) from error
