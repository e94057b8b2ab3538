"""Word pieces' hidden states against a straight transformers call."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.manifest import Word
from pipeline.data.store import FeatureSequence
from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.text import bert
from tests import encoders

TEXTS = (
    "Don't forget a jacket.",
    "No.",
    "A touching, if overlong, story about three brothers who lose their farm and, one by one, themselves.",
    "unbelievably",
    "The acting is fine; the script is not, and nothing can save the third act of this film from itself.",
)


@pytest.fixture(scope="module")
def folder(assets: Callable[[str], Path]) -> Path:
    return assets("bert")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in a worker process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def extractor(folder: Path) -> bert.Extractor:
    return bert.Extractor(bert.BertSettings(), folder)


@pytest.fixture(scope="module")
def straight(folder: Path) -> Callable[[str], tuple[Any, list[str]]]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()

    def run(text: str) -> tuple[Any, list[str]]:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**inputs).last_hidden_state[0, 1:-1].numpy()
        return hidden, tokenizer.convert_ids_to_tokens(inputs["input_ids"][0, 1:-1].tolist())

    return run


def features(results: list[FeatureSequence | Exception]) -> list[FeatureSequence]:
    assert all(isinstance(result, FeatureSequence) for result in results)
    return [result for result in results if isinstance(result, FeatureSequence)]


def test_values_equal_a_straight_call(
    extractor: bert.Extractor, straight: Callable[[str], tuple[Any, list[str]]]
) -> None:
    results = features(extractor.extract_batch([Clip(text, text=text) for text in TEXTS]))
    for text, result in zip(TEXTS, results, strict=True):
        hidden, pieces = straight(text)
        assert np.abs(result.values - hidden).max() < 1e-5
        assert list(result.tokens) == pieces
        assert result.token_ids is not None
        assert len(result.token_ids) == len(pieces)
        assert result.values.shape == (len(pieces), 384)
    assert results[0].tokens == ("don", "'", "t", "forget", "a", "jacket", ".")


def test_companions_and_padding_change_no_bit(extractor: bert.Extractor) -> None:
    clips = [Clip(str(index), text=text) for index, text in enumerate(TEXTS * 5)]
    alone = [extractor.extract(clip).values.tobytes() for clip in clips[: len(TEXTS)]]
    generator = np.random.default_rng(0)
    for _ in range(3):
        order = generator.permutation(len(clips))
        results = features(extractor.extract_batch([clips[index] for index in order]))
        assert all(
            result.values.tobytes() == alone[index % len(TEXTS)]
            for index, result in zip(order, results, strict=True)
        )


def test_a_long_transcript_is_cut_and_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    extractor = bert.Extractor(bert.BertSettings(max_length=8), folder)
    with caplog.at_level(logging.WARNING, "lacuna"):
        result = extractor.extract(Clip("long one", text=TEXTS[2]))
    assert len(result.tokens) == 6  # and [CLS] and [SEP]
    assert "long one: the transcript is cut to 8 word pieces" in caplog.text
    caplog.clear()
    extractor.extract(Clip("short", text="No."))
    assert not caplog.text


def test_pieces_have_their_words_times(extractor: bert.Extractor) -> None:
    words = (Word("unbelievably", 0.2, 1.0), Word("good", 1.2, 1.4))
    result = extractor.extract(Clip("a", text="Unbelievably good!", words=words))
    middles = [1.3 if piece in ("good", "!") else 0.6 for piece in result.tokens]
    assert result.times.tolist() == pytest.approx(middles)
    assert len(set(middles)) == 2


def test_a_folder_serves_as_well(extractor: bert.Extractor, folder: Path, tmp_path: Path) -> None:
    other = bert.Extractor(bert.BertSettings(model=str(folder)), tmp_path)
    clip = Clip("a", text=TEXTS[0])
    assert other.extract(clip).values.tobytes() == extractor.extract(clip).values.tobytes()
    assert {path.name for path in other.files} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert extractor.files == ()


CHINESE = ("我很喜欢这个电影！", "不好", "这个故事太长了，我不喜欢。")
ENCODERS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "Chinese BERT": (lambda path: encoders.write_bert(path, sorted({*"".join(CHINESE)} - {"太"})), CHINESE),
    "RoBERTa": (lambda path: encoders.write_roberta(path, TEXTS, positions=200), TEXTS),
    "ALBERT": (lambda path: encoders.write_albert(path, TEXTS), TEXTS),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_other_encoders_equal_a_straight_call(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    write, texts = ENCODERS[kind]
    folder = write(tmp_path / "encoder")
    other = bert.Extractor(bert.BertSettings(model=str(folder)), tmp_path)
    results = features(other.extract_batch([Clip(text, text=text) for text in texts]))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    assert len(other.columns) == 8
    for text, result in zip(texts, results, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**inputs).last_hidden_state[0, 1:-1].numpy()
        assert result.values.shape == hidden.shape
        assert np.abs(result.values - hidden).max() < 1e-5
        ids = inputs["input_ids"][0, 1:-1].tolist()
        assert result.token_ids is not None and result.token_ids.tolist() == ids
        assert list(result.tokens) == tokenizer.convert_ids_to_tokens(ids)
    if kind == "Chinese BERT":
        assert results[1].tokens == ("不", "好")
        assert "[UNK]" in results[2].tokens
        words = (Word("我", 0.0, 0.2), Word("喜欢", 0.4, 0.8))
        spoken = other.extract(Clip("a", text="我很喜欢", words=words))
        assert spoken.times.tolist() == pytest.approx([0.1, 0.1, 0.6, 0.6])


@pytest.mark.parametrize(("kind", "longest"), [("BERT", 20), ("RoBERTa", 18)])
def test_a_transcript_is_cut_where_the_encoder_has_no_more_positions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, longest: int
) -> None:
    if kind == "BERT":
        folder = encoders.write_bert(tmp_path / "encoder", ("the", "a", "film"), positions=20)
    else:  # the first two positions are those of no piece and of padding
        folder = encoders.write_roberta(tmp_path / "encoder", TEXTS, positions=20)
    other = bert.Extractor(bert.BertSettings(model=str(folder)), tmp_path)
    with caplog.at_level(logging.WARNING, "lacuna"):
        result = other.extract(Clip("long", text="film the a " * 30))
    assert len(result.values) == longest - 2
    assert f'long: the transcript is cut to {longest} word pieces ("the encoder\'s longest")' in caplog.text


def test_what_cannot_be_loaded(folder: Path, tmp_path: Path) -> None:
    clip = Clip("a", text="Yes.")

    def extract(model: Path | str | None, assets: Path = tmp_path) -> None:
        bert.Extractor(bert.BertSettings(model=None if model is None else str(model)), assets).extract(clip)

    with pytest.raises(AssetError, match="neither a folder nor a downloaded model"):
        extract("nobody/no-such-model")
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(AssetError, match="no encoder can be loaded from its safetensors"):
        extract(pickled)
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    with (damaged / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\x01\x02\x03")
    with pytest.raises(AssetError, match="refused: its sha256"):
        extract(None, damaged)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssetError, match=r"config\.json"):
        _ = bert.Extractor(bert.BertSettings(model=str(tmp_path / "empty")), tmp_path).columns
