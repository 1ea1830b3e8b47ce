"""What the tests of the examples share: running the command line, and small corpora."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CORPORA = ROOT.parent / "shared" / "data" / "textclass"


def start(folder: Path, module: str, *arguments: Any) -> subprocess.Popen:
    """Start ``python -m MODULE ARGUMENTS`` in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, module: str, *arguments: Any, timeout: float = 1200) -> subprocess.CompletedProcess:
    """Run it to its end."""
    process = start(folder, module, *arguments)
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def write_corpus(folder: Path, train: int, test: int) -> Path:
    """Write a separable corpus in the published format: documents of 1 to 9 words, with ``good`` or with ``bad``."""
    folder.mkdir(parents=True)
    texts, index = [], []
    for i in range(train + test):
        texts.append(" ".join([("good", "bad")[i % 2], *(f"w{(i * k) % 17}" for k in range(1, i % 9 + 1))]))
        index.append(f"{i}\t{'train' if i < train else 'test'}\t{('yes', 'no')[i % 2]}")
    (folder / "toy.clean.txt").write_text("\n".join(texts), encoding="utf-8")
    (folder / "toy.txt").write_text("\n".join(index), encoding="utf-8")
    return folder


NER_WORDS = "ana bela karo wim went to met in lun pex the of".split()


def write_conll(folder: Path, train: int = 40, held_out: int = 12) -> Path:
    """Write an easy corpus of CoNLL files: a person before ``went to``, a place of one or two words after it."""
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("dev", held_out), ("test", held_out)):
        lines = []
        for i in range(count):
            lines += [f"{NER_WORDS[i % 4]}\tB-person", "went\tO", "to\tO", f"{NER_WORDS[8 + i % 2]}\tB-place"]
            lines += ["pex\tI-place"] * (i % 3 == 0) + [".\tO"] * (i % 5) + [""]
        (folder / f"{part}.conll").write_text("\n".join(lines), encoding="utf-8")
    return folder


def write_bert(folder: Path, places: int = 24) -> Path:
    """Write a tiny BERT checkpoint in Hugging Face's format, with random weights: needs the package safetensors."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "went", "to", ".", "an", "##a", "lun", "pex", "##e"]
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "vocab_size": len(vocabulary),
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": places,
        "type_vocab_size": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    shapes = {
        f"embeddings.{name}_embeddings.weight": (rows, 8)
        for name, rows in (("word", len(vocabulary)), ("position", places), ("token_type", 2))
    }
    norms, layers, layer = ["embeddings.LayerNorm"], [], "encoder.layer.0"
    layers += [(f"{layer}.attention.self.{name}", 8, 8) for name in ("query", "key", "value")]
    layers += [(f"{layer}.attention.output.dense", 8, 8), (f"{layer}.intermediate.dense", 12, 8)]
    layers += [(f"{layer}.output.dense", 8, 12)]
    norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, rows, columns in layers:
        shapes.update({f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)})
    random = np.random.default_rng(0)
    arrays = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        arrays.update({f"{name}.weight": np.ones(8, np.float32), f"{name}.bias": np.zeros(8, np.float32)})
    save_file(arrays, folder / "model.safetensors")
    return folder
