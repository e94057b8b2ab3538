"""``lacuna predict`` with the real extractors on real media; what it computes is tested in test_predicting.py."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import predicting
from pipeline.data.manifest import MODALITIES
from pipeline.extraction.extractors import base
from pipeline.params import load_params
from pipeline.predicting import ModalityResult, Prediction
from tests.command_line import Command, run_process
from tests.proxy import proxy
from tests.trained_networks import CLASSES, train_networks, write_params

SOUND = "data/assets/cremad/1002_DFA_SAD_XX.mp3"
FILM = "data/assets/cremad/1001_DFA_HAP_XX.flv"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, assets: Callable[[str], Path]) -> Path:
    """A project with the assets of the demo's extractors, and networks of two folds that take their features."""
    folder = tmp_path_factory.mktemp("predict")
    write_params(folder, ("full-modality", "augmented", "mmin"))
    (folder / "data/assets").mkdir(parents=True)
    for name in ("bert", "opensmile", "facelandmarker", "cremad"):
        (folder / "data/assets" / name).symlink_to(assets(name))
    params = load_params(folder / "params.yaml")
    columns = {}
    for modality in MODALITIES:
        name = params.dataset("demo").extraction(modality).extractor
        settings = params.extractor_settings("demo", modality)
        made = base.find(modality, name)(settings, folder / "data/assets" / name)
        columns[modality] = made.columns
        made.close()
    train_networks(folder, columns)
    return folder


@pytest.fixture
def trained(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; it is the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(original, folder, symlinks=True, ignore=shutil.ignore_patterns("features", "cache"))
    monkeypatch.chdir(folder)
    return folder


def states(out: str) -> dict[str, str]:
    return {name: one["state"] for name, one in json.loads(out)["modalities"].items()}


def test_all_three_modalities(lacuna: Command, trained: Path) -> None:
    said = ["--text", "Don't forget a jacket.", "--json"]
    status, out, _ = lacuna("predict", FILM, *said)
    assert status == 0
    found = json.loads(out)
    assert set(states(out).values()) == {"available"}
    assert list(found["probabilities"]) == list(CLASSES)
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert found["prediction"] == max(found["probabilities"], key=found["probabilities"].get)
    assert found["networks"] == ["1-1", "2-1"]
    assert found["constructed"] is True


def test_audio_only(lacuna: Command, trained: Path) -> None:
    status, out, _ = lacuna("predict", SOUND, "--json")
    assert status == 0
    assert states(out) == {"text": "missing", "audio": "available", "video": "missing"}
    found = json.loads(out)
    _, out, _ = lacuna("predict", SOUND)
    assert "CONSTRUCTED" in out
    assert "Missing: text, video; the networks got zeros" in out
    assert "the mean over 2 networks" in out
    assert "text   missing    no text given" in out
    chance = found["probabilities"][found["prediction"]]
    row = next(line for line in out.splitlines() if line.startswith(found["prediction"]))
    assert row.split()[1:] == [f"{chance:.1%}", "█" * round(chance * 40)]


def test_text_only(lacuna: Command, trained: Path) -> None:
    status, out, _ = lacuna("predict", "--text", "An instant classic.", "--json")
    assert status == 0
    assert states(out) == {"text": "available", "audio": "missing", "video": "missing"}


def test_without_a_modality_is_like_not_having_it(lacuna: Command, trained: Path) -> None:
    text = ["--text", "Don't forget a jacket.", "--json"]
    _, out, _ = lacuna("predict", FILM, *text, "--without", "audio", "--without", "video")
    assert states(out) == {"text": "available", "audio": "missing", "video": "missing"}
    assert json.loads(out)["probabilities"] == json.loads(lacuna("predict", *text)[1])["probabilities"]


def test_a_name_in_any_script_with_spaces(lacuna: Command, trained: Path) -> None:
    clip = trained / "клип 感情 é.mp3"
    shutil.copy(SOUND, clip)
    status, out, _ = lacuna("predict", str(clip), "--json")
    assert status == 0
    assert json.loads(out)["clip"] == str(clip)


def test_a_file_that_is_no_media(lacuna: Command, trained: Path) -> None:
    clip = trained / "no.mp4"
    clip.write_bytes(b"this is no film")
    status, _, err = lacuna("predict", str(clip))
    assert status == 1
    assert "no modality is left" in err
    status, out, _ = lacuna("predict", str(clip), "--text", "Fine.")
    assert status == 0
    assert "audio  failed" in out
    assert "; treated as missing" in out


def test_experiment_by_name(lacuna: Command, trained: Path) -> None:
    shutil.copytree("data/runs/mmin", "data/runs/augmented")
    status, out, _ = lacuna("predict", "--text", "x", "--experiment", "augmented", "--json")
    assert (status, json.loads(out)["experiment"]) == (0, "augmented")
    status, _, err = lacuna("predict", "--text", "x", "--experiment", "augmentedd")
    assert status == 1
    assert 'Did you mean "augmented"' in err
    status, _, err = lacuna("predict", "--text", "x", "--experiment", "full-modality")
    assert status == 1
    assert "dvc repro train@full-modality" in err
    status, _, err = lacuna("predict", "--text", "x", "--fold", "7")
    assert status == 1
    assert "there is no fold 7; expected one of: 1, 2" in err


def test_another_selection_than_at_training_changes_nothing(lacuna: Command, trained: Path) -> None:
    text = ["--text", "An instant classic.", "--json"]
    before = lacuna("predict", *text)
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("bert: {}", "bert: {max_length: 16}"))
    assert lacuna("predict", *text) == before
    path.write_text(path.read_text().replace("extractor: bert", "extractor: glove"))
    assert lacuna("predict", *text) == before


def aligned(align: str | int) -> None:
    """Let the networks be those of a dataset whose audio is aligned."""
    for file in Path("data/runs/mmin").glob("*/run.json"):
        facts = json.loads(file.read_text())
        facts["features"]["audio"]["settings"]["align"] = align
        file.write_text(json.dumps(facts))


def test_resampled_as_at_training(lacuna: Command, trained: Path) -> None:
    aligned(3)
    status, out, err = lacuna("predict", SOUND, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["modalities"]["audio"]["detail"].startswith("3 rows by opensmile")


def test_aligned_with_words(lacuna: Command, trained: Path) -> None:
    aligned("words")
    status, out, _ = lacuna("predict", SOUND, "--text", "Don't forget", "--json")
    without = json.loads(out)
    assert status == 0
    assert without["modalities"]["audio"] == {
        "state": "missing",
        "detail": "no times of words to align with",
    }
    Path("words.json").write_text('[["don\'t", 0.3, 0.5], ["forget", 0.5, 0.9]]')
    status, out, _ = lacuna("predict", SOUND, "--text", "Don't forget", "--words", "words.json", "--json")
    assert status == 0
    assert json.loads(out)["modalities"]["audio"]["detail"] == "2 words by opensmile"
    assert json.loads(out)["probabilities"] != without["probabilities"]


@pytest.mark.parametrize("content", ["", "{}x", "[1]", '[["a", 2, 1]]', '[["a", 0, Infinity]]', '[["a", 0]]'])
def test_words_of_another_form(lacuna: Command, project: Path, content: str) -> None:
    Path("words.json").write_text(content)
    status, _, err = lacuna("predict", "--text", "a", "--words", "words.json")
    assert status == 1
    assert "words.json" in err
    assert "start" in err


def test_neither_clip_nor_text(lacuna: Command, project: Path) -> None:
    for text in ([], ["--text", "  "]):
        status, _, err = lacuna("predict", *text)
        assert status == 1
        assert "neither a media file nor a text" in err


def test_a_clip_that_is_not_there(lacuna: Command, project: Path) -> None:
    status, _, err = lacuna("predict", "no.mp4")
    assert status == 1
    assert "no.mp4: there is no such file" in err


def test_nothing_trained_yet(lacuna: Command, project: Path) -> None:
    status, _, err = lacuna("predict", "--text", "x")
    assert status == 1
    assert "Train it: dvc repro train@mmin" in err


def test_several_files_and_a_folder(lacuna: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    owner = base.find("audio", "opensmile")
    begin = owner.__init__

    def counted(self: Any, *given: Any) -> None:
        loaded.append("opensmile")
        begin(self, *given)

    monkeypatch.setattr(owner, "__init__", counted)
    (trained / "films").mkdir()
    shutil.copy(SOUND, trained / "films/one.mp3")
    shutil.copy(SOUND, trained / "films/=two.mp3")
    (trained / "films/three.mp3").write_bytes(b"no sound")
    single = json.loads(lacuna("predict", "films/one.mp3", "--json")[1])
    loaded.clear()
    status, out, err = lacuna("predict", "films", "--out", "films.csv")
    assert loaded == ["opensmile"]  # once for all files
    assert status == 1  # for the third
    assert "films/one.mp3  " in out
    assert "films/three.mp3  none: no modality is left" in out
    assert "films.csv: 3 rows" in err
    with (trained / "films.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["films/=two.mp3", "films/one.mp3", "films/three.mp3"]
    for row in rows[:2]:
        assert {name: float(row[name]) for name in CLASSES} == pytest.approx(single["probabilities"])
        assert (row["prediction"], row["audio"], row["video"]) == (
            single["prediction"],
            "available",
            "missing",
        )
    assert rows[2]["happy"] == ""
    assert "cannot" in rows[2]["error"] or "no modality" in rows[2]["error"]


def test_nothing_is_sent_anywhere(trained: Path) -> None:
    with proxy() as (
        address,
        asked,
    ):  # tests/pipeline/extraction/test_offline.py: it would see MediaPipe's report
        environment = dict.fromkeys(("https_proxy", "http_proxy", "all_proxy"), address)
        done = run_process("predict", FILM, "--text", "Fine.", env=environment)
    assert done.returncode == 0, done.stderr
    assert b"video  available" in done.stdout
    assert asked == []


def test_over_time(lacuna: Command, trained: Path) -> None:
    status, out, _ = lacuna("predict", SOUND, "--every", "1s", "--end", "2", "--out", "parts.json", "--json")
    assert status == 0
    found = json.loads(out)
    assert found == json.loads(Path("parts.json").read_text(encoding="utf-8"))
    assert [(one["start_s"], one["end_s"]) for one in found] == [(0, 1), (1, 2)]
    _, out, _ = lacuna("predict", SOUND, "--start", "1", "--end", "2", "--json")
    assert json.loads(out)["probabilities"] == found[1]["probabilities"]  # a part is a clip like any other
    assert found[0]["probabilities"] != found[1]["probabilities"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--every", "1s", "--text", "x"], "--every needs a media file"),
        (["a.wav", "--every", "1s", "--text", "x"], "a text without times belongs to no part"),
        (["a.wav", "--every", "0"], "expected seconds, as 0.5 or 2s"),
        (["a.wav", "--window", "1"], "give --every too"),
        (["a.wav", "--out", "a.txt"], "ends in .csv or .json"),
        (["a.wav", "--end", "-1"], "--end: found -1 s"),
        (["a.wav", "b.wav", "--text", "x"], "--text is of one file, found 2"),
    ],
)
def test_what_is_refused(lacuna: Command, project: Path, words: list[str], message: str) -> None:
    for name in ("a.wav", "b.wav"):
        (project / name).touch()
    status, _, err = lacuna("predict", *words)
    assert status in (1, 2)
    assert message in err


def test_a_score_is_printed_with_its_scale(lacuna: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    modalities = {
        "text": ModalityResult("available", "", "bert", 4, 3, "tokens"),
        "audio": ModalityResult("missing", "no audio stream", "opensmile"),
        "video": ModalityResult("failed", "cannot decode", "fer"),
    }
    found = Prediction(
        {}, -1.25, (-3.0, 3.0), "score", modalities, "sentiment", "misa", "mosi", False, ("1-1",)
    )
    monkeypatch.setattr(predicting, "predict_clip", lambda *_, **__: found)
    status, out, err = lacuna("predict", "--text", "x")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "text   available  4 tokens by bert, 3 of them observed",
        "audio  missing    no audio stream",
        "video  failed     cannot decode; treated as missing",
        "",
        "score  -1.250  on a scale from -3 to 3",
        "",
        "By sentiment (model misa): network 1-1, trained on mosi.",
        "Missing: audio, video; the networks got zeros in their place.",
    ]
    said = json.loads(lacuna("predict", "--text", "x", "--json")[1])
    assert said["scores"] == {"score": -1.25}
    assert "probabilities" not in said
    felt = replace(found, score=5.5, scale=(1.0, 7.0), target="valence")
    monkeypatch.setattr(predicting, "predict_clip", lambda *_, **__: felt)
    assert "valence  5.500  on a scale from 1 to 7" in lacuna("predict", "--text", "x")[1].splitlines()
