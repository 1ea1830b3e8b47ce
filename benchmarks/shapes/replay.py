"""Whole epochs over four corpora, replayed: every alternative's exact batches, each at its measured cost.

    python -m benchmarks.shapes.replay --data ../shared/data --costs benchmarks/results/shapes_costs.json \
        [--json FILE] [--figure FILE] [--corpora mr,...]

A step of one size takes the same time whenever it runs, and so does a compilation. `shapes_costs` measures both at some
sizes; here the sequence of batches that an alternative would run (`shapes_sequences`) is added up with these costs.
Between measured sizes the costs are interpolated (BERT: piecewise linear in the length; RNNSearch: a least-squares
plane in source and target length). What is not in the replay: feeding. `shapes_epochs` runs the same
alternatives for real on samples of the corpora, and compares.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ascend_fixes.shapes import Buckets, Grid
from benchmarks import records
from benchmarks.shapes import corpora as shapes_corpora
from benchmarks.shapes.costs import ROWS, Size, parsed
from benchmarks.shapes.sequences import ALTERNATIVES, NATIVE, OURS, Corpus, batches, spaced

__all__ = ["Costs", "Replay", "planned", "replay"]

MOST_SIZES = 8
COLD = (1, 3)
GROWTH = (1, 10, 100)


@dataclass(frozen=True)
class Costs:
    """Measured seconds by kind of graph ("static", "dynamic", "torch") and size; see `shapes_costs`.

    ``warmed`` is what warming and loading some graphs took, over compiling them one after the other; None where that
    was not measured.
    """

    net: str
    found: dict[str, Any]
    warmed: float | None

    @classmethod
    def load(cls, path: str, net: str) -> Costs:
        """Of one net; what `shapes_cache` found about warming lies beside them."""
        with open(path, encoding="utf-8") as stream:
            costs = cls(net, json.load(stream)[net], None)
        with open(path.replace("shapes_costs", "shapes_cache"), encoding="utf-8") as stream:
            cache = json.load(stream).get(net)
        if cache is None:
            return costs
        seconds = cache["warmed"]["warming"] + sum(cache["warmed"]["compiling"])
        return replace(costs, warmed=seconds / sum(costs.compiling("static", parsed(n)) for n in cache["sizes"]))

    def runs(self, kind: str) -> bool:
        """Whether there is such a graph at all."""
        return kind in self.found and "failed" not in self.found[kind]

    def step(self, kind: str, size: Size, rows: int = ROWS) -> float:
        """Of one step; a batch with fewer rows takes its share."""
        return self._at(kind, "step", size) * rows / ROWS

    def compiling(self, kind: str, size: Size) -> float:
        """Of one compilation; a dynamic graph has the cost of the only one."""
        if kind == "torch":
            return 0.0
        if kind == "dynamic":
            return next(entry["compile"] for entry in self.found[kind].values() if "compile" in entry)
        return self._at(kind, "compile", size)

    def _at(self, kind: str, what: str, size: Size) -> float:
        points = sorted((parsed(name), entry[what]) for name, entry in self.found[kind].items() if what in entry)
        sizes, values = np.array([point for point, _ in points]), np.array([value for _, value in points])
        if self.net == "bert" and size > sizes[-1]:  # beyond what was measured: attention makes it a parabola
            return float(np.polyval(np.polyfit(sizes, values, 2 if what == "step" else 0), size))
        if self.net == "bert":
            return float(np.interp(size, sizes, values))
        weights = np.linalg.lstsq(_plane(sizes), values, rcond=None)[0]
        return float(max(_plane(np.array([size]))[0] @ weights, 0.0))


def _plane(sizes: np.ndarray) -> np.ndarray:
    """[n, 4]: 1, source, target and their product."""
    return np.stack([np.ones(len(sizes)), sizes[:, 0], sizes[:, 1], sizes.prod(1)], 1)


@dataclass(frozen=True)
class Replay:
    """One alternative: seconds of the compilations, of one epoch's steps, graphs, and samples an epoch leaves out."""

    compiling: float
    epoch: float
    graphs: int
    lost: int

    def cold(self, epochs: int) -> float:
        """Seconds of a run that has compiled nothing yet."""
        return self.compiling + epochs * self.epoch


def replay(corpus: Corpus, kind: str, sizes: Any, costs: Costs) -> Replay:
    """Add up one alternative. Every epoch has the same shapes, but for chance in pooled batches."""
    graph = kind if kind in ("dynamic", "torch") else "static"
    found: Counter = Counter()
    held = 0
    for batch in batches(corpus, kind, sizes, 0):
        found[(batch.size, batch.rows)] += 1
        held += len(batch.members)
    shapes = [next(iter(found))] if kind == "dynamic" else list(found)
    compiling = sum(costs.compiling(graph, size) for size, _ in shapes) if kind != "torch" else 0.0
    return Replay(
        compiling * ((costs.warmed or 1.0) if kind == "warmed" else 1.0),
        sum(count * costs.step(graph, size, rows) for (size, rows), count in found.items()),
        0 if kind == "torch" else len(shapes),
        len(corpus.lengths) - held,
    )


def planned(corpus: Corpus, costs: Costs, epochs: float, most: int = MOST_SIZES) -> Buckets | Grid:
    """The sizes that we choose for so many cold epochs, from measured costs."""
    if corpus.net == "bert":
        step = [costs.step("static", size) / ROWS for size in range(int(corpus.lengths.max()) + 1)]
        compiling = [costs.compiling("static", size) for size in range(len(step))]
        return Buckets.plan(corpus.lengths, step.__getitem__, compiling.__getitem__, epochs, max_sizes=most)
    table: dict[Any, float] = {}

    def step_cost(source: int, target: int) -> float:
        key = (source, target)
        if key not in table:
            table[key] = costs.step("static", key) / ROWS
        return table[key]

    return Grid.plan(corpus.lengths, step_cost, lambda a, b: costs.compiling("static", (a, b)), epochs, most)


def compared(corpus: Corpus, costs: Costs, epochs: int) -> dict[str, Any]:
    """Cold seconds and graphs of every alternative, with native bucketing at our number of sizes."""
    ours = planned(corpus, costs, epochs)
    found: dict[str, Any] = {"sizes": list(ours.sizes)}
    for kind in ALTERNATIVES:
        graph = kind if kind in ("dynamic", "torch") else "static"
        if not costs.runs(graph) or (kind == "warmed" and costs.warmed is None):
            found[kind] = None  # there is no such graph, or nothing is known about it
            continue
        one = replay(corpus, kind, ours if kind in OURS else spaced(corpus, len(ours)), costs)
        found[kind] = {"seconds": one.cold(epochs), "compiling": one.compiling, "graphs": one.graphs, "lost": one.lost}
    found["best native"] = min((kind for kind in NATIVE if found[kind]), key=lambda kind: found[kind]["seconds"])
    found["times faster"] = {
        kind: found[found["best native"]]["seconds"] / found[kind]["seconds"] for kind in OURS if found[kind]
    }
    found["times faster than native"] = {
        kind: found["native"]["seconds"] / found[kind]["seconds"] for kind in OURS if found[kind]
    }
    oracle = epochs * replay(corpus, "per shape", None, costs).epoch
    found["oracle"] = {"seconds": oracle, "graphs": found["per shape"]["graphs"]}
    found["oracle times faster"] = found[found["best native"]]["seconds"] / oracle
    return found


def steady(corpus: Corpus, costs: Costs) -> dict[str, Any]:
    """Seconds of an epoch with everything compiled, over the oracle's."""
    oracle = replay(corpus, "per shape", None, costs).epoch
    found: dict[str, Any] = {"oracle, seconds": oracle}
    for k in (4, MOST_SIZES, 16, *((24, 32) if corpus.net == "bert" else ())):
        sizes = planned(corpus, costs, 1e6, k)
        found[f"ours, {k} sizes"] = replay(corpus, "ours", sizes, costs).epoch / oracle
        found[f"native, {k} sizes"] = replay(corpus, "native", spaced(corpus, k), costs).epoch / oracle
    found["longest"] = replay(corpus, "longest", None, costs).epoch / oracle
    if costs.runs("dynamic"):
        found["dynamic"] = replay(corpus, "dynamic", None, costs).epoch / oracle
    return found


def growth(corpus: Corpus, costs: Costs) -> dict[str, Any]:
    """Cold seconds of one epoch per thousand samples, and graphs, as the corpus and its lengths grow."""
    random = np.random.default_rng(0)
    found: dict[str, Any] = {"corpus": {}, "lengths": {}}
    for times in GROWTH:
        longer = corpus.lengths * times - random.integers(0, times, corpus.lengths.shape)
        for what, lengths in (("corpus", np.tile(corpus.lengths, times)), ("lengths", longer)):
            grown = Corpus(corpus.name, lengths)
            sizes = planned(grown, costs, 1)
            for kind in ALTERNATIVES:
                one = replay(grown, kind, sizes if kind in OURS else spaced(grown, len(sizes)), costs)
                per_thousand = 1000 * one.cold(1) / len(lengths)
                found[what].setdefault(kind, {})[times] = {"seconds": per_thousand, "graphs": one.graphs}
    return found


def figure(found: dict[str, Any], path: str) -> None:
    """Cold seconds over the oracle's, for one and three epochs; and the growth curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    corpora = list(found["cold"])
    _, panels = pyplot.subplots(1, 4, figsize=(15, 3.6))
    for panel, epochs in zip(panels, COLD):
        for place, kind in enumerate(ALTERNATIVES):
            rows = [found["cold"][corpus][str(epochs)] for corpus in corpora]
            heights = [row[kind]["seconds"] / row["oracle"]["seconds"] if row[kind] else 0 for row in rows]
            panel.bar(np.arange(len(corpora)) + 0.1 * place, heights, 0.09, label=kind)
        panel.set_xticks(np.arange(len(corpora)) + 0.33, corpora)
        panel.set(title=f"{epochs} cold epoch{'s' * (epochs > 1)}", ylabel="seconds over the oracle's", yscale="log")
        panel.axhline(1, color="black", linewidth=0.6)
    panels[0].legend(fontsize=6, ncol=2)
    for panel, what in zip(panels[2:], ("corpus", "lengths")):
        for kind, curve in found["growth"][what].items():
            panel.plot(
                [int(times) for times in curve], [point["seconds"] for point in curve.values()], marker=".", label=kind
            )
        panel.set(title=f"MR, {what} grown", xlabel="times", xscale="log", yscale="log")
        panel.set_ylabel("seconds per 1,000 samples, one cold epoch")
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--costs", required=True)
    parser.add_argument("--corpora", default=",".join(shapes_corpora.CORPORA))
    parser.add_argument("--json")
    parser.add_argument("--figure")
    options = parser.parse_args()
    found: dict[str, Any] = {"cold": {}, "steady": {}}
    for name in options.corpora.split(","):
        corpus = Corpus.load(options.data, name)
        costs = Costs.load(options.costs, corpus.net)
        found["cold"][name] = {str(epochs): compared(corpus, costs, epochs) for epochs in COLD}
        found["steady"][name] = steady(corpus, costs)
        if name == "mr":
            found["growth"] = growth(corpus, costs)
    print(json.dumps(found, indent=1))
    records.write(options.json, found)
    if options.figure:
        figure(json.loads(json.dumps(found)), options.figure)


if __name__ == "__main__":
    main()
