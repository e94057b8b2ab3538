"""A BERT inside the model, trained along from stored token ids: one line of params.yaml, through all stages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from models import misa
from models.base import UNKNOWN_TOKEN
from models.parts import CLS, SEP, add_specials
from pipeline.data.masks import read_masks
from pipeline.data.store import FeatureStore
from pipeline.errors import ParamsError
from pipeline.evaluate import write_results
from pipeline.params import Compute, Experiment
from pipeline.training.all_runs import train_experiment
from pipeline.training.evaluation import evaluate_experiment
from pipeline.training.experiment import check_token_ids, resolve
from pipeline.training.folds import make_folds
from pipeline.training.kept_runs import PlannedRun
from pipeline.training.predictor import load_run, predict
from pipeline.training.samples import read_samples
from tests import small_world

CPU = Compute(workers=1, device="cpu")
ONE = small_world.dataset(folds={"scheme": "session", "count": 1})


def write_encoder(folder: Path, seed: int) -> Path:
    """Write a BERT of two narrow layers, with random weights."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(BertConfig(vocab_size=1100, max_position_embeddings=16, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("bert"), 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    small_world.write(folder, 40)
    return folder


def experiment(model: str, encoder: Path, **changes: object) -> Experiment:
    given = {
        "dataset": "small", "model": model, "task": "regression", "regime": "m3s", "train_on": "sampled",
        "evaluate_on": "block",
        "settings": {"text": "tokens", "encoder": str(encoder), "frozen_layers": 1}, "epochs": 2,
        "learning_rates": {"text": 0.01}, "frame_rate_hz": {"audio": 10},
    }  # fmt: skip
    return Experiment.model_validate(given | changes)


@pytest.mark.parametrize("model", ["misa", "mmim", "self_mm"])
def test_the_encoder_is_trained_along_from_token_ids(model: str, encoder: Path, data: Path) -> None:
    settings = experiment(model, encoder)
    folder = train_experiment(model, settings, ONE, 0, CPU, data)
    before = safetensors.torch.load_file(encoder / "model.safetensors")
    after = safetensors.torch.load_file(folder / "1-1" / "weights.safetensors")
    moved = {
        name: not torch.equal(value, after[f"text.bert.{name}"])
        for name, value in before.items()
        if not name.startswith("pooler.")
    }
    assert all(was == ("layer.1." in name) for name, was in moved.items()), moved
    found = evaluate_experiment(model, ONE, settings, settings.evaluate_on, CPU, data)
    write_results(data / "results" / model, model, found.classes, found.results)
    average = json.loads((data / "results" / model / "metrics.json").read_text())["average"]
    assert np.isfinite(average["mae"]["mean"])
    name = found.results[0].ids[0]
    with FeatureStore(data / "features" / "small" / "text.h5") as store:
        sequence = store.read(store.ids.index(name))
    predictor = load_run(folder / "1-1")
    one, other = (predict([predictor], {"text": s})["score"] for s in (sequence, None))
    assert np.isfinite([one, other]).all() and one != other


def test_a_run_stands_on_the_encoders_weights(encoder: Path, data: Path, tmp_path: Path) -> None:
    samples = read_samples("small", ONE, {"audio": 10}, data, target="score")
    fold = make_folds(samples.samples, ONE.folds)[0]

    def key(folder: Path) -> str:
        settings = resolve(experiment("misa", folder, train_on="full"))
        same = settings.model_copy(update={"settings": {**settings.settings, "encoder": "somewhere"}})
        assert PlannedRun(same, fold, 0, "cpu", tmp_path).key(samples)  # no file there is no crash here
        return PlannedRun(settings, fold, 0, "cpu", tmp_path).key(samples)

    changing = write_encoder(tmp_path / "encoder", 3)
    first = key(changing)
    assert key(changing) == first
    write_encoder(changing, 4)
    assert key(changing) != first


def test_blocks_are_unknown_words_between_cls_and_sep(data: Path) -> None:
    samples = read_samples("small", ONE, data=data, target="score")
    device = samples.prepare(samples.fit_normalisers(np.arange(30)), torch.device("cpu"))
    mask = samples.named_masks(read_masks(data / "masks" / "small.h5"), ["sampled"])["sampled"]
    half = mask.settings.model_copy(update={"range": (0.5, 0.5)})
    hiding = replace(mask, settings=half).hide(torch.device("cpu"), 0, 1)
    batch, hidden = (device.collate(torch.arange(12), None, h) for h in (None, hiding))
    assert batch.token_ids is not None
    assert hidden.token_ids is not None
    ids = add_specials(hidden.token_ids)
    for row, length in enumerate(batch.lengths["text"].tolist()):
        assert ids[row, 0] == CLS and ids[row, length + 1] == SEP and not ids[row, length + 2 :].any()
        words = ids[row, 1 : length + 1]
        assert int((words == UNKNOWN_TOKEN).sum()) == length // 2
        left = words != UNKNOWN_TOKEN
        assert torch.equal(words[left], batch.token_ids[row, :length][left])
        gone = hidden.features["text"][row, :length].abs().sum(dim=1) == 0
        assert torch.equal(gone | left, torch.ones(length, dtype=torch.bool))


def write_words(folder: Path, *last: str) -> None:
    """Write a vocabulary as Google's BERTs have it, with these words at its end."""
    words = ["[PAD]", *(f"[unused{n}]" for n in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"w{n}" for n in range(1100 - len(words) - len(last))]
    (folder / "vocab.txt").write_text("\n".join([*words, *last]) + "\n", encoding="utf-8")


def test_ids_of_another_vocabulary_are_refused(data: Path, tmp_path: Path) -> None:
    samples = read_samples("small", ONE, {"audio": 10}, data, target="score")
    assets, encoder = tmp_path / "assets", write_encoder(tmp_path / "encoder", 3)
    write_encoder(assets / "bert", 4)
    text = samples.modalities["text"]

    def said(**changes: Any) -> str:
        given = replace(samples, modalities={**samples.modalities, "text": replace(text, **changes)})
        try:
            check_token_ids("mine", experiment("misa", encoder), given, assets)
        except ParamsError as error:
            return str(error)
        return ""

    by_bert = replace(text.info, extractor="bert", settings={})
    assert said(info=by_bert) == "", "nothing is known of the words"
    write_words(encoder, "one")
    write_words(assets / "bert", "one")
    assert said(info=by_bert) == ""
    write_words(assets / "bert", "other")
    assert "whose vocabulary is another" in said(info=by_bert)
    assert said(info=replace(by_bert, extractor="import")) == ""
    assert "hold no ids" in said(token_ids=None)
    assert text.token_ids is not None
    assert "ids up to 5000" in said(token_ids=np.where(text.token_ids > 0, 5000, 0))
    (encoder / "vocab.txt").write_text("<s>\n<pad>\n</s>\n", encoding="utf-8")
    assert "found the special ids" in said()
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps({**config, "model_type": "roberta"}))
    assert 'of the type "roberta"' in said()
    with pytest.raises(ValueError, match="roberta"):
        misa.Model(misa.Model.Settings(text="tokens", encoder=encoder), samples.dims, 1)
    check_token_ids("mine", experiment("misa", encoder, settings={}), samples, assets)
