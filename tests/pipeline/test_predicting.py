"""A clip predicted from Python: with extractors that count letters, and networks whose answers are set by hand."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline import predicting
from pipeline.data.manifest import MODALITIES, Word
from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import DataError, MediaError, ParamsError, StoreError, StreamMissing
from pipeline.extraction.extractors import base
from pipeline.predicting import (
    ClipPredictor,
    ModalityResult,
    Prediction,
    parts_of,
    predict_clip,
    run_folders,
    words_within,
)
from tests import clips
from tests.trained_networks import CLASSES, train_networks, write_params

COLUMNS = {"text": ("letters", "one"), "audio": ("bytes", "one"), "video": ("bytes", "one")}


class CountingSettings(base.ExtractorSettings):
    """Settings of the stand-in."""

    scale: float = 1.0


class Counting(base.BaseExtractor[base.ExtractorSettings]):
    """One row a word of the text, or a line of the file: how long it is, and 1. Blank lines show nothing."""

    Settings = CountingSettings
    events: ClassVar[list[str]] = []

    def __init__(self, settings: base.ExtractorSettings, assets: Path) -> None:
        super().__init__(settings, assets)
        self.events.append(f"opened {self.modality}")

    @property
    def columns(self) -> tuple[str, ...]:
        return COLUMNS[self.modality]

    def extract(self, clip: base.Clip) -> FeatureSequence:
        if self.modality == "text":
            rows = clip.text.split()
        else:
            path = getattr(clip, self.modality)
            rows = path.read_text().split("\n")
            if "broken" in rows:
                raise MediaError("cannot decode")
            if f"no {self.modality}" in rows:
                raise StreamMissing(f"no {self.modality} stream")
            if f"hides {self.modality}" in rows:
                return FeatureSequence.absent(2, Status.MISSING, "no face in any frame")
        flags = np.array([bool(row) for row in rows], np.uint8)
        values = np.array([[len(row), bool(row)] for row in rows], np.float32)
        return FeatureSequence(values, np.arange(len(rows), dtype=np.float32), flags)

    def close(self) -> None:
        self.events.append(f"closed {self.modality}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with networks of two folds, and the extractor ``counting`` for every modality."""
    find, names = base.find, base.names
    kinds = {m: type(f"Counting_{m}", (Counting,), {"modality": m}) for m in MODALITIES}

    def find_any(modality: str, name: str) -> Any:
        return kinds[modality] if name == "counting" else find(modality, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "find", find_any)
        patch.setattr(base, "names", lambda modality: [*names(modality), "counting"])
        folder = tmp_path_factory.mktemp("predicting")
        write_params(folder, ("other", "mmin", "last"), "counting")
        train_networks(folder, COLUMNS)
        answer(folder / "data/runs/mmin/1-1", [1, 2, 3, 4])
        answer(folder / "data/runs/mmin/2-1", [4, 2, 3, 1])
        yield folder


def answer(run: Path, shares: list[float]) -> None:
    """Let a network give its classes probabilities in these proportions, whatever it is shown."""
    path = run / "weights.safetensors"
    weights = {name: torch.zeros_like(one) for name, one in safetensors.torch.load_file(path).items()}
    (last,) = [name for name, one in weights.items() if one.shape == (len(shares),)]
    weights[last] = torch.tensor([math.log(share) for share in shares])
    safetensors.torch.save_file(weights, path)


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; it is the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    return folder


def clip(content: str) -> Path:
    path = Path("clip.mp4")
    path.write_text(content)
    return path


def change_facts(**features: dict[str, Any]) -> None:
    """Change what run.json of both networks says of modalities' features."""
    for file in Path("data/runs/mmin").glob("*/run.json"):
        facts = json.loads(file.read_text())
        for modality, changes in features.items():
            facts["features"][modality] |= changes
        file.write_text(json.dumps(facts))


def test_a_clip_of_three_modalities(project: Path) -> None:
    found = predict_clip(clip("ab\n\nabc"), text="an instant classic")
    shares = (5 / 20, 4 / 20, 6 / 20, 5 / 20)  # the mean of 1:2:3:4 and 4:2:3:1
    assert found.probabilities == pytest.approx(dict(zip(CLASSES, shares, strict=True)))
    assert list(found.probabilities) == list(CLASSES)
    assert found.label == "sad"
    assert (found.score, found.scale, found.target) == (None, None, "")
    assert found.modalities == {
        "text": ModalityResult("available", "", "counting", 3, 3, "tokens"),
        "audio": ModalityResult("available", "", "counting", 3, 2, "frames"),
        "video": ModalityResult("available", "", "counting", 3, 2, "frames"),
    }
    assert (found.experiment, found.model, found.dataset) == ("mmin", "baseline", "demo")
    assert found.constructed
    assert found.networks == ("1-1", "2-1")


def test_one_fold(project: Path) -> None:
    found = predict_clip(text="fine", fold=2)
    assert found.probabilities == pytest.approx({"happy": 0.4, "neutral": 0.2, "sad": 0.3, "angry": 0.1})
    assert (found.label, found.networks) == ("happy", ("2-1",))


def test_why_a_modality_is_not_there(project: Path) -> None:
    def reasons(found: Prediction) -> dict[str, tuple[str, str]]:
        return {name: (one.status, one.reason) for name, one in found.modalities.items()}

    assert reasons(predict_clip(text="fine")) == {
        "text": ("available", ""),
        "audio": ("missing", "no media file given"),
        "video": ("missing", "no media file given"),
    }
    assert reasons(predict_clip(clip("no video"), text=" \n")) == {
        "text": ("missing", "no text given"),
        "audio": ("available", ""),
        "video": ("missing", "no video stream"),
    }
    assert reasons(predict_clip(clip("hides video"), without="audio", text="a")) == {
        "text": ("available", ""),
        "audio": ("missing", "left out as asked"),
        "video": ("missing", "no face in any frame"),
    }
    assert reasons(predict_clip(clip("broken"), text="a"))["audio"] == ("failed", "cannot decode")


def test_a_modality_left_out_is_one_that_is_not_there(project: Path) -> None:
    for run in ("1-1", "2-1"):  # networks that look at what they are shown
        path = Path(f"data/runs/mmin/{run}/weights.safetensors")
        weights = safetensors.torch.load_file(path)
        generator = torch.Generator().manual_seed(1)
        drawn = {name: torch.randn(one.shape, generator=generator) / 5 for name, one in weights.items()}
        safetensors.torch.save_file(drawn, path)
    alone = predict_clip(text="an instant classic").probabilities
    assert (
        predict_clip(clip("abc"), text="an instant classic", without=["audio", "video"]).probabilities
        == alone
    )
    assert predict_clip(clip("abc"), text="an instant classic").probabilities != alone
    assert predict_clip(text="an instant classics").probabilities != alone


def test_nothing_to_predict_from(project: Path) -> None:
    for text in (None, "", " \n"):
        with pytest.raises(DataError, match="neither a media file nor a text"):
            predict_clip(text=text)
    with pytest.raises(DataError, match=r"no\.mp4: there is no such file"):
        predict_clip("no.mp4", text="a")
    with pytest.raises(DataError, match=r"no modality is left .*audio: cannot decode; video: cannot decode"):
        predict_clip(clip("broken"))


def test_wrong_words_in_the_call(project: Path) -> None:
    with pytest.raises(ParamsError, match=r'found "vidoe".*Did you mean "video"'):
        predict_clip(text="a", without=["vidoe"])
    with pytest.raises(ParamsError, match='Did you mean "mmin"'):
        predict_clip(text="a", experiment="mmim")
    with pytest.raises(DataError, match=r'"a" from 2 to 1 s; expected 0 <= start <= end'):
        predict_clip(text="a", words=[Word("a", 2, 1)])


def test_networks_that_are_not_there(project: Path) -> None:
    with pytest.raises(StoreError, match="Train it: dvc repro train@last"):
        predict_clip(text="a", experiment="last")
    with pytest.raises(StoreError, match="there is no fold 7; expected one of: 1, 2"):
        predict_clip(text="a", fold=7)


def test_folders_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for name in ("10-1", "2-1", "2-10", "2-2", "old-copy"):
        (tmp_path / "runs/x" / name).mkdir(parents=True)
        (tmp_path / "runs/x" / name / "run.json").touch()
    assert [path.name for path in run_folders("x", data=tmp_path)] == ["2-1", "2-2", "2-10", "10-1"]
    assert [path.name for path in run_folders("x", 2, tmp_path)] == ["2-1", "2-2", "2-10"]


def test_the_experiment_when_none_is_named(project: Path) -> None:
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("mmin:", "another:"))
    with pytest.raises(StoreError, match="dvc repro train@last"):
        predict_clip(text="a")


def test_the_recorded_extractor_is_used_whatever_params_selects_now(project: Path) -> None:
    before = predict_clip(text="an instant classic")
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("extractor: counting", "extractor: glove", 1))
    assert "extractor: glove" in path.read_text()
    assert predict_clip(text="an instant classic") == before


def test_features_that_the_extractor_does_not_make(project: Path) -> None:
    change_facts(text={"columns": ["letters", "two"]})
    with pytest.raises(StoreError, match=r"other names .*dvc repro train@mmin"):
        predict_clip(text="a")
    change_facts(text={"columns": ["letters", "one"], "settings": {"scales": 2}})
    with pytest.raises(StoreError, match=r'with the settings \{"scales": 2\}, which counting does not take'):
        predict_clip(text="a")
    change_facts(text={"extractor": "import", "settings": {}})
    found = predict_clip(clip("abc"), text="a")
    assert found.modalities["text"].status == "missing"
    assert "imported features" in found.modalities["text"].reason


def test_networks_of_different_features_are_not_mixed(project: Path) -> None:
    file = Path("data/runs/mmin/2-1/run.json")
    facts = json.loads(file.read_text())
    facts["features"]["audio"]["settings"]["scale"] = 2.0
    file.write_text(json.dumps(facts))
    with pytest.raises(StoreError, match="different audio features"):
        predict_clip(text="a")
    assert predict_clip(text="a", fold=1).networks == ("1-1",)


def test_resampled_and_aligned_with_words(project: Path) -> None:
    change_facts(audio={"settings": {"scale": 1.0, "align": 4}}, video={"settings": {"align": "words"}})
    found = predict_clip(clip("a\nb"), text="a b")
    assert found.modalities["audio"] == ModalityResult("available", "", "counting", 4, 4, "rows")
    assert found.modalities["video"].reason == "no times of words to align with"
    found = predict_clip(clip("a\nb"), text="a b", words=[Word("a", 0, 0.9), Word("b", 0.9, 2)])
    assert found.modalities["video"] == ModalityResult("available", "", "counting", 2, 2, "words")


def test_many_clips_load_once(project: Path) -> None:
    Counting.events.clear()
    with ClipPredictor() as predictor:
        first = predictor.predict(text="a")
        assert predictor.predict(text="a") == first
        assert Counting.events == ["opened text"]
    assert Counting.events == ["opened text", "closed text"]


def test_parts_of_a_file(tmp_path: Path) -> None:
    sound = clips.write_clip(tmp_path / "a.wav", seconds=2.5)
    assert parts_of(sound, 1, None, None, None) == [(0, 1), (1, 2), (2, 2.5)]
    assert parts_of(sound, 0.5, 1, 1, 2) == [(1, 2), (1.5, 2)]
    assert parts_of(sound, 1, None, None, 2.005) == [(0, 1), (1, 2)]  # five thousandths are no part
    assert parts_of(sound, 0.1, None, 2.2, None) == [(2.2, 2.3), (2.3, 2.4), (2.4, 2.5)]
    assert parts_of(sound, 9, None, None, None) == [(0, 2.5)]
    for every, start, message in (
        (0, None, "every_s: found 0 s"),
        (1, 3, "found a part from 3 to 2.5 s"),
        (1e-6, None, "at most 100000 are made"),
    ):
        with pytest.raises(DataError, match=message):
            parts_of(sound, every, None, start, None)
    (tmp_path / "no.mp4").write_text("no film")
    with pytest.raises(DataError, match="cannot be opened as media"):
        parts_of(tmp_path / "no.mp4", 1, None, None, None)


def test_words_of_a_part() -> None:
    words = [Word("a", 0, 1), Word("b", 0.9, 1.5), Word("c", 2, 3)]
    assert words_within(words, None, None) == tuple(words)
    assert words_within(words, 1, 2) == (Word("b", 0, 0.5),)  # its middle is 1.2
    assert words_within(words, 2, 2.6) == (Word("c", 0, pytest.approx(0.6)),)


def test_over_time(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "_length_s", lambda media: 2.0)
    seen: list[base.Clip] = []

    def extract(self: Counting, clip: base.Clip) -> FeatureSequence:
        seen.append(clip)
        if clip.start_s == 1 and self.modality != "text":
            raise MediaError("no sound decodes")
        return FeatureSequence(np.ones((1, 2), np.float32), np.zeros(1, np.float32), np.ones(1, np.uint8))

    monkeypatch.setattr(Counting, "extract", extract)
    Counting.events.clear()
    with ClipPredictor() as predictor:
        given = {"every_s": 1.0, "words": [Word("so", 0.2, 0.4), Word("good", 0.4, 0.8)]}
        first, second = predictor.predict_over_time(clip("x"), **given)  # type: ignore[arg-type]
    assert first[:2] == (0, 1)
    assert isinstance(first[2], Prediction)
    assert first[2].label == "sad"
    assert second[:2] == (1, 2)
    assert isinstance(second[2], DataError)  # nothing is said in it, and nothing decodes
    assert [(one.text, one.start_s, one.end_s) for one in seen if one.text] == [("so good", 0, 1)] * 3
    assert Counting.events.count("opened audio") == 1


def test_another_place_than_the_working_directory(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = predict_clip(text="a", data=project / "data", params=project / "params.yaml")
    assert found.networks == ("1-1", "2-1")


def test_a_score(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, ("score",), "counting", model="misa", task="regression")
    train_networks(tmp_path, COLUMNS, "score")
    found = predict_clip(text="an instant classic")
    assert (found.probabilities, found.label) == ({}, None)
    assert (found.target, found.scale) == ("score", (-4.0, 4.0))
    one, two = (predict_clip(text="an instant classic", fold=fold).score for fold in (1, 2))
    assert one is not None and two is not None
    assert found.score == pytest.approx((one + two) / 2)
    assert one != two
