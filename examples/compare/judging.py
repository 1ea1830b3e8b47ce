"""What the runs of the thorough comparison say beside each other: which defect hits which model, and what its cure changes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Row", "drift", "judge", "outcome", "seconds_to", "sooner", "verdicts"]

Row = dict[str, Any]

_SAME = 0.01  # relative difference of two final losses that counts as none
_DRIFT = 1e-3  # relative difference of two runs' losses that counts as drift; rounding stays well below


def judge(rows: Sequence[Row]) -> None:
    """Add to each row what comparing it with others tells: ``outcome``, ``to_plain_loss`` and ``drift``.

    A run is at plain's final validation loss when it is within `_SAME` of it.
    """
    cells = {(row["model"], row["cell"]): row for row in rows}
    for row in rows:
        plain = cells.get((row["model"], "plain"), {})
        row["outcome"] = outcome(row)
        target = plain["history"][-1]["validation_loss"] if plain.get("history") else None
        row["to_plain_loss"] = None if target is None else seconds_to(row, target * (1 + _SAME))
        row["drift"] = drift(row, plain) if row["cell"] != "plain" else None


def outcome(row: Mapping[str, Any]) -> str:
    """finished, NaN at step n, or how it crashed."""
    if row["status"] != "finished":
        return textwrap.shorten(str(row["status"]), 60, placeholder=" ...")
    lost = [loss is None or not math.isfinite(loss) for loss in row["losses"]]
    if lost and lost[-1]:  # a single overflow that a loss scaler skipped is none: what counts is whether it stays so
        last_good = max((step for step, bad in enumerate(lost, 1) if not bad), default=0)
        return f"NaN from step {last_good + 1}"
    return "finished"


def seconds_to(row: Mapping[str, Any], target: float) -> float | None:
    """Wall seconds, compilation included, until the validation loss was at ``target``, or None if it never was.

    Between the ends of two epochs the loss is taken to fall along a straight line.
    """
    before, since = math.inf, 0.0
    for epoch in row.get("history") or ():
        loss, elapsed = epoch["validation_loss"], epoch["elapsed"]
        if loss is not None and loss <= target:
            share = (before - target) / (before - loss) if math.isfinite(before) and before > loss else 1.0
            return since + share * (elapsed - since)
        before, since = math.inf if loss is None else loss, elapsed
    return None


def drift(row: Mapping[str, Any], reference: Mapping[str, Any]) -> float | None:
    """The largest relative difference of the losses of two runs over the same batches, or None where they differ."""
    mine, other = row.get("losses") or [], reference.get("losses") or []
    if not mine or len(mine) != len(other) or row.get("sizes") != reference.get("sizes"):
        return None
    differences = [abs(a - b) / abs(b) for a, b in zip(mine, other) if a is not None and b]
    return max(differences) if len(differences) == len(mine) else math.inf


def verdicts(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """family -> model -> whether its defect hits the model, and what the fix changes."""
    cells = {(row["model"], row["cell"]): row for row in rows}
    models = list(dict.fromkeys(row["model"] for row in rows))
    judges = {
        "shapes": ("shapes", "plain", _shapes),
        "host": ("host", "plain", _host),
        "fusion": ("fusion, fused", "plain, fused", _fusion),
        "amp": ("amp, float16", "plain, float16", _amp),
    }
    found: dict[str, dict[str, str]] = {}
    for family, (fixed, plain, judge_) in judges.items():
        for model in models:
            both = cells.get((model, plain)), cells.get((model, fixed))
            if all(both):
                found.setdefault(family, {})[model] = _crash(*both) or judge_(*both)
    return found


def sooner(rows: Sequence[Row]) -> dict[str, float]:
    """model -> how many times as soon the run with all fixes is at plain's final validation loss, in float32.

    0 where it never is; a model whose plain run did not finish has no entry.
    """
    cells = {(row["model"], row["cell"]): row for row in rows}
    found = {}
    for (model, name), plain in cells.items():
        fixed = cells.get((model, "all"))
        if name == "plain" and fixed and plain["to_plain_loss"]:
            found[model] = plain["to_plain_loss"] / fixed["to_plain_loss"] if fixed["to_plain_loss"] else 0.0
    return found


def _crash(plain: Row, fixed: Row) -> str | None:
    if plain["outcome"] == fixed["outcome"] == "finished":
        return None
    if fixed["outcome"] == "finished":
        return f"hit ({plain['outcome']}); cured"
    return f"not cured: {fixed['outcome']}"


def _shapes(plain: Row, fixed: Row) -> str:
    padding = f"padding {plain['padded_share']:.0%} -> {fixed['padded_share']:.0%}"
    if fixed["to_plain_loss"] is None:
        return f"{padding}; plain's loss is not reached"
    return f"{padding}; plain's loss {plain['to_plain_loss'] / fixed['to_plain_loss']:.2f} times as soon"


def _host(plain: Row, fixed: Row) -> str:
    key = plain["metric"]
    if plain[key] == fixed[key]:
        return "no difference"
    return f"{key.removeprefix('test_')} {plain[key]:.2%} -> {fixed[key]:.2%}"


def _fusion(plain: Row, fixed: Row) -> str:
    before, after = plain["drift"], fixed["drift"]
    if before is None or after is None:
        return "other batches than unfused: not comparable"
    told = f"losses off by {before:.0e} -> {after:.0e}"
    if before < _DRIFT:
        return f"not hit ({told})"
    return f"hit ({told}); {'cured' if after < _DRIFT else 'not cured'}"


def _amp(plain: Row, fixed: Row) -> str:
    key = plain["metric"]
    skipped = f"{fixed['overflowed']} steps skipped"
    return f"not hit ({key.removeprefix('test_')} {plain[key]:.2%} -> {fixed[key]:.2%}, {skipped})"
