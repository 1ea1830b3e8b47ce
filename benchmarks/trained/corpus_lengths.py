"""``python -m benchmarks.trained.corpus_lengths``: how long the samples of four corpora are, for the examples' ragged built-in data.

Counts are of the training parts, in bins of a few words; `examples/common/lengths.json` holds them, and no text.

    python -m benchmarks.trained.corpus_lengths --data ../shared/data
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

from ascend_fixes.files import replacing
from benchmarks import records
from examples.albert import data as squad
from examples.bert_crf import data as wnut17
from examples.rnnsearch import data as multi30k
from examples.texting import data as r8

RESULT = records.ROOT / "examples" / "common" / "lengths.json"


def words(text: str) -> int:
    """Words and punctuation marks, as BERT splits them before it looks for pieces."""
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text))


def histogram(lengths: Iterable[Sequence[int]], width: int) -> list[list[int]]:
    """``[from, ..., samples]`` of every bin that holds any; a bin is ``width`` lengths wide on each axis."""
    counts = Counter(tuple(length // width * width for length in each) for each in lengths)
    return [[*low, count] for low, count in sorted(counts.items())]


def counted(data: Path) -> dict[str, dict[str, Any]]:
    passages = {question.passage: words(question.passage) for question in squad.read_folder(data / "mrc/squad").train}
    questions = squad.read_folder(data / "mrc/squad").train
    squad_lengths = [(words(question.text) + passages[question.passage] + 3,) for question in questions]
    sentences = wnut17.read_folder(data / "ner/wnut17").parts["train"]
    documents = r8.read_folder(data / "textclass/r8")
    captions = multi30k.read_folder(data / "mt/multi30k_en_de", "en", "de").parts["train"]
    pairs = [(words(source), words(target)) for source, target in zip(captions.source, captions.target)]
    news = [(int(length),) for length in documents.lengths[documents.is_train]]
    return {
        "albert": {
            "corpus": "SQuAD 1.1, 44 articles of the training set (Rajpurkar et al. 2016)",
            "unit": "words and punctuation marks of question and passage, and three special pieces",
            "width": 16,
            "bins": histogram(squad_lengths, 16),
        },
        "bert_crf": {
            "corpus": "WNUT17, training part (Derczynski et al. 2017)",
            "unit": "words of a sentence",
            "width": 2,
            "bins": histogram(((len(sentence.words),) for sentence in sentences), 2),
        },
        "rnnsearch": {
            "corpus": "Multi30k, English to German, training part (Elliott et al. 2016)",
            "unit": "words and punctuation marks of a caption and of its translation",
            "width": 4,
            "bins": histogram(pairs, 4),
        },
        "texting": {
            "corpus": "Reuters-8, training part (Lewis; split of Cardoso-Cachopo 2007)",
            "unit": "words of a document",
            "width": 8,
            "bins": histogram(news, 8),
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trained.corpus_lengths")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the corpora")
    found = counted(parser.parse_args(arguments).data)
    lines = ["{"]
    for number, (name, entry) in enumerate(found.items()):
        lines.append(f" {json.dumps(name)}: {json.dumps(entry)}{',' if number < len(found) - 1 else ''}")
    with replacing(RESULT) as file:
        file.write("\n".join([*lines, "}", ""]).encode())
    for name, entry in found.items():
        print(f"{name}: {sum(one[-1] for one in entry['bins']):,} samples in {len(entry['bins'])} bins")
    return 0


if __name__ == "__main__":
    sys.exit(main())
