"""Encoders' folders that lack something, are cut short, or bring code along: an error, and nothing runs."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.parts import TextEncoder, TextSettings, read_vocabulary
from pipeline.errors import AssetError, LacunaError
from pipeline.extraction.engines import extract_all, prepare
from pipeline.extraction.extractors.audio import wav2vec2
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.text import bert
from pipeline.extraction.extractors.video._face_landmarks import BLENDSHAPES, blendshapes
from tests import encoders

PIECES = tuple(f"word{index}" for index in range(200))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return encoders.write_bert(tmp_path / "bert", PIECES)


def text(folder: Path) -> bert.Extractor:
    return bert.Extractor(bert.BertSettings(model=str(folder)), folder)


def sound(folder: Path) -> wav2vec2.Extractor:
    return wav2vec2.Extractor(wav2vec2.Wav2vec2Settings(model=folder), folder)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | changes), encoding="utf-8")


def test_a_whole_folder_is_made_ready(folder: Path) -> None:
    extractor = text(folder)
    extractor.prepare()
    assert extractor.extract(Clip("a", text="word7 word8")).tokens == ("word7", "word8")


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(AssetError, match=r"holds no tokenizer.*expected tokenizer\.json, or vocab\.txt"):
        text(folder).prepare()


def without_words(folder: Path) -> None:
    """Leave half of the vocabulary, as a download that was broken off does."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {word: number for word, number in vocabulary.items() if number < 100}
    path.write_text(json.dumps(content), encoding="utf-8")


def with_words(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"]["beyond"] = 204
    path.write_text(json.dumps(content), encoding="utf-8")


def half_of_the_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lying_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + path.read_bytes()[8:])


def a_weight_less(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def a_layer_more(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=1)


def an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")


def a_quantised_one(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_words, "its tokenizer knows 100 word pieces, config.json says 204"),
        (with_words, "its tokenizer knows 205 word pieces, config.json says 204"),
        (half_of_the_weights, r"\.safetensors cannot be read .*download broken off"),
        (lying_header, r"\.safetensors cannot be read"),
        (a_weight_less, r"weights are lacking: encoder\.layer\.1\.output\.dense\.weight"),
        (a_layer_more, r"more layers than its config\.json says: encoder\.layer\.1\."),
        (an_adapter, "is an adapter of another encoder"),
        (a_quantised_one, "no encoder can be loaded"),
    ],
)
def test_what_is_not_right_is_an_asset_error(
    folder: Path, change: Callable[[Path], None], message: str
) -> None:
    change(folder)
    with pytest.raises(AssetError, match=message):
        prepare(text(folder))


def test_a_head_beside_the_encoder_is_no_error(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights |= {"cls.predictions.bias": torch.zeros(204), "classifier.0.weight": torch.zeros(2, 2)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    text(folder).prepare()


def test_how_sound_is_normalised_is_not_guessed(tmp_path: Path) -> None:
    folder = encoders.write_speech_encoder(tmp_path / "speech")
    sound(folder).prepare()
    path = folder / "preprocessor_config.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(AssetError, match="says not whether sound is normalised"):
        sound(folder).prepare()
    path.unlink()
    with pytest.raises(AssetError, match=r"preprocessor_config\.json is not there"):
        sound(folder).prepare()
    (folder / "processor_config.json").write_text(
        json.dumps({"feature_extractor": whole | {"do_normalize": False}}), encoding="utf-8"
    )
    extractor = sound(folder)
    extractor.prepare()
    assert extractor._preprocessor["do_normalize"] is False


def test_a_face_model_with_other_scores_is_refused() -> None:
    def face(names: tuple[str, ...]) -> SimpleNamespace:
        shapes = [SimpleNamespace(category_name=name, score=0.5) for name in names]
        return SimpleNamespace(face_blendshapes=[shapes] if names else [])

    assert blendshapes(face(BLENDSHAPES), 0).tolist() == [0.5] * 52
    for names, found in ((BLENDSHAPES[::-1], 52), (BLENDSHAPES[:51], 51), ((), 0)):
        with pytest.raises(AssetError, match=f"gives {found} blendshapes"):
            blendshapes(face(names), 0)


# --- code that comes along ----------------------------------------------------------------------------------


def with_code(folder: Path, mark: Path) -> None:
    """Put code wherever the library would look for some."""
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    for name in ("modeling_own", "configuration_own", "tokenization_own", "feature_extraction_own"):
        classes = "class Own:\n    pass\n"
        (folder / f"{name}.py").write_text(code + classes, encoding="utf-8")
    edit(
        folder / "config.json",
        auto_map={"AutoConfig": "configuration_own.Own", "AutoModel": "modeling_own.Own"},
    )
    if (folder / "tokenizer_config.json").is_file():
        edit(
            folder / "tokenizer_config.json",
            auto_map={"AutoTokenizer": ["tokenization_own.Own", "tokenization_own.Own"]},
        )


class _Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("kind", ["bert", "of no known kind"])
def test_no_code_of_a_folder_runs(
    folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    with_code(folder, mark)
    for name in ("pytorch_model.bin", "training_args.bin", "model.pt"):
        (folder / name).write_bytes(pickle.dumps(_Bomb(mark)))
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # to whoever asks whether code may run
    if kind != "bert":
        edit(folder / "config.json", model_type="own")
        for make in (text(folder).prepare, lambda: prepare(text(folder))):
            with pytest.raises(AssetError):
                make()
        with pytest.raises(ValueError, match="own"):
            TextEncoder(TextSettings(text="tokens", encoder=folder), 8)
    else:
        prepare(text(folder))
        shutil.rmtree(folder / "none", ignore_errors=True)
    assert not mark.exists()
    (folder / "model.safetensors").unlink()  # the pickles are no way out
    with pytest.raises(AssetError):
        prepare(text(folder))
    assert not mark.exists()


# --- the encoder inside a model -----------------------------------------------------------------------------


def google_bert(folder: Path) -> Path:
    """Write a BERT with the special ids of Google's."""
    pieces = [f"[unused{index}]" for index in range(120)]
    encoders.write_bert(folder, pieces)
    (folder / "tokenizer.json").unlink()
    return folder


def test_a_models_encoder_must_be_whole(tmp_path: Path) -> None:
    folder = google_bert(tmp_path / "bert")
    settings = TextSettings(text="tokens", encoder=folder)
    TextEncoder(settings, 8)
    for change, message in (
        (a_weight_less, r"lacking: encoder\.layer\.1\.output\.dense\.weight"),
        (half_of_the_weights, "download broken off"),
    ):
        change(folder)
        with pytest.raises(ValueError, match=message):
            TextEncoder(settings, 8)
    shutil.rmtree(folder)
    a_layer_more(google_bert(folder))
    with pytest.raises(ValueError, match=r"beyond its layers: encoder\.layer\.1\."):
        TextEncoder(settings, 8)


def test_a_models_vocabulary_is_read_from_either_file(tmp_path: Path) -> None:
    folder = encoders.write_bert(tmp_path / "bert", PIECES)
    words = [*encoders.BERT_PIECES, *PIECES]
    assert read_vocabulary(folder) == words
    with pytest.raises(ValueError, match="found the special ids"):  # [CLS] is 2 here, and 101 in Google's
        TextEncoder(TextSettings(text="tokens", encoder=folder), 8)
    (folder / "vocab.txt").write_text("\n".join(words[:7]) + "\n", encoding="utf-8")
    assert read_vocabulary(folder) == words[:7]


# --- whose fault it is --------------------------------------------------------------------------------------


def test_what_raises_before_a_clip_is_no_clips_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = text(folder)
    monkeypatch.setattr(bert, "load_encoder", lambda *_: (_ for _ in ()).throw(OSError("no such library")))
    with pytest.raises(LacunaError, match="text extractor bert cannot be made ready: OSError: no such"):
        prepare(extractor)


def test_in_a_batch_that_fails_each_clip_is_judged_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = text(folder)
    straight = extractor.extract_batch

    def fail(clips: Any) -> Any:
        if any(clip.id == "bad" for clip in clips):
            raise RuntimeError("surprise")
        return straight(clips)

    monkeypatch.setattr(extractor, "extract_batch", fail)
    job: Any = type("Job", (), {"dims": 8, "extractor": "bert"})
    work = [(index, None, Clip(name, text="word1")) for index, name in enumerate(("a", "bad", "c"))]
    found = [(index, kept, result.reason) for index, kept, result in extract_all(job, extractor, work)]
    assert found == [(0, True, ""), (1, False, "RuntimeError: surprise"), (2, True, "")]
